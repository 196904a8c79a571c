"""Images that may be somebody's test set train nothing unasked; they are segmented all the same."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from conftest import ROOT, refused, run_bundle
from hypothesis import given
from hypothesis import strategies as st

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.data.datalist import find_cases, image_items
from ufc_monai.data.problems import open_scans
from ufc_monai.data.split import Split
from ufc_monai.data.split_file import open_split
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.options import RunOptions, usable_cases
from ufc_monai.planning.plan import plan_stages

LAYOUTS = ("folders", "list")
TEST = {"ct_train_1005_image.nii.gz", "ct_train_1006_image.nii.gz"}


def move(data: Path, layout: str) -> Path:
    """A phantom of six, the last two of them as a test set; the sixth has a label there, where the layout allows it."""
    images = sorted(data.glob("*_image.nii.gz"))
    entries: dict[str, list[object]] = {"training": [], "test": []}
    for image in images:
        stem = image.name.replace("_image.nii.gz", "")
        part = "Ts" if image.name in TEST else "Tr"
        label = data / f"{stem}_label.nii.gz"
        (data / f"images{part}").mkdir(exist_ok=True)
        (data / f"labels{part}").mkdir(exist_ok=True)
        image.rename(data / f"images{part}" / image.name)
        if part == "Tr" or (layout == "folders" and "1006" in stem):
            label.rename(data / f"labels{part}" / image.name)
        else:
            label.unlink()
        entry = {"image": f"images{part}/{image.name}"}
        if part == "Tr":
            entry["label"] = f"labelsTr/{image.name}"
        entries["training" if part == "Tr" else "test"].append(entry if part == "Tr" else entry["image"])
    if layout == "list":
        (data / "dataset.json").write_text(json.dumps(entries))
    return data


@pytest.fixture(params=LAYOUTS)
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Four labelled patients and two of a test set."""
    make_phantom(tmp_path / "data", patients=6, matrix=32)
    return move(tmp_path / "data", request.param)


def names(split: Split) -> set[str]:
    """All images that any stage may get."""
    found = [split.pretraining(0), split.labelled(0), split.validation(0), split.test(0)]
    return {Path(item["image"]).name for items in found for item in items}


def test_they_are_left_out_and_counted(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    split = open_split(tmp_path / "split.json", data)
    assert {Path(image).name for image in split.content["images"]}.isdisjoint(TEST)
    assert names(split).isdisjoint(TEST)
    said = [message for message in caplog.messages if "test images" in message]
    assert len(said) == 1
    assert said[0].endswith("test images (imagesTs, or dataset.json's 'test') are left out of training: 2; "
                            "--include_test_images True takes them in")  # fmt: skip


def test_a_split_says_itself_whether_it_has_them(data: Path, tmp_path: Path) -> None:
    """So that a stage behind the first needs no word, and a split of before this option stays valid."""
    drawn = open_split(tmp_path / "split.json", data, include_test_images=True)
    assert {Path(image).name for image in drawn.content["images"]} >= TEST
    later = open_split(tmp_path / "split.json", data, sha256=drawn.sha256)
    assert later == drawn
    open_split(tmp_path / "without.json", data)
    with pytest.raises(InputError, match=r"made for other files than those of .*2 new, e\.g\. imagesTs/"):
        open_split(tmp_path / "without.json", data, include_test_images=True)


def test_they_are_segmented_all_the_same(data: Path) -> None:
    assert {Path(item["image"]).name for item in image_items(data)} >= TEST
    without_label = {Path(i["image"]).name for i in open_scans(data, unlabelled_only=True).items}
    assert without_label == {name for name in TEST if not (data / "labelsTs" / name).exists()}
    options = RunOptions(data, Path("run"), ROOT / "bundles", preset="cpu")
    stages = plan_stages(options, usable_cases(options))
    assert stages[-1].title == "stage 3: segment the unlabelled volumes"


def test_every_command_takes_the_option(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    asked = RunOptions(data, Path("run"), ROOT / "bundles", preset="cpu", keys={"include_test_images": True})
    assert len(usable_cases(asked)) == 6
    trainings = [stage.command for stage in plan_stages(asked, usable_cases(asked)) if "--epochs" not in stage.title]
    assert ["--include_test_images" in command for command in trainings] == [
        "train.json" in " ".join(command) and "evaluate.json" not in " ".join(command) for command in trainings
    ]
    looking = ["check", str(data), "--preset", "cpu", "--threads", "1", "--bundles", str(ROOT / "bundles")]
    looking += ["--labels", str({f"s{i}": i for i in (205, 420, 500, 550, 600, 820, 850)})]
    looking += ["--output", str(tmp_path / "preview.png"), "--write", str(tmp_path / "split.json")]
    for words, n in (([], 4), (["--include_test_images", "True"], 6)):
        (tmp_path / "split.json").unlink(missing_ok=True)
        caplog.clear()
        main([*looking, *words])
        assert f"{n} patients, {n} volumes" in caplog.text
        assert len(json.loads((tmp_path / "split.json").read_text())["images"]) == n
    assert main([*looking, "--include_test_images", "maybe"]) == 1
    assert "--include_test_images" in capsys.readouterr().err


def test_a_bundle_takes_the_key(data: Path, tmp_path: Path) -> None:
    places = {key: str(tmp_path / key) for key in ("split_path", "output_dir", "ckpt_dir")}
    with refused() as message:
        run_bundle(ROOT / "bundles", "ufc_feature_vae", "train", data, include_test_images="maybe", **places)
    assert "include_test_images" in message[0]


def test_an_official_split_that_names_them_takes_them_in(data: Path) -> None:
    cases = find_cases(data, include_test_images=True)
    labelled = [case.image for case in cases if case.label]
    official = {"training": labelled[:-1], "validation": [], "test": labelled[-1:]}
    (data / "official_split.json").write_text(json.dumps(official))
    assert [case.image for case in find_cases(data)] == labelled


def test_a_folder_of_nothing_else_is_refused(data: Path) -> None:
    for image in [*(data / "imagesTr").iterdir(), data / "dataset.json"]:
        image.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"holds nothing but test images .*, 2 in all.*--include_test_images True"):
        find_cases(data)
    assert len(image_items(data)) == 2


@given(st.lists(st.sampled_from(["imagesTr", "imagesTs", "images"]), min_size=1, max_size=6))
def test_what_is_left_out_is_what_lies_in_the_test_folder(
    tmp_path_factory: pytest.TempPathFactory, where: list[str]
) -> None:
    root = tmp_path_factory.mktemp("set")
    for n, folder in enumerate(where):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{n}.nii.gz").touch()
    every = find_cases(root, include_test_images=True)
    assert len(every) == len(where)
    if set(where) == {"imagesTs"}:
        with pytest.raises(InputError, match="holds nothing but test images"):
            find_cases(root)
    else:
        assert find_cases(root) == [case for case in every if not case.image.startswith("imagesTs/")]


def test_an_official_split_may_name_some_of_them(data: Path, tmp_path: Path) -> None:
    cases = find_cases(data, include_test_images=True)
    labelled = [case.image for case in cases if case.label and not case.of_test_set]
    one, *others = [case.image for case in cases if case.of_test_set]
    assert others
    official = {"training": [*labelled[:-1], one], "validation": [], "test": labelled[-1:]}
    (data / "official_split.json").write_text(json.dumps(official))
    first = open_split(tmp_path / "split.json", data).content
    assert one in first["images"]
    assert not first["images"].keys() & set(others)
    assert open_split(tmp_path / "split.json", data).content == first
