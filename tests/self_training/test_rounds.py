"""Rounds on disk: whole or not there, tied to their sha256, and what switches a class off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ufc_monai.base.errors import InputError
from ufc_monai.data.store import StoreEntry, write_entry
from ufc_monai.self_training.choose import Choice, Predicted
from ufc_monai.self_training.rounds import Round, RoundWriter, remove_volumes, switched_off

SHARES = np.array([0.8, 0.1, 0.1])


@pytest.fixture
def volumes(tmp_path: Path) -> list[StoreEntry]:
    entries = []
    for k, n in enumerate((4, 6)):
        folder = tmp_path / "store" / str(k)
        folder.mkdir(parents=True)
        items = [{"id": f"scan{k}.nii.gz#{i}", "patient": str(k), "position": i / n} for i in range(n)]
        entries.append(write_entry(folder, items, {"image": np.full((n, 1, 8, 8), k, dtype=np.float16)}))
    return entries


def teacher(seed: int) -> object:
    def predict(volume: StoreEntry) -> Predicted:
        rng = np.random.default_rng([seed, len(volume)])
        shape = (8, 8, len(volume))
        classes = rng.choice(3, shape, p=SHARES).astype(np.uint8)
        parts = rng.integers(128, 256, shape), rng.integers(1, 3, shape), np.zeros(shape)
        return Predicted(classes, *(part.astype(np.uint8) for part in parts))

    return predict


def write(tmp_path: Path, volumes: list[StoreEntry], number: int, before: Round | None = None, seed: int = 0) -> Round:
    writer = RoundWriter(tmp_path / "rounds" / f"round_{number}", volumes, Choice(), SHARES, before)
    return writer.write(teacher(seed), {"round": number})  # type: ignore[arg-type]


def test_a_round_holds_what_is_learned_and_what_was_predicted(tmp_path: Path, volumes: list[StoreEntry]) -> None:
    found = write(tmp_path, volumes, 1)
    assert sorted(path.name for path in (tmp_path / "rounds").iterdir()) == ["round_1"]
    for entry, volume, row in zip(found.entries(), volumes, found.content["volumes"], strict=True):
        classes = teacher(0)(volume).classes  # type: ignore[operator]
        assert np.array_equal(np.moveaxis(entry.array("predicted")[:, 0], 0, -1), classes)
        label = np.asarray(entry.array("label"))
        assert row["predicted"] == [int((classes == c).sum()) for c in range(3)]
        assert row["kept"] == [int((label == c).sum()) for c in range(3)]
        assert row["ignored"] == pytest.approx((label == 255).mean(), abs=1e-4)
        assert [item["id"] for item in entry.items] == [item["id"] for item in volume.items]
    assert found.content["volumes"][1]["image"] == "scan1.nii.gz"
    assert found.content["off"] == []


def test_the_same_teacher_gives_the_same_round_and_another_agrees_less(
    tmp_path: Path, volumes: list[StoreEntry]
) -> None:
    first = write(tmp_path, volumes, 1)
    assert write(tmp_path, volumes, 1).sha256 == first.sha256
    same = write(tmp_path, volumes, 2, first)
    assert same.content["agreement"] == [1.0, 1.0, 1.0]
    other = write(tmp_path, volumes, 2, first, seed=5)
    assert max(other.content["agreement"][1:]) < 0.3
    assert other.content["off"] == [1, 2], "two rounds do not agree on them"


def test_another_or_a_damaged_round_is_refused(tmp_path: Path, volumes: list[StoreEntry]) -> None:
    found = write(tmp_path, volumes, 1)
    assert Round.open(found.folder, found.sha256).content == found.content
    with pytest.raises(InputError, match="round_1 is not the round that the checkpoint names"):
        Round.open(found.folder, "0" * 64)
    path = found.folder / "0" / "label.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\\x07")
    with pytest.raises(InputError, match=r"label\.npy is gone or changed since its round"):
        found.entries()


def test_a_kill_during_a_round_leaves_the_one_before(tmp_path: Path, volumes: list[StoreEntry]) -> None:
    def killed(_: StoreEntry) -> Predicted:
        raise KeyboardInterrupt

    first = write(tmp_path, volumes, 1)
    with pytest.raises(KeyboardInterrupt):
        RoundWriter(first.folder, volumes, Choice(), SHARES).write(killed, {"round": 1})
    assert [path.name for path in (tmp_path / "rounds").iterdir()] == ["round_1"]
    assert Round.open(first.folder).sha256 == first.sha256


def test_a_class_that_collapses_or_wavers_is_switched_off() -> None:
    shares = np.array([0.9, 0.05, 0.03, 0.02])
    assert switched_off(np.array([900, 50, 30, 20]), shares, None) == []
    assert switched_off(np.array([900, 4, 30, 20]), shares, None) == [1], "a tenth of its share"
    assert switched_off(np.array([600, 50, 30, 320]), shares, None) == [3], "ten times its share"
    assert switched_off(np.array([900, 50, 30, 0]), shares, np.array([1, 0.2, 0.5, np.nan])) == [1, 3]


def test_structures_that_no_label_shows_do_not_vote(tmp_path: Path, volumes: list[StoreEntry]) -> None:
    """The labelled volumes may show a part of the body."""
    shares = np.array([0.8, 0.1, 0.1, 0.0, 0.0, 0.0])
    writer = RoundWriter(tmp_path / "rounds" / "round_1", volumes, Choice(), shares)
    content = writer.write(teacher(0), {"round": 1}).content  # type: ignore[arg-type]
    assert content["off"] == [3, 4, 5]
    assert not content["collapsed"]


def test_what_a_killed_process_has_left_is_swept_and_old_labels_go(tmp_path: Path, volumes: list[StoreEntry]) -> None:
    (tmp_path / "rounds" / ".round_1-abc" / "0").mkdir(parents=True)
    found = write(tmp_path, volumes, 1)
    assert [path.name for path in (tmp_path / "rounds").iterdir()] == ["round_1"]
    assert found.folder.stat().st_mode & 0o777 == 0o755
    remove_volumes(found.folder)
    assert [path.name for path in found.folder.iterdir()] == ["round.json"]
