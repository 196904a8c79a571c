from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.pseudo_labels import PseudoLabels

CONTENT = {"format": 1, "n_clusters": 3, "provenance": {}, "clusters": {"a.nii.gz": [0, 2], "b.nii.gz": [1]}}


@pytest.fixture
def labels() -> PseudoLabels:
    provenance = {"method": "ward", "elbow": {"k": [2, 3], "distance": [1.5, 1.0]}, "seed": None}
    return PseudoLabels({"b.nii.gz": [0, 2, 1], "sub/a.nii.gz": [1, 1]}, 3, provenance)


def test_saved_and_loaded_is_the_same(labels: PseudoLabels, tmp_path: Path) -> None:
    labels.save(tmp_path / "new" / "pseudo_labels.json")
    assert PseudoLabels.load(tmp_path / "new" / "pseudo_labels.json") == labels


def test_file_has_one_line_an_image(labels: PseudoLabels, tmp_path: Path) -> None:
    labels.save(tmp_path / "pseudo_labels.json")
    text = (tmp_path / "pseudo_labels.json").read_text()
    assert '\n    "b.nii.gz": [0, 2, 1],\n    "sub/a.nii.gz": [1, 1]\n' in text
    assert json.loads(text)["format"] == 1


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(min_size=1), st.lists(st.integers(0, 9)), max_size=5))
def test_any_names_survive(tmp_path_factory: pytest.TempPathFactory, clusters: dict[str, list[int]]) -> None:
    path = tmp_path_factory.mktemp("names") / "pseudo_labels.json"
    PseudoLabels(clusters, 10, {"note": list(clusters)}).save(path)
    assert PseudoLabels.load(path) == PseudoLabels(clusters, 10, {"note": list(clusters)})


def test_failing_write_leaves_the_old_file(
    labels: PseudoLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pseudo_labels.json"
    labels.save(path)

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            PseudoLabels({}, 1, {}).save(path)
    assert PseudoLabels.load(path) == labels
    with pytest.raises(ValueError, match="not JSON compliant"):
        PseudoLabels({}, 1, {"loss": float("nan")}).save(path)
    assert PseudoLabels.load(path) == labels
    assert [file.name for file in tmp_path.iterdir()] == ["pseudo_labels.json"]


def test_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pseudo_labels_path: there is no file .*ufc_feature_vae.*inference\.json"):
        PseudoLabels.load(tmp_path / "pseudo_labels.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "should hold a JSON object"),
        (json.dumps(CONTENT | {"format": 2}), "has format 2, expected 1"),
        ("{}", "has format None, expected 1"),
        ('{"format": 1, "clusters": {}}', "lacks n_clusters, provenance"),
        (json.dumps(CONTENT | {"n_clusters": 2}), r"clusters outside of 0\.\.1"),
        (json.dumps(CONTENT | {"clusters": {"a": [-1]}}), r"clusters outside of 0\.\.2"),
        (json.dumps(CONTENT | {"clusters": {"a": [0.5]}}), "damaged"),
        (json.dumps(CONTENT | {"clusters": {"a": ["0"]}}), "damaged"),
        (json.dumps(CONTENT | {"clusters": {"a": 0}}), "damaged"),
        (json.dumps(CONTENT | {"clusters": [[0]]}), "damaged"),
        (json.dumps(CONTENT | {"n_clusters": "3"}), "damaged"),
    ],
)
def test_unusable_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pseudo_labels.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"pseudo_labels_path: .*{message}") as error:
        PseudoLabels.load(path)
    assert str(path) in str(error.value)


def test_lookup(labels: PseudoLabels) -> None:
    assert [labels.lookup("b.nii.gz", i) for i in range(3)] == [0, 2, 1]
    for image, index in (("c.nii.gz", 0), ("b.nii.gz", 3), ("b.nii.gz", -1)):
        with pytest.raises(InputError, match=f"slice {image}#{index}: the file was made for other data"):
            labels.lookup(image, index)


def test_images_that_fit_may_be_fewer_than_the_file_knows(labels: PseudoLabels) -> None:
    labels.check_images({"b.nii.gz": 3, "sub/a.nii.gz": 2})
    labels.check_images({"b.nii.gz": 3})


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"b.nii.gz": 3, "z.nii.gz": 9, "c.nii.gz": 5}, r"2 of 3 images do not fit, first c\.nii\.gz \(5 slices, 0 "),
        ({"b.nii.gz": 4, "sub/a.nii.gz": 2}, r"1 of 2 images do not fit, first b\.nii\.gz \(4 slices, 3 "),
        ({"b.nii.gz": 2}, r"1 of 1 images do not fit, first b\.nii\.gz \(2 slices, 3 "),
        ({"other.nii.gz": 3}, "1 of 1 images do not fit"),
    ],
)
def test_images_that_do_not_fit(labels: PseudoLabels, images: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"pseudo_labels_path: made for other data or another split: {message}"):
        labels.check_images(images)
