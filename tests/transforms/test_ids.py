"""Ids of the data set become class indices and come back: a mask put into labelsTr means what it meant."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scans import STRAIGHT, make_image, sitk

from ufc_monai.data.datalist import find_cases
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.transforms.crop import BodyCrop
from ufc_monai.transforms.labels import IGNORE, ClassesToIds, ClearIgnoredd, RemapLabels
from ufc_monai.transforms.save import SaveMask
from ufc_monai.transforms.volume import LoadVolume

ANY_IDS = st.lists(st.integers(1, 65535), min_size=1, max_size=12, unique=True)
SMALL_IDS = st.lists(st.integers(1, 255), min_size=1, max_size=12, unique=True)
FILES = ("a.nii.gz", "a.nrrd", "a.mha", "a.png")


@given(ANY_IDS | SMALL_IDS, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_ids_to_classes_to_ids_is_the_identity(ids: list[int], seed: int) -> None:
    labels = {f"structure {i}": i for i in ids}
    label = torch.from_numpy(np.random.default_rng(seed).choice([0, *ids], (1, 5, 4, 3)))
    classes = RemapLabels(labels)(label)
    back = ClassesToIds(labels)(classes)
    assert torch.equal(back.long(), label)
    assert back.dtype == (torch.uint8 if max(ids) < 256 else torch.int32)
    assert torch.equal(RemapLabels(labels)(back), classes)


@pytest.mark.parametrize("name", FILES)
@given(ids=ANY_IDS | SMALL_IDS, seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10, derandomize=True)
def test_a_mask_is_a_label_of_the_next_data_set(name: str, ids: list[int], seed: int) -> None:
    """Written, moved into labelsTr beside a dataset.json in the order of its keys, and read as any label is."""
    labels = {f"structure {i}": i for i in ids}
    with TemporaryDirectory() as place:
        root = Path(place)
        (root / "imagesTr").mkdir()
        image = make_image(STRAIGHT) if name != "a.png" else sitk.GetImageFromArray(np.zeros((5, 7), np.uint8))
        sitk.WriteImage(image, root / "imagesTr" / name)
        (root / "dataset.json").write_text(json.dumps({"labels": dict(sorted((str(i), n) for n, i in labels.items()))}))
        volume = LoadVolume()(root / "imagesTr" / name)
        classes = torch.from_numpy(np.random.default_rng(seed).integers(0, len(ids) + 1, volume.shape)).byte()
        mask = ClassesToIds(labels)(MetaTensor(classes, meta=volume.meta))
        SaveMask(root / "labelsTr")(mask)
        (case,) = find_cases(root)
        assert case.label is not None
        read = LoadVolume()(root / case.label)
        assert torch.equal(torch.as_tensor(RemapLabels(labels)(read)), classes)
        assert resolve_labels(None, root) == labels
        stored = sitk.ReadImage(root / case.label).GetPixelID()
        assert stored == (sitk.sitkUInt8 if max(ids) < 256 else sitk.sitkUInt16)


def test_the_ignore_label_is_an_index_of_its_own() -> None:
    remap = RemapLabels({"a": 1, "b": 255}, background_labels=[4], ignore_id=2)
    assert remap(torch.tensor([0, 1, 2, 4, 255])).tolist() == [0, 1, IGNORE, 0, 2]


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=20)
def test_no_metric_sees_what_is_predicted_where_the_label_ignores(seed: int, logits: bool) -> None:
    """Cleared, two predictions that differ there alone are the same; elsewhere nothing changes."""
    random = np.random.default_rng(seed)
    label = torch.from_numpy(random.choice([0, 1, 2, IGNORE], (1, 6, 5, 4))).byte()
    channels = 3 if logits else 1
    one, other = (torch.from_numpy(random.integers(0, 3, (channels, 6, 5, 4))).float() for _ in range(2))
    other = torch.where(label == IGNORE, other, one)
    cleared = [ClearIgnoredd(["pred", "label"])({"pred": pred, "label": label}) for pred in (one, other)]
    first, second = (item["pred"].argmax(0, keepdim=True) if logits else item["pred"] for item in cleared)
    assert torch.equal(first, second)
    assert not first[label == IGNORE].any()
    assert not cleared[0]["label"][label == IGNORE].any()
    judged = label != IGNORE
    expected = one.argmax(0, keepdim=True) if logits else one
    assert torch.equal(first[judged], expected[judged])
    assert torch.equal(cleared[0]["label"][judged], label[judged])


def test_ignored_pixels_outside_of_the_body_do_not_stop_the_crop() -> None:
    image = torch.full((1, 60, 60, 4), -1000.0)
    image[:, 20:40, 20:40] = 0
    label = torch.zeros(1, 60, 60, 4, dtype=torch.uint8)
    label[:, :10] = IGNORE
    alone, beside = (BodyCrop().box_around(image, [x]) for x in (torch.zeros_like(label), label))
    assert alone[1][0] - alone[0][0] < 60
    assert np.array_equal(beside, alone)
