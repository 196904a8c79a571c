from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from conftest import NAMES, ROOT, SMALL

from ufc_monai.__main__ import main
from ufc_monai.base import chain
from ufc_monai.base.errors import InputError
from ufc_monai.commands import run
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.split_file import open_split
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.estimate import StageEstimate
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages
from ufc_monai.planning.stages import Step

VAE, CONTRASTIVE, UNET = NAMES


def options(**changes: Any) -> RunOptions:
    return RunOptions(Path("data"), Path("run"), ROOT / "bundles", preset="cpu", **changes)


def cases(labelled: int, unlabelled: int) -> list[Case]:
    named = [Case(f"l{i}.nii.gz", f"m{i}.nii.gz", f"l{i}") for i in range(labelled)]
    return named + [Case(f"u{i}.nii.gz", None, f"u{i}") for i in range(unlabelled)]


def titles(stages: list[Step]) -> list[str]:
    return [stage.title for stage in stages]


def test_data_decide_which_stages_there_are() -> None:
    everything = titles(plan_stages(options(compare=True), cases(8, 2)))
    assert len(everything) == 9
    assert "stage 3: test, random initialisation" in everything
    few = titles(plan_stages(options(), cases(3, 9)))
    assert not [title for title in few if "test" in title or "probe" in title or "random" in title]
    assert few[-1] == "stage 3: segment the unlabelled volumes"
    assert "segment" not in titles(plan_stages(options(), cases(8, 0)))[-1]
    assert len(plan_stages(options(), cases(0, 5))) == 3


def test_both_arms_differ_in_their_start_alone() -> None:
    commands = [s.command for s in plan_stages(options(compare=True), cases(8, 0)) if "fine-tune" in s.title]
    pretrained, random = (" ".join(command) for command in commands)
    place = f"--ckpt_dir {UNET}/models_random --output_dir {UNET}/eval/random_train"
    assert random == f"{pretrained} --pretrained_path none {place}"


def test_what_the_unlabelled_scans_change_has_its_control() -> None:
    planned = plan_stages(options(compare=True, unlabelled="self_training", labelled=2), cases(8, 2))
    trained = {s.title: " ".join(s.command) for s in planned if "fine-tune" in s.title}
    assert [title for title in trained if "self_training.json" not in trained[title]] == [
        "stage 3: fine-tune, labelled scans alone"
    ]
    assert len(planned) == 11
    assert len(plan_stages(options(unlabelled="self_training", labelled=2), cases(8, 2))) == 7


def test_keys_go_where_they_are_known() -> None:
    keys = {"window": [0, 255], "labels": {"a": 1}, "n_clusters": 5, "centred": False, "threads": 1}
    stages = plan_stages(options(keys=keys, overrides={VAE: {"epochs": 9}}), cases(8, 2))
    of = {stage.title: " ".join(stage.command) for stage in stages}
    assert [t for t in of if "--window" in of[t]] == [
        t for t in of if "auto-encoder" in t or "contrastive" in t or "fine" in t
    ]
    assert [t for t in of if "--n_clusters 5 --centred False" in of[t]] == ["stage 1: features and clusters"]
    assert [t for t in of if "--epochs 9" in of[t]] == ["stage 1: train the auto-encoder"]
    assert all("--threads 1" in command for command in of.values())


