from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, ROOT

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import Case
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages
from ufc_monai.planning.stages import Step

VAE, CONTRASTIVE, UNET = NAMES


def options(**changes: Any) -> RunOptions:
    return RunOptions(Path("data"), Path("run"), ROOT / "bundles", preset="cpu", **changes)


def cases(labelled: int, unlabelled: int) -> list[Case]:
    named = [Case(f"l{i}.nii.gz", f"m{i}.nii.gz", f"l{i}") for i in range(labelled)]
    return named + [Case(f"u{i}.nii.gz", None, f"u{i}") for i in range(unlabelled)]


def titles(stages: list[Step]) -> list[str]:
    return [stage.title for stage in stages]


def test_data_decide_which_stages_there_are() -> None:
    everything = titles(plan_stages(options(compare=True), cases(8, 2)))
    assert len(everything) == 9
    assert "stage 3: test, random initialisation" in everything
    few = titles(plan_stages(options(), cases(3, 9)))
    assert not [title for title in few if "test" in title or "probe" in title or "random" in title]
    assert few[-1] == "stage 3: segment the unlabelled volumes"
    assert "segment" not in titles(plan_stages(options(), cases(8, 0)))[-1]
    assert len(plan_stages(options(), cases(0, 5))) == 3


def test_both_arms_differ_in_their_start_alone() -> None:
    commands = [s.command for s in plan_stages(options(compare=True), cases(8, 0)) if "fine-tune" in s.title]
    pretrained, random = (" ".join(command) for command in commands)
    place = f"--ckpt_dir {UNET}/models_random --output_dir {UNET}/eval/random_train"
    assert random == f"{pretrained} --pretrained_path none {place}"


def test_what_the_unlabelled_scans_change_has_its_control() -> None:
    planned = plan_stages(options(compare=True, unlabelled="self_training", labelled=2), cases(8, 2))
    trained = {s.title: " ".join(s.command) for s in planned if "fine-tune" in s.title}
    assert [title for title in trained if "self_training.json" not in trained[title]] == [
        "stage 3: fine-tune, labelled scans alone"
    ]
    assert len(planned) == 11
    assert len(plan_stages(options(unlabelled="self_training", labelled=2), cases(8, 2))) == 7


def test_keys_go_where_they_are_known() -> None:
    keys = {"window": [0, 255], "labels": {"a": 1}, "n_clusters": 5, "centred": False, "threads": 1}
    stages = plan_stages(options(keys=keys, overrides={VAE: {"epochs": 9}}), cases(8, 2))
    of = {stage.title: " ".join(stage.command) for stage in stages}
    assert [t for t in of if "--window" in of[t]] == [
        t for t in of if "auto-encoder" in t or "contrastive" in t or "fine" in t
    ]
    assert [t for t in of if "--n_clusters 5 --centred False" in of[t]] == ["stage 1: features and clusters"]
    assert [t for t in of if "--epochs 9" in of[t]] == ["stage 1: train the auto-encoder"]
    assert all("--threads 1" in command for command in of.values())


def test_the_probe_judges_the_clusters_that_were_pretrained_with(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.touch()
    planned = plan_stages(options(overrides={CONTRASTIVE: {"pseudo_labels_path": str(other)}}), cases(8, 0))
    named = {stage.title for stage in planned if f"--pseudo_labels_path {other}" in " ".join(stage.command)}
    assert named == {"stage 2: contrastive pretraining", "stage 2: linear probe of the encoder"}


def test_a_method_is_laid_over_stage_2_alone() -> None:
    stages = plan_stages(options(method="moco", overrides={CONTRASTIVE: {"epochs": 9}}), cases(8, 0))
    configs = f"{CONTRASTIVE}/configs"
    for stage in stages:
        named = f"['{configs}/train.json','{configs}/cpu.json','{configs}/moco.json']" in stage.command
        assert named == ("contrastive pretraining" in stage.title)
        assert ("--epochs" in stage.command) == named


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelled": 5}, "--labelled must be 1 to 4"),
        ({"method": "simlcr"}, "Did you mean simclr?"),
        ({"method": "cpu"}, "Expected one of byol, dcl"),
        ({"keys": {"fold": 4}}, "--fold"),
        ({"keys": {"label_draw": 5}}, "draw"),
        ({"keys": {"window": [275, -125]}}, "--window must be two rising numbers"),
        ({"keys": {"window": 400}}, "--window must be two rising numbers"),
        ({"keys": {"n_clusters": 1}}, "--n_clusters"),
        ({"keys": {"device": "cuda:99"}}, "device: cuda:99 cannot be used here"),
        ({"overrides": {"ufc_vae": {"epochs": 1}}}, "unknown bundle ufc_vae"),
        ({"overrides": {VAE: {"epohcs": 1}}}, "Did you mean epochs"),
        (
            {"overrides": {VAE: {"epochs": "ten"}}},
            f"{VAE}: epochs must be a whole number of 0 or more, got 'ten'",
        ),
        ({"overrides": {VAE: {"ckpt_dir": "x"}}}, "ckpt_dir of ufc_feature_vae is set by the run itself"),
        ({"overrides": {UNET: {"pretrained_path": "/nowhere/model.pt"}}}, "there is no file /nowhere/model.pt"),
        ({"overrides": {UNET: {"pretrained_path": "nowhere.pt"}}}, "there is no file run/nowhere.pt"),
        ({"overrides": {VAE: {"split_seed": 1}}}, "split_seed of ufc_feature_vae is the same in all stages"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_runs(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan_stages(options(**changes), cases(8, 2))


def test_tracking_is_asked_of_every_stage_and_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    plain, tracked = (plan_stages(options(tracking=t), cases(8, 2)) for t in (None, "mlflow"))
    assert [stage.options for stage in tracked] == [stage.options for stage in plain]
    for stage, untracked in zip(tracked, plain, strict=True):
        words = " ".join(stage.command[len(untracked.command) :])
        assert words.startswith("--tracking mlflow --tracking_uri sqlite:///")
        assert words.endswith("/run/mlruns.db --experiment_name run")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for changes in ({"tracking": "mlflow"}, {"overrides": {VAE: {"tensorboard": True}}}):
        with pytest.raises(InputError, match=r'pip install -e "\.\[tracking\]"'):
            plan_stages(options(**changes), cases(8, 2))


def test_files_that_the_run_makes_or_leaves_out_are_no_errors() -> None:
    for path in ("none", None, "ufc_cluster_contrastive_v0.1.0", f"{CONTRASTIVE}/models/model.pt"):
        plan_stages(options(overrides={UNET: {"pretrained_path": path}}), cases(8, 2))


def test_the_elbow_knows_the_batches_of_stage_2() -> None:
    for changes, batch in (
        ({}, None),
        ({"overrides": {CONTRASTIVE: {"batch_size": 12}}}, "--batch_size 12"),
        ({"preset": "isic"}, "--batch_size 55"),
        ({"overrides": {VAE: {"batch_size": 12}}}, None),
    ):
        stages = plan_stages(replace(options(), **changes), cases(8, 2))
        command = " ".join(next(s.command for s in stages if "features and clusters" in s.title))
        assert ("--batch_size" in command) == (batch is not None)
        assert batch is None or batch in command
