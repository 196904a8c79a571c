"""The second data set of the paper, in small: colour pictures through all three bundles."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL, copy_bundles, refused, run_bundle
from numpy.typing import NDArray
from scipy import ndimage

from ufc_monai.__main__ import main
from ufc_monai.commands import check
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.inspect import inspect_cases
from ufc_monai.data.store import SliceStore
from ufc_monai.phantom.skin import draw_lesion, make_skin_phantom
from ufc_monai.planning.options import RunOptions, open_config
from ufc_monai.planning.plan import plan_stages
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolume, LoadVolumed

VAE, CONTRASTIVE, UNET = NAMES
LABELLED, PICTURES = 10, 14


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def skin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skin")
    make_skin_phantom(folder, pictures=PICTURES, labelled=LABELLED, size=48)
    return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, skin: Path) -> Path:
    """The bundles' folder after all stages with isic.json, small, and the test."""
    bundles = copy_bundles(tmp_path_factory.mktemp("bundles"))
    run_bundle(bundles, VAE, "train+isic", skin, **SMALL[VAE])
    run_bundle(bundles, VAE, "inference", skin, n_clusters=3)
    run_bundle(bundles, CONTRASTIVE, "train+isic", skin, **SMALL[CONTRASTIVE])
    run_bundle(bundles, UNET, "train+isic", skin, **SMALL[UNET])
    run_bundle(bundles, UNET, "train+evaluate", skin)
    return bundles


def test_pictures_are_drawn_from_the_seed_alone(skin: Path, tmp_path: Path) -> None:
    make_skin_phantom(tmp_path, pictures=1, size=48)
    for name in ("images/skin_0001.png", "labels/skin_0001_segmentation.png"):
        assert (tmp_path / name).read_bytes() == (skin / name).read_bytes()
    cases = find_cases(skin)
    assert [case.patient for case in cases] == [f"skin_{n + 1:04d}" for n in range(PICTURES)]
    assert [case.label is not None for case in cases] == [n < LABELLED for n in range(PICTURES)]


@pytest.mark.parametrize("n", range(12))
def test_a_lesion_is_one_dark_spot_on_the_skin(n: int) -> None:
    picture, mask = draw_lesion(np.random.default_rng([0, n]), 64)
    assert set(np.unique(mask)) == {0, 255}
    assert ndimage.label(mask)[1] == 1
    assert 0.02 < (mask > 0).mean() < 0.5
    assert not mask[[0, -1]].any()
    light: NDArray[Any] = picture.astype(float).mean(axis=2)
    assert light[mask > 0].mean() < 0.85 * light[mask == 0].mean()
    red, _, blue = picture[mask == 0].mean(axis=0)
    assert red > blue


def test_pictures_of_one_patient_each_agree_with_no_patient(chain: Path) -> None:
    place = chain / VAE / "eval" / "inference"
    assert read(place / "pseudo_labels.json")["provenance"]["agreement"] == {}
    assert "nmi_patient" not in read(place / "run.json")["results"]


