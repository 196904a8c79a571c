"""Which volumes to label next, on the phantom."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL
from PIL import Image

from ufc_monai.__main__ import main
from ufc_monai.base.chain import FINE_TUNING, MASKS, QUALITY
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.commands.next import as_recorded
from ufc_monai.data.case import Case
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_clusters
from ufc_monai.quality.table import HEAD, write_quality


def arguments(data: Path, folder: Path, budget: int) -> list[str]:
    words = ["next", "--dataset_dir", str(data), "--folder", str(folder), "--budget", str(budget)]
    words += ["--preset", "cpu", "--threads", "1", "--bundles", str(ROOT / "bundles")]
    for key, value in SMALL[NAMES[0]].items():
        if key != "threads":
            words += ["--set", f"{NAMES[0]}.{key}={value!r}"]
    return words


@pytest.mark.usefixtures("warm")
def test_volumes_without_labels_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    make_phantom(data, patients=7, labelled=1, matrix=40)
    with caplog.at_level("INFO"):
        assert main(arguments(data, folder, 3)) == 0
    found = json.loads((folder / "selection_coverage.json").read_text())
    clusters = PseudoLabels.load(folder / NAMES[0] / "eval" / "inference" / "pseudo_labels.json").clusters
    assert len(set(found["chosen"])) == 3
    assert len(found["labelled_before"]) == 1
    assert {*found["chosen"], *found["labelled_before"]} <= clusters.keys()
    assert not {*found["chosen"]} & {*found["labelled_before"]}
    assert np.all(np.diff([0.0, *found["covered"]]) >= 0)
    assert all(image in caplog.text for image in found["chosen"])
    with Image.open(folder / "selection_coverage.png") as picture:
        assert np.asarray(picture).std() > 0
    assert not (folder / NAMES[1] / "models").exists()  # stage 2 is not needed
    caplog.clear()
    with caplog.at_level("INFO"):
        assert main(arguments(data, folder, 2)) == 0
    assert caplog.text.count("(complete, skipped)") == 2
    assert json.loads((folder / "selection_coverage.json").read_text())["chosen"] == found["chosen"][:2]
    assert main(arguments(data, folder, 7)) == 1
    assert capsys.readouterr().err.startswith("error: --budget must be 1 to 6, the volumes without labels in")


@pytest.fixture
def judged(chain: Path, phantom: Path, tmp_path: Path) -> Path:
    """A run whose first three scans in pretraining have lost their labels, and have masks of 0.2, 0.9 and 0.5."""
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(phantom, data)
    shutil.copytree(chain, run, ignore=shutil.ignore_patterns("cache"))
    record = run / NAMES[0] / "eval" / "train" / "run.json"
    asked = {"options": {"--dataset_dir": str(data)}}
    record.write_text(json.dumps({**json.loads(record.read_text()), "asked": asked}))
    left = scans_of(run)[:3]
    for image in left:
        (data / image.replace("_image", "_label")).unlink()
    masks = run / MASKS.record
    masks.parent.mkdir(parents=True, exist_ok=True)
    masks.write_text(json.dumps({"status": "complete"}))
    rows = [(image, "aorta", dice, *[""] * (len(HEAD) - 3)) for image, dice in zip(left, (0.2, 0.9, 0.5), strict=True)]
    write_quality(run / QUALITY, rows)
    return run


def scans_of(run: Path) -> list[str]:
    return sorted(PseudoLabels.load(run / NAMES[0] / "eval" / "inference" / "pseudo_labels.json").clusters)


def next_of(run: Path, strategy: str, *words: str) -> list[str]:
    assert main(["next", "--folder", str(run), "--budget", "2", "--strategy", strategy, *words]) == 0
    content = json.loads((run / f"selection_{strategy}.json").read_text())
    assert content["strategy"] == strategy
    return list(content["chosen"])


def test_a_finished_run_needs_no_other_word_and_each_strategy_has_its_file(
    judged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = scans_of(judged)[:3]
    with caplog.at_level("INFO"):
        assert next_of(judged, "quality") == [left[0], left[2]], "the worst first"
    assert "predicted Dice" in caplog.text
    assert "0.20" in caplog.text
    for strategy in ("coverage", "random"):
        assert set(next_of(judged, strategy)) < set(left)
    assert {tuple(next_of(judged, "random", "--seed", str(seed))) for seed in range(9)} > {(left[0], left[1])}
    assert "# 1 of" not in caplog.text, "no stage runs"
    before = (judged / "selection_quality.json").read_bytes()
    words = ["--folder", str(judged / "rounds" / "1"), "--budget", "1", "--strategy", "quality"]
    assert main(["next", *words]) == 0
    assert (judged / "selection_quality.json").read_bytes() == before, "that of the newest round stays"
    assert json.loads((judged / "selection_quality_1.json").read_text())["chosen"] == [left[0]]


def test_masks_of_what_is_out_of_date_are_not_gone_by(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stage 3 was begun anew, and quality.csv judges the masks of before."""
    (judged / FINE_TUNING.record).write_text(json.dumps({"status": "started"}))
    assert main(["next", "--folder", str(judged), "--budget", "1", "--strategy", "quality"]) == 1
    assert "quality.csv is out of date, or says nothing of" in capsys.readouterr().err
    assert next_of(judged, "coverage")


