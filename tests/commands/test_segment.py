from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import NAMES, ROOT, refused, run_bundle
from PIL import Image
from scans import sitk

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.commands import segment as command
from ufc_monai.commands.segment import _check_kept
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.quality import table
from ufc_monai.report.quality import read_quality
from ufc_monai.transforms.save import SaveMask


def test_one_scan_to_one_file(chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scan = next(phantom.glob("*_image.nii.gz"))
    assert main(["segment", "--weights", str(chain), str(scan), str(tmp_path / "out" / "mask.nii.gz")]) == 0
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    assert mask.shape == nib.load(scan).shape
    assert np.allclose(mask.affine, nib.load(scan).affine)
    assert mask.get_data_dtype() == np.uint16
    assert {*np.unique(mask.dataobj)} <= {0, *MMWHS_LABELS.values()}
    assert "(0 background, 500 left_ventricle, 600 right_ventricle, " in caplog.text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["mask.nii.gz", "quality.csv"]


def test_a_folder_to_a_folder(chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scans = sorted(phantom.glob("*_image.nii.gz"))[:2]
    (tmp_path / "in" / "day 1").mkdir(parents=True)
    for scan, name in zip(scans, ("a.nii.gz", "day 1/b.nii.gz"), strict=True):
        shutil.copy(scan, tmp_path / "in" / name)
    bundle = chain / NAMES[2]
    assert main(["segment", "--weights", str(bundle), str(tmp_path / "in"), str(tmp_path / "masks.v2")]) == 0
    out = tmp_path / "masks.v2"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.nii.gz")) == [
        "a_seg.nii.gz",
        "day 1/b_seg.nii.gz",
    ]
    assert "pairs by their names: 1 * without label, 1 */* without label" in caplog.messages


def test_a_broken_scan_costs_no_other_its_mask(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    first, second = sorted(phantom.glob("*_image.nii.gz"))[:2]
    shutil.copy(second, tmp_path / "in" / "b.nii.gz")
    (tmp_path / "in" / "a.nii.gz").write_bytes(first.read_bytes()[:3000])
    assert main(["segment", "--weights", str(chain), str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "a.nii.gz: cannot be read" in message
    assert "Traceback" not in message
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b_seg.nii.gz", "quality.csv"]


def test_a_picture_that_cannot_be_written_leaves_no_row_to_the_next_scan(
    chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for scan, name in zip(sorted(phantom.glob("*_image.nii.gz")), "ab", strict=False):
        shutil.copy(scan, tmp_path / "in" / f"{name}.nii.gz")

    def written(*_: object) -> Any:
        monkeypatch.setattr(table, "SaveMask", SaveMask)
        raise InputError("the disk is full")

    monkeypatch.setattr(table, "SaveMask", written)
    words = ["segment", "--weights", str(chain), "--uncertainty", "True", str(tmp_path / "in"), str(tmp_path / "out")]
    assert main(words) == 1
    assert {scan.scan for scan in read_quality(tmp_path / "out" / "quality.csv")} == {"b.nii.gz"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda voxels: voxels * 0 - 1000, "all its voxels have the value -1000"),
        (lambda voxels: voxels - voxels.min(), "are never below 0, and the window begins at -250"),
    ],
    ids=["one value", "no rescale"],
)
def test_values_that_no_mask_can_come_of_are_warned_of(
    change: Any, words: str, chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = nib.load(next(phantom.glob("*_image.nii.gz")))
    nib.save(nib.Nifti1Image(change(np.asarray(scan.dataobj)), scan.affine), tmp_path / "a.nii.gz")
    assert main(["segment", "--weights", str(chain), str(tmp_path / "a.nii.gz"), str(tmp_path / "m.nii.gz")]) == 0
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert said.startswith(f"{tmp_path / 'a.nii.gz'}: ")
    assert words in said


def test_masks_that_are_there_are_safe(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for scan, name in zip(sorted(phantom.glob("*_image.nii.gz")), "abc", strict=False):
        shutil.copy(scan, tmp_path / "in" / f"{name}.nii.gz")
    a, b, c = (tmp_path / "out" / f"{name}_seg.nii.gz" for name in "abc")
    for mask in (a, c):
        mask.write_text("corrected by hand")
    words = ["segment", "--weights", str(chain), str(tmp_path / "in"), str(tmp_path / "out")]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(f"error: OUT: {a} and 1 more are there already")
    assert not b.exists()
    assert main([*words, "--existing", "keep"]) == 0
    assert a.read_text() == c.read_text() == "corrected by hand"
    made = b.read_bytes()
    assert main([*words, "--existing", "overwrite"]) == 0
    assert b.read_bytes() == made
    assert nib.load(a).shape
    assert {path.name for path in (tmp_path / "out").iterdir()} == {a.name, b.name, c.name, "quality.csv"}


def save_mask(path: Path, *values: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    array = np.array([0, *values], np.uint8).reshape(-1, 1, 1)
    if path.suffix == ".gz":
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array[..., 0].T if path.suffix == ".png" else array.T), path)
    return path


def test_masks_of_an_earlier_version_are_not_kept(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They hold 1..7; beside masks of 205, 420, ... they would mean something else."""
    (tmp_path / "in").mkdir()
    for scan, name in zip(sorted(phantom.glob("*_image.nii.gz")), "ab", strict=False):
        shutil.copy(scan, tmp_path / "in" / f"{name}.nii.gz")
    old = save_mask(tmp_path / "out" / "a_seg.nii.gz", 1, 7)
    words = ["segment", "--weights", str(chain), str(tmp_path / "in"), str(tmp_path / "out"), "--existing", "keep"]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: OUT: {old} cannot be kept: it holds 1, 7, which are no ids of these weights")
    assert len(message.splitlines()) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == [old.name]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".png"])
def test_a_mask_is_kept_if_its_values_are_ids(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    for values in ([], [1, 2], [1, 10, 11, 2]):
        _check_kept(save_mask(path, *values), [1, 10, 11, 2])
    with pytest.raises(InputError, match="it holds 3, which are no ids"):
        _check_kept(save_mask(path, 2, 3), [1, 10, 11, 2])


def test_a_dicom_seg_is_kept_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a_seg.dcm").touch()
    _check_kept(tmp_path / "a_seg.dcm", [205])
    assert not caplog.records


@pytest.mark.parametrize(("out", "warned"), [("scans/masks", True), ("masks", False)])
def test_masks_beside_the_scans_would_be_labels(
    out: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(command, "_infer", lambda *_: [])
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(np.arange(8.0).reshape(2, 2, 2), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    assert command.segment(ROOT / "bundles" / NAMES[2], tmp_path / "scans", tmp_path / out) == []
    assert ("OUT lies in IN, where check and run will take these masks for labels" in caplog.text) == warned


def test_codes_are_for_dicom_seg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "--weights", "run", "scan", str(tmp_path / "out"), "--codes", "codes.csv"]
    assert main(words) == 1
    assert "--codes: only a DICOM SEG holds codes" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["segment", "label"])
def test_the_configuration_of_an_earlier_version_is_refused(
    command: str, chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's folder holds the configurations that it was made with; their masks would hold no ids."""
    old = tmp_path / NAMES[2]
    shutil.copytree(chain / NAMES[2], old, ignore=shutil.ignore_patterns("cache", "eval"))
    path = old / "configs" / "inference.json"
    path.write_text(path.read_text().replace("ufc_monai.transforms.ClassesToIdsd", "Identityd"))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").touch()
    ends = [str(phantom), str(tmp_path / "out")] if command == "segment" else [str(tmp_path / "app")]
    assert main([command, "--weights" if command == "segment" else "--folder", str(tmp_path), *ends]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path} is of an earlier version")
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "app" / "model").exists()


def test_a_name_that_looks_like_code_is_a_name(
    chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MONAI runs text of a configuration that begins with ``$``, and looks up what begins with ``@``."""
    monkeypatch.chdir(tmp_path)
    scan = next(phantom.glob("*_image.nii.gz"))
    Path("@scans").mkdir()
    shutil.copy(scan, '@scans/$open("proof","w").nii.gz')
    assert main(["segment", "--weights", str(chain), "@scans", "$out"]) == 0
    assert sorted(p.name for p in Path("$out").iterdir()) == ['$open("proof","w")_seg.nii.gz', "quality.csv"]
    assert not Path("proof").exists()


def test_a_folder_whose_name_monai_would_change_is_refused(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = next(phantom.glob("*_image.nii.gz"))
    (tmp_path / "day #1").mkdir()
    shutil.copy(scan, tmp_path / "day #1" / "a.nii.gz")
    assert main(["segment", "--weights", str(chain), str(tmp_path / "day #1"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: IN: MONAI's configurations cannot hold the text")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to_file", [True, False])
def test_no_mask_takes_the_place_of_a_scan(
    to_file: bool, chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, images = next(phantom.glob("*_image.nii.gz")), tmp_path / "images"
    images.mkdir()
    for name in ("a.nii.gz", "a_seg.nii.gz"):
        shutil.copy(scan, images / name)
    (tmp_path / "dataset.json").write_text('{"training": ["images/a.nii.gz", "images/a_seg.nii.gz"]}')
    places = [images / "a.nii.gz"] * 2 if to_file else [tmp_path, tmp_path]
    assert main(["segment", "--weights", str(chain), *map(str, places)]) == 1
    assert "would be written over by a mask" in capsys.readouterr().err
    assert all(path.read_bytes() == scan.read_bytes() for path in images.iterdir())


@pytest.mark.parametrize(
    ("weights", "source", "target", "words"),
    [
        ("nowhere", "scan", "out", "neither the folder of a finished run"),
        ("phantom", "scan", "out", "nor, without --arm, weights that lie below the folder of the bundles."),
        ("model.pt", "scan", "out", "model.pt is a file. Name the folder of the run or bundle that it is in."),
        ("chain", "nowhere", "out", "there is no file or folder"),
        ("chain", "phantom", "out.nii.gz", "Name a folder"),
        ("chain", "scan", "out.nrrd", "written as *.nii.gz"),
    ],
)
def test_errors(
    weights: str,
    source: str,
    target: str,
    words: str,
    chain: Path,
    phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ufc_monai.commands.segment._infer", lambda *_: pytest.fail("has to be refused before"))
    places = {
        "model.pt": chain / NAMES[2] / "models" / "model.pt",
        "chain": chain,
        "phantom": phantom,
        "scan": next(phantom.glob("*_image.nii.gz")),
    }
    words_in = [str(places.get(word, tmp_path / word)) for word in (weights, source)]
    assert main(["segment", "--weights", *words_in, str(tmp_path / target)]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_two_scans_to_one_mask_are_refused(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for suffix in ("png", "jpg"):
        Image.new("L", (40, 40)).save(tmp_path / "in" / f"a.{suffix}")
    (tmp_path / "in" / "dataset.json").write_text('{"training": ["a.png", "a.jpg"]}')
    assert main(["segment", "--weights", str(chain), str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert "a_seg.png. Rename one of the scans" in capsys.readouterr().err
    with refused() as message:
        run_bundle(chain, NAMES[2], "inference", tmp_path / "in", output_dir=str(tmp_path / "out"))
    assert "a_seg.png. Rename one of the scans" in message[0]
    assert not list(tmp_path.rglob("*_seg.png"))


def test_an_old_mask_below_zero_is_refused(tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), -1024, dtype=np.int16), np.eye(4)), mask)
    with pytest.raises(InputError, match="it holds -1024"):
        _check_kept(mask, [1, 2])