def test_colours_and_standardising_travel_with_the_weights(chain: Path) -> None:
    for name in NAMES:
        network = read(chain / name / "models" / "network.json")
        assert network["architecture"]["in_channels"] == 3
        assert network["preprocessing"]["standardise"] is True
    line = json.loads((chain / CONTRASTIVE / "eval" / "train" / "metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["loss"])


def test_dice_is_that_of_each_picture(chain: Path, skin: Path) -> None:
    with open(chain / UNET / "eval" / "evaluate" / "dice.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    test = read(chain / VAE / "eval" / "split.json")["folds"][0]["test"]
    assert sorted(row["volume"] for row in rows) == [f"images/{name}.png" for name in test]
    run_bundle(chain, UNET, "inference", skin)
    masks = chain / UNET / "eval" / "inference" / "images"
    for row in rows:
        name = Path(row["volume"]).stem
        predicted = LoadVolume()(str(masks / f"{name}_seg.png")) > 0
        reference = LoadVolume()(str(skin / "labels" / f"{name}_segmentation.png")) > 0
        dice = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
        assert float(row["lesion"]) == pytest.approx(float(dice), abs=1e-4)


def test_thumbnails_keep_their_colours(chain: Path) -> None:
    thumbnails = np.load(chain / VAE / "eval" / "inference" / "thumbnails.npy")
    assert thumbnails.shape[1:] == (32, 32, 3)
    assert thumbnails[..., 0].mean() > thumbnails[..., 2].mean() + 10
    assert read(chain / VAE / "eval" / "inference" / "pseudo_labels.json")["provenance"]["centred_per_patient"] is False


def test_encoder_and_probe_read_the_colours_back(chain: Path, skin: Path) -> None:
    run_bundle(chain, CONTRASTIVE, "inference", skin)
    with np.load(chain / CONTRASTIVE / "eval" / "inference" / "features.npz") as file:
        assert file["features"].shape == (PICTURES, 16)
    run_bundle(chain, CONTRASTIVE, "probe", skin, labels={"lesion": 255})
    assert read(chain / CONTRASTIVE / "eval" / "probe" / "probe.json")["structures"]["lesion"]["pretrained"] is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [({"standardise": False}, "standardise True, this run has False"), ({"channels": 1}, "conv_0")],
)
def test_weights_for_other_pictures_are_refused(
    chain: Path, skin: Path, tmp_path: Path, overrides: dict[str, Any], words: str
) -> None:
    outputs = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    with refused() as message:
        run_bundle(chain, UNET, "train+isic", skin, **{**SMALL[UNET], **outputs, **overrides})
    assert words in message[0]


def test_ct_is_no_colour_picture(phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path)
    with refused() as message:
        run_bundle(bundles, VAE, "train+isic", phantom, **SMALL[VAE])
    assert "channels 3 is for colour pictures" in message[0]


def test_the_store_tells_grey_from_colours(skin: Path, tmp_path: Path) -> None:
    item = [{"image": str(skin / "images" / "skin_0001.png")}]
    shapes = {}
    for channels in (1, 3):
        steps: list[Any] = [LoadVolumed("image", channels=channels), AxialSlicesd("image", root=skin)]
        (entry,) = SliceStore(tmp_path, steps).open(item)
        shapes[channels] = entry.array("image").shape
    assert [shapes[channels][1] for channels in (1, 3)] == [1, 3]
    assert len(list(tmp_path.iterdir())) == 2


def test_facts_and_preview_in_colours(skin: Path) -> None:
    facts = inspect_cases(skin, labels={"lesion": 255}, previews=1, channels=3)
    (first,) = (f for f in facts if f.preview)
    assert first.preview is not None
    assert first.preview.label is not None
    assert first.preview.image.shape == (*first.preview.label.shape, 3)
    assert first.grid is not None
    assert first.grid.stored_shape == (*first.preview.label.shape, 1)
    assert not any(f.problems for f in facts)


@pytest.mark.parametrize("preset", ["isic", "isic+cpu"])
def test_check_foretells_a_run_on_pictures(
    preset: str, skin: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr(check, "save_preview", lambda _path, overlays, names: shown.append((overlays, names)))
    small = [word for n in NAMES for key in SMALL[n] if key != "threads" for word in _override(n, key)]
    with caplog.at_level("INFO"):
        output = ["--output", str(tmp_path / "p.png")]
        assert main(["check", str(skin), "--preset", preset, "--threads", "1", *output, *small]) == 0
    assert f"estimate for preset {preset} on" in caplog.text
    assert f"--preset {preset} " in caplog.text
    ((overlays, names),) = shown
    assert names == ["lesion"]
    assert overlays[0].image.shape[2] == 3


def _override(bundle: str, key: str) -> list[str]:
    return ["--set", f"{bundle}.{key}={SMALL[bundle][key]!r}"]


@pytest.mark.parametrize("preset", ["isic", "isic+cpu"])
def test_a_run_lays_isic_over_each_training_and_does_not_probe(skin: Path, preset: str) -> None:
    options = RunOptions(skin, Path("run"), ROOT / "bundles", preset=preset, method="simclr")
    stages = plan_stages(options, find_cases(skin))
    trainings = [stage for stage in stages if any("isic.json" in word for word in stage.command)]
    assert len(trainings) == 3
    last = f"{preset.rpartition('+')[2]}.json','ufc_cluster_contrastive/configs/simclr.json"
    assert last in " ".join(trainings[1].command)
    assert not [stage.title for stage in stages if "probe" in stage.title]


def test_the_papers_numbers_for_isic() -> None:
    """Section III of the paper: epochs, batch and learning rate of the three stages."""
    options = RunOptions(Path("data"), Path("run"), ROOT / "bundles", preset="isic")
    numbers = {VAE: (200, 60, 1e-3), CONTRASTIVE: (400, 55, 2.5e-4), UNET: (200, 24, 1e-4)}
    for bundle, expected in numbers.items():
        config = open_config(options, bundle)
        assert tuple(config[key] for key in ("epochs", "batch_size", "learning_rate")) == expected
        assert (config["image_size"], config["window"], config["channels"]) == (192, [0, 255], 3)
        assert config["standardise"] is True
