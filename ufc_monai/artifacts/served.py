"""What others need of a bundle: its network for ``monai.bundle.load``, class names and a start for MONAI Label."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ufc_monai.artifacts.network_file import read_record
from ufc_monai.artifacts.transfer import encoder_in_use, read_network, read_weights
from ufc_monai.base.bundles import UNET
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json
from ufc_monai.networks.build import build_network

logger = logging.getLogger(__name__)

WAY_OUT = (
    "Give monai.bundle.load a bundle that 'python -m ufc_monai package --bundles FOLDER' has packed (its metadata.json "
    "describes the weights), start from the folder of the bundle, or pass the network as model=."
)


def starting_point(
    bundle_root: str | os.PathLike[str],
    ckpt_dir: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    pretrained_path: str | os.PathLike[str] | None,
    default_pretrained_path: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """What a fine-tuning without ``dataset_dir`` takes over; nothing for one with it, whose keys say everything.

    Args:
        bundle_root: folder of the segmentation bundle. Its ``metadata.json`` names the classes; their ids are the
            values of masks, as clients of the server paint them.
        ckpt_dir: folder of the ``model.pt`` that is trained on, if there is one.
        dataset_dir: as in the configuration.
        pretrained_path: an encoder. Its network and preprocessing are taken where there is no ``model.pt``.
        default_pretrained_path: where an encoder is looked for that nobody named; a mere demonstration there is passed
            over.

    Returns:
        As far as they are known: ``labels``, ``features``, ``norm``, ``channels``, ``image_size``, ``window``,
        ``region``, ``standardise``; and ``model``, the path of the weights to go on from.

    Raises:
        InputError: if ``model.pt`` and its ``network.json`` do not belong together, or as :func:`mask_ids`.
    """
    if os.fspath(dataset_dir):
        return {}
    classes = named_classes(bundle_root)
    model = Path(ckpt_dir) / "model.pt"
    if model.is_file():
        network = read_network(ckpt_dir, UNET)
        classes = mask_ids(bundle_root, network["labels"])
        if network["ignore_id"] not in (None, *classes.values()):  # a channel's number may be that id
            classes["ignore"] = network["ignore_id"]
        return {"labels": classes, **_settings(network), "model": os.fspath(model)}
    encoder = encoder_in_use(pretrained_path, default_pretrained_path)
    if encoder is None:
        return {"labels": classes}
    return {"labels": classes, **_settings(read_record(Path(encoder).with_name("network.json"), "pretrained_path"))}


def named_classes(bundle_root: str | os.PathLike[str]) -> dict[str, int]:
    """Names and mask values of a bundle's classes without background, by ``channel_def`` of its ``metadata.json``.

    Returns:
        In the order of the values; empty if there is no ``metadata.json``.
    """
    path = _metadata(bundle_root)
    if not path.is_file():
        return {}
    channels = read_json(path, "bundle_root")["network_data_format"]["outputs"]["pred"]["channel_def"]
    return {name: i for i, name in sorted((int(i), name) for i, name in channels.items()) if i > 0}


def mask_ids(bundle_root: str | os.PathLike[str], labels: Mapping[str, int]) -> dict[str, int]:
    """The values by which a server's clients know the classes of some weights: those of ``channel_def``.

    They are the data set's ids in a copy that ``python -m ufc_monai label`` has made, and the network's channels, 1 to
    n, in a bundle as it comes, of which a warning tells.

    Args:
        bundle_root: folder of the segmentation bundle.
        labels: names and ids of the weights' classes, in their order.

    Returns:
        ``{name: value}`` in the order of ``labels``.

    Raises:
        InputError: if ``metadata.json`` has other names, or other values than either; capitals do not count.
    """
    named = {name.lower(): i for name, i in named_classes(bundle_root).items()}
    ids = {name.lower(): i for name, i in labels.items()}
    channels = {name: n for n, name in enumerate(ids, start=1)}
    if named not in (ids, channels) or len(ids) < len(labels):
        raise InputError(
            f"{_metadata(bundle_root)} names the classes {_listed(named)}; the weights have {_listed(ids)}. Copy the "
            "bundle with 'python -m ufc_monai label', which mends it."
        )
    if named != ids:
        logger.warning(
            "masks hold the numbers of %s, %s, not the data set's ids, %s: copy the bundle with 'python -m ufc_monai "
            "label' to have these",
            _metadata(bundle_root),
            _listed(named),
            _listed(ids),
        )
    return {name: named[name.lower()] for name in labels}


def check_mask_values(bundle_root: str | os.PathLike[str]) -> None:
    """Refuse the configuration of an earlier version: masks that hold 1 to n, no quality, or transforms of then.

    Raises:
        InputError: if ``inference.json`` does not map classes to ids, does not predict how good masks are, or does not
            read a scan ahead.
    """
    path = Path(bundle_root) / "configs" / "inference.json"
    text = path.read_text(encoding="utf-8")
    if not all(name in text for name in ("ClassesToIds", "QualityTable", "ReadAhead")):
        raise InputError(
            f"{path} is of an earlier version, which today's transforms no longer fit. Copy the folder configs of "
            f"today's {UNET} over that one; the weights stay."
        )


def cleaning_beside(ckpt_dir: str | os.PathLike[str]) -> Callable[[], dict[str, Any] | None]:
    """How the predictions of the weights in a folder are cleaned, asked anew for each volume.

    A server reads its configuration once and takes new weights as soon as it has trained them.

    Args:
        ckpt_dir: folder of ``model.pt`` and ``network.json``.
    """
    return lambda: found_json(Path(ckpt_dir) / "network.json", "ckpt_dir").get("cleaning")


def _listed(classes: Mapping[str, int]) -> str:
    return ", ".join(f"{i} {name}" for name, i in classes.items()) or "none"


def _metadata(bundle_root: str | os.PathLike[str]) -> Path:
    return Path(bundle_root) / "configs" / "metadata.json"


def _settings(network: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``train.json`` that a ``network.json`` answers."""
    architecture, preprocessing = network["architecture"], network["preprocessing"]
    return {
        **{key: architecture[key] for key in ("features", "norm") if key in architecture},
        "channels": architecture["in_channels"],
        **{key: preprocessing[key] for key in ("image_size", "window", "region", "standardise")},
    }


