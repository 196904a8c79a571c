"""A data set whose ids stand in any order and whose labels are judged in part, through training, test and masks."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, SMALL, copy_bundles, run_bundle

from ufc_monai.artifacts.network_file import read_record
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.transforms.labels import IGNORE, RemapLabels
from ufc_monai.transforms.save import RestoreGridd
from ufc_monai.transforms.volume import LoadVolume

UNET = NAMES[2]
LISTED = {"0": "background", "1": "left_ventricle", "10": "right_ventricle", "11": "left_atrium", "2": "right_atrium"}
LABELS = {name: int(i) for i, name in LISTED.items() if i != "0"}
IGNORED = 77


@pytest.fixture(scope="module")
def shuffled(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four structures of the phantom, keys in the order of text; the upper third of each slice was not judged."""
    root = tmp_path_factory.mktemp("shuffled")
    new = {old: LABELS.get(name, 0) for name, old in MMWHS_LABELS.items()}
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
    for image in sorted(phantom.glob("*_image.nii.gz"))[:5]:
        name = image.name.replace("_image", "")
        shutil.copy(image, root / "imagesTr" / name)
        stored = nib.load(str(image).replace("_image", "_label"))
        ids = np.vectorize(lambda i: new.get(i, 0))(np.asarray(stored.dataobj).astype(int))
        ids[: len(ids) // 3] = IGNORED
        nib.save(nib.Nifti1Image(ids.astype(np.uint8), stored.affine), root / "labelsTr" / name)
    (root / "dataset.json").write_text(json.dumps({"labels": LISTED | {"ignore": IGNORED}}))
    return root


@pytest.fixture(scope="module")
def tuned(shuffled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundles = copy_bundles(tmp_path_factory.mktemp("tuned"))
    settings = {**SMALL[UNET], "pretrained_path": "none", "split_path": str(bundles / "split.json"), "labels": None}
    run_bundle(bundles, UNET, "train", shuffled, **settings)
    return bundles


def test_the_network_knows_the_ids(tuned: Path) -> None:
    network = json.loads((tuned / UNET / "models" / "network.json").read_text())
    assert list(network["labels"].items()) == list(LABELS.items())
    assert network["ignore_id"] == IGNORED
    assert network["architecture"]["out_channels"] == 5


def test_masks_are_labels_of_the_same_data_set(tuned: Path, shuffled: Path, tmp_path: Path) -> None:
    """Copied into labelsTr beside the same dataset.json, a mask gives the classes that the network chose."""
    workflow = run_bundle(tuned, UNET, "inference", shuffled, output_dir=str(tmp_path / "masks"))
    (tmp_path / "labelsTr").mkdir()
    shutil.copytree(shuffled / "imagesTr", tmp_path / "imagesTr")
    shutil.copy(shuffled / "dataset.json", tmp_path)
    for mask in sorted((tmp_path / "masks").rglob("*_seg.nii.gz")):
        assert nib.load(mask).get_data_dtype() == np.uint8
        shutil.copy(mask, tmp_path / "labelsTr" / mask.name)
    cases = find_cases(tmp_path)
    assert len(cases) == 5
    seen = set()
    parser = workflow.parser
    before, inferer, network, after = (
        parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "network", "postprocessing")
    )
    for case in cases[:2]:
        assert case.label is not None
        read = RemapLabels(resolve_labels(None, tmp_path))(LoadVolume()(tmp_path / case.label))
        item = before({"image": str(tmp_path / case.image)})
        with torch.inference_mode():
            item["pred"] = inferer(item["image"][None], network.eval())[0]
        clean, restore, *_ = after.transforms
        chosen = restore(clean(item))["pred"]
        assert torch.equal(torch.as_tensor(read), torch.as_tensor(chosen))
        seen |= set(torch.unique(read).tolist())
    assert seen & {2, 3, 4}  # classes whose ids are not their numbers


def evaluated(bundles: Path, data: Path, output: Path) -> Any:
    run_bundle(bundles, UNET, "train+evaluate", data, output_dir=str(output), split_path=str(bundles / "split.json"))
    results = json.loads((output / "run.json").read_text())["results"]
    with open(output / "structures.csv", newline="") as file:
        return results, list(csv.DictReader(file))


def test_the_test_sees_no_ignored_voxel(
    tuned: Path, shuffled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a network says there: one that finds a structure everywhere there scores the same."""
    results, rows = evaluated(tuned, shuffled, tmp_path / "as it is")
    assert {row["structure"] for row in rows} == set(LABELS)
    whole = RestoreGridd.__call__
    changed = []

    def other(self: RestoreGridd, data: dict[str, Any]) -> dict[str, Any]:
        item = whole(self, data)
        ignored = item["label"] == IGNORE
        changed.append(int(ignored.sum()))
        item["pred"] = item["pred"].masked_fill(ignored, 4)
        return item

    monkeypatch.setattr(RestoreGridd, "__call__", other)
    assert evaluated(tuned, shuffled, tmp_path / "changed") == (results, rows)
    assert min(changed) > 0


def test_weights_of_an_earlier_version_load(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps({"labels": {"a": 1}, "ignore_labels": [421]}))
    record = read_record(path, "ckpt_dir")
    assert record["background_labels"] == [421]
    assert "ignore_labels" not in record
    assert record["ignore_id"] is None
