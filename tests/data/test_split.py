"""Patients are split, never volumes, and nothing of a held-out patient reaches training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of
from ufc_monai.data import split_file
from ufc_monai.data.case import Case
from ufc_monai.data.split import Split, make_split
from ufc_monai.data.split_file import open_split, shared_split_path

FOLDS = range(4)
ROLES = ("training", "validation", "test")


def make_data(root: Path, patients: Mapping[str, tuple[int, int]]) -> Path:
    """A data set of ``{patient: (labelled volumes, unlabelled volumes)}``; every file has content of its own."""
    training = []
    for patient, (labelled, unlabelled) in patients.items():
        for n in range(labelled + unlabelled):
            entry = {"image": f"{patient}_{n}.nii.gz", "patient": patient}
            if n < labelled:
                entry["label"] = f"{patient}_{n}_seg.nii.gz"
            for key in entry.keys() & {"image", "label"}:
                (root / entry[key]).write_text(entry[key])
            training.append(entry)
    (root / "dataset.json").write_text(json.dumps({"training": training}))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight patients with a labelled volume (one of them with two and an unlabelled one), three without."""
    patients = {f"p{n}": (1, 0) for n in range(7)} | {"several": (2, 1)} | {f"u{n}": (0, 1) for n in range(3)}
    folder = tmp_path / "data"
    folder.mkdir()
    return make_data(folder, patients)


def patients_of(items: list[dict[str, str]]) -> set[str]:
    return {item["patient"] for item in items}


def fold_where(split: Split, patient: str, role: str) -> int:
    return next(f for f in FOLDS if patient in split.content["folds"][f][role])


