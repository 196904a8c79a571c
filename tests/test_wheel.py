"""The package without its clone: what a wheel holds, and that it is enough."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import NAMES, ROOT, SMALL

from ufc_monai.base.files import copy_below
from ufc_monai.commands.package import SOURCE
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.zoo.archive import PARTS

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
LEFTOVERS = ("eval/train/run.json", "cache/x/entry.json", "models/checkpoint.pt", "models/notes.json")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip from a clone in which bundles have been trained."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    copy_below(ROOT, source, *SOURCE, key="clone")
    for path in (source / "bundles" / name / leftover for name in NAMES for leftover in LEFTOVERS):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(source))
    subprocess.run([*PIP, *build], check=True)
    return next(out.glob("*.whl"))


def test_a_wheel_holds_the_package_and_the_bundles_and_nothing_of_a_run(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "ufc_monai").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    bundles = [path for name in NAMES for part in PARTS for path in (ROOT / "bundles" / name).glob(part)]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    expected |= {f"ufc_monai/bundled/{path.relative_to(ROOT / 'bundles').as_posix()}" for path in bundles}
    assert found == expected
    assert {f"ufc_monai/bundled/{name}/models/model.pt" for name in NAMES} <= found


@pytest.mark.slow
def test_a_wheel_is_enough_for_the_demo_which_goes_on_from_its_folder(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has our requirements and no clone, from an empty folder and home."""
    environment, home, folder = (tmp_path / name for name in ("venv", "home", "folder"))
    for path in (home, folder):
        path.mkdir()
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    install = ("install", "--no-deps", "--no-index", str(wheel))
    subprocess.run([*PIP, "--python", str(python), *install], check=True)
    packages = next(environment.glob("lib/*/site-packages"))
    # a path alone: the links to a clone that lie there are not followed
    (packages / "requirements.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"HOME": str(home)}

    def run(*words: str) -> str:
        done = subprocess.run([str(python), *words], cwd=folder, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    where = run("-c", "import sys, ufc_monai; print(ufc_monai.__file__, *sys.path, sep='\\n')").splitlines()
    assert Path(where[0]) == packages / "ufc_monai" / "__init__.py"
    assert str(ROOT) not in where
    small = [f"--set={name}.{key}={value}" for name, keys in SMALL.items() for key, value in keys.items()]
    first, again = (run("-m", "ufc_monai", "demo", "--patients", "8", *small) for _ in range(2))
    assert (folder / "demo" / "report.html").is_file()
    assert [said.count("python -m monai.bundle run") for said in (first, again)] == [9, 9]
    assert [said.count("complete, skipped") for said in (first, again)] == [0, 9]
    assert [row.split()[0] for row in table(first)[1:]] == [*MMWHS_LABELS, "mean"]
    assert table(first) == table(again)
    assert "machinery" in first


def table(said: str) -> list[str]:
    return said[said.index("random initialisation  pretrained encoder") :].splitlines()[: 2 + len(MMWHS_LABELS)]
