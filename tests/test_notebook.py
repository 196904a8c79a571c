"""The notebook of the labelling loop is what its source gives, and runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

from ufc_monai.base.bundles import UNET

jupytext = pytest.importorskip("jupytext")

SOURCE = ROOT / "docs" / "labelling_loop.py"


def test_notebook_is_what_its_source_gives() -> None:
    source, notebook = (jupytext.read(path) for path in (SOURCE, SOURCE.with_suffix(".ipynb")))
    made, kept = ([(c.cell_type, c.source, c.metadata) for c in book.cells] for book in (source, notebook))
    assert made == kept, "make it anew: jupytext --to ipynb docs/labelling_loop.py"
    assert [c for c in notebook.cells if c.get("outputs")] == [], "outputs are not kept"


@pytest.mark.slow
def test_notebook_runs(warm_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its source, with still fewer steps."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{warm_python}" -W ignore "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("FEW_STEPS", few_steps())
    notebook = jupytext.read(SOURCE)
    nbclient.NotebookClient(notebook, timeout=1800, startup_timeout=300, kernel_name="python3").execute(cwd=tmp_path)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert (kinds.count("image/png"), kinds.count("image/svg+xml")) == (3, 1)
    assert any("labelled volumes  test Dice" in str(output.get("text")) for output in shown)
    assert list(tmp_path.glob("labelling_loop_*/run/rounds/2/ufc_unet_segmentation/models/model.pt"))


def few_steps() -> str:
    """Settings of ``run`` without a space in any."""
    settings = {(bundle, key): value for bundle, small in SMALL.items() for key, value in small.items()}
    settings |= {(UNET, "warm_up_steps"): 2, (UNET, "round_steps"): 1}
    words = (f"{bundle}.{key}={json.dumps(value, separators=(',', ':'))}" for (bundle, key), value in settings.items())
    kept = (word for word in words if not word.split("=")[0].endswith((".threads", ".labelled_volumes")))
    return " ".join(["--threads 1 --n_clusters 4", *(f"--set {word}" for word in kept)])
