from __future__ import annotations

import ast
import json
import logging
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL, copy_bundles
from matplotlib.image import imread

from ufc_monai.base.errors import InputError
from ufc_monai.base.machine import PROCESS_BYTES
from ufc_monai.commands.check import run_check
from ufc_monai.data import tree
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.inspect import VolumeFacts, inspect_cases
from ufc_monai.data.problems import Problem
from ufc_monai.data.split import make_split
from ufc_monai.data.split_file import open_split
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning import estimate, measure
from ufc_monai.planning.estimate import StageEstimate, estimate_stages, read_volumes
from ufc_monai.planning.options import RunOptions, open_config
from ufc_monai.planning.tables import volume_table
from ufc_monai.transforms.volume import Grid

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients, five of them labelled."""
    folder = tmp_path_factory.mktemp("patients")
    make_phantom(folder, patients=6, labelled=5, matrix=40)
    return folder


@pytest.fixture
def folder(patients: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(patients, tmp_path / "data"))


def options(folder: Path, **changes: Any) -> RunOptions:
    keys = {"threads": 1, **changes.pop("keys", {})}
    given = {"preset": "cpu", "overrides": SMALL, **changes}
    return RunOptions(folder, folder.parent / "run", ROOT / "bundles", keys=keys, **given)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """What was logged, as one text."""
    caplog.set_level(logging.INFO, logger="ufc_monai")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the slow part where it is not what is tested."""
    monkeypatch.setattr(estimate, "measure_step", lambda _: measure.Measured(2.0, 0.1, 10**9))


def test_ignored_ids_need_no_class(folder: Path, tmp_path: Path, no_measuring: None, said: Any) -> None:
    labels = {"ignore" if name == "aorta" else name: i for name, i in MMWHS_LABELS.items()}
    assert run_check(options(folder, labelled=2, keys={"labels": labels}), output=tmp_path / "preview.png") == 0
    assert re.search(r"\(ignored\) +820", said())


def test_a_sound_folder_is_ready(folder: Path, tmp_path: Path, said: Any) -> None:
    picture = tmp_path / "preview.png"
    assert run_check(options(folder, labelled=2), output=picture) == 0
    text = said()
    assert "6 patients, 6 volumes (5 labelled, 1 unlabelled)" in text
    assert "pairs by their names: 5 ct_*_image with ct_*_label, 1 ct_*_image without label" in text
    assert re.search(r"aorta +820 +5 +[\d,]+\n", text)
    assert re.search(r"\(background\) +421", text)
    fold = make_split(find_cases(folder), 0)["folds"][0]
    assert re.search(rf"test +{len(fold['test'])} patients  {fold['test'][0]}", text)
    assert "structures as the network sees them: window [-250,650], 32 x 32 pixels a slice (medians of 5 " in text
    assert re.search(r"- pixels across, of 32 x 32, hardly enough to be seen: .*aorta 2\.0", text)
    assert f"labels of     2 volumes   {', '.join(fold['label_orders'][0][:2])}" in text
    assert "1  auto-encoder, clusters" in text
    assert "3  fine-tuning" in text
    place = shlex.quote(str(folder))
    ready = f"ready: python -m ufc_monai run --dataset_dir {place} --labelled 2 --preset cpu --threads 1 "
    assert text.strip().splitlines()[-1].startswith(ready)
    assert f"--set {VAE}.epochs=2 " in text
    assert imread(picture).std() > 0.05
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "preview.png"]


