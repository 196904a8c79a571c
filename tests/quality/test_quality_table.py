"""``quality.csv`` of a small network's masks, and where views disagree."""

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
from conftest import NAMES, SMALL, run_bundle
from torch import Tensor, nn

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.quality.known import Known
from ufc_monai.quality.predict import Calibration, Place, Signs
from ufc_monai.quality.table import HEAD, join_quality, write_quality
from ufc_monai.quality.views import look

UNET = NAMES[2]


class Bright(nn.Module):
    """A network that says class 1 where a slice is bright, and another one where it lies off the middle, if asked."""

    def __init__(self, wandering: bool = False) -> None:
        super().__init__()
        self.down_4 = nn.AvgPool2d(4)
        self.wandering = wandering

    def forward(self, x: Tensor) -> Tensor:
        self.down_4(x)
        bright = (x - 0.5) * 20
        if self.wandering:  # what it says depends on the place alone
            bright = (torch.arange(x.shape[-1]) / 2).sin().mul(10).expand_as(x).clone()
        return torch.cat([torch.zeros_like(bright), bright, torch.full_like(bright, -99.0)], dim=1)


def disc(depth: int) -> Tensor:
    y, x = np.mgrid[:64, :64]
    slice_ = torch.from_numpy(((x - 30) ** 2 + (y - 34) ** 2 < 15**2).astype(np.float32))
    return slice_[None, :, :, None].repeat(1, 1, 1, depth)


@pytest.mark.parametrize("depth", [1, 12])
def test_views_agree_where_a_network_follows_the_image_and_not_where_it_does_not(depth: int) -> None:
    steady, wandering = (
        look(Bright(wandering), lambda x, net: net(x), disc(depth), voxel=2.0, disagreement=True)
        for wandering in (False, True)
    )
    assert steady.signs[0].agreement > 0.95
    assert steady.signs[0].confidence > 0.9
    assert wandering.signs[0].agreement < 0.9
    assert steady.signs[0].place.millilitres == pytest.approx(float(disc(depth).sum()) * 2 / 1000)
    assert steady.signs[0].place.centre == pytest.approx((34.5 / 64, 30.5 / 64, 0.5), abs=0.01)
    assert steady.signs[1] == Signs(0, 0, 0, Place(0, (0.5, 0.5, 0.5)))
    assert steady.disagreement is not None
    assert wandering.disagreement is not None
    assert steady.disagreement.max() <= 3
    assert wandering.disagreement.mean() > 2 * steady.disagreement.mean()


def test_looking_again_changes_no_logits_and_costs_one_pass() -> None:
    seen = 0

    def infer(x: Tensor, network: nn.Module) -> Any:
        nonlocal seen
        seen += len(x)
        return network(x)

    image, network = disc(12), Bright()
    logits = network(image.permute(3, 0, 1, 2)).permute(1, 2, 3, 0)
    before = logits.clone()
    found = look(network, infer, image, logits, cleaning={"slices": 3, "connected": [1]})
    assert torch.equal(logits, before)
    assert seen == len(found.features) == 12
    assert found.disagreement is None


def test_what_cleaning_throws_away_is_a_sign() -> None:
    image = disc(12)
    image[0, 2:10, 2:10] = 1
    found = look(Bright(), lambda x, net: net(x), image, cleaning={"slices": 3, "connected": [1]})
    assert found.signs[0].fragments == pytest.approx(64 / float(image[..., 0].sum()), abs=0.02)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_training_leaves_what_its_labelled_scans_are_like(chain: Path) -> None:
    content = json.loads((chain / UNET / "models" / "quality.json").read_text())
    network = json.loads((chain / UNET / "models" / "network.json").read_text())
    assert content["model_sha256"] == network["model_sha256"]
    assert set(content["usual"]) == set(MMWHS_LABELS)
    assert len(content["exemplars"]) == 64
    known = Known.beside(chain / UNET / "models")
    assert known.calibration.volumes in (0, 2)
    assert known.farthest is not None


