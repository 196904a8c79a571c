from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of, write_json
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work
from ufc_monai.planning.stages import BEGUN, COMPLETE, TO_DO, Step, bundle_command, config_files, config_path, shown

DATA = {"images": "the images", "labels": "the labels"}
RECORD = "bundle/eval/train/run.json"


def a_step(*reads: str, **overrides: object) -> Step:
    command = bundle_command("bundle", ["train", "cpu"], "/data", {"epochs": 3, **overrides})
    return Step("train", command, RECORD, ("bundle/models/*.pt", "network.json"), reads or ("images",))


def leave_record(folder: Path, step: Step, status: str = "complete") -> None:
    """What a stage that has just run leaves, or one that is under way."""
    files = {
        side: {"file": {"path": str(folder / name), "sha256": sha256_of(folder / name)}}
        for side, name in (("inputs", "in.json"), ("outputs", "bundle/models/model.pt"))
    }
    content = {"status": status, "asked": step.asked(folder, DATA), "results": {}, **files}
    write_json(folder / step.record, {**content, "folder": str((folder / step.record).parent)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bundle/configs/train.json", "bundle/configs/cpu.json", "in.json", "bundle/models/model.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "network.json").touch()
    leave_record(tmp_path, a_step())
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
    assert a_step().state(folder, DATA) == COMPLETE
    assert a_step(threads=1, device="cuda:1", tracking="mlflow").state(folder, DATA) == COMPLETE
    assert a_step(seed=1).state(folder, DATA) == TO_DO


@pytest.mark.parametrize(
    "name", ["bundle/configs/train.json", "bundle/configs/cpu.json", "in.json", "bundle/models/model.pt"]
)
def test_content_counts_and_time_does_not(folder: Path, name: str) -> None:
    content = (folder / name).read_text()
    (folder / name).write_text("changed")
    assert a_step().state(folder, DATA) == TO_DO
    (folder / name).write_text(content)  # younger, and the same
    assert a_step().state(folder, DATA) == COMPLETE


def test_a_step_whose_files_are_gone_is_to_be_done(folder: Path) -> None:
    (folder / "network.json").unlink()
    assert a_step().state(folder, DATA) == TO_DO
    (folder / "network.json").touch()
    assert a_step().state(folder, DATA) == COMPLETE
    (folder / "bundle" / "models" / "model.pt").unlink()
    assert a_step().state(folder, DATA) == TO_DO
    assert a_step().lacking(folder) == ["bundle/models/*.pt"]


def test_a_pattern_stands_for_as_many_files_as_the_record_tells_of(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    write_json(folder / RECORD, {**record, "results": {"volumes": 2}})
    assert a_step().state(folder, DATA) == TO_DO
    (folder / "bundle" / "models" / "other.pt").touch()
    assert a_step().state(folder, DATA) == COMPLETE


def test_a_run_that_was_moved_stays_complete(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path.with_name(f"{tmp_path.name} moved")
    folder.rename(moved)
    assert a_step().state(moved, DATA) == COMPLETE


def test_data_count_where_they_are_read(folder: Path) -> None:
    assert a_step().state(folder, {**DATA, "labels": "others"}) == COMPLETE
    assert a_step().state(folder, {**DATA, "images": "others"}) == TO_DO
    leave_record(folder, a_step("images", "labels"))
    assert a_step("images", "labels").state(folder, DATA) == COMPLETE
    assert a_step("images", "labels").state(folder, {**DATA, "labels": "others"}) == TO_DO


def test_a_training_that_was_begun_goes_on_unless_it_would_be_another(folder: Path) -> None:
    leave_record(folder, a_step(), status="started")
    assert a_step().state(folder, DATA) == BEGUN
    assert a_step(seed=1).state(folder, DATA) == TO_DO
    test = replace(a_step(), command=bundle_command("bundle", ["train", "evaluate"], "/data", {}))
    (folder / "bundle" / "configs" / "evaluate.json").touch()
    leave_record(folder, test, status="started")
    assert test.state(folder, DATA) == TO_DO, "it has no checkpoints"


ENDING = "import os; open('asked', 'w').write(os.environ['UFC_ASKED']); raise SystemExit(3)"


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_an_earlier_run_left_goes_before_a_new_one_begins(folder: Path, goes_on: bool) -> None:
    """Else a kill between the two would leave another run's checkpoint to a training that seems to have begun."""
    checkpoint, log = folder / "bundle" / "models" / "checkpoint.pt", folder / "log.txt"
    checkpoint.touch()
    (folder / "stage.py").write_text(ENDING)
    step = replace(a_step(), command=("python", "-m", "stage", *a_step().command[3:]))
    with at_work(folder / "run.lock") as lock, Host(folder, lock, log) as host:
        assert step.run(host, DATA, goes_on=goes_on) == 3
    assert checkpoint.exists() == (folder / RECORD).exists() == goes_on
    assert json.loads((folder / "asked").read_text()) == step.asked(folder, DATA)
    assert log.read_text().startswith("\n# train\npython -m stage run --config_file")
    assert log.read_text().endswith("--resume True\n") == goes_on


WAITING = """
import sys
from pathlib import Path
from ufc_monai.planning.stages import Step
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work
place = Path(sys.argv[1])
(place / "a.json").touch()
(place / "stage.py").write_text(
    "import os, time; open('pid.new', 'w').write(str(os.getpid())); os.rename('pid.new', 'pid'); time.sleep(60)"
)
with at_work(place / "run.lock") as lock, Host(place, lock, place / "log.txt") as host:
    step = Step("a step", ("python", "-m", "stage", "run", "--config_file", "a.json"), "run.json")
    step.run(host, {}, goes_on=True)
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


@pytest.mark.parametrize("name", ["day #1", "a@::b", "%::a"])
def test_a_path_that_monai_would_change_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--dataset_dir: MONAI's configurations cannot hold the text"):
        config_path(tmp_path / name, "--dataset_dir")


@pytest.mark.parametrize("name", ["$a", "@a", "%a", "a::b", "für Änne"])
def test_other_paths_are_text_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser({"path": config_path(name, "IN")})
    assert parser.get_parsed_content("path") == str(tmp_path / name)
