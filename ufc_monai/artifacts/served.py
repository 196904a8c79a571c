"""What MONAI Label needs of a bundle: class names that fit the weights, and a fine-tuning without ``dataset_dir``.

A server reads the classes from ``metadata.json``. Its requests name image and label files and the number of epochs, and
have no place for the other keys of a bundle: these come from what lies in the bundle.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.artifacts.transfer import encoder_in_use, read_network, read_record
from ufc_monai.base.bundles import UNET
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json

logger = logging.getLogger(__name__)


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
    """Refuse the configuration of an earlier version, whose masks hold 1 to n whatever the ids are.

    Raises:
        InputError: if ``inference.json`` does not map classes to ids.
    """
    path = Path(bundle_root) / "configs" / "inference.json"
    if "ClassesToIds" not in path.read_text(encoding="utf-8"):
        raise InputError(
            f"{path} is of an earlier version, whose masks hold 1 to n and not the data set's ids. Copy the folder "
            f"configs of today's {UNET} over that one; the weights stay."
        )


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
