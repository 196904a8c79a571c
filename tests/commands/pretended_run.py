"""A run on eight volumes of a word each, whose stages leave their files but compute nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.base.host import Host
from ufc_monai.commands import run
from ufc_monai.data.split_file import open_split
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.stages import Step


def pretend_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    """Eight labelled volumes, their bytes a word each, and stages that leave their files but compute nothing."""
    data = tmp_path / "data"
    data.mkdir()
    for i in range(8):
        for part in ("image", "label"):
            (data / f"{part}{i}.nii.gz").write_text(f"{part}{i}")
    write_list(data)

    def pretend(step: Step, host: Host, data_set: dict[str, str], *, goes_on: bool) -> int:
        folder = host.folder
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


def stop(step: Step, host: Host, data_set: dict[str, str], *, goes_on: bool) -> int:
    begin(step, host.folder, data_set, goes_on)
    raise KeyboardInterrupt


def write_list(data: Path, labels: dict[str, int] | None = None, paired: int = 0, **first: str) -> None:
    entries: list[dict[str, str]] = [
        {"image": f"image{i}.nii.gz", "label": f"label{i ^ paired}.nii.gz"} for i in range(8)
    ]
    entries[0] |= first
    listed = {"training": entries, "labels": labels or {"liver": 1, "spleen": 2}}
    (data / "dataset.json").write_text(json.dumps(listed))


def content(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """All but who was last at work."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "run.lock"]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
