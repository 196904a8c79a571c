"""Strangers' text through all commands: it stays text in every file, and reaches no program that is started."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from conftest import NAMES, ROOT, SMALL

from ufc_monai.__main__ import main
from ufc_monai.phantom.ct import make_phantom

VAE, CONTRASTIVE, UNET = NAMES
RAN = "UFC_MONAI_RAN"
CODE = f"__import__('os').mkdir('{RAN}')"
SCRIPT = "<script>alert(1)"
SCANS = (
    *(f"${CODE}", "@stranger", "%metadata::name", f"{SCRIPT}<img src=x onerror=y>", "--strange", "=cmd()"),
    *(f"$(mkdir {RAN})", f"`mkdir {RAN}`"),
)
"""What eight scans are called; six of them have labels."""
STRUCTURES = {
    f"{SCRIPT}liver": 500,
    "--strange": 600,
    "=1+1": 420,
    '"); x("': 550,
    "x ' y": 205,
    "&lt;": 820,
    "`x`": 850,
}
MARKS = ("mkdir", "@stranger", "%metadata", "<script", "onerror", "--strange")
"""Of each hostile text a part."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set that says of itself nothing but hostile text."""
    make_phantom(tmp_path / "phantom", patients=8, labelled=6, matrix=40)
    root = tmp_path / "data"
    for folder, kind in (("images", "image"), ("labels", "label")):
        (root / folder).mkdir(parents=True)
        for name, file in zip(SCANS, sorted((tmp_path / "phantom").glob(f"*_{kind}.nii.gz")), strict=False):
            image = nib.load(file)
            image.header["descrip"], image.header["intent_name"] = f"${CODE}"[:79], SCRIPT
            nib.save(image, root / folder / f"{name}.nii.gz")
    said = dict.fromkeys(("name", "description", "release", "licence", "demonstration"), f"${CODE}{SCRIPT}")
    listed = {**said, "labels": STRUCTURES, f"${CODE}": "@stranger", "channel_names": {"0": f"${CODE}"}}
    (root / "dataset.json").write_text(json.dumps(listed))
    return root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words and the environment of every program that is started."""
    words: list[str] = []
    start = subprocess.Popen.__init__

    def noted(self: Any, args: Any, *others: Any, **how: Any) -> None:
        words.extend(map(str, [args] if isinstance(args, str) else args))
        words.extend((how.get("env") or {}).values())
        assert not how.get("shell")
        start(self, args, *others, **how)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    return words


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of text, those in archives among them."""
    for path in folder.rglob("*"):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                yield from ((name, archive.read(name).decode("utf-8", "ignore")) for name in archive.namelist())
        elif path.suffix in (".json", ".html", ".md", ".svg", ".csv", ".conf", ".txt", ".jsonl"):
            yield path.relative_to(folder).as_posix(), path.read_text(errors="replace")


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_hostile_text_stays_text(
    data: Path, started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    sets = [f"{bundle}.{key}={value}" for bundle in NAMES for key, value in SMALL[bundle].items()]
    words = [
        word for change in sets if "threads" not in change and "labelled" not in change for word in ("--set", change)
    ]
    app = out / "app"
    app.mkdir()
    (app / "main.py").touch()
    commands: dict[str, list[object]] = {
        "check": ["check", data, "--preset", "cpu", "--threads", "1", "--output", "p.png", *words],
        "run": [
            "run",
            "--dataset_dir",
            data,
            "--folder",
            "run",
            "--preset",
            "cpu",
            "--threads",
            "1",
            "--labelled",
            "2",
            *words,
        ],
        "report": ["report", "--folder", "run"],
        "segment": ["segment", "--weights", "run", data / "images", "masks"],
        "next": ["next", "--folder", "run", "--budget", "1"],
        "agreement": ["agreement", "--weights", "run", "--labels", "dominant", "--steps", "2"],
        "sample": ["sample", "--weights", "run", "--n", "2", "samples"],
        "cut": ["cut", "--folder", "run", "--k", "3"],
        "package": ["package", "--bundles", "run", "--output", "zips"],
        "label": ["label", "--folder", "run", app],
    }
    codes = {name: main([str(word) for word in command]) for name, command in commands.items()}
    assert codes == dict.fromkeys(commands, 0)
    assert len(list((out / "masks").rglob("*_seg.nii.gz"))) == len(SCANS)
    assert not [path for place in (tmp_path, ROOT) for path in place.rglob(RAN)]
    assert not [word for word in started if any(mark in word for mark in MARKS)]
    for name, text in texts(out):
        if name.endswith((".html", ".svg", ".md")):
            assert not re.search(r"<script|<img src=x", text), name
        if "configs/" in name and "metadata.json" not in name:
            assert not [mark for mark in MARKS if mark in text], name
        if name.endswith("metadata.json"):
            assert CODE not in text, name
