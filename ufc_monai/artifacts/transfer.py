"""Weights between stages: ``network.json`` beside every ``model.pt``, and their checked transfer."""

from __future__ import annotations

import io
import logging
import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ufc_monai.artifacts.network_file import read_record
from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, read_json, sha256_of, write_json

logger = logging.getLogger(__name__)

FORMAT = 1
ENCODER = ("conv_0.", "down_")
"""What the names of the encoder's parameters begin with, in ``UNetEncoder`` and in MONAI's ``BasicUNet``."""
DECODER = ("upcat_",)
"""What those of the decoder's begin with."""
LAST = ("final_conv.",)
"""What those of its last layer's begin with, which makes embeddings or a segmentation and is never taken over."""


def save_network(ckpt_dir: str | os.PathLike[str], weights: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write ``model.pt`` and the ``network.json`` that belongs to it.

    Args:
        ckpt_dir: the folder.
        weights: a plain state dict.
        record: ``stage``, ``architecture``, ``preprocessing``, and whatever else has to travel with the weights.
    """
    model = Path(ckpt_dir) / "model.pt"
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    save_tensors(model, plain)
    write_json(model.with_name("network.json"), {"format": FORMAT, **record, "model_sha256": sha256_of(model)})


def save_tensors(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write what ``torch.save`` makes of tensors and plain values, whole or not at all."""
    # given a path, PyTorch writes the file's name into the file, and says nothing of a disk that is full
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_network(ckpt_dir: str | os.PathLike[str], stage: str) -> dict[str, Any]:
    """What ``network.json`` says of the weights beside it.

    Args:
        ckpt_dir: folder of ``model.pt`` and ``network.json``.
        stage: the bundle that must have written them.

    Raises:
        InputError: if either file is missing, they do not belong together, or another stage wrote them.
    """
    model = Path(ckpt_dir) / "model.pt"
    if not model.is_file():
        raise InputError(
            f"there is no {model}: train first (configs/train.json of {stage}), or copy it with its network.json."
        )
    network = _record_of(model, "ckpt_dir")
    if network.get("format") != FORMAT or network.get("stage") != stage:
        raise InputError(
            f"{model.with_name('network.json')} describes weights of {network.get('stage')} (format "
            f"{network.get('format')}); expected those of {stage} (format {FORMAT})."
        )
    _warn_of_demonstration(network, model)
    return network


def load_weights(network: nn.Module, ckpt_dir: str | os.PathLike[str]) -> None:
    """Load ``model.pt`` strictly into a network; a decoder that an encoder does not have is passed over.

    Raises:
        InputError: if a name or a shape differs.
    """
    path = Path(ckpt_dir) / "model.pt"
    own = network.state_dict()
    weights = {n: value for n, value in read_weights(path).items() if n in own or not n.startswith(DECODER + LAST)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as e:
        _, first, *_ = [*str(e).splitlines(), ""]
        shown = textwrap.shorten(first or str(e), 200, placeholder=" ...")
        raise InputError(f"{path} does not fit the network of network.json: {shown}") from e


def find_pretrained(pretrained_path: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """The file that ``pretrained_path`` means: itself, or the weights of a bundle that was downloaded by name.

    Args:
        pretrained_path: a file; or ``NAME`` or ``NAME_vVERSION`` of one of our bundles, which then has to lie where
            ``monai.bundle.download`` puts it by default, in that version.

    Raises:
        InputError: if no such bundle was downloaded, or it has another version.
    """
    named = re.fullmatch(rf"({'|'.join(BUNDLES)})(?:_v(.+))?", str(pretrained_path))
    if not named:
        return pretrained_path
    name, version = named.groups()
    bundle = Path(torch.hub.get_dir()) / "bundle" / name
    metadata = bundle / "configs" / "metadata.json"
    if not metadata.is_file():
        raise InputError(
            f"pretrained_path: {name} was not downloaded to {bundle.parent}. Get it by python -m monai.bundle download "
            f"--name {name}, or name a model.pt."
        )
    found = read_json(metadata, "pretrained_path").get("version")
    if version and version != found:
        raise InputError(f"pretrained_path: version {version} of {name} is asked for, {bundle} is version {found}.")
    return bundle / "models" / "model.pt"


def load_pretrained(
    network: nn.Module,
    path: str | os.PathLike[str] | None,
    *,
    default: str | os.PathLike[str] | None = None,
    expected: Mapping[str, Any] | None = None,
    held_out_sha256: Iterable[str] = (),
    decoder: bool = True,
) -> str:
    """Start a network from pretrained weights: its whole encoder, and what the file holds of its decoder.

    Args:
        network: a network with the names of MONAI's ``BasicUNet``.
        path: a ``model.pt`` of stage 1 or 2 with its ``network.json``; ``None`` or ``"none"`` leaves it random.
        default: the path that is used when the user names none. If ``path`` is this one and nothing is there, or
            only the demonstration that the bundles come with, a warning is given and the encoder stays random.
        expected: preprocessing that the weights must have been trained with, name by name.
        held_out_sha256: content hashes of images that must not have been pretrained on.
        decoder: take the decoder as well.

    Returns:
        One line that says what was loaded.

    Raises:
        InputError: if the file is missing, a tensor is missing or has another shape, the preprocessing differs, or a
            held-out image was pretrained on.
    """
    if path is None or str(path).lower() == "none":
        return _report("encoder starts from random weights (pretrained_path is none)")
    path = Path(path)
    if not path.is_file() and (default is None or os.path.abspath(path) != os.path.abspath(default)):
        raise InputError(f"pretrained_path: there is no file {path}. Name a model.pt, or none for random weights.")
    if not path.is_file():
        return _report(f"no pretrained encoder at {path}: the encoder starts from random weights", logging.WARNING)
    record = _record_of(path, "pretrained_path")
    if only_demonstrates(record, path, default):
        return _report(
            f"{os.path.abspath(path)} is the demonstration that comes with the bundle ({record['demonstration']}): the "
            "encoder starts from random weights. Run stage 2 first; or name a model.pt by pretrained_path, this one if "
            "you must.",
            logging.WARNING,
        )
    _warn_of_demonstration(record, path)
    _check_record(record, path, expected or {}, set(held_out_sha256))
    weights = read_weights(path)
    taken = {name: value for name, value in weights.items() if decoder or not name.startswith(DECODER)}
    return _report(f"{_take_over(network, taken, path)} from {path}")


def _take_over(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> str:
    """The whole encoder, and the tensors of the decoder that the weights have; says how many."""
    own = network.state_dict()
    encoder = [name for name in own if name.startswith(ENCODER)]
    decoder = [name for name in own if name.startswith(DECODER)]
    if not encoder:
        raise InputError(
            "pretrained_path: this network has no encoder by the names of BasicUNet; nothing can be taken."
        )
    wanted = encoder + [name for name in decoder if name in weights]
    other = [name for name in wanted if name not in weights or weights[name].shape != own[name].shape]
    if other:
        got = tuple(weights[other[0]].shape) if other[0] in weights else "nothing"
        raise InputError(
            f"pretrained_path: {path} fits {len(wanted) - len(other)} of {len(wanted)} tensors; {other[0]} should have "
            f"shape {tuple(own[other[0]].shape)}, the file has {got}. Use the same features, norm and channels in both "
            "stages."
        )
    network.load_state_dict(own | {name: weights[name] for name in wanted})
    taken = len(wanted) - len(encoder)
    also = f" and {taken} of {len(decoder)} decoder tensors" if taken else ""
    return f"{len(encoder)} of {len(encoder)} encoder tensors{also}"


def _report(line: str, level: int = logging.INFO) -> str:
    logger.log(level, line)
    return line


def read_weights(path: Path) -> dict[str, Tensor]:
    """A plain state dict, on the CPU.

    Raises:
        InputError: if there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}: train first, or copy model.pt and network.json there.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise InputError(f"{path} is not a plain state dict that PyTorch loads safely ({type(e).__name__}).") from e
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} should hold a state dict of tensors, name by name.")
    if broken := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise InputError(f"{path} holds NaN or infinite weights, first in {broken[0]}. Train anew, or take others.")
    return weights


def _record_of(model: Path, key: str) -> dict[str, Any]:
    """What the ``network.json`` beside some weights says of them."""
    path = model.with_name("network.json")
    if not path.is_file():
        raise InputError(f"{key}: {model} has no network.json beside it. Copy both files from one run.")
    network = read_record(path, key)
    if network.get("model_sha256") != sha256_of(model):
        raise InputError(f"{path} describes another {model.name} (sha256 differs): copy both from one run.")
    return network


def encoder_in_use(
    path: str | os.PathLike[str] | None, default: str | os.PathLike[str] | None
) -> str | os.PathLike[str] | None:
    """The file that :func:`load_pretrained` takes an encoder from; ``None`` where it leaves it random."""
    if path is None or not Path(path).is_file():
        return None
    record = Path(path).with_name("network.json")
    about = read_record(record, "pretrained_path") if record.is_file() else {}
    return None if only_demonstrates(about, path, default) else path


def only_demonstrates(
    record: Mapping[str, Any], path: str | os.PathLike[str], default: str | os.PathLike[str] | None
) -> bool:
    """Whether weights are those that the bundles come with, and nobody named them: they are as good as none."""
    return "demonstration" in record and default is not None and os.fspath(path) == os.fspath(default)


def _warn_of_demonstration(network: Mapping[str, Any], path: Path) -> None:
    if "demonstration" in network:
        logger.warning("%s is a demonstration: %s", path, network["demonstration"])


def _check_record(network: Mapping[str, Any], path: Path, expected: Mapping[str, Any], held_out: set[str]) -> None:
    trained = network["preprocessing"]
    other = {name: value for name, value in expected.items() if trained.get(name) != value}
    if other:
        differences = "; ".join(f"{name} {trained.get(name)}, this run has {value}" for name, value in other.items())
        raise InputError(
            f"pretrained_path: {path} was trained with {differences}. Pass the same --{' and --'.join(other)} to both "
            "stages."
        )
    leaked = held_out.intersection(network.get("pretrained_on", []))
    if leaked:
        raise InputError(
            f"pretrained_path: {path} was pretrained on {len(leaked)} volumes of this fold's validation or test "
            "patients. Pretrain with the same fold and split, or name other weights."
        )
