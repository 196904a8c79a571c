"""``run.json``: what ran, on what, with what result; and the guard against writing over another run."""

from __future__ import annotations

import datetime
import json
import logging
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from time import monotonic
from typing import Any

import torch

import ufc_monai
from ufc_monai.base.chain import ASKED, refuse_stale
from ufc_monai.base.errors import InputError, log_beside
from ufc_monai.base.files import found_json, sha256_of, write_json
from ufc_monai.base.merged import sections_of, settings_of
from ufc_monai.base.ranks import is_first, world_size

logger = logging.getLogger(__name__)

PACKAGES = ("monai", "torch", "numpy", "scipy", "scikit-learn", "pytorch-ignite")


@dataclass(eq=False)
class RunRecord:
    """The record of one run of a bundle, kept as ``run.json`` in its output folder.

    A run is known by its stage, its configuration, the content of its input files and the volumes that it skips. The
    same run may be made again in the same folder; another one is refused there. Under ``asked`` stands what ``run`` or
    ``study``, if one of them has started it, asks for: by that they know it again.

    Attributes:
        output_dir: folder of ``run.json``.
        stage: the bundle and the configuration, e.g. ``"ufc_feature_vae/train"``.
        config: the merged configuration (``base.configuration()``); what has a say in results counts.
        resolved: values that only show once it is evaluated; JSON values, recorded beside the plain ones.
        inputs: files that an earlier stage wrote, by name; those that do not exist count as none.
        outputs: files that the run writes, by name.
        environment: what was found out at start, such as device and precision.
        ckpt_dir: of a training, the folder of its weights and of the checkpoints that it goes on from.
        resume: whether it goes on from them.
        skipped: what is wrong with each volume that was left out of the data set, by image.
        allow_stale: read inputs even if they are out of date (:func:`~ufc_monai.base.chain.refuse_stale`).
        followers: called with the output folder and the results once the record is complete.
        began: by the monotonic clock; a training that is resumed has begun earlier by what it had taken before.
    """

    output_dir: str | os.PathLike[str]
    stage: str
    config: Mapping[str, Any]
    resolved: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str | os.PathLike[str] | None] = field(default_factory=dict)
    outputs: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    ckpt_dir: str | os.PathLike[str] | None = None
    resume: bool = False
    skipped: Mapping[str, str] = field(default_factory=dict)
    allow_stale: bool = False
    followers: list[Callable[[Path, Mapping[str, Any]], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = Path(self.output_dir) / "run.json"
        self.began = monotonic()
        self.content: dict[str, Any] = {
            "stage": self.stage,
            "status": "started",
            "asked": json.loads(os.environ.get(ASKED, "{}")),
            "folder": os.path.abspath(self.output_dir),
            "settings": _plain({**settings_of(self.config), **self.resolved}),
            "configuration": sections_of(self.config),
            "inputs": {name: _file(path) for name, path in self.inputs.items()},
            "skipped": dict(self.skipped),
            "environment": {key: str(value) for key, value in self.environment.items()}
            | {"threads": str(torch.get_num_threads()), "ranks": world_size()},
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is known by, as JSON holds it."""
        return _plain({key: self.content[key] for key in ("stage", "settings", "configuration", "inputs", "skipped")})

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What distinguishes the run of another record, or of another's identity, from this one, in words."""
        there, own = _named(other), _named(self.identity)
        return [f"{key} {there.get(key)} / {own.get(key)}" for key in there | own if there.get(key) != own.get(key)]

    def start(self, *, replace: bool = False) -> None:
        """Write the record as started, on the first rank. A run that does not go on removes the checkpoints there are.

        Args:
            replace: take the place of another run, unfinished or not.

        Raises:
            InputError: if the folder holds the record of another run, an unfinished run would be lost, or an input is
                out of date.
        """
        if not is_first():
            return
        there = found_json(self.path, "output_dir")
        if there and not replace:
            self._refuse_another_run(there)
        read = [file["path"] for name, file in self.content["inputs"].items() if file and name != "split"]
        self.content |= {"allow_stale": self.allow_stale, "stale": refuse_stale(read, allow=self.allow_stale)}
        if not self.resume:
            self._give_up_checkpoints(there, replace)
        elif there:
            self.content["resumed"] = [*there.get("resumed", []), _now()]
        log_beside(self.path.parent)
        self.content |= {
            "started": there["started"] if self.resume and there else _now(),
            "command": sys.argv,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "versions": {"ufc-monai": ufc_monai.__version__, "python": platform.python_version()}
            | {name: next((found.version for found in distributions(name=name)), None) for name in PACKAGES},
            "seeded": torch.initial_seed(),
        }
        write_json(self.path, self.content)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write the record as complete.

        Args:
            results: figures of the run; what is not a finite number, text or list of them is left out.

        Raises:
            InputError: if a training has no loss or an evaluation no figure: nothing was done.
        """
        if not is_first():
            return
        plain = {key: value for key, value in results.items() if is_number(value) or isinstance(value, str | list)}
        step = self.stage.rpartition("/")[2]
        if (step == "train" and "loss" not in plain) or (step == "evaluate" and not plain):
            raise InputError(
                f"{self.stage} has done nothing: it saw no batch. Look at epochs, and at the volumes of dataset_dir "
                "and fold."
            )
        self.content |= {
            "status": "complete",
            "finished": _now(),
            "seconds": round(monotonic() - self.began, 1),
            "results": plain,
            "outputs": {name: _file(path) for name, path in self.outputs.items()},
        }
        write_json(self.path, self.content)
        logger.info("%s complete in %.0f s: %s", self.stage, self.content["seconds"], self.path)
        for follower in self.followers:
            follower(self.path.parent, results)

    @property
    def _checkpoints(self) -> list[Path]:
        return [] if self.ckpt_dir is None else sorted(Path(self.ckpt_dir).glob("checkpoint*.pt"))

    def _refuse_another_run(self, there: Mapping[str, Any]) -> None:
        begun = there.get("status") != "started" or self.path.with_name("metrics.jsonl").is_file() or self._checkpoints
        if self.ckpt_dir is not None and not begun:
            return  # a training that was refused before its first step: nothing is lost with it
        if differences := self.differences(there):
            raise InputError(
                f"output_dir: {self.path.parent} holds another run ({there.get('stage')} of {there.get('started')}; "
                f"differs in {', '.join(differences[:4])}). Name another --output_dir, or delete {self.path} to "
                "write over it."
            )

    def _give_up_checkpoints(self, there: Mapping[str, Any], replace: bool) -> None:
        """Remove checkpoints, from which another attempt would go on by mistake; not those of an unfinished run."""
        begun = there.get("status", "complete") != "complete"
        unfinished = [path for path in self._checkpoints if begun or _is_unfinished(path)]
        if unfinished and not replace:
            raise InputError(
                f"ckpt_dir: {unfinished[0]} is of an unfinished run. Go on with it (--resume True), or begin anew: "
                "name another --ckpt_dir and --output_dir, or delete that file."
            )
        for path in self._checkpoints:
            path.unlink()


def _named(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is known by, one short value a name."""
    inputs = {name: file and file["sha256"][:8] for name, file in identity.get("inputs", {}).items()}
    sections = {f"configuration of {key}": value[:8] for key, value in identity.get("configuration", {}).items()}
    skipped = {f"volume {image}": "skipped" for image in identity.get("skipped", {})}
    return {"stage": identity.get("stage"), **identity.get("settings", {}), **inputs, **sections, **skipped}


def _is_unfinished(checkpoint: Path) -> bool:
    """Whether a training has epochs to come; not so for a file from which nothing can go on."""
    try:
        trainer = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["trainer"]
        return bool(trainer["iteration"] < trainer["epoch_length"] * trainer["max_epochs"])
    except Exception:
        return False


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON holds them."""
    return dict(json.loads(json.dumps(values, default=str)))


def is_number(value: object) -> bool:
    """Whether a result is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _file(path: str | os.PathLike[str] | None) -> dict[str, str] | None:
    if path is None or not Path(path).is_file():
        return None
    return {"path": os.path.abspath(path), "sha256": sha256_of(path)}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
