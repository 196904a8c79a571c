"""The merged configuration of a run: read where it is evaluated, and what of it makes the run what it is."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from ufc_monai.base.errors import InputError

WITHOUT_A_SAY = {
    *("bundle_root", "dataset_dir", "cache_dir", "output_dir", "ckpt_dir", "structure_dir", "shape_dir"),
    *("device", "precision", "threads", "num_workers", "slices_at_once"),
    *("resume", "checkpoint_seconds", "tensorboard", "allow_stale", "skip_bad", "split_seed"),
}
"""Keys that do not make another run, and all that end with ``_path``: files count by their content, also masks of
``shape_dir``."""
TRACKER = "MLFlowHandler"
"""What ``--tracking mlflow`` adds to lists of handlers."""


def configuration() -> dict[str, Any]:
    """The configuration that is being evaluated: files, command line and ``args_file`` merged, before evaluation.

    For an expression in JSON, ``"$base.configuration()"``. A reference reaches single keys only.

    Raises:
        InputError: if no configuration is being evaluated.
    """
    # MONAI hands an expression nothing but what was evaluated before it; the parser that evaluates it, and holds the
    # merged configuration, is the nearest one among our callers
    frame = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), ConfigParser):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        raise InputError("base.configuration() is for expressions of a bundle's configuration.")
    merged: dict[str, Any] = frame.f_locals["self"].config
    return merged


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values among the top-level keys that a run makes use of and that have a say in its result."""
    return {key: value for key, value in _used(config).items() if is_plain(value)}


def sections_of(config: Mapping[str, Any]) -> dict[str, str]:
    """A short sha256 of each other such key: of its expressions and components as they stand."""
    composed = {key: value for key, value in _used(config).items() if not is_plain(value)}
    texts = {key: json.dumps(value, sort_keys=True, default=str) for key, value in composed.items()}
    return {key: hashlib.sha256(text.encode()).hexdigest()[:16] for key, text in texts.items()}


def is_plain(value: object) -> bool:
    """Whether a value stands for itself: no expression, reference, macro or component."""
    if isinstance(value, Mapping):
        return "_target_" not in value and all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _used(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``initialize`` and ``run`` refer to, directly or through others, by top-level key."""
    untracked = _untracked(dict(config))
    parser, found, waiting = ConfigParser(untracked), set[str](), ["initialize", "run"]
    while waiting:
        key = waiting.pop()
        if key not in found and key in parser:
            found.add(key)
            waiting += ReferenceResolver.find_refs_in_config(parser[key], key)
    tops = sorted({ReferenceResolver.split_id(key)[0] for key in found} - WITHOUT_A_SAY)
    return {key: untracked[key] for key in tops if not key.endswith("_path")}


def _untracked(node: Any) -> Any:
    """The same without the handlers of a tracking store."""
    if isinstance(node, list):
        return [_untracked(x) for x in node if not (isinstance(x, dict) and x.get("_target_") == TRACKER)]
    return {key: _untracked(value) for key, value in node.items()} if isinstance(node, dict) else node
