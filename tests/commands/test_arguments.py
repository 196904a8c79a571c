"""The table of options fits the functions that it calls."""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.commands.arguments import COMMANDS, KEYS, OPTIONS, parse, run_command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_an_argument_and_every_argument_an_option(command: str) -> None:
    _, where, kind = COMMANDS[command]
    arguments = inspect.signature(pkgutil.resolve_name(f"ufc_monai.{where}")).parameters
    taken = {*arguments} | (
        {field.name for field in fields(pkgutil.resolve_name(f"ufc_monai.{kind}"))} if kind else set()
    )
    assert "options" not in taken or kind
    taken |= {*KEYS} if "keys" in taken else set()
    taken |= {"set"} if "overrides" in taken else set()
    options = [option for option in OPTIONS if command in option.commands.split()]
    names = [option.name.removeprefix("--") for option in options]
    assert len(names) == len(set(names))
    assert {*names} <= taken
    given = {n for n, o in zip(names, options, strict=True) if o.default is not None or not o.name.startswith("--")}
    needed = {name for name, argument in arguments.items() if argument.default is inspect.Parameter.empty}
    assert needed - {"options"} <= given


def test_values_are_what_they_look_like() -> None:
    words = ["study", "--dataset_dir", "D", "--budgets", "1, 5%", "--window", "[-1,2]", "--labels", "{'a': 1}"]
    command, given = parse([*words, "--set", "ufc_feature_vae.epochs=3", "--set", "ufc_feature_vae.norm=batch"])
    assert command == "study"
    assert given["budgets"] == ("1", "5%")
    assert given["methods"] == ("random", "simclr", "ufc")
    assert (given["window"], given["labels"]) == ([-1, 2], {"a": 1})
    assert given["set"] == [("ufc_feature_vae", "epochs", 3), ("ufc_feature_vae", "norm", "batch")]
    assert (given["dataset_dir"], given["folder"], given["seeds"]) == (Path("D"), Path("study"), 3)
    assert not {"folds", "draws", "dry_run", "threads"} & given.keys()


def test_settings_keep_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And not that of hashes: ``check`` prints them as a command."""
    names = [o.name.removeprefix("--") for o in OPTIONS if "run" in o.commands.split()]
    keys = sorted({*KEYS} & {*names}, reverse=True)
    seen: list[str] = []
    resolve = pkgutil.resolve_name

    def resolved(name: str) -> object:
        return (lambda options: seen.extend(options.keys)) if name.endswith(COMMANDS["run"][1]) else resolve(name)

    monkeypatch.setattr(pkgutil, "resolve_name", resolved)
    run_command("run", {"dataset_dir": tmp_path, "bundles": ROOT / "bundles", **dict.fromkeys(keys, 1)})
    assert seen == keys
    assert len(seen) > 4
