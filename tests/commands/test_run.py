from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest
from conftest import NAMES, ROOT, SMALL
from pretended_run import content, pretend_to_run

from ufc_monai.__main__ import main
from ufc_monai.base import chain
from ufc_monai.base.errors import InputError
from ufc_monai.commands import run
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.split_file import open_split
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.estimate import StageEstimate
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    return pretend_to_run(tmp_path, monkeypatch)


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
    nameless = RunOptions(tmp_path / "data", tmp_path / "run", ROOT / "bundles", preset="cpu")
    assert run.look_at_data(nameless, find_cases(nameless.dataset_dir), everything=True, names=False)
    assert "! the structures have no names" in message
    assert "--labels \"{'name of 205': 205" in message
    assert not list((tmp_path / "run").rglob("run.json"))


def test_the_estimate_is_of_the_copied_configurations(pretended: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(run, "_look_first", lambda options, *_, **__: seen.append(options.bundles))
    run.run_all(replace(pretended, estimate=True))
    assert seen == [pretended.folder]


def test_a_copy_is_whole_or_not_there(pretended: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(copy: Path, content: bytes) -> None:
        with open(copy, "wb") as file:
            file.write(content[:100])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="disk full"):
        run.run_all(pretended)
    assert not content(pretended.folder)


def test_copied_pages_have_no_links_that_lead_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = Path(UNET, "docs", "README.md")
    run.copy_bundles(ROOT / "bundles", tmp_path)
    run.copy_bundles(ROOT / "bundles", tmp_path)
    copy = (tmp_path / page).read_text(encoding="utf-8")
    assert "](../" not in copy
    assert "see [Dermoscopy](#dermoscopy)" in copy
    assert "docs/performance.md" in copy
    shutil.copyfile(ROOT / "bundles" / page, tmp_path / page)  # as earlier versions copied it
    run.copy_bundles(ROOT / "bundles", tmp_path)
    assert "differs from" not in caplog.text
    (tmp_path / page).write_text("mine", encoding="utf-8")
    run.copy_bundles(ROOT / "bundles", tmp_path)
    assert f"{page} differs from" in caplog.text


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
    count = len(plan_stages(RunOptions(data, folder, ROOT / "bundles", preset="cpu"), find_cases(data)))
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
