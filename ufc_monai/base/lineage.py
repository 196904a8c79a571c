"""Whether the files that a stage reads are still what they were made from, as far back as there are records.

Every stage leaves a ``run.json`` with the sha256 of what it read and wrote. Where weights, features or pseudo-labels
were made anew, or edited, what was made from the earlier ones is out of date: results would be ascribed to files that
had no part in them.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json, sha256_of

logger = logging.getLogger(__name__)


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
        logger.info("taken on trust, without the record or file to check: %s", ", ".join(found.elsewhere))
    if found.stale and not allow:
        more = f" ({len(found.stale) - 1} more are out of date.)" if len(found.stale) > 1 else ""
        raise InputError(f"{found.stale[0]} Make it again, or go on as it is with --allow_stale True.{more}")
    for line in found.stale:
        logger.warning("allow_stale: %s", line)
    return found.stale


def are_up_to_date(records: Iterable[Path]) -> bool:
    """Whether what stages have read, by their ``run.json``, is what is there now, as far back as there are records."""
    found = _LookBack()
    for record in records:
        found.compare(record, record)
    return not found.stale


@dataclass
class _LookBack:
    """What was found on the way back through the records."""

    stale: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    followed: set[Path] = field(default_factory=set)

    def follow(self, path: Path) -> None:
        """Look at a file, at what it was made from, and so on."""
        if path in self.followed:
            return
        self.followed.add(path)
        record = _maker(path)
        if record is None:
            self.elsewhere.append(str(path))
            return
        model, sha256 = _files(record, "inputs").get("model", (None, None))
        if model and path.name.startswith("pseudo_labels"):  # those of a later cut say themselves what they come of
            made_by = read_json(path, "pseudo_labels_path").get("provenance", {}).get("model_sha256")
            if made_by not in (None, sha256):
                self.stale.append(f"{path} comes of another {model} than the clusters beside it (sha256 differs).")
        written = dict(_files(record, "outputs").values())
        if written.get(path, _sha256_once(path)) != _sha256_once(path):
            self.stale.append(f"{path} is not the file that {record} tells of (sha256 differs).")
        self.compare(path, record)

    def compare(self, path: Path, record: Path) -> None:
        """Look at what a file was made from, by the ``run.json`` of its stage."""
        written = dict(_files(record, "outputs").values())
        for name, (now, sha256) in _files(record, "inputs").items():
            if now in written:  # a training that went on from its own weights
                continue
            if not now.is_file():
                self.elsewhere.append(str(now))
            elif _sha256_once(now) != sha256:
                line = f"{path} was made from another {now} than the one that is there now (sha256 differs)."
                self.stale.append(line)
            elif name != "split":  # nothing is behind it but the data
                self.follow(now)


def _sha256_once(path: Path) -> str:
    """The sha256 of a file, which is read again only once it has changed."""
    state = path.stat()
    return _sha256_at(path, state.st_ino, state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256_at(path: Path, *_: int) -> str:
    return sha256_of(path)


def _maker(path: Path) -> Path | None:
    """The record that lists a file among its outputs, or else lies beside it: of pseudo-labels, that of a later cut."""
    beside, around = path.with_name("run.json"), path.parent.parent
    for record in (beside, *sorted(around.glob("eval/*/run.json")), *sorted(around.glob("*/run.json"))):
        written = dict(_files(record, "outputs").values())
        if path in written or (written and record == beside):
            return record
    return None


def _files(record: Path, side: str) -> dict[str, tuple[Path, str]]:
    """Where the ``inputs`` or ``outputs`` of a ``run.json`` are now, and the sha256 that they had, by name."""
    content = found_json(record, "run.json")
    then, now = Path(content.get("folder", record.parent)), record.parent
    while then.name and then.name == now.name:
        then, now = then.parent, now.parent  # at last those of the folder that was moved, or the root
    found = {name: (Path(file["path"]), file["sha256"]) for name, file in content.get(side, {}).items() if file}
    return {
        name: (now / path.relative_to(then) if path.is_relative_to(then) else path, sha256)
        for name, (path, sha256) in found.items()
    }