def published_network(ckpt_dir: str | os.PathLike[str], stage: str, metadata: Mapping[str, Any]) -> nn.Module:
    """The network whose weights a bundle ships, untrained; ``monai.bundle.load`` fills it.

    That function parses train.json from wherever the caller is, and passes over tensors that do not fit. So the
    network is described by the bundle's metadata.json, where ``package`` has put it, if there are no weights in
    ``ckpt_dir``; and the first state dict that it loads has to be the one described.

    Args:
        ckpt_dir: folder of ``model.pt`` and ``network.json``, if they are found from here.
        stage: the bundle.
        metadata: content of its metadata.json.

    Raises:
        InputError: if there is neither; and, when other weights are loaded first, from ``load_state_dict``.
    """
    model = Path(ckpt_dir, "model.pt")
    if model.is_file():
        network = build_network(read_network(ckpt_dir, stage)["architecture"])
        digest = weights_digest(read_weights(model), network)
    elif described := metadata.get("network"):
        network, digest = build_network(described["architecture"]), described["weights_sha256"]
        if "demonstration" in described:
            logger.warning("the weights of %s are a demonstration: %s", stage, described["demonstration"])
    else:
        raise InputError(
            f"there is no {model.absolute()}, and metadata.json does not describe the network of {stage}: train first. "
            + WAY_OUT
        )

    def check(module: nn.Module, weights: dict[str, Tensor], *_: object) -> None:
        handle.remove()
        if weights_digest(weights, module) != digest:
            raise InputError(f"these are not the weights that the bundle {stage} describes. {WAY_OUT}")

    handle = network.register_load_state_dict_pre_hook(check)  # type: ignore[no-untyped-call]
    return network


def weights_digest(weights: Mapping[str, Tensor], network: nn.Module) -> str:
    """One sha256 of those tensors that a network has, by name, type, shape and content."""
    digest = hashlib.sha256()
    for name in sorted(network.state_dict().keys() & weights.keys()):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return digest.hexdigest()
