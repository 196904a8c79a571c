"""``package``: one zip a bundle, as the model zoo's releases have them, and a wheel beside them."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, copy_below, sha256_of
from ufc_monai.base.rounds import newest_round
from ufc_monai.planning.options import find_bundles
from ufc_monai.zoo.archive import PARTS, bundle_files, write_zip
from ufc_monai.zoo.metadata import placeholders

logger = logging.getLogger(__name__)

SOURCE = (
    "ufc_monai/**/*",
    *(f"bundles/*/{part}" for part in PARTS),
    *("setup.cfg", "pyproject.toml", "README.md", "LICENSE"),
)
"""What a wheel is built from."""


def package(
    bundles: Path | None = None, output: Path = Path("dist"), *, version: str | None = None, change: str | None = None
) -> list[Path]:
    """Write the zips, the wheel and ``SHA256SUMS``.

    Args:
        bundles: folder of the three bundles, as for :func:`find_bundles`; of a run, those of its newest round are
            packaged with their weights.
        output: folder to write to.
        version: of the bundles; ``None`` keeps theirs.
        change: what is new in it.

    Returns:
        The files written, ``SHA256SUMS`` last.

    Raises:
        InputError: if a bundle cannot be packed, the version is not one, or a change has no version.
    """
    if version is not None and not re.fullmatch(r"\d+(\.\d+){2}", version):
        raise InputError(f"--version must be three numbers like 0.2.0, got {version!r}.")
    if change is not None and version is None:
        raise InputError("--change says what is new in a version: pass --version, too, or leave --change out.")
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {output} is a file. Name a folder.")
    bundles = find_bundles(bundles and newest_round(bundles))
    contents = {name: bundle_files(bundles / name, version=version, change=change) for name in BUNDLES}
    metadata = (json.loads(files["configs/metadata.json"]) for files in contents.values())
    if unsaid := ", ".join(sorted({key for content in metadata for key in placeholders(content)})):
        hint = "Say them in %s/*/configs/metadata.json, then package again."
        logger.warning(f"not yours yet: %s. {hint}", unsaid, bundles)
    output.mkdir(parents=True, exist_ok=True)
    written = [write_zip(files, name, output) for name, files in contents.items()]
    if wheel := _build_wheel(output):
        written.append(wheel)
    sums = output / "SHA256SUMS"
    with atomic_path(sums) as temporary:
        temporary.write_text("".join(f"{sha256_of(path)}  {path.name}\n" for path in written), encoding="utf-8")
    for path in written:
        logger.info("%s  %s  %.1f MB", sha256_of(path)[:12], path, path.stat().st_size / 1e6)
    return [*written, sums]


def _build_wheel(output: Path) -> Path | None:
    """The package itself, which the bundles need; built from a copy, so that the source folder stays clean."""
    root = Path(__file__).parents[2]
    if not (root / "setup.cfg").is_file():
        logger.warning("no wheel: the package's source is not here")
        return None
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "source"), Path(temporary, "target")
        copy_below(root, source, *SOURCE, key="the package's source")
        words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        words += ["--disable-pip-version-check", "--wheel-dir", str(target), str(source)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # 1980, as in the zips
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"the wheel could not be built (pip and setuptools 77 or newer?):\n{done.stderr[-500:]}")
        wheel = next(target.glob("*.whl"))
        with atomic_path(output / wheel.name) as copy:
            shutil.copyfile(wheel, copy)
        return output / wheel.name
