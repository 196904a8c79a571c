from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES
from pretended_run import content, pretend_to_run, stop, write_list

from ufc_monai.base.errors import InputError
from ufc_monai.base.host import Host
from ufc_monai.commands import run
from ufc_monai.data.datalist import find_cases
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages
from ufc_monai.planning.stages import Step

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    return pretend_to_run(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("changes", "pretraining", "fine_tuning"),
    [
        ({}, False, False),
        ({"labels": {"liver": 2, "spleen": 1}}, False, True),
        ({"labels": {"spleen": 2, "liver": 1}}, False, True),
        ({"paired": 1}, False, True),
        ({"patient": "anna"}, True, False),
    ],
    ids=["same", "ids", "order", "pairs", "patient"],
)
def test_what_the_files_mean_counts(
    pretended: RunOptions, changes: dict[str, Any], pretraining: bool, fine_tuning: bool
) -> None:
    data = pretended.dataset_dir
    before = run.data_digests(pretended, find_cases(data))
    write_list(data, **changes)
    after = run.data_digests(pretended, find_cases(data))
    assert (before["images"] != after["images"]) == pretraining
    assert (before["labels"] != after["labels"]) == fine_tuning


def test_a_stage_that_was_stopped_in_another_run_is_not_complete(
    pretended: RunOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run.run_all(pretended)
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Step, "run", stop)
        run.run_all(replace(pretended, keys={"seed": 1}, replace=True))
    caplog.set_level("INFO")
    run.run_all(replace(pretended, replace=True))
    assert "train the auto-encoder\n" in caplog.text, "begun with another seed: nothing to go on from"
    assert "features and clusters (complete, skipped)" in caplog.text
    assert f"cd '{pretended.folder}'" in caplog.messages
    assert "pairs by dataset.json: 8 image* with label*" in caplog.messages


def test_a_training_that_was_stopped_goes_on_unless_it_would_be_another(
    pretended: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def look_and_stop(step: Step, host: Host, data: dict[str, str], *, goes_on: bool) -> int:
        seen.append(goes_on)
        return stop(step, host, data, goes_on=goes_on)

    monkeypatch.setattr(Step, "run", look_and_stop)
    for options in (pretended, pretended, replace(pretended, keys={"seed": 1}, replace=True)):
        with pytest.raises(KeyboardInterrupt):
            run.run_all(options)
    assert seen == [False, True, False]


CHANGED: dict[str, tuple[dict[str, Any], str, bool]] = {
    "seed": ({"keys": {"seed": 1}}, "seed default / 1", True),
    "budget": ({"labelled": 2}, "labelled_volumes default / 2", False),
    "method": ({"method": "moco"}, "configurations train cpu / train cpu moco", False),
    "batch of stage 2": ({"overrides": {CONTRASTIVE: {"batch_size": 6}}}, "batch_size default / 6", True),
}
"""Options of a second run, what the refusal names, and whether a run that ended in its second stage met them."""
UNCHANGED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "threads and device": {"keys": {"threads": 1, "device": "cpu"}},
    "preset by another name": {"preset": "auto"},
    "one more arm": {"compare": True},
    "no estimate": {"estimate": True},
}


@pytest.fixture(params=["complete", "unfinished"])
def folder_of_a_run(pretended: RunOptions, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A run in the folder, whose second stage was stopped where it is unfinished."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(run, "_look_first", lambda *_, **__: None)
    if request.param == "complete":
        run.run_all(pretended)
        return "complete"
    pretend = Step.run

    def run_one(step: Step, *rest: Any, **more: Any) -> int:
        return (stop if "features and clusters" in step.title else pretend)(step, *rest, **more)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Step, "run", run_one)
        run.run_all(pretended)
    return str(request.param)