def test_other_weights_know_nothing(chain: Path, tmp_path: Path) -> None:
    """A label server trains ``model.pt`` on, and leaves the file of the weights before."""
    for name in ("network.json", "quality.json"):
        shutil.copy(chain / UNET / "models" / name, tmp_path)
    assert Known.beside(tmp_path).exemplars is not None
    path = tmp_path / "network.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_sha256": "another"}))
    assert Known.beside(tmp_path) == Known()


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": ...},
        {"calibration": {"volumes": 1, "spread": 2}},
        {"calibration": {"weights": [1.0, 2.0]}},
        {"calibration": {"volumes": 2, "mean_error": "small"}},
        {"usual": {"aorta": {"mean": "0.5", "spread": [1.0] * 4, "share": 1}}},
        {"usual": [0.5]},
        {"exemplars": [[0.5], [0.5, 1.0]]},
        {"farthest": "far"},
    ],
)
def test_what_is_damaged_is_said_in_a_line(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text(json.dumps({"model_sha256": "a"}))
    content = {"format": 1, "model_sha256": "a", "calibration": {}, "usual": {}, "farthest": None, "exemplars": [[0.5]]}
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(content))
    assert Known.beside(tmp_path).calibration == Calibration()
    path.write_text(json.dumps({name: x for name, x in {**content, **change}.items() if x is not ...}))
    with pytest.raises(
        InputError, match=r"ckpt_dir: .*quality\.json is damaged \(.*Train again, or delete it"
    ) as caught:
        Known.beside(tmp_path)
    assert "\n" not in str(caught.value)


def test_inference_writes_a_row_for_each_scan_and_structure(chain: Path, phantom: Path, tmp_path: Path) -> None:
    run_bundle(chain, UNET, "inference", phantom, output_dir=str(tmp_path / "out"))
    rows = rows_of(tmp_path / "out" / "quality.csv")
    assert len(rows) == 8 * len(MMWHS_LABELS)
    assert set(rows[0]) == set(HEAD)
    assert {row["scan"] for row in rows} == {path.name for path in phantom.glob("*_image.nii.gz")}
    assert all(0 <= float(row["predicted_dice"]) <= 1 for row in rows if row["predicted_dice"])
    split = json.loads((chain / NAMES[0] / "eval" / "split.json").read_text())
    learned = split["folds"][0]["label_orders"][0][: SMALL[UNET]["labelled_volumes"]]
    assert all(float(row["unlikeness"]) < 0.5 for row in rows if row["scan"] in learned), "it is its own exemplar"
    said = json.loads((tmp_path / "out" / "run.json").read_text())["results"]["quality"]
    assert "calibrated" in said


def test_where_views_disagree_is_an_image_on_the_scans_grid(
    chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = next(phantom.glob("*_image.nii.gz"))
    words = ["segment", "--weights", str(chain), "--uncertainty", "True", str(scan), str(tmp_path / "mask.nii.gz")]
    with caplog.at_level("INFO"):
        assert main(words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("mask.nii.gz", "mask_uncertainty.nii.gz", "quality.csv"),
    }
    picture = nib.load(tmp_path / "mask_uncertainty.nii.gz")
    assert picture.shape == nib.load(scan).shape
    assert np.allclose(picture.affine, nib.load(scan).affine)
    assert {*np.unique(picture.dataobj)} <= {0, 33, 66, 100}
    assert np.asarray(picture.dataobj).any()
    assert "predicted Dice, worst first (" in caplog.text


def test_rows_of_masks_that_are_kept_are_kept(tmp_path: Path) -> None:
    there, new = tmp_path / "there.csv", tmp_path / "new.csv"
    for path, rows in ((there, [("a", "1"), ("b", "1"), ("b", "2")]), (new, [("b", "3")])):
        write_quality(path, [(*row, *[""] * (len(HEAD) - 2)) for row in rows])
    join_quality(new, there)
    assert [(row["scan"], row["structure"]) for row in rows_of(there)] == [("a", "1"), ("b", "3")]
    join_quality(tmp_path / "none.csv", there)
    assert len(rows_of(there)) == 2
    for other in ("", "scan,of,another,table\n"):
        there.write_text(other)
        join_quality(new, there)
        assert [row["scan"] for row in rows_of(there)] == ["b"]


def test_looking_again_leaves_the_network_as_it_is(phantom: Path, chain: Path, tmp_path: Path) -> None:
    """MONAI's evaluator has left evaluation by then: batch norms would learn, and the next scan have another mask."""
    first, second = sorted(phantom.glob("*_image.nii.gz"))[:2]
    for folder, scans in (("both", (first, second)), ("one", (second,))):
        (tmp_path / folder).mkdir()
        for scan in scans:
            shutil.copy(scan, tmp_path / folder)
        assert (
            main(["segment", "--weights", str(chain), str(tmp_path / folder), str(tmp_path / f"{folder}_masks")]) == 0
        )
    masks = [next((tmp_path / f"{folder}_masks").glob(f"{second.name[:13]}*_seg.nii.gz")) for folder in ("both", "one")]
    assert masks[0].read_bytes() == masks[1].read_bytes()
    last = [rows_of(mask.with_name("quality.csv"))[-1] for mask in masks]
    assert last[0] == last[1]
