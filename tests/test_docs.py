"""The documents tell the truth: their commands run, their keys and files exist."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAMES, ROOT, SMALL, WIDTHS, copy_bundles

from ufc_monai.commands.arguments import OPTIONS
from ufc_monai.phantom.ct import make_phantom

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/docs/README.md")]
EXECUTED = ["README.md", "docs/tutorial.md", "docs/how-to.md"]


def commands(page: str) -> list[str]:
    """The commands in the page's blocks for the shell, without their remarks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "make venv"))]


def test_readme_begins_with_the_two_commands() -> None:
    code = README.split("```")[1].split("\n")
    assert [line.split("#")[0].strip() for line in code if line] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_keys_exist(page: Path) -> None:
    configs = [json.loads(p.read_text()) for p in ROOT.glob("bundles/*/configs/*.json")]
    known = {key for config in configs for key in config} | {"config_file", "meta_file", "filepath", "net_id"}
    known |= {option.name.removeprefix("--") for option in OPTIONS} | {"version", "peers", "repeats", "bundle", "gres"}
    known |= {"nthreads", "resources"}  # Dask
    known |= {"tracking_uri", "experiment_name", "run_name", "ckpt_file"}
    known |= {"args_file", "converter_kwargs", "name", "url", "bundle_dir", "network", "directory", "backend", "b"}
    known |= {
        "n",
        "d",
        "rounds",
        "steps",
        "slices",
        "slices_at_once",
        "volumes",
        "profile",
        "bind",
        "keys",
        "variants",
        "mutants",
        "kills",
        "landmarks",
    }  # benchmarks, mount
    known |= {
        "download",
        "name",
        "app",
        "studies",
        "conf",
        "host",
        "port",
        "no",
        "to",
    }  # MONAI Label, pip --no-deps, jupytext
    known |= {"nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint"}  # torchrun
    used = set(re.findall(r"(?<![\w-])--([a-z]\w*)", page.read_text(encoding="utf-8")))
    assert used - known <= {"help"}


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_sources_exist(page: Path) -> None:
    """The modules, tests and benchmarks that a page names, and the names of the package in it."""
    text = page.read_text(encoding="utf-8")
    rooms = "|".join(path.parent.name for path in ROOT.glob("ufc_monai/*/__init__.py"))
    files = re.findall(rf"(?<![\w/])(?:tests|benchmarks|ufc_monai|{rooms})/[\w/]+\.py", text)
    assert [f for f in files if not (ROOT / f).is_file() and not (ROOT / "ufc_monai" / f).is_file()] == []
    for name in re.findall(r"\bufc_monai(?:\.\w+)+", text):
        pkgutil.resolve_name(name)


def test_every_bundle_is_started_by_hand() -> None:
    for page in ("README.md", "docs/how-to.md"):
        assert all(any(f"/{name}/configs/train.json" in line for line in commands(page)) for name in NAMES)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("page", EXECUTED)
def test_commands_run(page: str, chain: Path, tmp_path: Path) -> None:
    """Every command of a page, one after the other in one folder, with settings that make it quick."""
    data, bundles = tmp_path / "my_scans", copy_bundles(tmp_path / "bundles")
    make_phantom(data, patients=9, labelled=8, matrix=48)
    if page == "docs/how-to.md":
        shutil.copytree(chain, tmp_path / "run")
    variables = {**os.environ, "BUNDLES": str(bundles)}
    for line in commands(page):
        words = re.sub(r"\bDIR\b", str(data), line).replace("python ", f"{shlex.quote(sys.executable)} -W ignore ", 1)
        done = subprocess.run(
            ["bash", "-c", f"{words} {small_settings(line)}"],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    expected = {"README.md": "run/report.html", "docs/tutorial.md": "mask.nii.gz", "docs/how-to.md": "split.json"}
    assert (tmp_path / expected[page]).is_file()
    assert list(tmp_path.rglob("*_seg.nii.gz"))


def small_settings(line: str) -> str:
    """What to add to a command so that it takes seconds."""
    if "ufc_monai run" in line:
        settings = [(f"{bundle}.{key}", value) for bundle, small in SMALL.items() for key, value in small.items()]
        settings = [
            (name, value) for name, value in settings if name.split(".")[1] not in ("threads", "labelled_volumes")
        ]
        words = [f"--set {shlex.quote(f'{name}={value!r}')}" for name, value in settings]
        if "contrastive_ae" in line:  # after so few steps a long prototype would have all slices
            words.append("--set ufc_feature_vae.similarity=squared_distance")
        return " ".join([*words, "--threads 1", "" if "--n_clusters" in line else "--n_clusters 4"])
    if "ufc_monai next --dataset_dir" in line:  # of the few synthetic patients one has no label
        return small_settings("ufc_monai run") + " --budget 1"
    if "feature_vae/configs/inference" in line:
        return "--n_clusters 4"
    if "train.json" in line and "evaluate" not in line:
        small = SMALL[next(n for n in NAMES if f"/{n}/" in line)] | (WIDTHS if "unet_encoder" in line else {})
        return " ".join(f"--{key} {shlex.quote(repr(value))}" for key, value in small.items())
    return ""
