"""Whether the files that a stage reads are still what they were made from, as far back as there are records.

Every stage leaves a ``run.json`` with the sha256 of what it read and wrote. Where weights, features or pseudo-labels
were made anew, or edited, what was made from the earlier ones is out of date: results would be ascribed to files that
had no part in them.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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
    stale = list(found.stale)
    if stale and not allow:
        more = f" ({len(stale) - 1} more are out of date.)" if len(stale) > 1 else ""
        raise InputError(f"{stale[0]} Make it again, or go on as it is with --allow_stale True.{more}")
    for line in stale:
        logger.warning("allow_stale: %s", line)
    return stale


def are_up_to_date(records: Iterable[Path]) -> bool:
    """Whether what stages have read, by their ``run.json``, is what is there now, as far back as there are records."""
    found = _LookBack()
    for path in records:
        found.compare(path, _Record.read(path))
    return not found.stale


class _Record(NamedTuple):
    """A ``run.json``: its path, and by name where its inputs and outputs are now, and the sha256 that they had."""

    path: Path
    inputs: Mapping[str, tuple[Path, str]]
    outputs: Mapping[str, tuple[Path, str]]

    @classmethod
    def read(cls, path: Path) -> _Record:
        """Read a record; the files below a folder that was moved are where that is now."""
        content = found_json(path, "run.json")
        then, now = Path(content.get("folder", path.parent)), path.parent
        while then.name and then.name == now.name:
            then, now = then.parent, now.parent

        def files(side: str) -> dict[str, tuple[Path, str]]:
            named = {name: (Path(file["path"]), file["sha256"]) for name, file in content.get(side, {}).items() if file}
            return {
                name: (now / path.relative_to(then) if path.is_relative_to(then) else path, sha256)
                for name, (path, sha256) in named.items()
            }

        return cls(path, files("inputs"), files("outputs"))


@dataclass
class _LookBack:
    """What was found on the way back through the records."""

    stale: dict[str, None] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    followed: set[Path] = field(default_factory=set)
    sha256: Callable[[Path], str] = field(default_factory=lambda: functools.cache(sha256_of))

    def follow(self, path: Path) -> None:
        """Look at a file, at what it was made from, and so on."""
        if path in self.followed:
            return
        self.followed.add(path)
        record = _maker(path)
        if record is None:
            self.elsewhere.append(str(path))
            return
        if path.name.startswith("pseudo_labels") and "model" in record.inputs:
            # those of a later cut say themselves which weights they come of
            model, sha256 = record.inputs["model"]
            if (read_json(path, "pseudo_labels_path").get("provenance", {}).get("model_sha256") or sha256) != sha256:
                self.stale[f"{path} comes of another {model} than the clusters beside it (sha256 differs)."] = None
        if any(now == path and self.sha256(now) != sha256 for now, sha256 in record.outputs.values()):
            self.stale[f"{path} is not the file that {record.path} tells of (sha256 differs)."] = None
        self.compare(path, record)

    def compare(self, path: Path, record: _Record) -> None:
        """Look at what a file was made from, by the record of its stage."""
        written = [now for now, _ in record.outputs.values()]
        for name, (now, sha256) in record.inputs.items():
            if now in written:  # a training that went on from its own weights
                continue
            if not now.is_file():
                self.elsewhere.append(str(now))
            elif self.sha256(now) != sha256:
                line = f"{path} was made from another {now} than the one that is there now (sha256 differs)."
                self.stale[line] = None
            elif name != "split":  # nothing is behind it but the data
                self.follow(now)


def _maker(path: Path) -> _Record | None:
    """The record that lists a file among its outputs, or else lies beside it: of pseudo-labels, that of a later cut."""
    beside, around = path.with_name("run.json"), path.parent.parent
    for place in (beside, *sorted(around.glob("eval/*/run.json")), *sorted(around.glob("*/run.json"))):
        record = _Record.read(place)
        if path in [now for now, _ in record.outputs.values()] or (record.outputs and place == beside):
            return record
    return None
