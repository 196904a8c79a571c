"""Nothing that is read runs as code, and no name that comes from a file leads out of its folder."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT

from ufc_monai.artifacts.transfer import read_weights
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, inside, write_arrays
from ufc_monai.commands.label import put_into_app
from ufc_monai.commands.package import package
from ufc_monai.commands.run import copy_bundles
from ufc_monai.data.datalist import find_cases, image_items
from ufc_monai.data.store import StoreEntry, sealed
from ufc_monai.report.curves import curves_svg
from ufc_monai.report.page import markdown_table
from ufc_monai.study.runs import Run
from ufc_monai.transforms.save import SaveMask
from ufc_monai.zoo.archive import bundle_files, write_zip
from ufc_monai.zoo.metadata import model_card

SOURCES = sorted([*ROOT.glob("ufc_monai/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
LEADING_OUT = {
    "up": "../x",
    "up in the middle": "a/../../x",
    "up on Windows": "..\\x",
    "absolute": "/etc/passwd",
    "a drive": "C:\\x",
    "a share": "\\\\host\\share\\x",
    "NUL": "a\0b",
    "very long": 300 * "a",
    "very long in bytes": 100 * "å…",
    "a device": "nul",
    "a device with a suffix": "a/COM1.nii.gz",
    "nothing": "",
}
NASTY = "<script>alert(1)</script>|[x](http://x)\n# title"
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "jsonpickle"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "system",
    "popen",
    "unpack_archive",
    "extract",
    "extractall",
}


def unsafe(code: str) -> Iterator[str]:
    """What of Python's source would run what it reads, or unpack files by the names that they bring."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in [a.name for a in node.names]:
            yield "load by another name"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"import {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        plain = isinstance(node.func, ast.Name) or called.startswith(("os.", "shutil.", "builtins."))
        if called.rpartition(".")[2] in FORBIDDEN_CALLS and (plain or "extract" in called):
            yield called
        if called == "torch.load" and given.get("weights_only") != "True":
            yield f"{called} without weights_only=True"
        if given.get("allow_pickle", "False") != "False" or (called == "np.save" and "allow_pickle" not in given):
            yield f"{called} with pickles"
        if called in ("np.savez", "np.savez_compressed") or given.get("shell", "False") != "False":
            yield called


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_source_runs_what_it_reads(path: Path) -> None:
    allowed = {
        "benchmarks/clustering.py": ["np.savez"],  # two arrays of numbers; it must not import the package
        "benchmarks/mutants.py": ["compile"],  # our own source
    }
    assert list(unsafe(path.read_text(encoding="utf-8"))) == allowed.get(path.relative_to(ROOT).as_posix(), [])


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from pickle import loads", "eval('1')", "np.load(p, allow_pickle=True)", "np.save(p, a)"),
        *(
            "torch.load(p)",
            "torch.load(p, weights_only=False)",
            "import yaml",
            "from torch import load",
            "archive.extractall(p)",
        ),
        *("os.system('x')", "subprocess.run('x', shell=True)", "np.savez(p, a=a)", "shutil.unpack_archive(p)"),
    ],
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(unsafe(code))


def test_no_configuration_reads_pickles_or_starts_programs() -> None:
    """MONAI's configurations are code; ours hold none that runs what another file says."""
    bad = re.compile(r"\b(torch|np|numpy)\.load\(|pickle|yaml|\b(eval|exec|compile|__import__)\(|subprocess|os\.system")
    configs = list(ROOT.glob("bundles/*/configs/*.json"))
    assert len(configs) > 30
    assert [p.name for p in configs if bad.search(p.read_text(encoding="utf-8"))] == []


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"weight": Trap()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="not a plain state dict"):
        read_weights(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_objects_are_not_written() -> None:
    with pytest.raises(ValueError, match="Python objects"):
        write_arrays(io.BytesIO(), {"ids": np.array([{}, None], dtype=object)})


@pytest.mark.parametrize("name", LEADING_OUT.values(), ids=LEADING_OUT)
def test_a_name_that_leads_out_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        inside(tmp_path, name, "study.json")
    assert str(caught.value).startswith("study.json: the name ")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["a/b", "anna.nii.gz", "..a", "a..b/c", "console", "scan (1) ä.nrrd", "a:b"])