def test_it_is_said_beforehand_how_long_many_volumes_take(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    cases = find_cases(folder)
    assert [f.image for f in read_volumes(options(folder), cases)] == [case.image for case in cases]
    assert "volumes to read" not in said()
    monkeypatch.setattr(estimate, "MANY", 5)
    monkeypatch.setattr(estimate, "TRIED", 2)
    assert [f.image for f in read_volumes(options(folder), cases)] == [case.image for case in cases]
    assert re.search(r"^6 volumes to read: about \d+ s, by 2 of them$", said(), flags=re.MULTILINE)


@pytest.mark.usefixtures("no_measuring")
def test_the_folder_is_looked_through_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew by the next command: by then it may hold something else."""
    looks = list[Path]()

    def look(root: Path) -> tree.Tree:
        looks.append(root)
        return tree.walk(root)

    monkeypatch.setattr("ufc_monai.data.datalist.walk", look)
    for times in (1, 2):
        run_check(options(folder), output=tmp_path / "a.png", write=tmp_path / "split.json")
        assert looks == [folder] * times


@pytest.mark.usefixtures("no_measuring")
def test_the_split_that_is_written_is_the_one_that_is_shown(folder: Path, tmp_path: Path, said: Any) -> None:
    path = tmp_path / "split.json"
    assert run_check(options(folder, keys={"fold": 1}), output=tmp_path / "x.png", write=path) == 0
    fold = open_split(path, folder).content["folds"][1]
    assert "fold 1 of 4" in said()
    for role in ("training", "validation", "test"):
        assert re.search(rf"{role} +{len(fold[role])} patients? +{', '.join(fold[role])}", said())


@pytest.mark.usefixtures("no_measuring")
def test_broken_files_are_listed_with_what_to_do(folder: Path, tmp_path: Path, said: Any) -> None:
    (folder / "ct_train_1002_image.nii.gz").write_bytes(b"no volume")
    shutil.copy(folder / "ct_train_1001_image.nii.gz", folder / "ct_train_1006_image.nii.gz")
    assert run_check(options(folder), output=tmp_path / "x.png") == 1
    text = said()
    assert re.search(r"! +ct_train_1002_image.nii.gz +ct_train_1002 +\?", text)
    assert "! ct_train_1002_image.nii.gz: cannot be read as a volume" in text
    assert "! ct_train_1006_image.nii.gz: has the same content as ct_train_1001_image.nii.gz." in text
    assert text.strip().endswith("2 problems: mend what is marked with ! above, then check again")


@pytest.mark.usefixtures("no_measuring")
def test_a_volume_of_one_value_stands_against_a_run(folder: Path, tmp_path: Path, said: Any) -> None:
    path = folder / "ct_train_1006_image.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(nib.load(path).shape, dtype=np.int16), nib.load(path).affine), path)
    assert run_check(options(folder), output=tmp_path / "x.png") == 1
    assert "! ct_train_1006_image.nii.gz: all its voxels have the value 0: nothing can be seen in it." in said()


@pytest.mark.usefixtures("no_measuring")
def test_nothing_readable_still_makes_a_table(folder: Path, tmp_path: Path, said: Any) -> None:
    for image in folder.glob("*_image.nii.gz"):
        image.write_bytes(b"no volume")
    assert run_check(options(folder), output=tmp_path / "x.png") == 1
    assert "0 axial slices" in said()
    assert not (tmp_path / "x.png").exists()


def clip(folder: Path) -> None:
    for path in folder.glob("*_image.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(image.get_fdata().clip(-125, 275).astype(np.int16), image.affine), path)


@pytest.mark.usefixtures("no_measuring")
def test_clipped_data_get_a_window(folder: Path, tmp_path: Path, said: Any) -> None:
    clip(folder)
    assert run_check(options(folder), output=tmp_path / "x.png") == 0
    assert "nothing outside it can be recovered" in said()
    assert 'Suggested: --window "[-125,275]"' in said()
    assert "--window '[-125, 275]'" in said().strip().splitlines()[-1]


@pytest.mark.usefixtures("no_measuring")
def test_a_window_that_fits_clipped_data_is_left_alone(folder: Path, tmp_path: Path, said: Any) -> None:
    clip(folder)
    assert run_check(options(folder, keys={"window": [-100, 200]}), output=tmp_path / "x.png") == 0
    assert "Suggested" not in said()
    assert "--window '[-100, 200]'" in said()


@pytest.mark.usefixtures("no_measuring")
def test_labels_without_names_are_shown_how_to_name(folder: Path, tmp_path: Path, said: Any) -> None:
    for part in ("image", "label"):
        (folder / f"{part}s").mkdir()
        for path in sorted(folder.glob(f"*_{part}.nii.gz")):
            path.rename(folder / f"{part}s" / f"{path.name.removesuffix(f'_{part}.nii.gz')}.nii.gz")
    assert run_check(options(folder), output=tmp_path / "x.png") == 1  # as run refuses it
    assert re.search(r"\(no name\) +820 +5", said())
    last = said().strip().splitlines()[-1]
    assert last.startswith("ready, once the structures are named: ")
    assert ast.literal_eval(last.split("--labels ")[1].strip('"'))["name of 820"] == 820


@pytest.mark.usefixtures("no_measuring")
def test_structures_that_the_granted_labels_lack_are_named(folder: Path, tmp_path: Path, said: Any) -> None:
    labels = {"aorta": 820, "tail": 9}
    rest = [500, 600, 420, 550, 205, 850, 421]
    chosen = options(folder, labelled=1, keys={"labels": labels, "background_labels": rest})
    assert run_check(chosen, output=tmp_path / "x.png") == 0
    assert "- none of the granted labels (1) contains tail" in said()
    assert re.search(r"tail +9 +0 +0", said())


@pytest.mark.usefixtures("no_measuring")
def test_without_any_label_only_pretraining_is_foretold(folder: Path, tmp_path: Path, said: Any) -> None:
    for path in folder.glob("*_label.nii.gz"):
        path.unlink()
    assert run_check(options(folder), output=tmp_path / "x.png") == 0
    assert "2  contrastive pretraining" in said()
    assert "3  fine-tuning" not in said()
    assert "structure" not in said().split("ready")[0]


@pytest.mark.usefixtures("no_measuring")
def test_the_command_has_all_options_and_bundles_that_would_not_be_found(
    folder: Path, tmp_path: Path, said: Any
) -> None:
    own = {"preset": "auto", "features": "contrastive_ae", "compare": True, "overrides": {}}
    chosen = replace(options(folder, **own), bundles=copy_bundles(tmp_path / "my bundles"))
    assert run_check(chosen, output=tmp_path / "x.png") == 0
    command = f"--features contrastive_ae --compare --threads 1 --bundles '{tmp_path}/my bundles'"
    assert said().strip().endswith(f"--dataset_dir {folder} {command}")
    run_check(options(folder), output=tmp_path / "x.png")
    assert "--bundles" not in said().strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelled": 9}, "--labelled must be 1 to"),
        ({"keys": {"window": "wide"}}, "--window must be two rising numbers"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_check(options(folder, **changes))


def test_many_volumes_are_summed_up() -> None:
    grid = Grid((8, 8, 9), "RAS", (8, 8, 9), np.eye(4))
    usual, odd = Problem("clipped", "looks clipped."), Problem("few slices", "few.")
    facts = [VolumeFacts(f"{i}.nii", None, str(i), grid, (-100, 0, 1, 2), problems=(usual,)) for i in range(60)]
    facts[7] = VolumeFacts("odd.nii", None, "7", grid, (-9, 0, 1, 2), problems=(usual, odd))
    table = volume_table(facts)
    assert [line.split()[1] for line in table[1:2]] == ["odd.nii"]
    assert table[2:] == ["59 volumes like most are not listed"]


@pytest.fixture(scope="module")
def facts(patients: Path) -> list[VolumeFacts]:
    return inspect_cases(patients)


def images_of(patients: Path, *roles: str) -> set[str]:
    split = make_split(find_cases(patients), 0)
    chosen = {p for role in roles for p in (split["folds"][0] | split)[role]}
    return {c.image for c in find_cases(patients) if c.patient in chosen}


@pytest.mark.usefixtures("no_measuring")
def test_steps_disk_and_seconds_are_those_of_the_configuration(patients: Path, facts: list[VolumeFacts]) -> None:
    chosen = options(patients, labelled=1, overrides={**SMALL, VAE: {**SMALL[VAE], "batch_size": 10}})
    first, second, third = estimate_stages(chosen, find_cases(patients), facts)
    slices = {f.image: f.slices for f in facts}
    n = sum(slices[image] for image in images_of(patients, "training", "unlabelled"))
    granted = make_split(find_cases(patients), 0)["folds"][0]["label_orders"][0][0]
    validation = sum(slices[image] for image in images_of(patients, "validation"))
    batches = slices[granted] // 8
    epochs = max(2, -(-4 // batches))
    assert first.steps == 2 * (n // 10)
    assert second.steps == 2 * max(1, n // 48)
    assert third.steps == epochs * batches
    assert first.disk_bytes == n * 32 * 32 * 2
    assert third.disk_bytes == slices[granted] * 32 * 32 * 3
    # the measured step takes 2 s, a slice on its way through 0.1 s; reading these small volumes next to nothing
    assert first.seconds == pytest.approx(2 * first.steps + 0.1 * n, abs=3)
    quality = 2 * (slices[granted] + validation)
    assert third.seconds == pytest.approx(2 * third.steps + 0.1 * (epochs * validation + quality), abs=3)
    assert first.device == "cpu, threads: 1"
    rounds = {"warm_up_steps": 0, "round_steps": 2}
    chosen = replace(chosen, unlabelled="self_training", overrides={**SMALL, UNET: {**SMALL[UNET], **rounds}})
    predicted = third.steps / max(2, batches) * (n - slices[granted])
    assert estimate_stages(chosen, find_cases(patients), facts)[2].seconds == pytest.approx(
        2 * third.steps + 0.1 * (epochs * validation + quality + predicted), abs=3
    )


@pytest.mark.usefixtures("no_measuring")
def test_volumes_without_facts_are_taken_for_average(patients: Path, facts: list[VolumeFacts]) -> None:
    def steps(known: list[VolumeFacts]) -> list[int]:
        changes = {**SMALL, VAE: {**SMALL[VAE], "batch_size": 1}}
        return [e.steps for e in estimate_stages(options(patients, overrides=changes), find_cases(patients), known)]

    mean = facts[0].slices
    assert steps(facts[:1])[0] == 2 * mean * len(images_of(patients, "training", "unlabelled"))
    with pytest.raises(InputError, match="no volume can be read"):
        steps([])


@pytest.mark.usefixtures("no_measuring")
def test_more_clusters_than_slices_are_refused_before_a_training(patients: Path, facts: list[VolumeFacts]) -> None:
    with pytest.raises(InputError, match=r"--n_clusters must be 2 to \d+ for about \d+ slices to cluster, got 5000"):
        estimate_stages(options(patients, keys={"n_clusters": 5000}), find_cases(patients), facts)
    assert estimate_stages(options(patients, keys={"n_clusters": None}), find_cases(patients), facts)


def test_real_steps_are_measured_in_every_stage(patients: Path, facts: list[VolumeFacts]) -> None:
    def stages(epochs: int) -> list[StageEstimate]:
        changes = {name: {**SMALL[name], "epochs": epochs, "val_interval": 1000} for name in NAMES}
        return estimate_stages(options(patients, overrides=changes), find_cases(patients), facts)

    short, long = stages(10), stages(1000)
    for few, many in zip(short, long, strict=True):
        assert many.steps == 100 * few.steps
        assert many.seconds > few.seconds > 0
        assert 0.7e9 < many.memory_bytes < 1.2e9


@pytest.mark.parametrize("method", ["moco", "byol", "glcl", "pcl", "local_discrimination"])
def test_every_method_can_be_foretold(method: str, patients: Path) -> None:
    config = open_config(options(patients, method=method, overrides=SMALL), CONTRASTIVE)
    assert measure.measure_step(config).step > 0


def test_local_discrimination_has_steps_of_its_own(patients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "measure_step", lambda _: measure.Measured(0.1, 0.01, 10**9))
    keys = {**SMALL[CONTRASTIVE], "batch_size": 1, "min_steps": 1000}
    chosen = options(patients, method="local_discrimination", overrides={CONTRASTIVE: keys})
    cases = find_cases(patients)
    steps = estimate.estimate_training(chosen, CONTRASTIVE, cases, inspect_cases(patients, cases)).steps
    assert 10000 <= steps < 10500  # whole epochs, 10 times min_steps in all


def test_a_slow_batch_is_measured_in_part(patients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def seconds(_: Any, batch: Any, n: int) -> float:
        sizes.append(n)
        return 0.25 * n  # 12 s for a batch of 48

    monkeypatch.setattr(measure._Step, "seconds", seconds)
    measured = measure.measure_step(open_config(options(patients), VAE))
    assert set(sizes) == {2, 4}
    assert measured.step == pytest.approx(12, abs=0.5)


def test_memory_grows_with_the_batch(patients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure._Step, "seconds", lambda *_: 0.01)  # on a slow machine it is measured in part
    small, large = (
        measure.measure_step(open_config(options(patients, overrides={VAE: {**SMALL[VAE], "batch_size": n}}), VAE))
        for n in (8, 16)
    )
    kept = [measured.memory - PROCESS_BYTES for measured in (small, large)]
    assert kept[0] < kept[1] < 2.1 * kept[0]


def test_settings_of_the_run_reach_the_configuration(patients: Path) -> None:
    chosen = options(patients, keys={"window": [0, 1], "n_clusters": 3}, overrides={UNET: {"epochs": 7}})
    config = open_config(chosen, UNET)
    assert (config["window"], config["epochs"], config["dataset_dir"]) == ([0, 1], 7, str(patients))
    assert "n_clusters" not in config
    preset = json.loads((ROOT / "bundles" / UNET / "configs" / "cpu.json").read_text())
    assert config["image_size"] == preset["image_size"]
