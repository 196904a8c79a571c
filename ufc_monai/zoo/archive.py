"""One zip a bundle, as the releases of the model zoo have them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ufc_monai
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, files_below, inside, write_arrays
from ufc_monai.report.page import without_outer_links
from ufc_monai.zoo.metadata import bundle_metadata, metadata_text, model_card

PARTS = (
    *("LICENSE", "configs/*", "docs/**/*"),
    *(f"models/{name}" for name in ("model.pt", "model.ts", "network.json", "quality.json", "centroids.npz")),
)
"""What others get of a bundle: not the checkpoint of a training, which is large and of no use to them."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every file in a zip, the first that the format knows: the same bundle gives the same bytes."""


def bundle_files(bundle: Path, *, version: str | None = None, change: str | None = None) -> dict[str, bytes]:
    """The files of a bundle with weights, by their path in it.

    ``metadata.json`` is brought in line with the weights and describes the network, so that ``monai.bundle.load`` works
    from any folder; the model card takes the place of what ``docs/README.md`` says under Performance.

    Args:
        bundle: its folder.
        version: a new version; ``None`` keeps that of ``metadata.json``.
        change: what is new in it, in the place of what the changelog says of it.

    Raises:
        InputError: if something that the zoo asks for is missing, the weights do not fit their network, a link leads
            out of the bundle, or MONAI would run a text of its metadata.
    """
    found = files_below(bundle, *PARTS, key="--bundles")
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in found}
    for name in ("LICENSE", "configs/metadata.json", "docs/README.md"):
        if name not in files:
            raise InputError(f"--bundles: there is no {bundle / name}; the zoo asks for it.")
    metadata = _versioned(bundle_metadata(bundle), version, change)
    if (centroids := "models/centroids.npz") in files:
        files[centroids] = without_patients(files[centroids])
    files["configs/metadata.json"] = metadata_text(metadata).encode()
    files["docs/README.md"] = _with_card(files["docs/README.md"], model_card(bundle))
    return files


def write_zip(files: Mapping[str, bytes], name: str, folder: Path) -> Path:
    """Write ``<name>_v<version>.zip``, whose files lie in a folder ``<name>``.

    Args:
        files: as :func:`bundle_files` gives them.
        name: of the bundle.
        folder: where the zip goes.

    Returns:
        The zip; the same files give the same bytes, with the same zlib.
    """
    version = json.loads(files["configs/metadata.json"])["version"]
    path = inside(folder, f"{name}_v{version}.zip", "metadata.json, version")
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for member, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{name}/{member}", EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return path


def without_patients(content: bytes) -> bytes:
    """``centroids.npz`` without the names and the mean features of the patients that were clustered."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files if name != "patient_means"}
    arrays["patients"] = np.arange(len(arrays["patients"])).astype(str)
    written = io.BytesIO()
    write_arrays(written, arrays)
    return written.getvalue()


def _versioned(metadata: Mapping[str, Any], version: str | None, change: str | None) -> dict[str, Any]:
    result = dict(metadata)
    if version is not None:
        known = metadata["changelog"]
        text = change or known.get(version, "new weights")
        result |= {"version": version, "changelog": {version: text, **known} | {version: text}}
    if result["version"] not in result["changelog"]:
        raise InputError(f"metadata.json: the changelog does not name version {result['version']}.")
    needed = result["required_packages_version"].get("ufc-monai")
    if needed != ufc_monai.__version__:
        raise InputError(
            f"metadata.json: required_packages_version asks for ufc-monai {needed}, this is {ufc_monai.__version__}."
        )
    return result


def _with_card(content: bytes, card: str) -> bytes:
    """A page with the card under Performance, and without links that lead out of the bundle."""
    page = without_outer_links(content).decode()
    head, mark, rest = page.partition("# Performance\n")
    _, following, tail = rest.partition("\n# ")
    if not (mark and following):
        raise InputError("docs/README.md: there is no section '# Performance' with another one behind it.")
    return f"{head}{mark}\n{card}{following}{tail}".encode()
