"""Rounds of labelling that are stopped, killed, or begun on labels that are taken back: those before stay."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES
from pretended_rounds import Loop, kept, pretend_to_loop
from pretended_run import content, stop

from ufc_monai.base.chain import FINE_TUNING, MASKS, TEST
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json
from ufc_monai.base.rounds import newest_round, round_folders
from ufc_monai.commands import run
from ufc_monai.planning.stages import Step

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return pretend_to_loop(tmp_path, monkeypatch)


@pytest.mark.parametrize("more", [False, True], ids=["as it was", "labelled meanwhile"])
def test_a_round_that_was_killed_goes_on(loop: Loop, monkeypatch: pytest.MonkeyPatch, more: bool) -> None:
    loop.run()
    loop.label(9)
    pretend, seen = Step.run, list[tuple[str, bool]]()

    def stop_fine_tuning(step: Step, *rest: Any, **how: Any) -> int:
        return (stop if step.title == FINE_TUNING.title else pretend)(step, *rest, **how)

    def watch(step: Step, *rest: Any, **how: Any) -> int:
        seen.append((step.title, how["goes_on"]))
        return pretend(step, *rest, **how)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Step, "run", stop_fine_tuning)
        loop.run()
    assert newest_round(loop.options.folder) == loop.options.folder, "what is not trained serves nobody"
    if more:
        loop.label(10)
    with pytest.raises(InputError, match="holds a run with other options"):
        loop.run(keys={"seed": 1})
    monkeypatch.setattr(Step, "run", watch)
    loop.run()
    assert seen == [(FINE_TUNING.title, not more), (TEST.title, False), (MASKS.title, False)]
    assert [p.name for p in round_folders(loop.options.folder)][1:] == ["2"]


def test_a_round_appears_whole_or_not_at_all(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.run()
    loop.label(9)
    with monkeypatch.context() as context, pytest.raises(OSError, match="disk full"):
        context.setattr("shutil.copytree", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        loop.run()
    assert len(round_folders(loop.options.folder)) == 1
    loop.run()
    assert newest_round(loop.options.folder).name == "2"


def test_a_full_disk_is_one_line_and_leaves_no_half_round(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copyfile

    def full(source: str, target: str, **how: Any) -> None:
        if target.endswith("model.pt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target, **how)

    loop.run()
    loop.label(9)
    with monkeypatch.context() as context, pytest.raises(InputError, match=r"^the disk is full: .*model\.pt was not"):
        context.setattr(shutil, "copyfile", full)
        loop.run()
    assert [*(loop.options.folder / "rounds").iterdir()] == []


@pytest.mark.parametrize("change", ["added", "corrected"])
def test_labels_that_change_while_it_works_stop_it(loop: Loop, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    pretend, seen = Step.run, list[str]()

    def meanwhile(step: Step, *rest: Any, **how: Any) -> int:
        seen.append(step.title)
        code = pretend(step, *rest, **how)
        if step.title == FINE_TUNING.title:
            loop.label(9) if change == "added" else loop.correct(loop.one_that("training"))
        return code

    loop.options = replace(loop.options, compare=True)
    with monkeypatch.context() as context, pytest.raises(InputError, match=r"labels .* have changed while the run was"):
        context.setattr(Step, "run", meanwhile)
        loop.run()
    assert seen[-1] == FINE_TUNING.title, "the other arm would learn from other labels"
    loop.run()
    assert newest_round(loop.options.folder).name == "2"


def look(*_: Any, **__: Any) -> None:
    raise InputError("the data set has to be mended first")


def test_a_round_whose_labels_are_taken_back_trains_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.run()
    loop.label(9)
    with monkeypatch.context() as context, pytest.raises(InputError, match="mended first"):
        context.setattr(run, "_look_first", look)
        loop.run(estimate=True)
    loop.label(8)
    with monkeypatch.context() as context:
        context.setattr(Step, "run", None)
        loop.run()
    loop.label(10)
    loop.run()
    assert [p.name for p in round_folders(loop.options.folder)][1:] == ["2"]
    assert len(read_json(newest_round(loop.options.folder) / "labels.json", "")["labels"]) == 10


def test_what_was_learned_from_is_told_until_fine_tuning_begins_anew(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.run()
    loop.label(9)
    with monkeypatch.context() as context, pytest.raises(InputError, match="mended first"):
        context.setattr(run, "_look_first", look)
        loop.run(replace=True, estimate=True)
    loop.label(10)
    loop.run()
    assert newest_round(loop.options.folder).name == "2"


def test_a_new_label_that_is_a_bad_file_takes_no_scan_from_stage_1(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    bad: dict[str, str] = {}

    def leave_out(cases: list[Any], *_: object) -> tuple[list[Any], dict[str, str]]:
        return [case for case in cases if case.image not in bad], dict(bad)

    for module in ("data.split_file", "planning.options"):
        monkeypatch.setattr(f"ufc_monai.{module}.without_bad", leave_out)
    loop.options = replace(loop.options, keys={"skip_bad": True})
    loop.run()
    loop.label(10)
    bad["image8.nii.gz"] = "its label is damaged."
    before = content(loop.options.folder)
    with pytest.raises(InputError, match=r"--skip_bad: image8.*its label is damaged\. Mend its label"):
        loop.run()
    assert content(loop.options.folder) == before
    bad.clear()
    loop.run()
    assert newest_round(loop.options.folder).name == "2"


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_labelling_correcting_and_killing_keeps_what_was_done(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw, pretend, whole = random.Random(seed), Step.run, dict[Path, Any]()
    loop.run()
    for act in [*draw.choices(["label", "correct", "kill", "run"], k=8), "run"]:
        if act == "label":
            loop.label(min(11, loop.labelled + 1))
        elif act == "correct":
            loop.correct(loop.one_that("training"))
        else:
            place = draw.choice([FINE_TUNING.title, TEST.title]) if act == "kill" else ""

            def kill(step: Step, *rest: Any, place: str = place, **how: Any) -> int:
                return (stop if step.title == place else pretend)(step, *rest, **how)

            with monkeypatch.context() as context, contextlib.suppress(KeyboardInterrupt):
                context.setattr(Step, "run", kill)
                loop.run()
                whole = {folder: kept(folder) for folder in round_folders(loop.options.folder)} | whole
        assert all(kept(folder) == what for folder, what in whole.items())
    held = [read_json(folder / "labels.json", "")["labels"] for folder in round_folders(loop.options.folder)]
    assert all(one != other and one.keys() <= other.keys() for one, other in itertools.pairwise(held))
