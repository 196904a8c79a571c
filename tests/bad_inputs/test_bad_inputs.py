"""Whatever is wrong with what the user gives, it is said in a line or two, or it is handled.

The tables are in bad_volumes.py (files), bad_layouts.py (names of files and folders), bad_sets.py (lists and what
stages hand on), bad_settings.py (keys, options) and handled.py (what is odd, but right).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_files import slices, volume
from bad_layouts import REFUSED as BAD_LAYOUTS
from bad_sets import REFUSED
from bad_settings import REFUSED as BAD_KEYS
from bad_settings import SETTINGS
from bad_volumes import IMAGES, LABELS_OF_IMAGE, good_pair
from conftest import NAMES, ROOT, refused
from handled import HANDLED
from monai.bundle import ConfigWorkflow

from ufc_monai.data.case import Case
from ufc_monai.data.inspect import inspect_cases
from ufc_monai.data.problems import bad_volumes
from ufc_monai.training.setup import check_settings


def says(message: str, *words: str) -> None:
    """What every error has to be: short, and with the words that lead to the mistake."""
    assert len(message.splitlines()) <= 2
    assert len(message) < 600
    for word in words:
        assert word in message


def check_and_skip(folder: Path, image: Path, label: Path | None, kind: str) -> None:
    """``check`` marks the volume, and ``skip_bad`` leaves it out and keeps a good one."""
    good = good_pair(folder)
    pairs = [(image, label), good]
    cases = [Case(i.name, la.name if la else None, i.name) for i, la in pairs]
    found, other = inspect_cases(folder, cases)
    assert kind in [p.kind for p in found.problems if p.blocking]
    assert not [p for p in other.problems if p.blocking]
    assert list(bad_volumes(cases, folder)) == [image.name]


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, tmp_path: Path) -> None:
    build, words = IMAGES[name]
    image = build(tmp_path)
    with refused() as message:
        slices(tmp_path, image)
    says(message[0], image.name, words, "--skip_bad True")
    check_and_skip(tmp_path, image, None, "unreadable")


@pytest.mark.parametrize("name", LABELS_OF_IMAGE)
def test_labels(name: str, tmp_path: Path) -> None:
    build, words, kind = LABELS_OF_IMAGE[name]
    image, label = volume(tmp_path / "a.nii.gz"), build(tmp_path)
    with refused() as message:
        slices(tmp_path, image, label)
    says(message[0], label.name, words, "--skip_bad True")
    check_and_skip(tmp_path, image, label, kind)


@pytest.mark.parametrize("name", [*BAD_LAYOUTS, *REFUSED])
def test_data_sets_and_what_stages_hand_on(name: str, tmp_path: Path) -> None:
    act, words = {**BAD_LAYOUTS, **REFUSED}[name]
    with refused() as message:
        act(tmp_path)
    says(message[0], words)


@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_of_a_training(name: str) -> None:
    key, value, words = SETTINGS[name]
    with refused() as message:
        check_settings({key: value})
    says(message[0], f"{key} must be {words}")


@pytest.mark.parametrize("name", BAD_KEYS)
def test_keys_and_options(name: str, tmp_path: Path) -> None:
    act, words = BAD_KEYS[name]
    with refused() as message:
        act(tmp_path)
    says(message[0], words)


@pytest.mark.parametrize("key", ["epochs", "num_workers"])
@pytest.mark.parametrize("bundle", NAMES)
def test_every_training_checks_its_numbers_first(bundle: str, key: str) -> None:
    configs = ROOT / "bundles" / bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=str(configs / "train.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **{key: -1},
    )
    with refused() as message:
        workflow.initialize()
    says(message[0], f"{key} must be a whole number")


@pytest.mark.parametrize("handled", HANDLED, ids=lambda f: f.__name__)
def test_what_is_odd_but_right(
    handled: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warning = handled(tmp_path)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == (
        [] if warning is None else [warning]
    )


def test_a_cache_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, hence what the system would say."""
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_: (_ for _ in ()).throw(denied))
    with refused() as message:
        slices(tmp_path, volume(tmp_path / "a.nii.gz"))
    says(message[0], "cache", "cannot be written (Permission denied)", "--cache_dir")