def test_every_labelled_patient_is_tested_once(root: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", root)
    tested = [patient for f in FOLDS for patient in sorted(patients_of(split.test(f)))]
    assert sorted(tested) == [*(f"p{n}" for n in range(7)), "several"]


@pytest.mark.parametrize("fold", FOLDS)
def test_roles_are_two_to_one_to_one(root: Path, tmp_path: Path, fold: int) -> None:
    split = open_split(tmp_path / "split.json", root)
    roles = [patients_of(items) for items in (split.labelled(fold), split.validation(fold), split.test(fold))]
    assert [len(role) for role in roles] == [4, 2, 2]
    assert len(set.union(*roles)) == 8
    assert patients_of(split.pretraining(fold)) == roles[0] | {"u0", "u1", "u2"}


def test_all_volumes_of_a_patient_stay_together(root: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", root)
    tested, trained = fold_where(split, "several", "test"), fold_where(split, "several", "training")
    assert sum(item["patient"] == "several" for item in split.test(tested)) == 2
    assert sum(item["patient"] == "several" for item in split.labelled(trained)) == 2
    assert sum(item["patient"] == "several" for item in split.pretraining(trained)) == 3


@pytest.mark.parametrize("role", ["validation", "test"])
def test_unlabelled_volume_of_a_held_out_patient_is_not_pretrained_on(root: Path, tmp_path: Path, role: str) -> None:
    split = open_split(tmp_path / "split.json", root)
    fold = fold_where(split, "several", role)
    assert "several" not in patients_of(split.pretraining(fold))
    unlabelled = {"image": str(root / "several_2.nii.gz")}
    assert split.image_sha256([unlabelled])[0] in split.held_out_sha256(fold)


def test_pretraining_hands_out_no_labels(root: Path, tmp_path: Path) -> None:
    assert all("label" not in item for item in open_split(tmp_path / "split.json", root).pretraining(0))


@pytest.mark.parametrize("draw", [0, 4])
def test_label_budgets_are_nested(root: Path, tmp_path: Path, draw: int) -> None:
    split = open_split(tmp_path / "split.json", root)
    everything = split.labelled(0, draw=draw)
    for n in range(1, len(everything) + 1):
        assert split.labelled(0, n, draw) == everything[:n]
    assert all("label" in item for item in everything)


@given(fold=st.sampled_from(FOLDS), draw=st.integers(0, 4), volumes=st.none() | st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
def test_what_is_not_labelled_is_unlabelled(
    root: Path, tmp_path: Path, fold: int, draw: int, volumes: int | None
) -> None:
    split = open_split(tmp_path / "split.json", root)
    of_all, with_label, without = (
        [item["image"] for item in items]
        for items in (
            split.pretraining(fold),
            split.labelled(fold, volumes, draw),
            split.unlabelled(fold, volumes, draw),
        )
    )
    assert sorted(with_label + without) == sorted(of_all)
    assert len(with_label) == (volumes or len(split.labelled(fold)))
    assert all("label" not in item for item in split.unlabelled(fold, volumes, draw))
    if volumes is None:  # none but those that have no label at all
        assert {Path(image).name for image in without} >= {f"u{n}_0.nii.gz" for n in range(3)}
        assert all(split.content["images"][Path(image).name]["label"] is None for image in without)


def test_draws_differ_in_order_alone(root: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", root)
    draws = [[item["image"] for item in split.labelled(0, draw=d)] for d in range(5)]
    assert len({tuple(draw) for draw in draws}) > 1
    assert len({tuple(sorted(draw)) for draw in draws}) == 1


@pytest.mark.parametrize(("volumes", "draw", "fold"), [(0, 0, 0), (99, 0, 0), (None, 5, 0), (None, -1, 0), (1, 0, 4)])
def test_what_there_is_not_is_refused(root: Path, tmp_path: Path, volumes: int | None, draw: int, fold: int) -> None:
    split = open_split(tmp_path / "split.json", root)
    with pytest.raises(
        InputError, match=r"(labelled_volumes must be 1 to \d |label_draw must be 0 to 4|fold must be 0 to 3)"
    ):
        split.labelled(fold, volumes, draw)


def test_labels_in_an_order_of_ones_own(root: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", root)
    order = split.content["folds"][0]["label_orders"][0][::-1]
    path = tmp_path / "selection.json"
    path.write_text(json.dumps({"chosen": order}))
    assert [Path(item["image"]).name for item in split.labelled(0, 2, order_path=path)] == [
        Path(image).name for image in order[:2]
    ]
    elsewhere = split.content["folds"][1]["label_orders"][0]
    for wrong, said in ((elsewhere, "not a labelled training volume"), ([], "must list 'chosen' volumes")):
        path.write_text(json.dumps({"chosen": wrong}))
        with pytest.raises(InputError, match=f"label_order_path: .* {said}"):
            split.labelled(0, order_path=path)


def test_split_is_seeded(root: Path, tmp_path: Path) -> None:
    one, again, other = (
        open_split(tmp_path / name, root, seed) for name, seed in (("a.json", 0), ("b.json", 0), ("c.json", 1))
    )
    assert one.sha256 == again.sha256
    assert one.content["folds"] != other.content["folds"]


def test_an_existing_split_is_taken_over(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    first = open_split(path, root)
    before = path.stat().st_mtime_ns
    again = open_split(path, root, sha256=first.sha256)
    assert again == first
    assert path.stat().st_mtime_ns == before
    assert first.sha256 == sha256_of(path)


def test_few_labelled_patients_hold_nothing_out(tmp_path: Path) -> None:
    split = open_split(
        tmp_path / "split.json", make_data(tmp_path, {"a": (1, 0), "b": (1, 0), "c": (2, 0), "u": (0, 1)})
    )
    assert not split.holds_out
    assert split.validation(0) == []
    assert patients_of(split.labelled(0)) == {"a", "b", "c"}
    assert patients_of(split.pretraining(0)) == {"a", "b", "c", "u"}
    with pytest.raises(InputError, match="holds out no test patients"):
        split.test(0)


@pytest.mark.parametrize("role", ["validation", "test"])
def test_one_scan_under_two_names_is_refused(root: Path, tmp_path: Path, role: str) -> None:
    (root / "u1_0.nii.gz").write_bytes((root / "p3_0.nii.gz").read_bytes())
    split = open_split(tmp_path / "split.json", root)
    with pytest.raises(InputError, match=r"u1_0\.nii\.gz has the same content"):
        split.pretraining(fold_where(split, "p3", role))
    with pytest.raises(InputError, match=r"u1_0\.nii\.gz has the same content"):
        split.unlabelled(fold_where(split, "p3", role))
    assert split.pretraining(fold_where(split, "p3", "training"))


def test_one_labelled_scan_under_two_names_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "p5_0.nii.gz").write_bytes((root / "p3_0.nii.gz").read_bytes())
    split = open_split(tmp_path / "split.json", root)
    apart = [
        f for f, fold in enumerate(split.content["folds"]) if ("p3" in fold["training"]) != ("p5" in fold["training"])
    ]
    assert apart
    for fold in apart:
        with pytest.raises(InputError, match="has the same content"):
            split.labelled(fold)


def test_changed_files_are_refused(root: Path, tmp_path: Path) -> None:
    open_split(tmp_path / "split.json", root)
    (root / "p3_0.nii.gz").write_text("longer than it was before")
    with pytest.raises(InputError, match=r"made for other files .*1 with other content, e\.g\. p3_0\.nii\.gz"):
        open_split(tmp_path / "split.json", root)


def test_a_fold_validates_on_what_the_next_one_tests(root: Path, tmp_path: Path) -> None:
    folds = open_split(tmp_path / "split.json", root).content["folds"]
    assert [fold["validation"] for fold in folds] == [folds[(f + 1) % 4]["test"] for f in FOLDS]


def test_held_out_are_validation_and_test_patients_without_labels(root: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", root)
    for f in FOLDS:
        fold = split.content["folds"][f]
        assert patients_of(split.held_out(f)) == {*fold["validation"], *fold["test"]}
        assert not any("label" in item for item in split.held_out(f))


def test_without_a_data_set_there_are_no_labels() -> None:
    with pytest.raises(InputError, match="dataset_dir is not set"):
        open_split("", "", required=False).labelled(0)


def test_nothing_to_train_on_is_refused(root: Path, tmp_path: Path) -> None:
    split = open_split(tmp_path / "split.json", root)
    assert replace(split, skipped={"a.nii.gz": "It is bad."}).pretraining(0) == split.pretraining(0)
    no_orders = [{**fold, "label_orders": [[]]} for fold in split.content["folds"]]
    with pytest.raises(InputError, match="no volume is left for training in fold 0"):
        replace(split, content={**split.content, "folds": no_orders}, skipped={"a": "It is bad."}).labelled(0)
    held_out = {i: e for i, e in split.content["images"].items() if e["patient"] in split.content["folds"][0]["test"]}
    left = replace(split, content={**split.content, "images": held_out}, skipped={"a.nii.gz": "It is bad."})
    with pytest.raises(InputError, match=r"no volume is left for pretraining in fold 0; 1 were left out, first a\.nii"):
        left.pretraining(0)


def test_a_split_that_is_younger_than_the_change_knows_it(root: Path, tmp_path: Path) -> None:
    """As when it was copied or touched: its own time says nothing. Another file of the same size and times is one."""
    first, image = tmp_path / "split.json", root / "p3_0.nii.gz"
    open_split(first, root)
    state, content = image.stat(), image.read_bytes()
    image.write_bytes(content[::-1])
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    copied = Path(shutil.copy(first, tmp_path / "copied.json"))
    os.utime(first)
    for path in (first, copied):
        with pytest.raises(InputError, match=r"1 with other content, e\.g\. p3_0\.nii\.gz"):
            open_split(path, root)
    image.write_bytes(content)
    assert open_split(first, root) == replace(open_split(copied, root), path=str(first))


def test_images_are_read_again_only_where_they_were_touched(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[str]()

    def noted(path: Path) -> str:
        read.append(Path(path).name)
        return sha256_of(path)

    monkeypatch.setattr(split_file, "sha256_of", noted)

    def images_read() -> set[str]:
        read.clear()
        open_split(tmp_path / "split.json", root)
        return {name for name in read if name.endswith(".gz")}

    assert len(images_read()) == 13
    assert not images_read()
    (root / "p3_0.nii.gz").touch()
    assert images_read() == {"p3_0.nii.gz"}
    assert not images_read()
    (tmp_path / "split.checked.json").write_text("damaged")
    assert len(images_read()) == 13
    assert not images_read()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("label", "1 with another label, e.g. {}"),
        ("remove", "1 gone, e.g. {}"),
        ("add", "1 new, e.g. p0_9.nii.gz"),
        ("patient", "1 of another patient, e.g. {}"),
    ],
)
def test_a_changed_list_is_refused(root: Path, tmp_path: Path, change: str, words: str) -> None:
    open_split(tmp_path / "split.json", root)
    content = json.loads((root / "dataset.json").read_text())
    first = content["training"][0]["image"]
    if change == "label":
        del content["training"][0]["label"]
    elif change == "patient":
        content["training"][0]["patient"] = "another"
    elif change == "remove":
        del content["training"][0]
    else:
        (root / "p0_9.nii.gz").write_text("new")
        content["training"].append({"image": "p0_9.nii.gz"})
    (root / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="made for other files") as caught:
        open_split(tmp_path / "split.json", root)
    assert words.format(first) in str(caught.value)
    assert f"or delete {tmp_path / 'split.json'}" in str(caught.value)


@pytest.mark.parametrize("fold", range(4))
def test_labels_that_were_added_train_and_nothing_else_changes(root: Path, tmp_path: Path, fold: int) -> None:
    before = open_split(tmp_path / "split.json", root)
    content = json.loads((root / "dataset.json").read_text())
    unlabelled = [e for name in ("training", "unlabelled") for e in content.get(name, []) if "label" not in e]
    patient_of = {image: entry["patient"] for image, entry in before.content["images"].items()}
    image = next(e["image"] for e in unlabelled if patient_of[e["image"]] in before.content["unlabelled"])
    (root / "added.nii.gz").write_text("added")
    for name in ("training", "unlabelled"):
        content[name] = [e for e in content.get(name, []) if e["image"] != image]
    content["training"].append({"image": image, "label": "added.nii.gz", "patient": patient_of[image]})
    (root / "dataset.json").write_text(json.dumps(content))
    after = open_split(tmp_path / "split.json", root)
    assert after.sha256 == before.sha256, "the file stays"
    for draw in range(5):
        granted = [[item["image"] for item in s.labelled(fold, draw=draw)] for s in (before, after)]
        assert granted[1] == [*granted[0], str(root / image)], "orders stay nested"
    for volumes in ("pretraining", "validation", "test", "held_out"):
        found = [{item["image"]: item.get("label") for item in getattr(s, volumes)(fold)} for s in (before, after)]
        assert found[0] == found[1], volumes
    assert str(root / image) not in {item["image"] for item in after.unlabelled(fold)}


def test_another_seed_is_refused(root: Path, tmp_path: Path) -> None:
    open_split(tmp_path / "split.json", root, seed=3)
    with pytest.raises(InputError, match="drawn with split_seed 3, not 0"):
        open_split(tmp_path / "split.json", root)


def test_another_split_than_the_stage_before_is_refused(root: Path, tmp_path: Path) -> None:
    earlier = open_split(tmp_path / "earlier.json", root, seed=1).sha256
    open_split(tmp_path / "split.json", root)
    for name in ("split.json", "gone.json"):
        with pytest.raises(InputError, match="is not the split that the stage before worked with"):
            open_split(tmp_path / name, root, sha256=earlier)
    assert not (tmp_path / "gone.json").exists()


def test_another_format_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text('{"format": 0}')
    with pytest.raises(InputError, match="expected a split of format 1, got 0"):
        open_split(tmp_path / "split.json", root)


def test_last_stage_prefers_the_split_of_the_first(tmp_path: Path) -> None:
    own = Path(shared_split_path(tmp_path / "ufc_unet_segmentation"))
    assert own == tmp_path / "ufc_unet_segmentation" / "eval" / "split.json"
    shared = tmp_path / "ufc_feature_vae" / "eval" / "split.json"
    shared.parent.mkdir(parents=True)
    shared.touch()
    (tmp_path / "ufc_unet_segmentation").mkdir()
    assert Path(shared_split_path(tmp_path / "ufc_unet_segmentation")).samefile(shared)


@settings(max_examples=60, deadline=None, database=None)
@given(
    volumes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=25),
    seed=st.integers(0, 2**31 - 1),
)
def test_folds_are_disjoint_and_balanced(volumes: list[tuple[int, int]], seed: int) -> None:
    cases = [
        Case(f"{p}_{v}.nii", f"{p}_{v}_seg.nii" if v < labelled else None, f"p{p}")
        for p, (labelled, unlabelled) in enumerate(volumes)
        for v in range(labelled + unlabelled)
    ]
    split = make_split(cases, seed)
    labelled_patients = {c.patient for c in cases if c.label}
    n = len(labelled_patients)
    assert len(split["folds"]) == (4 if n >= 4 else 1)
    assert set(split["unlabelled"]) == {c.patient for c in cases} - labelled_patients
    for fold in split["folds"]:
        assert sorted(p for role in ROLES for p in fold[role]) == sorted(labelled_patients)
        if n >= 4:
            assert all(n // 4 <= len(fold[role]) <= -(-n // 4) for role in ("validation", "test"))
        training = sorted(c.image for c in cases if c.label and c.patient in fold["training"])
        assert all(sorted(order) == training for order in fold["label_orders"])
    if n >= 4:
        assert sorted(p for fold in split["folds"] for p in fold["test"]) == sorted(labelled_patients)
        assert sorted(p for fold in split["folds"] for p in fold["validation"]) == sorted(labelled_patients)
