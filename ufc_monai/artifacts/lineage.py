"""Whether the files that a stage reads are still what they were made from, as far back as there are records.

Every stage leaves a ``run.json`` with the sha256 of what it read and wrote. Where weights, features or pseudo-labels
were made anew, or edited, what was made from the earlier ones is out of date: results would be ascribed to files that
had no part in them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json, sha256_of

logger = logging.getLogger(__name__)

SHOWN = 3
"""Files that a line names."""


def refuse_stale(files: Iterable[str | os.PathLike[str] | None], *, allow: bool = False) -> list[str]:
    """Refuse files that are out of date; name and trust those without a record, or made from files that are not here.

    Args:
        files: that a stage is about to read; those that do not exist are passed over.
        allow: warn instead.

    Returns:
        What is out of date, one sentence a file; nothing unless that is allowed.

    Raises:
        InputError: naming the first file that is out of date, and both ways out.
    """
    found = _LookBack()
    for file in files:
        if file is not None and Path(file).is_file():
            found.follow(Path(os.path.abspath(file)))
    if found.elsewhere:
        more = f" and {len(found.elsewhere) - SHOWN} more" if len(found.elsewhere) > SHOWN else ""
        logger.info(
            "taken on trust, without the record or file to check: %s%s", ", ".join(found.elsewhere[:SHOWN]), more
        )
    if found.stale and not allow:
        more = f" ({len(found.stale) - 1} more are out of date.)" if len(found.stale) > 1 else ""
        raise InputError(f"{found.stale[0]} Make it again, or go on as it is with --allow_stale True.{more}")
    for line in found.stale:
        logger.warning("allow_stale: %s", line)
    return found.stale


class _Record(NamedTuple):
    """The ``run.json`` that tells of a file; ``old`` and ``new`` are its folder then and now, if it was moved."""

    path: Path
    content: Mapping[str, Any]
    old: Path
    new: Path

    def files(self, side: str) -> dict[str, tuple[Path, str]]:
        """Where the files of ``inputs`` or ``outputs`` are now, and the sha256 that they had."""
        named = {name: file for name, file in self.content.get(side, {}).items() if file}
        return {name: (self._now(Path(file["path"])), file["sha256"]) for name, file in named.items()}

    def _now(self, path: Path) -> Path:
        return self.new / path.relative_to(self.old) if path.is_relative_to(self.old) else path


@dataclass
class _LookBack:
    """What was found on the way back through the records."""

    stale: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    followed: set[Path] = field(default_factory=set)
    hashes: dict[Path, str] = field(default_factory=dict)

    def follow(self, path: Path) -> None:
        """Look at a file, at what it was made from, and so on."""
        if path in self.followed:
            return
        self.followed.add(path)
        record = _maker(path)
        if record is None:
            self.elsewhere.append(str(path))
            return
        if path.name.startswith("pseudo_labels"):
            self._compare_clusters(path, record)
        outputs = record.files("outputs")
        for now, sha256 in outputs.values():
            if now == path and self._sha256(now) != sha256:
                self._add(f"{path} is not the file that {record.path} tells of (sha256 differs).")
        for name, (now, sha256) in record.files("inputs").items():
            if now in [path for path, _ in outputs.values()]:  # a training that went on from its own weights
                continue
            if not now.is_file():
                self.elsewhere.append(str(now))
            elif self._sha256(now) != sha256:
                self._add(f"{path} was made from another {now} than the one that is there now (sha256 differs).")
            elif name != "split":  # nothing is behind it but the data
                self.follow(now)

    def _compare_clusters(self, path: Path, record: _Record) -> None:
        """Pseudo-labels of a later cut say themselves which weights they come of."""
        model = record.files("inputs").get("model")
        made_by = read_json(path, "pseudo_labels_path").get("provenance", {}).get("model_sha256")
        if model and made_by not in (None, model[1]):
            self._add(f"{path} comes of another {model[0]} than the clusters beside it (sha256 differs).")

    def _sha256(self, path: Path) -> str:
        if path not in self.hashes:
            self.hashes[path] = sha256_of(path)
        return self.hashes[path]

    def _add(self, line: str) -> None:
        if line not in self.stale:
            self.stale.append(line)


def _maker(path: Path) -> _Record | None:
    """The record that lists a file among its outputs, or else lies beside it: of pseudo-labels, that of a later cut."""
    places = [path.with_name("run.json"), *sorted(path.parent.parent.glob("eval/*/run.json"))]
    for place in [*places, *sorted(path.parent.parent.glob("*/run.json"))]:
        content = found_json(place, "run.json")
        outputs = [Path(file["path"]) for file in content.get("outputs", {}).values() if file]
        listed = next((o for o in outputs if o.parts[-2:] == path.parts[-2:]), None)
        if listed or (outputs and place.parent == path.parent):
            then = listed or outputs[0].with_name(path.name)
            return _Record(place, content, *_roots(then, path))
    return None


def _roots(then: Path, now: Path) -> tuple[Path, Path]:
    """What is left of two paths without their common end."""
    while then.name and then.name == now.name:
        then, now = then.parent, now.parent
    return then, now
