"""``--skip_bad True``: bad files are left out of every stage, each with a warning and in the record; never silently."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL, copy_bundles, refused, run_bundle

from ufc_monai.__main__ import main
from ufc_monai.artifacts.record import RunRecord
from ufc_monai.base.errors import InputError
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.problems import open_scans
from ufc_monai.data.split import Split
from ufc_monai.data.split_file import open_split
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages

VAE, CONTRASTIVE, UNET = NAMES


def cut_off(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:200])
    return path.name


def crop_label(path: Path) -> None:
    label = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[:, :-3], label.affine), path)


def image(number: int) -> str:
    return f"ct_train_{1001 + number}_image.nii.gz"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six labelled patients and two without."""
    make_phantom(tmp_path / "data", patients=8, labelled=6, matrix=32)
    return tmp_path / "data"


def images_of(split: Split) -> set[str]:
    """All that any stage may get."""
    found = [split.pretraining(0), split.labelled(0), split.validation(0), split.test(0)]
    return {Path(item["image"]).name for items in found for item in items}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "skip_bad" in r.getMessage()]


def test_the_split_is_drawn_without_bad_files(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = open_split(tmp_path / "whole.json", data, skip_bad=True)
    assert whole.sha256 == open_split(tmp_path / "usual.json", data).sha256
    assert not whole.skipped
    assert not warnings(caplog)
    cut_off(data / image(0))
    crop_label(data / "ct_train_1002_label.nii.gz")
    split = open_split(tmp_path / "split.json", data, skip_bad=True)
    assert set(split.skipped) == {image(0), image(1)} == set(split.content["skipped"])
    assert images_of(split).isdisjoint(split.skipped)
    assert [message.split(": ")[1].split()[0] for message in warnings(caplog)] == [image(0), image(1)]
    again = open_split(tmp_path / "split.json", data, skip_bad=True, sha256=split.sha256)
    assert again == split
    with pytest.raises(InputError, match=r"drawn without 2 bad volumes, e\.g\. .*, by --skip_bad True: pass that"):
        open_split(tmp_path / "split.json", data)


def test_of_a_split_that_is_there_they_are_left_out(data: Path, tmp_path: Path) -> None:
    """The roles of all others stay, and so does the file: stages that have worked with it are not disowned."""
    path = tmp_path / "split.json"
    before = open_split(path, data)
    bad = Path(before.labelled(0)[0]["label"])
    crop_label(bad)
    after = open_split(path, data, skip_bad=True, sha256=before.sha256)
    assert after.sha256 == before.sha256
    assert images_of(before) - images_of(after) == {bad.name.replace("label", "image")} == set(after.skipped)
    assert after.labelled(0) == before.labelled(0)[1:]
    assert [Path(i["image"]).name for i in after.labelled(0, 1)] != list(after.skipped), "the budget is of good ones"


def test_something_has_to_be_left(data: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", data)
    for item in split.test(0):
        cut_off(Path(item["image"]))
    with pytest.raises(InputError, match=r"skip_bad: no volume is left for test in fold 0; 2 were left out, first ct_"):
        open_split(tmp_path / "split.json", data, skip_bad=True).test(0)
    for item in split.labelled(0):
        cut_off(Path(item["label"]))
    with pytest.raises(InputError, match="no volume is left for training in fold 0"):
        open_split(tmp_path / "split.json", data, skip_bad=True).labelled(0)
    for label in data.glob("*_label.nii.gz"):
        cut_off(label)
    with pytest.raises(InputError, match="none of the 6 labelled volumes of"):
        open_split(tmp_path / "new.json", data, skip_bad=True)
    for path in data.glob("*_image.nii.gz"):
        cut_off(path)
    with pytest.raises(InputError, match="none of the 8 volumes of"):
        open_split(tmp_path / "new.json", data, skip_bad=True)
    with pytest.raises(InputError, match="none of the 2 volumes of"):
        open_scans(data, unlabelled_only=True, skip_bad=True)


def test_another_choice_of_files_is_another_run(tmp_path: Path) -> None:
    RunRecord(tmp_path, "ufc_feature_vae/train", {"seed": 0}, skipped={"a.nii.gz": "is empty"}).start()
    RunRecord(tmp_path, "ufc_feature_vae/train", {"seed": 0}, skipped={"a.nii.gz": "in other words"}).start()
    with pytest.raises(InputError, match=r"volume a.nii.gz skipped / None"):
        RunRecord(tmp_path, "ufc_feature_vae/train", {"seed": 0}).start()


def settings() -> list[str]:
    """Words that make all stages small."""
    words = ["--bundles", str(ROOT / "bundles"), "--preset", "cpu", "--threads", "1"]
    for bundle, overrides in SMALL.items():
        chosen = {k: v for k, v in overrides.items() if k not in ("threads", "labelled_volumes")}
        words += [word for key, value in chosen.items() for word in ("--set", f"{bundle}.{key}={value!r}")]
    return words


def small(name: str) -> dict[str, Any]:
    return {**SMALL[name], "epochs": 1, "min_steps": 1, "skip_bad": "True"}


def test_all_stages_go_on_without_them(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The way out that the error names works where the first attempt has left its split."""
    bundles = copy_bundles(tmp_path / "bundles")
    bad = [cut_off(data / image(7))]
    with refused() as message:
        run_bundle(bundles, VAE, "train", data, **{**SMALL[VAE], "epochs": 1})
    assert image(7) in message[0]
    assert "--skip_bad True" in message[0]
    stages = [
        (VAE, "train", small(VAE)),
        (VAE, "inference", {"n_clusters": 3, "skip_bad": True}),
        (CONTRASTIVE, "train", small(CONTRASTIVE)),
        (CONTRASTIVE, "inference", {"skip_bad": True}),
        (CONTRASTIVE, "probe", {"skip_bad": "true"}),
        (UNET, "train", {**small(UNET), "labelled_volumes": 1}),
        (UNET, "train+evaluate", {"skip_bad": True}),
        (UNET, "inference", {"skip_bad": True}),
    ]
    for name, configs, overrides in stages:
        caplog.clear()
        run_bundle(bundles, name, configs, data, **overrides)
        record = json.loads((bundles / name / "eval" / configs.split("+")[-1] / "run.json").read_text())
        assert [Path(path).name for path in record["skipped"]] == bad
        assert "cannot be read" in next(iter(record["skipped"].values()))
        assert len(warnings(caplog)) == 1
    labels = json.loads((bundles / VAE / "eval" / "inference" / "pseudo_labels.json").read_text())
    assert image(6) in labels["clusters"]
    assert image(7) not in labels["clusters"]
    masks = {path.name for path in (bundles / UNET / "eval" / "inference").rglob("*_seg.nii.gz")}
    assert len(masks) == 7
    assert image(7).replace(".nii", "_seg.nii") not in masks


def test_run_hands_it_to_every_stage(data: Path) -> None:
    options = RunOptions(data, Path("run"), ROOT / "bundles", preset="cpu", keys={"skip_bad": True})
    for stage in plan_stages(options, find_cases(data)):
        assert "--skip_bad True" in " ".join(stage.command)


def test_check_and_run_name_the_way_out_and_take_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cut_off(data / image(0))
    looking = ["check", str(data), "--output", str(tmp_path / "preview.png"), *settings()]
    assert main(looking) == 1
    assert "Or go on without such volumes: --skip_bad True." in caplog.text
    assert main(["run", "--dataset_dir", str(data), "--folder", str(tmp_path / "run"), *settings()]) == 1
    assert "--skip_bad True" in capsys.readouterr().err
    caplog.clear()
    assert main([*looking, "--skip_bad", "True"]) == 0
    assert len(warnings(caplog)) == 1
    assert "7 patients, 7 volumes (5 labelled, 2 unlabelled)" in caplog.text
    assert f"run --dataset_dir {data} --preset cpu --threads 1 --skip_bad True " in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_whole_run_without_them(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bad = [cut_off(data / image(0)), cut_off(data / image(7))]
    folder = tmp_path / "run"
    words = ["run", "--dataset_dir", str(data), "--folder", str(folder), *settings(), "--n_clusters", "3"]
    words += ["--skip_bad", "True"]
    assert main(words) == 0
    records = [json.loads(path.read_text()) for path in folder.glob("*/eval/*/run.json")]
    assert len(records) == 7
    for record in records:
        skipped = {Path(path).name for path in record["skipped"]}
        assert skipped == (set(bad) if record["stage"] != "ufc_unet_segmentation/inference" else {bad[1]})
    caplog.clear()
    assert main(words) == 0
    assert caplog.text.count("complete, skipped") == 7
