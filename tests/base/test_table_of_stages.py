"""The table of the stages says what the bundles' configurations do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT
from monai.bundle import ConfigParser

from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.chain import MASKS, SPLIT, STAGES, Stage

PATHS = (
    "split_path",
    "pseudo_labels_path",
    "pretrained_path",
    *(f"run_record::outputs::{n}" for n in ("dice", "probe")),
)


def paths_of(stage: Stage) -> dict[str, str]:
    """The paths that a stage's configuration gives to its keys when it is started in a run's folder."""
    names = ("train", "evaluate") if stage.config == "evaluate" else (stage.config,)
    parser = ConfigParser()
    parser.read_config([ROOT / "bundles" / stage.bundle / "configs" / f"{name}.json" for name in names])
    for key, value in {"bundle_root": stage.bundle, **stage.keys}.items():
        parser[key] = value
    found = {key: parser.get_parsed_content(key) for key in ("output_dir", "ckpt_dir", *PATHS) if key in parser}
    return {key: os.path.normpath(path) for key, path in found.items() if path is not None}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.place)
def test_every_file_is_where_the_configuration_has_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUNDLES:
        (tmp_path / name / "eval").mkdir(parents=True)
    (tmp_path / SPLIT).touch()
    monkeypatch.chdir(tmp_path)
    paths = paths_of(stage)
    assert paths["output_dir"] == stage.place
    weights = [paths.get("pretrained_path", "none"), f"{paths['ckpt_dir']}/model.pt"]
    known = {*paths.values(), *weights, *(str(Path(path).with_name("network.json")) for path in weights)}
    known |= {f"{stage.place}/{name}" for name in ("pseudo_labels.json", "features.npz") if stage.config == "inference"}
    assert {*stage.inputs, *stage.outputs} - {*MASKS.outputs} <= known


def test_every_input_is_written_by_an_earlier_stage() -> None:
    made = set[str]()
    for stage in STAGES:
        assert set(stage.inputs) <= made
        assert not made & set(stage.outputs)
        made |= set(stage.outputs)
