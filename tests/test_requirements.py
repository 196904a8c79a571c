"""The lowest versions that setup.cfg allows are those that "make test-lowest" tests."""

from __future__ import annotations

import configparser
import re

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
REQUIRED = [Requirement(line) for line in SETUP["options"]["install_requires"].split("\n") if line]


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {plain(package): Version(version) for package, version in found}


def plain(package: str) -> str:
    return re.sub("[-_.]+", "-", package).lower()


@pytest.mark.parametrize("requirement", REQUIRED, ids=lambda r: r.name)
def test_bounds_are_those_that_are_tested(requirement: Requirement) -> None:
    (bound,) = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    lowest, usual = (pins(name)[plain(requirement.name)] for name in ("constraints-lowest.txt", "constraints.txt"))
    # of ignite's 0.5.0 there is only a post-release
    assert lowest.release[: len(bound.release)] == bound.release
    assert not any(lowest.release[len(bound.release) :])
    assert lowest <= usual
    assert usual in requirement.specifier


def test_no_file_pins_another_pytorch() -> None:
    assert pins("constraints.txt")["torch"] == pins("constraints-lowest.txt")["torch"] == Version("2.13.0")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    assert len(installs) >= 7
    assert [line for line in installs if "torch==2.13.0" not in line] == []
