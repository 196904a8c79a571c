"""Rounds of labelling in one folder: what opens one, what is refused, and that those before stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES
from pretended_rounds import Loop, kept, pretend_to_loop
from pretended_run import content

from ufc_monai.base.chain import FINE_TUNING, QUALITY, SPLIT, TEST
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json
from ufc_monai.base.rounds import newest_round, round_folders, run_of
from ufc_monai.commands import run
from ufc_monai.quality.table import HEAD, write_quality
from ufc_monai.report.rounds import NO_TEST, read_rounds, rounds_text

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return pretend_to_loop(tmp_path, monkeypatch)


def test_each_change_of_labels_is_a_round_and_those_before_stay(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.run()
    first = kept(loop.options.folder)
    caplog.clear()
    caplog.set_level("INFO")
    loop.label(9)
    loop.run()
    assert "labels added of image8.nii.gz" in caplog.text
    for title in ("stage 1: train the auto-encoder", "stage 1: features", "stage 2: contrastive pretraining"):
        assert f"{title} (complete, skipped)" in caplog.text.replace("features and clusters (", "features (")
    assert "probe" not in caplog.text, "it judges the encoder, which is that of before"
    caplog.clear()
    loop.run()
    assert "(complete, skipped)" in caplog.text
    assert [p.name for p in round_folders(loop.options.folder)] == [loop.options.folder.name, "2"]
    second = content(loop.options.folder / "rounds" / "2")
    corrected = loop.one_that("training")
    loop.correct(corrected)
    loop.label(10)
    loop.run()
    assert f"labels added of image9.nii.gz; labels corrected of image{corrected}.nii.gz" in caplog.text
    assert kept(loop.options.folder) == first
    assert content(loop.options.folder / "rounds" / "2") == second
    assert newest_round(loop.options.folder).name == "3"
    assert run_of(newest_round(loop.options.folder)) == loop.options.folder
    third = read_json(loop.options.folder / "rounds" / "3" / FINE_TUNING.record, "")["asked"]
    assert third["options"] == read_json(loop.options.folder / FINE_TUNING.record, "")["asked"]["options"]


REFUSED: dict[str, tuple[Any, str]] = {
    "validation": (lambda loop: loop.correct(loop.one_that("validation")), "whose patient is held out, is another"),
    "test": (lambda loop: loop.correct(loop.one_that("test")), "whose patient is held out, is another"),
    "names": (lambda loop: loop.write_list(labels={"spleen": 1}), "the structures have other names or ids"),
    "image": (lambda loop: (loop.options.dataset_dir / "image9.nii.gz").write_text("x"), "1 with other content"),
    "taken away": (lambda loop: loop.label(7), "1 with another label"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("added", [False, True])
def test_what_would_make_rounds_incomparable_is_refused(loop: Loop, name: str, added: bool) -> None:
    loop.run()
    if added and name != "taken away":
        loop.label(9)
    change, words = REFUSED[name]
    change(loop)
    before = content(loop.options.folder)
    with pytest.raises(InputError, match=words) as caught:
        loop.run()
    assert content(loop.options.folder) == before
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("fold", "role"), [(0, "validation"), (1, "test"), (2, "training")])
def test_a_label_of_a_held_out_patients_other_scan_is_refused(loop: Loop, fold: int, role: str) -> None:
    loop.options = replace(loop.options, keys={"fold": fold})
    loop.run()
    assert "anna" in read_json(loop.options.folder / SPLIT, "")["folds"][fold][role]
    loop.label(12)
    if role == "training":
        loop.run()
        assert newest_round(loop.options.folder).name == "2"
        return
    with pytest.raises(InputError, match=rf"image11\.nii\.gz has got a label since .* held out in fold {fold}"):
        loop.run()
    assert not (loop.options.folder / "rounds").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keys": {"seed": 1}}, "seed default / 1"),
        ({"overrides": {UNET: {"epochs": 9}}}, "epochs default / 9"),
        ({"labelled": 2}, "labelled_volumes default / 2"),
        ({"unlabelled": "self_training"}, "configurations"),
    ],
)
def test_other_options_open_no_round(loop: Loop, changes: dict[str, Any], words: str) -> None:
    loop.run()
    loop.label(9)
    before = content(loop.options.folder)
    with pytest.raises(InputError, match=f"holds a run with other options.*{words}"):
        loop.run(**changes)
    assert content(loop.options.folder) == before
    loop.run(**changes, replace=True)
    assert not (loop.options.folder / "rounds").exists(), "repeated in the round that there is"


def test_a_budget_that_no_new_label_is_in_teaches_nothing(loop: Loop) -> None:
    loop.options = replace(loop.options, labelled=2)
    loop.run()
    loop.label(9)
    with pytest.raises(InputError, match=r"--labelled 2: the labels that have changed .* are not among those"):
        loop.run()


def test_a_configuration_edited_in_the_copy_says_what_labels_are_called(loop: Loop) -> None:
    run.copy_bundles(loop.options.bundles, loop.options.folder)
    path = loop.options.folder / UNET / "configs" / "train.json"
    path.write_text(json.dumps({**read_json(path, ""), "labels": {"hepar": 1}}))
    loop.run()
    loop.run()
    loop.label(9)
    loop.run()
    assert newest_round(loop.options.folder).name == "2"


def test_an_order_of_its_own_says_which_labels_train(loop: Loop) -> None:
    loop.run()
    order = read_json(loop.options.folder / SPLIT, "")["folds"][0]["label_orders"][0]
    shutil.rmtree(loop.options.folder)
    path = loop.options.dataset_dir.parent / "selection.json"
    path.write_text(json.dumps({"chosen": order[::-1]}))
    first, last = (int(image[len("image")]) for image in (order[0], order[-1]))
    loop.options = replace(loop.options, labelled=1, overrides={UNET: {"label_order_path": str(path)}})
    loop.run()
    loop.correct(first)
    with pytest.raises(InputError, match=r"label_order_path=.*: the labels that have changed .* are not among those"):
        loop.run()
    loop.correct(last)
    loop.run()
    assert newest_round(loop.options.folder).name == "2"


def test_a_round_that_is_missing_keeps_its_number(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for upto in (8, 9, 10):
        loop.label(upto)
        loop.run()
    shutil.rmtree(loop.options.folder / "rounds" / "2")
    loop.label(11)
    loop.run()
    assert [p.name for p in round_folders(loop.options.folder)][1:] == ["3", "4"]
    assert [found.number for found in read_rounds(loop.options.folder)] == [1, 3, 4]
    caplog.clear()
    assert newest_round(loop.options.folder).name == "4"
    assert "round 4: " in caplog.text


def test_the_first_round_has_a_name_too(loop: Loop) -> None:
    loop.run()
    loop.label(9)
    loop.run()
    assert newest_round(loop.options.folder / "rounds" / "1") == loop.options.folder
    assert newest_round(loop.options.folder / "rounds" / "2").name == "2"


def test_a_run_in_a_folder_that_is_called_like_a_round_is_none(loop: Loop, tmp_path: Path) -> None:
    loop.options = replace(loop.options, folder=tmp_path / "rounds" / "2")
    loop.run()
    assert run_of(loop.options.folder) == loop.options.folder


@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("unlabelled", ["none", "self_training"])
def test_rounds_of_every_kind_have_their_controls(
    loop: Loop, compare: bool, unlabelled: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop.options = replace(loop.options, compare=compare, unlabelled=unlabelled)
    loop.run()
    loop.label(9)
    caplog.set_level("INFO")
    caplog.clear()
    loop.run()
    done = [line.split(", ", 1)[1].partition("\n")[0] for line in caplog.messages if line.startswith("\n# ")]
    trained = [title for title in done if "fine-tune" in title and "complete" not in title]
    assert len(trained) == 1 + compare + (compare and unlabelled != "none")
    if unlabelled == "none":
        return
    loop.label(11)
    with pytest.raises(InputError, match="none is left"):  # image11 is of a held-out patient
        loop.run()


@pytest.mark.parametrize("tested", [False, True])
def test_the_table_of_rounds(loop: Loop, tested: bool) -> None:
    loop.run()
    predicted = {"liver": 0.2, "spleen": 0.4}
    rows = [("image8.nii.gz", name, dice, *[""] * (len(HEAD) - 3)) for name, dice in predicted.items()]
    write_quality(loop.options.folder / QUALITY, rows)
    loop.label(9)
    loop.correct(loop.one_that("training"))
    assert read_rounds(loop.options.folder) == []
    loop.run()
    for number, folder in enumerate(round_folders(loop.options.folder), start=1):
        record = read_json(folder / FINE_TUNING.record, "")
        (folder / FINE_TUNING.record).write_text(json.dumps({**record, "settings": {"training_volumes": 3 + number}}))
        rows_of_test = f"volume,mean,liver\na,0.{number},0.{number}\n" if tested else "volume,mean,liver\n"
        (folder / TEST.outputs[0]).write_text(rows_of_test)
    first, second = read_rounds(loop.options.folder)
    assert (first.volumes, first.dice, first.added, first.before) == (4, 0.1 if tested else None, [], None)
    assert (second.volumes, second.dice, second.added) == (5, 0.2 if tested else None, ["image8.nii.gz"])
    assert second.before == pytest.approx(0.3)
    assert second.corrected == [f"image{loop.one_that('training')}.nii.gz"]
    text = rounds_text([first, second])
    assert "image8.nii.gz" in text
    assert (NO_TEST in text) != tested
