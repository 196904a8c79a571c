"""``agreement`` on a run's folder, as its user calls it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NAMES, refused

from ufc_monai.__main__ import main
from ufc_monai.base.chain import LABELS
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data.split import Split
from ufc_monai.evaluation import agreement, comparison
from ufc_monai.evaluation.comparison import Comparison
from ufc_monai.evaluation.published import Published
from ufc_monai.evaluation.supervised import fine_tuned
from ufc_monai.networks.build import build_network

VAE, CONTRASTIVE, _ = NAMES


@pytest.fixture(scope="module")
def run(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("agreement") / "run"
    shutil.copytree(chain, copy)
    return copy


def table(run: Path) -> dict[str, dict[str, str]]:
    text = (run / VAE / "eval" / "agreement" / "agreement.csv").read_text()
    return {row["method"]: row for row in csv.DictReader(text.splitlines())}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "RESAMPLES", 20)


def test_masks_by_a_rule(run: Path, phantom: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["agreement", "--weights", str(run), "--dataset_dir", str(phantom), "--labels", "dominant"]
    with caplog.at_level("INFO"):
        assert main([*words, "--threads", "1", "--steps", "2", "--beside", str(run)]) == 0
    rows = table(run)
    assert list(rows)[:2] == ["most frequent class", "raw pixels, k-means"]
    assert {"run: clusters of stage 1, new slices by centre", "run: encoder of stage 2, k-means"} <= rows.keys()
    assert {f"supervised, from {start}" for start in ("stage 2", "random weights")} <= rows.keys()
    groups = {name: row["patient_groups_ari"] for name, row in rows.items() if row["patient_groups_ari"]}
    assert groups == {"run: clusters of stage 1, new slices by centre": "1.0000"}, "beside itself"
    for row in rows.values():
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
    assert (run / VAE / "eval" / "agreement" / "agreement.png").is_file()
    assert "to judge on" in caplog.text
    assert "95 % intervals over patients" in caplog.text


def test_runs_of_one_name_are_told_apart_by_their_paths(run: Path, phantom: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    rows = [name for name, _ in Comparison(run, phantom, "dominant", "cpu").rows([other, run], steps=1)]
    assert len(rows) == len(set(rows))
    assert {f"{folder}: clusters of stage 1, new slices by centre" for folder in (run, other)} <= set(rows)


def write_halves(run: Path, data: Path, path: Path, *, held_out: bool = True) -> None:
    """Slices of the upper and of the lower half of the body, which a file names."""
    stage_1 = Published.open(run, VAE, "cpu")
    split: Split = stage_1.split(data)
    items = stage_1.slices(split.pretraining(0) + (split.held_out(0) if held_out else []), data).items
    lines = [f"{item['id']},{'upper' if item['position'] > 0.5 else 'lower'}" for item in items]
    path.write_text("\n".join(["image,label", *lines]))


def test_a_file_of_labels_is_learned_on_training_patients_alone(run: Path, phantom: Path, tmp_path: Path) -> None:
    write_halves(run, phantom, tmp_path / "labels.csv")
    compared = Comparison(run, phantom, str(tmp_path / "labels.csv"), "cpu")
    assert compared.seen.names == ["lower", "upper"]
    held_out = {item["patient"] for item in compared.split.held_out(0)}
    assert set(compared.seen.patients.tolist()) == held_out
    assert not held_out & set(compared.patients[compared.learned].tolist())
    pixels = dict(compared.rows([], steps=1))["raw pixels, k-means"]
    assert pixels["linear_probe"] > 0.7


def test_without_labels_of_test_patients_a_quarter_is_judged(
    run: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_halves(run, phantom, tmp_path / "labels.csv", held_out=False)
    with caplog.at_level("INFO"):
        compared = Comparison(run, phantom, str(tmp_path / "labels.csv"), "cpu")
    assert "1 of the 4 labelled patients are judged on" in caplog.text
    judged = set(compared.seen.patients.tolist())
    assert len(judged) == 1
    held_out = {item["patient"] for item in compared.split.held_out(0)}
    assert not (judged | held_out) & set(compared.patients[compared.learned].tolist())


def test_the_supervised_baseline_learns_what_can_be_seen(run: Path, phantom: Path, tmp_path: Path) -> None:
    write_halves(run, phantom, tmp_path / "labels.csv")
    compared = Comparison(run, phantom, str(tmp_path / "labels.csv"), "cpu")
    stage_2 = Published.open(run, CONTRASTIVE, "cpu")
    slices, classes = stage_2.slices(compared.items, phantom), np.full(len(compared.slices), -1)
    classes[compared.learned] = compared.seen.training
    torch.manual_seed(0)
    encoder = build_network(stage_2.record["architecture"])
    found = fine_tuned(encoder, stage_2, slices, classes, compared.judged.tolist(), steps=100)
    assert (found == compared.seen.held_out).mean() > 0.75


def test_the_run_s_own_clusters_are_judged(run: Path, phantom: Path, tmp_path: Path) -> None:
    """And not, of slices that have one, the nearest centre: a tree's clusters are not those."""
    other = tmp_path / "run"
    shutil.copytree(run, other)
    write_halves(other, phantom, tmp_path / "labels.csv", held_out=False)
    by_image: dict[str, list[int]] = {}
    for name, label in (line.split(",") for line in (tmp_path / "labels.csv").read_text().splitlines()[1:]):
        by_image.setdefault(name.rpartition("#")[0], []).append(["lower", "upper"].index(label))
    PseudoLabels(by_image, 2, {"method": "halves"}).save(other / LABELS)
    rows = dict(Comparison(other, phantom, str(tmp_path / "labels.csv"), "cpu").rows([], steps=1))
    assert rows["run: clusters of stage 1, new slices by centre"]["accuracy"] == 1


def test_random_weights_are_the_same_each_time(run: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, encoders = Comparison(run, phantom, "dominant", "cpu"), list[torch.nn.Module]()

    def remember(encoder: torch.nn.Module, *_: object, **__: object) -> object:
        encoders.append(encoder)
        return compared.seen.held_out

    monkeypatch.setattr(comparison, "fine_tuned", remember)
    for _ in range(2):
        assert len(list(compared._supervised(steps=1))) == 2
    first, again = (torch.cat([p.flatten() for p in encoders[i].parameters()]) for i in (1, 3))
    assert torch.equal(first, again)


def test_area_of_the_structures(run: Path, phantom: Path) -> None:
    assert Comparison(run, phantom, "area", "cpu").seen.names == ["large", "middle", "small"]


def test_levels_by_the_structures(run: Path, phantom: Path) -> None:
    names = Comparison(run, phantom, "level", "cpu").seen.names
    assert "none" in names
    assert len(names) > 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--dataset_dir: the data set of"),
        (["--dataset_dir", "DATA", "--labels", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--dataset_dir", "DATA", "--weights", "nowhere"], "there is no nowhere"),
    ],
)
def test_what_is_refused(
    words: list[str], said: str, run: Path, phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("DATA", str(phantom)) for word in words]
    assert main(["agreement", "--weights", str(run), "--labels", "dominant", *given]) == 1
    assert said in capsys.readouterr().err


def test_a_run_of_another_split_is_not_set_beside(run: Path, phantom: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    path = other / VAE / "models" / "network.json"
    path.write_text(path.read_text().replace('"fold": 0', '"fold": 1'))
    compared = Comparison(run, phantom, "dominant", "cpu")
    with refused() as message:
        list(compared.rows([other], steps=1))
    assert "has another split or fold" in message[0]
