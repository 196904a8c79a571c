"""The region of interest comes from the labels of the budget, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, Orientationd

from ufc_monai.base.errors import InputError
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.region import resolve_region
from ufc_monai.transforms.crop import BodyCrop
from ufc_monai.transforms.volume import LoadVolumed

BOTH = ["image", "label"]


def test_the_whole_body_needs_no_labels() -> None:
    assert resolve_region(None, []) is None


def test_given_fractions_are_kept() -> None:
    assert resolve_region([0, 1, 0.25, 0.75], []) == [0.0, 1.0, 0.25, 0.75]


def test_another_word_is_refused() -> None:
    with pytest.raises(
        InputError, match="region must be null, 4 fractions of the body's box, or 'labels'; got 'heart'"
    ):
        resolve_region("heart", [])


def test_region_from_labels_holds_them_in_either_orientation_of_the_file(phantom: Path) -> None:
    items = [case.item(phantom) for case in find_cases(phantom)[:2]]  # the second is stored as LPS
    region = resolve_region("labels", items)
    assert region is not None
    assert region[1] - region[0] < 0.95
    load = Compose([LoadVolumed(BOTH), Orientationd(BOTH, axcodes="RAS", labels=None)])
    for item in items:
        volume = load(item)
        image, label = (np.asarray(volume[key]) for key in BOTH)
        start, end = BodyCrop(region).box_around(image, [label])
        inside = label[:, max(start[0], 0) : end[0], max(start[1], 0) : end[1]]
        assert np.count_nonzero(inside) == np.count_nonzero(label)
        assert (end - start)[0] < np.diff(BodyCrop().box_around(image, [label]), axis=0)[0, 0]


def test_more_labels_never_shrink_the_region(phantom: Path) -> None:
    items = [case.item(phantom) for case in find_cases(phantom)[:3]]
    one, three = resolve_region("labels", items[:1]), resolve_region("labels", items)
    assert one is not None
    assert three is not None
    assert three != one
    assert all(three[i] <= one[i] for i in (0, 2))
    assert all(three[i] >= one[i] for i in (1, 3))
