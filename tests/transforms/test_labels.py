"""Label ids become class indices, and no id is lost in silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from monai.data import MetaTensor

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.transforms.labels import RemapLabels, RemapLabelsd


def test_classes_follow_the_order_of_the_names() -> None:
    label = torch.tensor([[0, *MMWHS_LABELS.values(), 421]])
    remapped = RemapLabels(MMWHS_LABELS, background_labels=[421])(label)
    assert remapped.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 0]]
    assert remapped.dtype == torch.uint8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32])
def test_any_dtype_of_the_file(dtype: torch.dtype) -> None:
    assert RemapLabels({"a": 7, "b": 3})(torch.tensor([3, 0, 7], dtype=dtype)).tolist() == [2, 0, 1]


def test_meta_data_are_kept() -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    label = MetaTensor(torch.ones(1, 2, 2, 2), affine=affine, meta={"filename_or_obj": "seg.nii.gz"})
    remapped = RemapLabels({"a": 1})(label)
    assert isinstance(remapped, MetaTensor)
    assert torch.equal(remapped.affine, affine)
    assert remapped.meta["filename_or_obj"] == "seg.nii.gz"


@pytest.mark.parametrize(("ids", "named"), [([0, 1, 9], "9"), ([300], "300"), (range(1, 9), r"2, .*7 of them")])
def test_an_id_of_no_class_is_named_with_the_file(ids: Sequence[float], named: str) -> None:
    label = MetaTensor(torch.tensor([list(ids)]), meta={"filename_or_obj": "seg.nii.gz"})
    with pytest.raises(InputError, match=rf"seg\.nii\.gz: label id {named}.* is claimed by no class"):
        RemapLabels({"a": 1})(label)


@pytest.mark.parametrize(("values", "named"), [([-1], "-1"), ([0.5, 1], r"0\.5")])
def test_values_that_are_no_ids_are_told_from_ids(values: list[float], named: str) -> None:
    label = MetaTensor(torch.tensor([values]), meta={"filename_or_obj": "seg.nii.gz"})
    with pytest.raises(InputError, match=rf"seg\.nii\.gz: holds values that are not ids: {named}\."):
        RemapLabels({"a": 1})(label)


@pytest.mark.parametrize(
    ("labels", "ignore"), [({}, []), ({"a": 0}, []), ({"a": 1, "b": 1}, []), ({"a": 1}, [1]), ({"a": 1}, [0])]
)
def test_ambiguous_classes_are_refused(labels: dict[str, int], ignore: list[int]) -> None:
    with pytest.raises(InputError, match="each id once"):
        RemapLabels(labels, ignore)


def test_a_missing_key_may_be_allowed() -> None:
    item = {"image": torch.zeros(1)}
    assert RemapLabelsd("label", {"a": 1}, allow_missing_keys=True)(item) == item
    with pytest.raises(KeyError):
        RemapLabelsd("label", {"a": 1})(item)
