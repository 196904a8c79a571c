from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from ufc_monai.base.chain import Stage
from ufc_monai.base.errors import InputError
from ufc_monai.planning import stages
from ufc_monai.planning.stages import Ledger, bundle_command, config_files, config_path, digest, shown


def a_stage(reads_labels: bool = False, **overrides: object) -> Stage:
    command = bundle_command("bundle", ["train", "cpu"], "/data", {"epochs": 3, **overrides})
    return Stage("train", "bundle", "train", ("in.json",), ("models/*.pt",), reads_labels, command=command)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    for name in ("bundle/configs/train.json", "bundle/configs/cpu.json", "in.json", "models/model.pt"):
        (tmp_path / name).write_text(name)
    Ledger(tmp_path, "images", "labels").complete(a_stage())
    return tmp_path


def test_command_is_what_one_types() -> None:
    command = bundle_command("b", ["train", "cpu"], "my data", {"window": [-125, 275], "labels": {"a b": 1}})
    assert shown(command) == (
        "python -m monai.bundle run --config_file \"['b/configs/train.json','b/configs/cpu.json']\" --bundle_root b "
        "--dataset_dir 'my data' --window '[-125, 275]' --labels \"{'a b': 1}\""
    )
    assert shown(["--labels", '{"the patient\'s": 1}']) == """--labels '{"the patient'"'"'s": 1}'"""
    assert config_files(command) == ["b/configs/train.json", "b/configs/cpu.json"]
    assert config_files(bundle_command("b", ["train"], "d", {})) == ["b/configs/train.json"]


def test_complete_until_something_changes(folder: Path) -> None:
    ledger = Ledger(folder, "images", "labels")
    assert ledger.is_complete(a_stage())
    assert not ledger.is_complete(a_stage(seed=1))


@pytest.mark.parametrize("name", ["bundle/configs/train.json", "bundle/configs/cpu.json", "in.json", "models/model.pt"])
def test_content_counts_and_time_does_not(folder: Path, name: str) -> None:
    content = (folder / name).read_text()
    (folder / name).write_text("changed")
    assert not Ledger(folder, "images", "labels").is_complete(a_stage())
    (folder / name).write_text(content)  # younger, and the same
    assert Ledger(folder, "images", "labels").is_complete(a_stage())
    (folder / name).unlink()
    assert not Ledger(folder, "images", "labels").is_complete(a_stage())


def test_labels_count_where_they_are_read(folder: Path) -> None:
    assert Ledger(folder, "images", "other labels").is_complete(a_stage())
    assert not Ledger(folder, "other images", "labels").is_complete(a_stage())
    Ledger(folder, "images", "labels").complete(a_stage(reads_labels=True))
    assert not Ledger(folder, "images", "other labels").is_complete(a_stage(reads_labels=True))


def test_a_stage_that_was_begun_anew_is_not_complete(folder: Path) -> None:
    Ledger(folder, "images", "labels").begin(a_stage(seed=1))
    assert not Ledger(folder, "images", "labels").is_complete(a_stage())


def test_what_an_earlier_run_left_goes_before_the_new_one_is_entered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kill between the two would leave another run's checkpoint to a training that seems to have begun."""
    checkpoint = folder / "models" / "checkpoint.pt"
    checkpoint.touch()
    ledger = Ledger(folder, "images", "labels")
    ledger.begin(a_stage(), goes_on=True)
    assert checkpoint.exists()

    def killed(*_: object) -> None:
        assert not checkpoint.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        ledger.begin(a_stage(seed=1))
    assert not Ledger(folder, "images", "labels").is_begun(a_stage(seed=1))


WAITING = """
import sys
from pathlib import Path
from ufc_monai.planning.process import run_command
from ufc_monai.base.lock import at_work
place = Path(sys.argv[1])
(place / "stage.py").write_text(
    "import os, time; open('pid.new', 'w').write(str(os.getpid())); os.rename('pid.new', 'pid'); time.sleep(60)"
)
with at_work(place / "run.lock") as lock:
    run_command(["python", "-m", "stage"], place, lock, place / "run.json", open(place / "log", "wb"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM], ids=lambda s: s.name)
def test_what_stops_a_run_stops_its_stage(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING, tmp_path], stderr=subprocess.DEVNULL) as run:
        assert within_a_minute(lambda: (tmp_path / "pid").is_file())
        run.send_signal(number)
    child = int((tmp_path / "pid").read_text())
    assert within_a_minute(lambda: not is_alive(child))


def test_a_stage_that_a_script_started_in_the_background_is_stopped_too(tmp_path: Path) -> None:
    """A shell's job behind & ignores SIGINT, and what it starts inherits that."""
    (tmp_path / "run.json").write_text("{}")
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAITING
    with subprocess.Popen([sys.executable, "-c", deaf, tmp_path], stderr=subprocess.DEVNULL) as run:
        assert within_a_minute(lambda: (tmp_path / "pid").is_file())
        run.send_signal(signal.SIGTERM)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def within_a_minute(happened: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if happened():
            return True
        time.sleep(0.05)
    return False


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_stage_that_left_nothing_is_not_complete(folder: Path) -> None:
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(InputError, match="without writing models"):
        Ledger(folder, "images", "labels").complete(a_stage())


def test_digest_is_of_names_and_contents() -> None:
    assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"})
    assert digest({"a": "1", "b": "2"}) != digest({"a": "2", "b": "1"})


@pytest.mark.parametrize("name", ["day #1", "a@::b", "%::a"])
def test_a_path_that_monai_would_change_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--dataset_dir: MONAI's configurations cannot hold the text"):
        config_path(tmp_path / name, "--dataset_dir")


@pytest.mark.parametrize("name", ["$a", "@a", "%a", "a::b", "für Änne"])
def test_other_paths_are_text_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser({"path": config_path(name, "IN")})
    assert parser.get_parsed_content("path") == str(tmp_path / name)
