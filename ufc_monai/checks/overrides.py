"""Keys that MONAI would accept and ignore: on the command line, in ``--args_file`` and in configurations."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser

from ufc_monai.base.errors import InputError, meant

VERBS = {"run", "run_workflow"}
"""What ``monai.bundle`` starts a configuration by; the words of a server that calls it are none of our business."""
RUN_ARGUMENTS = {
    *("run_id", "init_id", "final_id", "workflow_name", "workflow_type", "config_file", "meta_file", "logging_file"),
    *("args_file", "tracking", "tracking_uri", "experiment_name", "run_name", "properties_path"),
}
"""What ``monai.bundle run`` takes itself."""
READ_BY_MONAI = {"imports", "initialize", "run", "finalize"}
"""Sections that MONAI looks for in a configuration, whether anything refers to them or not."""
SURE = 0.75
"""How alike two names are, of 1, when the one is taken for the other misspelt."""


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse a misspelt key, which MONAI would accept and ignore.

    Args:
        arguments: the words of the process; nothing is checked unless they start a configuration.

    Raises:
        InputError: naming the key, and the one that was probably meant.
    """
    given = _given(arguments) if VERBS & set(arguments[:2]) else {}
    if "config_file" not in given:
        return
    files = _files(given["config_file"])
    configs = [ConfigParser.load_config_file(file) for file in files]
    known = {_top(key) for config in configs for key in config}
    for key in given:
        if _top(key) not in known | RUN_ARGUMENTS:
            hint = meant(_top(key), known, "--") or "The keys are listed in the bundle's docs/README.md."
            raise InputError(f"--{key} is no key of {', '.join(files)}. {hint}")
    _check_configs(files, configs)


def _given(arguments: Sequence[str]) -> dict[str, Any]:
    """The keys of the command line and those of the file that it names, with their values."""
    given: dict[str, Any] = {}
    for i, word in enumerate(arguments):
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            name = key if "::" in key or "#" in key else key.replace("-", "_")
            given[name] = value if equals else next(iter(arguments[i + 1 :]), "")
    file = given.get("args_file")
    return {**(ConfigParser.load_config_file(file) if file else {}), **given}


def _files(value: Any) -> list[str]:
    if isinstance(value, str):
        value = ast.literal_eval(value) if value.startswith(("[", "(")) else [value]
    return [str(file) for file in value]


def _check_configs(files: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a key that nothing refers to where one of nearly the same name is known, or is missing."""
    used = set(re.findall(r"[@%](\w+)", json.dumps(list(configs), default=str)))
    tops = [list(map(_top, config)) for config in configs]
    missing = used.difference(*tops)
    for file, keys in zip(files, tops, strict=True):
        known = set() if keys is tops[0] else set(tops[0])  # a file laid over the first may mean a key of it
        for key in keys:
            if key in used | READ_BY_MONAI | known:
                continue
            if hint := meant(key, missing | known, cutoff=SURE):
                raise InputError(f"{file}: nothing reads the key {key}. {hint}")


def _top(key: str) -> str:
    return re.split("::|#", key.lstrip("+"))[0]
