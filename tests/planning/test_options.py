from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, ROOT, copy_bundles

import ufc_monai
from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.data.case import Case
from ufc_monai.planning import options
from ufc_monai.planning.options import RunOptions, check_options, cluster_configs, find_bundles, training_configs
from ufc_monai.planning.plan import plan_clusters


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fold", "1"], "--fold must be 0 to 0 for this data set"),
        (["--fold", "abc"], "--fold must be a whole number of 0 or more, got 'abc'"),
        (["--threads", "two"], "--threads must be a whole number"),
        (["--background_labels", "3"], "--background_labels must be a list"),
        (["--window", "['a','b']"], "--window must be two rising numbers"),
        ([], "label 'whole' has [1, 2] in the place of one id"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.nii.gz").touch()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "whole": [1, 2], "core": 2}}')
    assert main(["check", str(tmp_path), "--bundles", str(ROOT / "bundles"), *arguments]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1


def test_a_key_of_an_earlier_version_is_an_error_that_names_todays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["check", str(tmp_path)], ["run", "--dataset_dir", "DIR"], ["study", "--dataset_dir", "DIR"]):
        with pytest.raises(SystemExit):
            main([*command, "--ignore_labels", "[3]"])
        assert "It is called --background_labels now" in capsys.readouterr().err
    (tmp_path / "a.nii.gz").touch()
    change = ["--bundles", str(ROOT / "bundles"), "--set", "ufc_unet_segmentation.ignore_labels=[3]"]
    assert main(["check", str(tmp_path), *change]) == 1
    assert "It is called background_labels now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "DIR", "--output", "DIR"], "--output: the preview is a PNG file"),
        (["report", "--output", "DIR"], "--output: DIR is a folder"),
        (["phantom", "DIR", "--patients", "0"], "--patients must be 1 or more"),
        (["phantom", "DIR", "--patients", "2", "--labelled", "3"], "--labelled at most as many; got 2 and 3"),
        (["phantom", "FILE", "--patients", "1"], "OUT: FILE is a file. Name a folder."),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("DIR").mkdir()
    Path("FILE").write_text("mine")
    assert main([*arguments, "--bundles", str(ROOT / "bundles")] if arguments[0] == "check" else arguments) == 1
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) == 1
    assert sorted(path.name for path in Path().rglob("*")) == ["DIR", "FILE"]


def test_bundles_are_those_named_or_here_or_of_the_clone_or_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ufc_monai"
    monkeypatch.setattr(options, "__file__", str(package / "commands" / "options.py"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="--bundles: there is no bundle"):
        find_bundles()
    for place in (package / "bundled", tmp_path / "bundles"):
        copy_bundles(place)
        assert find_bundles() == place
    copy_bundles(Path("bundles"))
    assert find_bundles() == Path("bundles")
    assert find_bundles(package / "bundled") == package / "bundled"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"ufc_monai {ufc_monai.__version__}\n"


@pytest.mark.parametrize(
    ("chosen", "laid"),
    [
        ({"preset": "gpu"}, [[], [], []]),
        ({"preset": "cpu"}, [["cpu"], ["cpu"], ["cpu"]]),
        ({"preset": "paper"}, [[], [], ["paper"]]),
        ({"preset": "paper+cpu"}, [["cpu"], ["cpu"], ["paper", "cpu"]]),
        ({"preset": "isic", "method": "moco"}, [["isic"], ["isic", "moco"], ["isic"]]),
        ({"preset": "cpu", "unlabelled": "self_training"}, [["cpu"], ["cpu"], ["cpu", "self_training"]]),
        ({"preset": "cpu", "features": "contrastive_ae"}, [["contrastive_ae", "cpu"], ["cpu"], ["cpu"]]),
        ({"preset": "gpu", "features": "contrastive_vae"}, [["contrastive_ae", "contrastive_vae"], [], []]),
    ],
)
def test_each_bundle_goes_by_the_configurations_that_it_has(chosen: dict[str, str], laid: list[list[str]]) -> None:
    run = RunOptions(Path("data"), Path("run"), ROOT / "bundles", **chosen)  # type: ignore[arg-type]
    assert [training_configs(run, bundle) for bundle in NAMES] == [["train", *names] for names in laid]


@pytest.mark.parametrize(
    ("features", "keys", "laid"),
    [
        (None, {}, ["inference"]),
        ("unet_encoder", {}, ["inference"]),
        ("contrastive_vae", {"n_clusters": 7}, ["inference", "prototypes"]),
        ("contrastive_ae", {"clustering": "kmeans"}, ["inference"]),
    ],
)
def test_a_run_has_the_clusters_of_its_prototypes(features: str | None, keys: dict[str, Any], laid: list[str]) -> None:
    run = RunOptions(Path("data"), Path("run"), ROOT / "bundles", features=features, keys=keys)
    assert cluster_configs(run) == laid
    training, clusters = plan_clusters(run, [Case(f"{i}.nii.gz", None, str(i)) for i in range(4)])
    words = " ".join(clusters.command)
    assert ("--n_clusters 7" in " ".join(training.command)) == ("n_clusters" in keys), "which only prototypes look at"
    assert ("--output_dir ufc_feature_vae/eval/inference" in words) == ("prototypes" in laid)


def test_unknown_features_are_named() -> None:
    run = RunOptions(Path("data"), Path("run"), ROOT / "bundles", features="contrastive_ea")
    with pytest.raises(
        InputError, match=r"--features: unknown features contrastive_ea, .* Did you mean contrastive_ae\?"
    ):
        check_options(run)


def test_without_unlabelled_scans_nothing_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("imagesTr", "labelsTr"):
        (tmp_path / kind).mkdir()
        for i in range(4):
            (tmp_path / kind / f"p{i}.nii.gz").touch()
    bundles = ["--bundles", str(ROOT / "bundles"), "--labels", "{'liver': 1}"]
    assert main(["check", str(tmp_path), *bundles, "--unlabelled", "self_training"]) == 1
    assert "--unlabelled self_training: all 2 training volumes are used with their labels" in capsys.readouterr().err
