from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ufc_monai.report.summary import dice_table, run_summary

UNET = Path("ufc_unet_segmentation", "eval")


def write_arm(folder: Path, prefix: str, dice: float, not_converged: list[str]) -> None:
    for place in (f"{prefix}train", f"{prefix}evaluate"):
        (folder / UNET / place).mkdir(parents=True)
    (folder / UNET / f"{prefix}evaluate" / "dice.csv").write_text(f"volume,mean,aorta\nx,{dice},{dice}\ny,{dice},\n")
    for place in (f"{prefix}train", f"{prefix}evaluate"):
        record = {"status": "complete", "results": {"not_converged": not_converged}}
        (folder / UNET / place / "run.json").write_text(json.dumps(record))


def test_the_table_shows_both_columns(tmp_path: Path) -> None:
    for name, dice in (("a", "0.5"), ("b", "0.7")):
        (tmp_path / name).write_text(f"volume,mean,aorta,atrium\nx,{dice},{dice},\ny,{dice},0.1,0.3\n")
    table = dice_table({"random initialisation": tmp_path / "a", "pretrained encoder": tmp_path / "b"}).splitlines()
    assert table[0].split() == ["Dice", "random", "initialisation", "pretrained", "encoder"]
    assert table[1].split() == ["aorta", "0.300", "0.400"]
    assert table[2].split() == ["atrium", "0.300", "0.300"]
    assert table[3].split() == ["mean", "0.500", "0.700"]


def test_difference_is_told_with_its_size(tmp_path: Path) -> None:
    write_arm(tmp_path, "", 0.75, [])
    write_arm(tmp_path, "random_", 0.5, [])
    assert "pretrained - random: +25.0 points of mean Dice on 2 test volumes" in run_summary(tmp_path)


def test_what_the_unlabelled_scans_changed_is_told(tmp_path: Path) -> None:
    for prefix, dice in (("", 0.75), ("random_", 0.5), ("labelled_alone_", 0.65)):
        write_arm(tmp_path, prefix, dice, [])
    for prefix, keys in (("", {"keep": 0.8}), ("random_", {"keep": 0.8}), ("labelled_alone_", {})):
        path = tmp_path / UNET / f"{prefix}train" / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "settings": {"seed": 0, **keys}}))
    assert "pretrained - random: +25.0; what the unlabelled scans changed: +10.0 points" in run_summary(tmp_path)


def test_no_verdict_over_a_structure_that_did_not_converge(tmp_path: Path) -> None:
    write_arm(tmp_path, "", 0.75, [])
    write_arm(tmp_path, "random_", 0.5, ["aorta"])
    text = run_summary(tmp_path)
    assert "random initialisation: aorta" in text
    assert "no verdict" in text
    assert "+25.0" not in text


def test_no_verdict_over_different_settings(tmp_path: Path) -> None:
    for prefix, draw in (("", 1), ("random_", 2)):
        write_arm(tmp_path, prefix, 0.5, [])
        path = tmp_path / UNET / f"{prefix}train" / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "settings": {"seed": 0, "label_draw": draw}}))
    text = run_summary(tmp_path)
    assert "different label_draw: no verdict" in text
    assert "points of mean Dice" not in text


def test_the_masks_come_first_and_what_was_learned_last(tmp_path: Path) -> None:
    """A sentence that pretraining went well is no judgement of the Dice above it."""
    write_arm(tmp_path, "", 0.4, [])
    write_arm(tmp_path, "random_", 0.5, [])
    places: dict[str, dict[str, Any]] = {
        "inference": {"results": {"volumes": 2}},
        "evaluate": {"environment": {"test_volumes": "1"}},
    }
    masks, tested = (tmp_path / UNET / place for place in places)
    for place, said in places.items():
        (tmp_path / UNET / place).mkdir(exist_ok=True)
        (tmp_path / UNET / place / "run.json").write_text(json.dumps({"status": "complete", **said}))
    for name in "abc":  # those that the records do not count are of an earlier fold
        (masks / f"{name}_seg.nii.gz").touch()
        (tested / f"{name}_seg.nii.gz").touch()
    record = tmp_path / "ufc_cluster_contrastive" / "eval" / "train" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"status": "complete", "results": {"verdict": "The embeddings have learned."}}))
    lines = run_summary(tmp_path).splitlines()
    assert lines[0] == f"masks of 2 unlabelled volumes: {masks}"
    assert lines[1] == f"masks of 1 test volume, pretrained encoder: {tested}"
    assert lines[-1] == "pretraining, by its own loss: The embeddings have learned."


def test_an_empty_run_has_nothing_to_say(tmp_path: Path) -> None:
    assert run_summary(tmp_path) == ""


def test_the_command_for_new_scans_can_be_typed(tmp_path: Path) -> None:
    weights = tmp_path / "my run" / "ufc_unet_segmentation" / "models" / "model.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert f"--weights '{tmp_path}/my run' IN OUT" in run_summary(tmp_path / "my run")