def test_other_names_stay(name: str, tmp_path: Path) -> None:
    if name != "a:b":  # which Windows takes for a drive, and no path of ours needs
        assert inside(tmp_path, name, "x") == tmp_path / name


@pytest.mark.parametrize("key", ["image", "label", "patient"])
@pytest.mark.parametrize("name", LEADING_OUT.values(), ids=LEADING_OUT)
def test_a_data_sets_list_reads_and_writes_nothing_outside(name: str, key: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for path in (root / "a.nii.gz", tmp_path / "x"):
        path.touch()
    entry = {"image": "a.nii.gz", "label": "a.nii.gz", key: name}
    (root / "dataset.json").write_text(json.dumps({"training": [entry]}))
    # a patient's name makes no path, an empty label is none
    if (key == "patient" and name and "\0" not in name) or (name == "" and key == "label"):
        (case,) = find_cases(root)
        assert case.patient == (name if key == "patient" else "a")
        mask = SaveMask(tmp_path / "masks", root).path(image_items(root)[0]["image"])
        assert mask == tmp_path / "masks" / "a_seg.nii.gz"
        return
    with pytest.raises(InputError, match=r"dataset\.json|^dataset_dir: the name"):
        find_cases(root)


def test_a_mask_stays_in_its_folder(tmp_path: Path) -> None:
    save = SaveMask(tmp_path / "masks", tmp_path / "data")
    for image in (tmp_path / "other" / "a.nii.gz", "/elsewhere/a.nii.gz", tmp_path / "data" / ".." / "a.nii.gz"):
        assert save.path(image) == tmp_path / "masks" / "a_seg.nii.gz"
    with pytest.raises(InputError, match="255 bytes"):
        save.path(tmp_path / "data" / f"{248 * 'a'}.nii")


@pytest.mark.parametrize("field", ["name", "needs"])
@pytest.mark.parametrize("name", LEADING_OUT.values(), ids=LEADING_OUT)
def test_a_study_touches_nothing_outside(name: str, field: str) -> None:
    run = {"name": "fold0/a", "kind": "features", "commands": [], "needs": []}
    Run.from_json(run)
    with pytest.raises(InputError, match=r"study\.json: the name"):
        Run.from_json({**run, field: name if field == "name" else [name]})


def test_the_store_reads_its_own_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(1), allow_pickle=False)
    (tmp_path / "entry").mkdir()
    items = {"n": 1, "shared": {}, "numbered": {}, "columns": {}}
    meta = {"items": items, "keys": ["../x"], "crc32": {"../x": [0]}}
    (tmp_path / "entry" / "entry.json").write_text(sealed(meta))
    entry = StoreEntry(tmp_path / "entry")
    with pytest.raises(InputError, match="cache_dir"):
        entry.sample(0)


def test_a_version_makes_no_path(tmp_path: Path) -> None:
    files = {"configs/metadata.json": b'{"version": "1/../../../x"}'}
    with pytest.raises(InputError, match="version"):
        write_zip(files, "ufc_feature_vae", tmp_path / "dist")
    assert list(tmp_path.iterdir()) == []


LINKS = ["LICENSE", "configs/train.json", "configs/new.json", "docs/README.md", "docs/new/page.md", "models/model.pt"]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for name in NAMES:
        for part in ("configs", "docs", "models"):
            shutil.copytree(ROOT / "bundles" / name / part, tmp_path / "bundles" / name / part)
        shutil.copy(ROOT / "bundles" / name / "LICENSE", tmp_path / "bundles" / name)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").touch()
    return tmp_path / "bundles"


