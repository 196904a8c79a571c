"""However scans and labels are called, a label never counts as a scan, nor as another scan's label: read or refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tiny_volumes import save_volume

from ufc_monai.base.errors import InputError
from ufc_monai.data.datalist import find_cases

SCANS = (
    *("{i}", "{i}_ct", "{i} ct", "{i}.orig", "{i}-image", "pat{i}_vol", "ct_{i}", "volume-{i}", "vol_{i}"),
    *("CT/{i}", "scans/{i}", "images/{i}", "raw/{i}", "data/{i}", "data/{i}/vol", "train/images/{i}"),
    *("images/train/{i}", "imagesTr/sub/{i}", "{i}/{i}", "{i}/ct", "{i}/CT/{i}", "{i}/image", "{i}/scan_1"),
    *("{i}/ct_1mm", "CT_{i}/1.2.{i}"),
)
LABELS = (
    *(
        "{i}_seg",
        "{i}_label",
        "{i}-seg",
        "{i}.seg",
        "{i} seg",
        "{i}_gt",
        "{i}_roi",
        "{i}_annotation",
        "{i}_Segmentation",
    ),
    *("{i}_liver", "{i}_manual", "{i}_seg_manual", "{i}_vol_seg", "pat{i}_seg", "seg_{i}", "segmentation-{i}"),
    *("label_{i}", "labels/{i}", "Labels/{i}", "labels/{i}_seg", "labels/{i}_ct", "GT/{i}", "annot/{i}", "roi/{i}"),
    *("masks/mask_{i}", "contours/contour_{i}", "truth/{i}_truth", "target/{i}", "train/labels/{i}"),
    *("labels/train/{i}", "labelsTr/sub/{i}", "data/{i}/vol_seg", "{i}/liver", "{i}/seg", "{i}/SEG/{i}", "{i}/mask"),
    *("{i}/{i}_seg", "{i}/scan_1_seg", "{i}/annotation", "{i}/seg_1mm"),
)
PATIENTS = (["anna", "bob", "cleo"], ["X1", "X2", "X3"], ["01", "02", "03"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SCANS),
    st.sampled_from(LABELS),
    st.sampled_from(PATIENTS),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_a_label_is_one_or_is_refused(scan: str, label: str, patients: list[str], labelled: list[bool]) -> None:
    with tempfile.TemporaryDirectory() as place:
        expected = dict[str, str | None]()
        for n, i in enumerate(patients):
            image, mask = (f"{name.format(i=i)}.nii.gz" for name in (scan, label))
            voxels = np.random.default_rng(n).integers(-1000, 1000, (8, 8, 4))
            save_volume(Path(place, image), voxels)
            if labelled[n]:
                save_volume(Path(place, mask), voxels > 0)
            expected[image] = mask if labelled[n] else None
        try:
            found = {case.image: case.label for case in find_cases(place)}
        except InputError:
            event("refused")
            found = expected
        assert found == expected