@pytest.mark.parametrize("again", [False, True], ids=["refused", "replaced"])
@pytest.mark.parametrize("name", CHANGED)
def test_another_run_is_refused_before_anything_is_touched(
    pretended: RunOptions, folder_of_a_run: str, name: str, again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    changes, words, met = CHANGED[name]
    other, before = replace(pretended, **changes, replace=again), content(pretended.folder)
    caplog.set_level("INFO")
    if again or (folder_of_a_run == "unfinished" and not met):  # nothing has run that it would change
        run.run_all(other)
        caplog.clear()
        run.run_all(replace(other, replace=False))
        assert caplog.text.count("complete, skipped") == len(plan_stages(other, find_cases(other.dataset_dir)))
        return
    with pytest.raises(InputError, match=r"^--folder: .* holds a run with other options") as caught:
        run.run_all(other)
    assert words in str(caught.value)
    assert "Name another --folder" in str(caught.value)
    assert "--replace True" in str(caught.value)
    assert content(pretended.folder) == before


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_changes_no_stage_that_has_run_goes_on(
    pretended: RunOptions, folder_of_a_run: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = 1 if folder_of_a_run == "unfinished" else len(plan_stages(pretended, find_cases(pretended.dataset_dir)))
    caplog.set_level("INFO")
    run.run_all(replace(pretended, **UNCHANGED[name]))
    assert caplog.text.count("complete, skipped") == done


def test_an_edited_configuration_is_another_run_too(pretended: RunOptions) -> None:
    run.run_all(pretended)
    edited = pretended.folder / CONTRASTIVE / "configs" / "cpu.json"
    there = edited.read_text()
    edited.write_text(there.replace('"epochs": ', '"epochs": 1'))
    with pytest.raises(InputError, match=rf"the content of {CONTRASTIVE}/configs/cpu\.json"):
        run.run_all(pretended)
    edited.unlink()  # the bundles' own takes its place, and is as it was
    run.run_all(pretended)
    assert edited.read_text() == there


def test_what_was_started_by_hand_is_not_repeated_unasked(pretended: RunOptions) -> None:
    run.run_all(pretended)
    record = pretended.folder / CONTRASTIVE / "eval" / "train" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "asked": {}}))
    before = content(pretended.folder)
    with pytest.raises(
        InputError, match="'stage 2: contrastive pretraining' started by hand, or by an earlier version"
    ):
        run.run_all(pretended)
    assert content(pretended.folder) == before
    run.run_all(replace(pretended, replace=True))
    assert json.loads(record.read_text())["asked"]


def test_masks_follow_the_test_images(pretended: RunOptions, caplog: pytest.LogCaptureFixture) -> None:
    """No training reads them, but their masks are those of what they held."""
    data = pretended.dataset_dir
    content = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**content, "test": ["test.nii.gz"]}))
    caplog.set_level("INFO")
    for number, text in enumerate(("first", "first", "second")):
        (data / "test.nii.gz").write_text(text)
        caplog.clear()
        run.run_all(pretended)
        assert ("segment the unlabelled volumes (complete, skipped)" in caplog.text) == (number == 1)
        assert ("train the auto-encoder (complete, skipped)" in caplog.text) == (number > 0)


@pytest.mark.parametrize(("label", "words"), [(None, "1 new, e.g. image8"), ("", "1 with another label")])
def test_other_files_are_refused_before_any_stage(pretended: RunOptions, label: str | None, words: str) -> None:
    run.run_all(pretended)
    data = pretended.dataset_dir
    if label is None:
        (data / "image8.nii.gz").touch()
        listed = json.loads((data / "dataset.json").read_text())
        (data / "dataset.json").write_text(json.dumps({**listed, "unlabelled": ["image8.nii.gz"]}))
    else:
        write_list(data, label=label)
    before = content(pretended.folder)
    with pytest.raises(InputError, match=words) as caught:
        run.run_all(pretended)
    split = pretended.folder / VAE / "eval" / "split.json"
    assert f"Take a new --folder (of a bundle: --split_path), or delete {split}" in str(caught.value)
    assert content(pretended.folder) == before
