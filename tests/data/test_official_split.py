from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from ufc_monai.base.errors import InputError
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.problems import ALIKE, find_copies, perceptual_hash
from ufc_monai.data.split_file import open_split


def draw(seed: int) -> Image.Image:
    """A smooth picture in colour, 60 x 80."""
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(60, 80, 3)), (8, 8, 0))
    return Image.fromarray((127 + 900 * smooth).clip(0, 255).astype(np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve labelled pictures, four unlabelled ones."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(16):
        draw(i).save(tmp_path / "images" / f"p{i:02}.png")
        if i < 12:
            draw(100 + i).save(tmp_path / "labels" / f"p{i:02}.png")
    return tmp_path


def official(folder: Path, **changes: Any) -> None:
    lists = {
        "training": [f"p{i:02}" for i in range(6)],
        "validation": ["p06", "p07"],
        "test": ["images/p08.png", "p12"],
    }
    (folder / "official_split.json").write_text(json.dumps({**lists, **changes}))


def names(items: list[dict[str, str]]) -> set[str]:
    return {Path(item["image"]).stem for item in items}


def test_the_official_split_is_kept(pictures: Path, tmp_path: Path) -> None:
    """Held out stays held out, with a label or without; what no list names is pretrained on."""
    official(pictures)
    split = open_split(tmp_path / "split.json", pictures)
    assert split.holds_out
    assert len(split.content["folds"]) == 1
    assert names(split.labelled(0)) == {f"p{i:02}" for i in range(6)}
    assert names(split.validation(0)) == {"p06", "p07"}
    assert names(split.test(0)) == {"p08"}
    assert names(split.pretraining(0)) == {f"p{i:02}" for i in range(16)} - {"p06", "p07", "p08", "p12"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": ["p99"]}, "1 images are not in the folder, e.g. p99"),
        ({"test": ["p00"]}, r"images/p00\.png is named twice"),
        ({"test": ["images/p00.png"]}, r"images/p00\.png is named twice"),
        ({"test": ["p13"]}, "no image of the list 'test' has a label"),
        ({"test": 5}, "expected lists"),
    ],
)
def test_a_wrong_list_is_refused(pictures: Path, changes: dict[str, Any], words: str) -> None:
    official(pictures, **changes)
    with pytest.raises(InputError, match=words):
        find_cases(pictures)


def test_a_copy_is_known_in_another_size_and_encoding(tmp_path: Path) -> None:
    draw(0).save(tmp_path / "a.png")
    draw(0).resize((400, 300)).save(tmp_path / "b.jpg", quality=60)
    Image.fromarray((np.asarray(draw(0)) * 0.8 + 20).astype(np.uint8)).save(tmp_path / "c.jpg")
    first = perceptual_hash(tmp_path / "a.png")
    for name in ("b.jpg", "c.jpg"):
        assert (perceptual_hash(tmp_path / name) ^ first).bit_count() <= ALIKE
    hashes = []
    for seed in range(30):
        draw(seed).save(tmp_path / "other.png")
        hashes.append(perceptual_hash(tmp_path / "other.png"))
    apart = [(one ^ other).bit_count() for i, one in enumerate(hashes) for other in hashes[:i]]
    assert min(apart) > ALIKE + 4


def test_exact_and_alike_are_told_apart() -> None:
    sha256 = {"a": "1", "b": "2", "c": "3", "test": "1"}
    hashes = {"a": 0, "b": 0b111, "c": 0xFFFF, "test": 0}
    assert find_copies(["a", "b", "c"], ["test"], sha256, hashes) == ({"a"}, {"b"})


def test_copies_leave_training(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    official(pictures)
    shutil.copy(pictures / "images" / "p08.png", pictures / "images" / "p13.png")
    with Image.open(pictures / "images" / "p06.png") as picture:
        picture.resize((160, 120)).save(pictures / "images" / "p03.png")
    with caplog.at_level("INFO"):
        split = open_split(tmp_path / "split.json", pictures)
    assert "1 pictures with the same bytes, 1 that look the same" in caplog.text
    assert not names(split.pretraining(0)) & {"p03", "p13", "p06", "p08"}
    assert names(split.labelled(0)) == {f"p{i:02}" for i in (0, 1, 2, 4, 5)}
    assert names(split.validation(0)) == {"p06", "p07"}


def test_dark_and_deep_pictures_are_no_copies(tmp_path: Path) -> None:
    """A grey picture of 16 bits has its pattern above 255."""
    for seed in (1, 2):
        deep = np.asarray(draw(seed).convert("L")).astype(np.uint16) * 200
        Image.fromarray(deep).save(tmp_path / f"{seed}.png")
    one, other = (perceptual_hash(tmp_path / f"{seed}.png") for seed in (1, 2))
    assert (one ^ other).bit_count() > ALIKE
    (tmp_path / "torn.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"torn\.png: cannot be read as a picture"):
        perceptual_hash(tmp_path / "torn.png")


def test_a_name_that_several_images_bear_is_refused(pictures: Path) -> None:
    (pictures / "official_split.json").unlink(missing_ok=True)
    shutil.rmtree(pictures / "images")
    shutil.rmtree(pictures / "labels")
    for folder in ("a", "b"):
        (pictures / folder).mkdir()
        draw(1).save(pictures / folder / "same.png")
    official(pictures, training=["a/same.png"], validation=[], test=["same"])
    with pytest.raises(InputError, match="2 images are called same"):
        find_cases(pictures)