@pytest.mark.parametrize("place", LINKS)
def test_a_link_that_leads_out_is_not_handed_on(place: str, bundles: Path, tmp_path: Path) -> None:
    link = bundles / NAMES[2] / place
    secret = tmp_path / "secret"
    secret.write_text("{}")
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    actions: list[Callable[[], Any]] = [lambda: package(bundles, tmp_path / "dist")]
    if not place.startswith("models"):  # of which a run has its own
        actions.append(lambda: copy_bundles(bundles, tmp_path / "run"))
    if place.startswith(("configs", "models")):
        actions.append(lambda: put_into_app(bundles, tmp_path / "app"))
    for action in actions:
        with pytest.raises(InputError) as caught:
            action()
        assert f"{link} is a link that leads out of {bundles / NAMES[2]}" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert not [*tmp_path.glob("dist/*"), *tmp_path.glob("app/model/*")]


def test_a_folder_that_leads_out_is_not_handed_on(bundles: Path, tmp_path: Path) -> None:
    (bundles / NAMES[0] / "docs").rename(tmp_path / "docs")
    (bundles / NAMES[0] / "docs").symlink_to(tmp_path / "docs")
    for action in (bundle_files, lambda bundle: copy_bundles(bundle.parent, tmp_path / "run")):
        with pytest.raises(InputError, match="is a link that leads out"):
            action(bundles / NAMES[0])


def test_links_within_a_bundle_are_followed(bundles: Path, tmp_path: Path) -> None:
    bundle = bundles / NAMES[0]
    (bundle / "models" / "model.pt").rename(bundle / "weights")
    (bundle / "models" / "model.pt").symlink_to("../weights")
    assert bundle_files(bundle)["models/model.pt"] == (bundle / "weights").read_bytes()
    (tmp_path / "elsewhere").symlink_to(bundles)
    assert bundle_files(tmp_path / "elsewhere" / NAMES[0])


def test_a_long_name_is_written_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / f"{240 * 'a'}.nii.gz") as temporary:
        temporary.write_text("content")
    assert [len(path.name) for path in tmp_path.iterdir()] == [247]


def test_names_in_tables_and_pictures_are_escaped(tmp_path: Path) -> None:
    head, line, row = markdown_table(["a", NASTY], [["b", NASTY]]).splitlines()
    for text in (head, row):
        assert len(re.findall(r"(?<!\\)\|", text)) == 3
        assert "<" not in text
        assert "](" not in text.replace("]\\(", "")
    assert line == "| --- | --- |"
    svg = curves_svg([{"epoch": i, NASTY: i} for i in (1, 2)], [[NASTY]])
    assert "<svg" in svg
    assert "<script" not in svg


def test_the_card_of_a_bundle_escapes_names(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundles" / "ufc_unet_segmentation" / "models", tmp_path / "models")
    path = tmp_path / "models" / "network.json"
    network = json.loads(path.read_text()) | {"labels": {NASTY: 1}, "demonstration": NASTY}
    path.write_text(json.dumps(network))
    record = {
        "status": "complete",
        "started": "2026-01-01",
        "seconds": 1,
        "machine": NASTY,
        "versions": {NASTY: NASTY},
        "results": {"verdict": NASTY, "not_converged": [NASTY], "validation": NASTY},
        "environment": {},
        "inputs": {},
    }
    record |= {"settings": {"labels": {NASTY: 1}}, "outputs": {"model": {"sha256": network["model_sha256"]}}}
    (tmp_path / "eval" / "train").mkdir(parents=True)
    (tmp_path / "eval" / "train" / "run.json").write_text(json.dumps(record))
    text = model_card(tmp_path)
    assert "<script" not in text
    assert "\n# title" not in text
    assert "](http" not in text
    assert text.count("alert(1)&lt;/script&gt;\\|") == 9


def test_every_claim_names_a_test_that_there_is() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")))
    there = {
        name
        for file in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    }
    assert len(named) > 30
    assert named <= there
