"""The opt-in region of interest, from the labels that fine-tuning may use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from monai.transforms import Compose, Orientationd
from tqdm import tqdm

from ufc_monai.base.errors import InputError
from ufc_monai.transforms.crop import label_region
from ufc_monai.transforms.labels import ClearIgnoredd, RemapLabelsd
from ufc_monai.transforms.volume import LoadVolumed

logger = logging.getLogger(__name__)


def resolve_region(
    region: Sequence[float] | str | None, data: Sequence[Mapping[str, Any]], remap: RemapLabelsd | None = None
) -> list[float] | None:
    """The region that ``BodyCrop`` shall find.

    Args:
        region: ``None`` for the whole body; four fractions of the body's box; or ``"labels"`` for the region that holds
            the labels of ``data``.
        data: the labelled volumes of the current budget, and no others.
        remap: makes class indices of the label's ids, so that neither background nor the ignore label counts.

    Raises:
        InputError: at another word, naming the key ``region``.
    """
    if region is None or not isinstance(region, str):
        return None if region is None else [float(f) for f in region]
    if region != "labels":
        raise InputError(f"region must be null, 4 fractions of the body's box, or 'labels'; got {region!r}.")
    turn = Orientationd(["image", "label"], axcodes="RAS", labels=None)
    load = Compose([LoadVolumed(["image", "label"]), turn, *([remap, ClearIgnoredd("label")] if remap else [])])
    volumes = [load(dict(item)) for item in tqdm(data, "region", unit="volume", leave=False, disable=None)]
    found = label_region([v["image"] for v in volumes], [v["label"] for v in volumes])
    logger.info("region of interest from the labels of %d volumes: %s", len(volumes), found)
    return found
