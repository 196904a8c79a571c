"""The documents tell the truth: their commands run, their keys and files exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAMES, ROOT, SMALL, copy_bundles

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/docs/README.md")]


def commands() -> list[str]:
    """The lines of README's block for one's own data."""
    block = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)[0]
    return [line for line in block.splitlines() if line.startswith("python")]


def test_readme_begins_with_the_two_commands() -> None:
    code = README.split("```")[1].split("\n")
    assert [line.split("#")[0].strip() for line in code if line] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_keys_exist(page: Path) -> None:
    configs = [json.loads(p.read_text()) for p in ROOT.glob("bundles/*/configs/*.json")]
    known = {key for config in configs for key in config} | {
        "config_file",
        "meta_file",
        "filepath",
        "bundles",
        "folder",
    }
    used = set(re.findall(r"(?<![\w-])--([a-z]\w+)", page.read_text(encoding="utf-8")))
    assert used - known <= {"patients", "image_size", "dataset_dir", "labels", "net_id"}


def test_every_stage_has_its_command() -> None:
    assert len(commands()) == 6
    assert all(any(f"/{name}/configs/train.json" in line for line in commands()) for name in NAMES)


@pytest.mark.slow
def test_readme_commands_run_from_any_folder(phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path / "bundles")
    variables = {**os.environ, "BUNDLES": str(bundles), "DIR": str(phantom)}
    for line in commands():
        name = next(n for n in NAMES if f"/{n}/" in line)
        small = SMALL[name] if line.count("train.json") and "evaluate" not in line else {}
        if "feature_vae/configs/inference" in line:
            small = {"n_clusters": 4}
        overrides = " ".join(f"--{key} {shlex.quote(repr(value))}" for key, value in small.items())
        words = line.replace("python ", f"{shlex.quote(sys.executable)} -W ignore ", 1)
        done = subprocess.run(
            ["bash", "-c", f"{words} {overrides}"],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    masks = list((bundles / NAMES[2] / "eval" / "inference").rglob("*_seg.nii.gz"))
    assert len(masks) == 8