def test_the_probe_judges_the_clusters_that_were_pretrained_with(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.touch()
    planned = plan_stages(options(overrides={CONTRASTIVE: {"pseudo_labels_path": str(other)}}), cases(8, 0))
    named = {stage.title for stage in planned if f"--pseudo_labels_path {other}" in " ".join(stage.command)}
    assert named == {"stage 2: contrastive pretraining", "stage 2: linear probe of the encoder"}


def test_a_method_is_laid_over_stage_2_alone() -> None:
    stages = plan_stages(options(method="moco", overrides={CONTRASTIVE: {"epochs": 9}}), cases(8, 0))
    configs = f"{CONTRASTIVE}/configs"
    for stage in stages:
        named = f"['{configs}/train.json','{configs}/cpu.json','{configs}/moco.json']" in stage.command
        assert named == ("contrastive pretraining" in stage.title)
        assert ("--epochs" in stage.command) == named


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelled": 5}, "--labelled must be 1 to 4"),
        ({"method": "simlcr"}, "Did you mean simclr?"),
        ({"method": "cpu"}, "Expected one of byol, dcl"),
        ({"keys": {"fold": 4}}, "--fold"),
        ({"keys": {"label_draw": 5}}, "draw"),
        ({"keys": {"window": [275, -125]}}, "--window must be two rising numbers"),
        ({"keys": {"window": 400}}, "--window must be two rising numbers"),
        ({"keys": {"n_clusters": 1}}, "--n_clusters"),
        ({"keys": {"device": "cuda:99"}}, "device: cuda:99 cannot be used here"),
        ({"overrides": {"ufc_vae": {"epochs": 1}}}, "unknown bundle ufc_vae"),
        ({"overrides": {VAE: {"epohcs": 1}}}, "Did you mean epochs"),
        (
            {"overrides": {VAE: {"epochs": "ten"}}},
            f"{VAE}: epochs must be a whole number of 0 or more, got 'ten'",
        ),
        ({"overrides": {VAE: {"ckpt_dir": "x"}}}, "ckpt_dir of ufc_feature_vae is set by the run itself"),
        ({"overrides": {UNET: {"pretrained_path": "/nowhere/model.pt"}}}, "there is no file /nowhere/model.pt"),
        ({"overrides": {UNET: {"pretrained_path": "nowhere.pt"}}}, "there is no file run/nowhere.pt"),
        ({"overrides": {VAE: {"split_seed": 1}}}, "split_seed of ufc_feature_vae is the same in all stages"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_runs(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan_stages(options(**changes), cases(8, 2))


def test_tracking_is_asked_of_every_stage_and_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    plain, tracked = (plan_stages(options(tracking=t), cases(8, 2)) for t in (None, "mlflow"))
    assert [stage.options for stage in tracked] == [stage.options for stage in plain]
    for stage, untracked in zip(tracked, plain, strict=True):
        words = " ".join(stage.command[len(untracked.command) :])
        assert words.startswith("--tracking mlflow --tracking_uri sqlite:///")
        assert words.endswith("/run/mlruns.db --experiment_name run")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for changes in ({"tracking": "mlflow"}, {"overrides": {VAE: {"tensorboard": True}}}):
        with pytest.raises(InputError, match=r'pip install -e "\.\[tracking\]"'):
            plan_stages(options(**changes), cases(8, 2))


def test_files_that_the_run_makes_or_leaves_out_are_no_errors() -> None:
    for path in ("none", None, "ufc_cluster_contrastive_v0.1.0", f"{CONTRASTIVE}/models/model.pt"):
        plan_stages(options(overrides={UNET: {"pretrained_path": path}}), cases(8, 2))


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    return pretend_to_run(tmp_path, monkeypatch)


def pretend_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    """Eight labelled volumes, their bytes a word each, and stages that leave their files but compute nothing."""
    data = tmp_path / "data"
    data.mkdir()
    for i in range(8):
        for part in ("image", "label"):
            (data / f"{part}{i}.nii.gz").write_text(f"{part}{i}")
    write_list(data)

    def pretend(step: Step, folder: Path, data_set: dict[str, str], *_: object, goes_on: bool) -> int:
        begin(step, folder, data_set, goes_on)
        for name in step.outputs:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("split.json"):
                open_split(folder / name, data)
            else:
                (folder / name).write_text(name)
        begin(step, folder, data_set, goes_on, status="complete")
        return 0

    monkeypatch.setattr(Step, "run", pretend)
    monkeypatch.setattr(run, "write_report", lambda *_: None)
    monkeypatch.setattr(run, "run_summary", lambda _: "")
    return RunOptions(data, tmp_path / "my run", ROOT / "bundles", preset="cpu", estimate=False)


def begin(step: Step, folder: Path, data_set: dict[str, str], goes_on: bool, status: str = "started") -> None:
    """Leave the record of a stage that runs, or has ended."""
    if not goes_on:
        step._withdraw(folder)
    content = {"status": status, "asked": step.asked(folder, data_set), "results": {}}
    (folder / step.record).parent.mkdir(parents=True, exist_ok=True)
    (folder / step.record).write_text(json.dumps(content))


def stop(step: Step, folder: Path, data_set: dict[str, str], *_: object, goes_on: bool) -> int:
    begin(step, folder, data_set, goes_on)
    raise KeyboardInterrupt


def write_list(data: Path, labels: dict[str, int] | None = None, paired: int = 0, **first: str) -> None:
    entries: list[dict[str, str]] = [
        {"image": f"image{i}.nii.gz", "label": f"label{i ^ paired}.nii.gz"} for i in range(8)
    ]
    entries[0] |= first
    listed = {"training": entries, "labels": labels or {"liver": 1, "spleen": 2}}
    (data / "dataset.json").write_text(json.dumps(listed))


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

    def look_and_stop(step: Step, folder: Path, data: dict[str, str], *_: object, goes_on: bool) -> int:
        seen.append(goes_on)
        return stop(step, folder, data, goes_on=goes_on)

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


def content(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """All but who was last at work."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "run.lock"]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


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


def test_the_elbow_knows_the_batches_of_stage_2() -> None:
    for changes, batch in (
        ({}, None),
        ({"overrides": {CONTRASTIVE: {"batch_size": 12}}}, "--batch_size 12"),
        ({"preset": "isic"}, "--batch_size 55"),
        ({"overrides": {VAE: {"batch_size": 12}}}, None),
    ):
        stages = plan_stages(replace(options(), **changes), cases(8, 2))
        command = " ".join(next(s.command for s in stages if "features and clusters" in s.title))
        assert ("--batch_size" in command) == (batch is not None)
        assert batch is None or batch in command


@pytest.mark.parametrize("command", ["run", "study"])
def test_structures_without_names_are_said_before_the_first_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """As check says them; what reads no labels, as next's stages, does not ask."""
    make_phantom(tmp_path / "data", patients=4, matrix=40)
    for path in list((tmp_path / "data").glob("*.nii.gz")):  # not MMWHS's names, by which they would be known
        place = tmp_path / "data" / ("labels" if "label" in path.name else "images")
        place.mkdir(exist_ok=True)
        path.rename(place / f"p{path.name.split('_')[2]}.nii.gz")
    words = [command, "--dataset_dir", str(tmp_path / "data"), "--folder", str(tmp_path / "run"), "--preset", "cpu"]
    words += ["--threads", "1", "--bundles", str(ROOT / "bundles")]
    words += ["--budgets", "1", "--methods", "random"] if command == "study" else []
    assert main(words) == 1
    message = capsys.readouterr().err
    nameless = replace(options(), dataset_dir=tmp_path / "data")
    assert run.look_at_data(nameless, find_cases(nameless.dataset_dir), everything=True, names=False)
    assert "! the structures have no names" in message
    assert "--labels \"{'name of 205': 205" in message
    assert not list((tmp_path / "run").rglob("run.json"))


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


def test_the_estimate_is_of_the_copied_configurations(pretended: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(run, "_look_first", lambda options, *_, **__: seen.append(options.bundles))
    run.run_all(replace(pretended, estimate=True))
    assert seen == [pretended.folder]


def test_a_copy_is_whole_or_not_there(pretended: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy_half(source: Path, copy: Path) -> None:
        copy.write_bytes(source.read_bytes()[:100])
        raise OSError("disk full")

    monkeypatch.setattr("shutil.copyfile", copy_half)
    with pytest.raises(OSError, match="disk full"):
        run.run_all(pretended)
    assert not content(pretended.folder)


def small_arguments(data: Path, folder: Path) -> list[str]:
    words = ["run", "--dataset_dir", str(data), "--folder", str(folder), "--preset", "cpu", "--threads", "1"]
    words += ["--labelled", "2", "--n_clusters", "4", "--bundles", str(ROOT / "bundles")]
    for bundle, overrides in SMALL.items():
        settings = {k: v for k, v in overrides.items() if k not in ("threads", "labelled_volumes")}
        words += [word for key, value in settings.items() for word in ("--set", f"{bundle}.{key}={value!r}")]
    return words


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_run_goes_on_where_the_content_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, folder = tmp_path / "my data", tmp_path / "run"
    make_phantom(data, patients=9, labelled=8, matrix=40)
    caplog.set_level("INFO")
    assert main(small_arguments(data, folder)) == 0
    count = len(plan_stages(options(), find_cases(data)))
    assert caplog.text.count("python -m monai.bundle run") == count
    assert "skipped" not in caplog.text
    assert (folder / "report.html").stat().st_size > 50_000
    assert len(list((folder / UNET / "eval" / "inference").rglob("*_seg.nii.gz"))) == 1

    caplog.clear()
    assert main(small_arguments(data, folder)) == 0
    assert caplog.text.count("complete, skipped") == count

    caplog.clear()
    granted = open_split(folder / VAE / "eval" / "split.json", data).labelled(0, 2)
    label = Path(granted[0]["label"])
    volume = nib.load(label)
    voxels = volume.get_fdata().astype("int16")
    voxels[:2, :2, :2] = 500
    nib.save(nib.Nifti1Image(voxels, volume.affine), label)
    assert main(small_arguments(data, folder)) == 0
    for title, skipped in (
        ("stage 2: contrastive pretraining", True),
        ("stage 3: fine-tune, pretrained encoder", False),
    ):
        assert (f"{title} (complete, skipped)" in caplog.text) == skipped, "pretraining reads no labels"
    assert (folder / "report.html").read_text().count("Rounds of labelling") == 1
    with caplog.at_level("INFO"):
        assert main(["segment", "--weights", str(folder), str(granted[0]["image"]), str(tmp_path / "masks")]) == 0
        assert main(["next", "--folder", str(folder), "--budget", "1", "--strategy", "quality"]) == 0
    assert caplog.text.count(f"round 2: {folder / 'rounds' / '2'}") == 2
    assert json.loads((folder / UNET / "eval" / "train" / "run.json").read_text())["status"] == "complete"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labled", "2"], "--labled is not understood. Did you mean --labelled?"),
        (["--window", "-150,250"], 'stand in brackets, as in --window "[-150,250]"'),
    ],
)
def test_misspelt_options_are_told_from_the_right_ones(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--dataset_dir", "x", *words])
    first, *rest = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert first.startswith("error: ")
    assert first.endswith(said)
    assert rest == ["python -m ufc_monai run --help lists all options"], "and no wall of all options before it"


def test_what_takes_days_is_asked_for_and_only_what_is_to_come_is_estimated(
    pretended: RunOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    titles = [stage.title for stage in (chain.VAE_TRAINING, chain.PRETRAINING, chain.FINE_TUNING)]
    estimates = [StageEstimate(title, 1, 50_000.0, 1, 1, "cpu, threads: 2") for title in titles]
    monkeypatch.setattr(run, "look_at_data", lambda *_, **__: [])
    monkeypatch.setattr(run, "estimate_stages", lambda *_: estimates)
    monkeypatch.setattr(run, "least_memory", lambda *_: (0, ""))
    asked = replace(pretended, estimate=True)
    with pytest.raises(InputError, match=r"about 1\.7 days on cpu, threads: 2\. Begin it with --yes"):
        run.run_all(asked)
    assert not list(pretended.folder.rglob("run.json"))
    run.run_all(replace(asked, yes=True))
    (pretended.folder / chain.TEST.outputs[0]).unlink()
    (pretended.folder / chain.FINE_TUNING.record).unlink()
    caplog.clear()
    with caplog.at_level("INFO"):
        run.run_all(asked)  # what is left takes less than a day
    assert "3  fine-tuning, pretrained encoder" in caplog.text
    assert "1  auto-encoder" not in caplog.text


def test_nothing_is_trained_on_what_check_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_phantom(tmp_path / "data", patients=4, matrix=40)
    small = ["--preset", "cpu", "--threads", "1", "--bundles", str(ROOT / "bundles"), "--folder", str(tmp_path / "run")]
    assert main(["run", "--dataset_dir", str(tmp_path / "data"), "--labels", "{'aorta': 820}", *small]) == 1
    message = capsys.readouterr().err
    assert "has to be mended first" in message
    assert "!" in message
    assert not list((tmp_path / "run").rglob("run.json"))


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--dataset_dir", str(tmp_path / "nowhere"), "--bundles", str(ROOT / "bundles")]) == 1
    assert capsys.readouterr().err.startswith("error: dataset_dir: there is no folder")
    assert main(["run", "--dataset_dir", str(tmp_path), "--bundles", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: --bundles: there is no bundle")