@pytest.mark.parametrize(
    ("words", "features", "replace"),
    [(("--features", "contrastive_ae"), "contrastive_ae", False), (("--replace", "True"), None, True)],
)
def test_clusters_that_stand_are_asked_again_if_an_option_is_theirs(
    words: tuple[str, str], features: str | None, replace: bool, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("ufc_monai.commands.next.run_stages", lambda options, *_: asked.append(options))
    next_of(judged, "coverage", *words)
    assert [(options.features, options.replace) for options in asked] == [(features, replace)]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"preset": "gpu"},
        {"preset": "isic+cpu", "keys": {"window": [0, 255], "skip_bad": True, "seed": 3}},
        {"features": "contrastive_vae", "preset": "cpu", "keys": {"fold": 2, "feature_scaling": "l2"}},
        {
            "features": "contrastive_ae",
            "preset": "cpu",
            "overrides": {NAMES[0]: {"epochs": 7, "learning_rate": 0.0001}},
        },
        {"overrides": {NAMES[1]: {"batch_size": 6}}, "keys": {"n_clusters": 5, "centred": False}},
    ],
)
def test_options_that_are_not_given_are_those_of_the_run(given: dict[str, Any], tmp_path: Path) -> None:
    cases = [Case(f"{i}.nii.gz", f"{i}_seg.nii.gz", str(i)) for i in range(8)]
    plain = RunOptions(tmp_path / "data", tmp_path / "run", ROOT / "bundles")
    planned = plan_clusters(replace(plain, **given), cases)
    for step in planned:
        path = plain.folder / step.record
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"asked": {"options": step.options}}))
    assert [step.options for step in plan_clusters(as_recorded(plain), cases)] == [step.options for step in planned]
    more = replace(plain, keys={"n_clusters": 9}, overrides={NAMES[0]: {"epochs": 8}})
    for was, step in zip(planned, plan_clusters(as_recorded(more), cases), strict=True):
        assert was.options.keys() <= step.options.keys()
        changed = {key: value for key, value in step.options.items() if value != was.options.get(key)}
        assert changed.items() <= {"--epochs": "8", "--n_clusters": "9"}.items()
        assert changed


def test_masks_have_to_be_judged_before_one_goes_by_them(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (judged / QUALITY).unlink()
    assert main(["next", "--folder", str(judged), "--budget", "1", "--strategy", "quality"]) == 1
    assert "Finish the run first, or take --strategy coverage" in capsys.readouterr().err
    assert main(["next", "--folder", str(judged.parent), "--budget", "1"]) == 1
    assert "no run was begun in" in capsys.readouterr().err


def test_select_says_what_it_is_called_now(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["select", "--dataset_dir", "x", "--budget", "3"])
    assert str(caught.value).startswith("error: select is called next now: python -m ufc_monai next --folder RUN")
    assert "\n" not in str(caught.value)
