"""MedMNIST's layout, in a file of scikit-learn's digits: a folder, the split that it came with, and its labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NAMES, SMALL, copy_bundles, refused, run_bundle
from PIL import Image
from sklearn.datasets import load_digits

from ufc_monai.__main__ import main
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.medmnist import unpacked
from ufc_monai.data.split_file import open_split
from ufc_monai.evaluation.comparison import Comparison

SIZES = {"train": 60, "val": 20, "test": 20}


def arrays() -> dict[str, Any]:
    digits, first = load_digits(), 0
    pictures = np.kron(digits.images * 255 / 16, np.ones((3, 3))).astype(np.uint8)
    found: dict[str, Any] = {}
    for part, n in SIZES.items():
        found[f"{part}_images"] = pictures[first : first + n]
        found[f"{part}_labels"] = digits.target[first : first + n, None].astype(np.uint8)
        first += n
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "digits.npz", **arrays())
    return tmp_path / "digits.npz"


def test_a_file_becomes_a_data_set_once(file: Path) -> None:
    folder = unpacked(file)
    assert folder == file.parent / "digits"
    (file.parent / "another").mkdir()
    assert folder.stat().st_mode == (file.parent / "another").stat().st_mode, "others may read it, too"
    with Image.open(folder / "images" / "val_00007.png") as picture:
        assert np.array_equal(np.asarray(picture), arrays()["val_images"][7])
    cases = find_cases(folder)
    assert [sum(case.role == role for case in cases) for role in ("training", "validation", "test")] == [60, 20, 20]
    assert len({case.patient for case in cases}) == 100
    split = open_split(folder.parent / "split.json", folder)
    assert len(split.pretraining(0)) + len(split.content["folds"][0]["copies"]) == 60
    assert len(split.held_out(0)) == 40, "held out without masks, too"
    (folder / "images" / "mine.txt").touch()
    assert unpacked(file) == folder
    assert (folder / "images" / "mine.txt").is_file()


def test_colours_and_labels_that_are_missing(file: Path) -> None:
    content: dict[str, Any] = {
        name: np.repeat(a[..., None], 3, axis=3) if a.ndim == 3 else a for name, a in arrays().items()
    }
    del content["val_labels"]
    np.savez(file, **content)
    folder = unpacked(file)
    with Image.open(folder / "images" / "train_00000.png") as picture:
        assert picture.mode == "RGB"
    lines = (folder / "labels.csv").read_text().splitlines()
    assert lines[:2] == ["image,label", "images/train_00000.png,0"]
    assert sum(line.endswith(",") for line in lines) == 20


def test_check_takes_the_file(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = str(file.parent / "preview.png")
    with caplog.at_level("INFO"):
        assert main(["check", str(file), "--window", "[0,255]", "--preset", "cpu", "--output", picture]) == 0
    assert "100 patients, 100 volumes (0 labelled, 100 unlabelled)" in caplog.text


def test_its_labels_are_compared_with_clusters(file: Path, tmp_path: Path) -> None:
    folder, vae = unpacked(file), NAMES[0]
    bundles = copy_bundles(tmp_path / "run")
    for config in ("train", "inference"):
        run_bundle(bundles, vae, config, folder, **SMALL[vae] if config == "train" else {"n_clusters": 5})
    compared = Comparison(bundles, folder, str(folder / "labels.csv"), "cpu")
    assert len(compared.judged) == 40, "the pictures that MedMNIST holds out"
    assert compared.seen.names == [str(i) for i in range(10)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val_images": None}, "cannot be read (KeyError). Expected MedMNIST's npz with train_images"),
        ({"test_images": np.zeros((20, 9, 9, 9), np.uint8)}, "test_images are uint8 (20, 9, 9, 9); expected uint8"),
        ({"train_images": np.zeros((60, 9, 9))}, "train_images are float64 (60, 9, 9); expected uint8 pictures"),
        (
            {"train_labels": np.zeros((60, 14), np.uint8)},
            "train_labels are (60, 14); expected one label for each of 60",
        ),
        ({"val_labels": np.zeros(3, np.uint8)}, "val_labels are (3,); expected one label for each of 20 pictures"),
    ],
)
def test_other_layouts_are_refused(changes: dict[str, Any], words: str, file: Path) -> None:
    np.savez(file, **{name: a for name, a in {**arrays(), **changes}.items() if a is not None})
    with refused() as message:
        unpacked(file)
    assert words in message[0]
    assert len(message[0].splitlines()) == 1
    assert [path.name for path in file.parent.iterdir()] == ["digits.npz"]


def test_a_folder_of_another_file_is_not_taken(file: Path) -> None:
    unpacked(file)
    np.savez(file, **{**arrays(), "val_labels": np.zeros(20, np.uint8)})
    with refused() as message:
        unpacked(file)
    assert "was not made from" in message[0]
    shutil.rmtree(file.with_suffix(""))
    file.with_suffix("").mkdir()
    with refused() as message:
        unpacked(file)
    assert "was not made from" in message[0]


def test_no_npz_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.npz").write_bytes(b"none")
    assert main(["check", str(tmp_path / "x.npz")]) == 1
    assert "x.npz cannot be read" in capsys.readouterr().err
