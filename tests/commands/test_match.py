"""``match``: places go from a file to the network's grid and back, and what cannot be is refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from matplotlib.image import imread
from numpy.typing import NDArray

from ufc_monai.__main__ import main
from ufc_monai.artifacts.transfer import save_network
from ufc_monai.base.bundles import CONTRASTIVE
from ufc_monai.evaluation.pixels import PixelNetwork
from ufc_monai.networks.build import build_network

DENSE = {"name": "BasicUNet", "features": [4, 4, 8, 8, 16, 4], "norm": "instance", "in_channels": 1, "out_channels": 11}
PREPROCESSING = {"image_size": 32, "window": [-250, 650], "region": None, "standardise": False}
AFFINE = np.array([[0, 2.0, 0, -31], [-1.5, 0, 0, 40], [0, 0, 3, 7], [0, 0, 0, 1]])
"""The first axis of the file runs to the back, the second to the right."""


def volume() -> NDArray[np.int16]:
    """A body in air, in which no two places are alike; its box has 32 x 32 voxels, and each is a pixel of the grid."""
    body = np.full((48, 40, 5), -1000.0)
    body[10:38, 6:34] = np.random.default_rng(0).uniform(-80, 600, (28, 28, 5))
    return body.astype(np.int16)


def write_run(folder: Path, **record: Any) -> Path:
    """A run whose stage 2 has embedded pixels: here at random."""
    torch.manual_seed(0)
    about = {"stage": CONTRASTIVE, "architecture": {}, "preprocessing": PREPROCESSING, "loss": "OtherLoss", **record}
    save_network(folder / CONTRASTIVE / "models", build_network(DENSE).state_dict(), about)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run, and beside it scans."""
    image = nib.Nifti1Image(volume(), AFFINE)
    nib.save(image, tmp_path / "a.nii.gz")
    nib.save(image.as_reoriented([[1, -1], [2, 1], [0, 1]]), tmp_path / "turned.nii.gz")
    nib.save(nib.Nifti1Image(np.full((48, 40, 5), -1000, dtype=np.int16), AFFINE), tmp_path / "empty.nii.gz")
    picture = np.random.default_rng(1).integers(0, 255, (24, 32), dtype=np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(picture), tmp_path / "picture.png")
    return write_run(tmp_path / "run", dense=DENSE, embedding_size=8)


def command(run: Path, image: str, point: str, *others: str) -> list[str]:
    place = run.parent
    words = ["match", "--weights", str(run), "--image", str(place / image), f"--point={point}"]
    return [*words, *(str(place / other) for other in others), "--output", str(place / "out"), "--threads", "1"]


def found(run: Path) -> Any:
    return json.loads((run.parent / "out" / "match.json").read_text())


def test_a_voxel_goes_to_the_grid_and_back(run: Path) -> None:
    network = PixelNetwork.open(run, "cpu")
    for name in ("a.nii.gz", "turned.nii.gz"):
        scan = network.scan(run.parent / name)
        image = np.asarray(nib.load(scan.path).dataobj)
        for voxel in np.argwhere(image > -1000)[::97]:
            place = scan.place_of(voxel)
            assert scan.voxel_at(place) == voxel.tolist()
            shown = scan.image[0][tuple(np.rint(place).astype(int))]
            assert float(shown) == pytest.approx((image[tuple(voxel)] + 250) / 900, abs=1e-5)


def test_the_same_place_of_a_turned_copy(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(command(run, "a.nii.gz", "21,17,3", "a.nii.gz", "turned.nii.gz")) == 0
    content = found(run)
    mm = (AFFINE @ [21, 17, 3, 1])[:3]
    assert content["voxel"] == [21, 17, 3]
    assert content["mm"] == mm.tolist()
    for other in content["found"]:
        assert other["mm"] == pytest.approx(mm)
        assert other["similarity"] == pytest.approx(1, abs=1e-3)
    assert "turned.nii.gz: voxel 3,26,17, similarity" in caplog.text
    assert imread(run.parent / "out" / "match.png").ndim == 3


def test_millimetres_are_those_of_the_file(run: Path) -> None:
    point = ",".join(map(str, (AFFINE @ [21, 17, 3, 1])[:3]))
    main([*command(run, "a.nii.gz", f"[{point}]", "turned.nii.gz"), "--mm"])
    assert found(run)["voxel"] == [21, 17, 3]
    main(command(run, "a.nii.gz", "21,17,3", "turned.nii.gz"))
    assert found(run)["mm"] == pytest.approx((AFFINE @ [21, 17, 3, 1])[:3])


def test_pictures_have_two_axes(run: Path) -> None:
    assert main(command(run, "picture.png", "27,10", "picture.png")) == 0
    (other,) = found(run)["found"]
    assert other["voxel"] == [27, 10]
    assert len(other["mm"]) == 2


@pytest.mark.parametrize(
    ("image", "point", "other", "words"),
    [
        ("a.nii.gz", "48,0,0", "a.nii.gz", r"voxel 48,0,0 lies outside of \S+a.nii.gz, which has 48 x 40 x 5 voxels"),
        ("a.nii.gz", "3,-2,0", "a.nii.gz", "voxel 3,-2,0 lies outside of"),
        ("a.nii.gz", "21,17,nan", "a.nii.gz", "voxel 21,17,nan lies outside of"),
        ("a.nii.gz", "0,0,0", "a.nii.gz", "lies beside the body's square box"),
        ("a.nii.gz", "21,17", "a.nii.gz", r"takes x,y,z; got 2 numbers"),
        ("picture.png", "5,5,0", "a.nii.gz", "takes x,y, for it is a picture; got 3 numbers"),
        ("empty.nii.gz", "21,17,3", "a.nii.gz", "empty.nii.gz is empty: all of it looks the same in the window -250"),
        ("a.nii.gz", "21,17,3", "empty.nii.gz", "empty.nii.gz is empty"),
        ("a.nii.gz", "21,17,3", "b.nii.gz", r"there is no file \S+b.nii.gz"),
    ],
)
def test_what_cannot_be_is_one_line(
    image: str, point: str, other: str, words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(run, image, point, other)) == 1
    said = capsys.readouterr().err
    assert re.search(words, said)
    assert len(said.splitlines()) == 1
    assert not (run.parent / "out").exists()


def test_weights_that_embed_slices_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(run)
    assert main(command(run, "a.nii.gz", "21,17,3", "a.nii.gz")) == 1
    assert "embeds slices, not pixels (OtherLoss). Name a run with a method that pretrains the decoder" in (
        capsys.readouterr().err
    )


def test_numbers_are_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(command(run, "a.nii.gz", "here", "a.nii.gz"))
    assert "expected numbers such as 120,80,35, got 'here'" in capsys.readouterr().err
