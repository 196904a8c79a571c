from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ufc_monai.artifacts.record import RunRecord
from ufc_monai.base.errors import InputError, checked_bool, find_input_error, log_beside, readable_errors
from ufc_monai.evaluation.dice import mean_over_present
from ufc_monai.training.compute import AutocastInferer, resolve_precision
from ufc_monai.training.loaders import PrepareBatch
from ufc_monai.training.setup import check_overrides
from ufc_monai.transforms.batch import BatchAugment, BatchAugmentd
from ufc_monai.transforms.chain import Standardise
from ufc_monai.transforms.views import TwoViewsd


def test_precision_is_a_fixed_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c)
        assert resolve_precision("auto", "cpu") == expected
        assert resolve_precision("fp32", torch.device("cpu")) == "fp32"
    with pytest.raises(InputError, match="precision must be one of auto, fp32, bf16; got 'fp16'"):
        resolve_precision("fp16", "cpu")


def test_autocast_computes_in_bf16_and_returns_float32() -> None:
    seen: list[torch.dtype] = []
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    x = torch.rand(2, 4)
    assert AutocastInferer("bf16")(x, layer).dtype == torch.float32
    assert torch.equal(AutocastInferer("fp32")(x, layer), layer(x))
    assert seen[:2] == [torch.bfloat16, torch.float32]


def test_prepare_batch_transforms_the_whole_batch() -> None:
    batch = {"image": torch.rand(3, 1, 8, 8), "cluster": torch.tensor([5, 6, 7]), "id": ["a", "b", "c"]}
    prepare = PrepareBatch(target_key="cluster", transform=TwoViewsd("image", BatchAugment(), repeat_keys=["cluster"]))
    image, clusters = prepare(batch, "cpu")
    assert image.shape == (6, 1, 8, 8)
    assert clusters.tolist() == [5, 6, 7, 5, 6, 7]
    image, target = PrepareBatch(target_key="image")(batch, "cpu")
    assert torch.equal(image, target)


def test_prepare_batch_normalises_last_and_the_image_alone() -> None:
    batch = {"image": torch.rand(3, 3, 8, 8), "label": torch.ones(3, 1, 8, 8)}
    augment = BatchAugment(brightness=0.5)
    both = BatchAugmentd(["image", "label"], augment)
    image, label = PrepareBatch(transform=both, normalise=Standardise())(batch, "cpu")
    augment.generator.manual_seed(0)
    expected, _ = augment(batch["image"])
    assert torch.allclose(image, Standardise()(expected))
    assert torch.equal(label, batch["label"])
    image, target = PrepareBatch(target_key="image", normalise=Standardise())(batch, "cpu")
    assert image is target
    assert torch.equal(image, Standardise()(batch["image"]))


def test_misspelt_keys_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "train.json"
    config.write_text('{"epochs": 1, "train": {"trainer": {}}}')
    check_overrides(["run", "--config_file", str(config), "--epochs", "3", "--train#trainer#max_epochs=2"])
    check_overrides(["run", f"--config_file=['{config}']", "--tracking", "mlflow"])
    check_overrides(["--anything", "1"])
    with pytest.raises(InputError, match=r"--epohcs is no key of .*train.json. Did you mean --epochs\?"):
        check_overrides(["run", "--config_file", str(config), "--epohcs", "3"])


def test_a_renamed_key_is_refused_with_its_name_of_today(tmp_path: Path) -> None:
    config, own = tmp_path / "train.json", tmp_path / "own.json"
    config.write_text('{"background_labels": [], "run": ["$print(@background_labels)"]}')
    own.write_text('{"ignore_labels": [3]}')
    with pytest.raises(InputError, match=r"--ignore_labels is no key of .* It is called --background_labels now"):
        check_overrides(["run", "--config_file", str(config), "--ignore_labels", "[3]"])
    with pytest.raises(
        InputError, match=r"own\.json: nothing reads the key ignore_labels. It is called background_labels now"
    ):
        check_overrides(["run", "--config_file", str([str(config), str(own)])])


def test_keys_of_an_args_file_count_as_well(tmp_path: Path) -> None:
    config, other = tmp_path / "train.json", tmp_path / "args.json"
    config.write_text('{"epochs": 1}')
    other.write_text(json.dumps({"config_file": [str(config)], "epochs": 2, "train#trainer": 1}))
    words = ["monai/bundle/__main__.py", "run", "--args_file", str(other)]
    with pytest.raises(InputError, match="--train#trainer is no key of"):
        check_overrides(words)
    other.write_text(json.dumps({"config_file": [str(config)], "epochs": 2, "tracking": "mlflow"}))
    check_overrides(words)
    with pytest.raises(InputError, match=r"--epohcs is no key of .*Did you mean --epochs\?"):
        check_overrides([*words, "--epohcs", "3"])
    other.write_text('{"epochs": 3}')
    check_overrides([*words, "--config-file", str(config)])


def test_a_key_that_nothing_reads_is_refused_if_it_is_nearly_another(tmp_path: Path) -> None:
    first, second = tmp_path / "train.json", tmp_path / "mine.json"
    first.write_text('{"epochs": 1, "run": ["$print(@epochs)"]}')
    words = ["run", "--config_file", str([str(first), str(second)])]
    for text in ('{"epochs": 2}', '{"image_size": 3}', '{"epoch": 2, "epochs": "@epoch"}', '{"+run": []}'):
        second.write_text(text)
        check_overrides(words)
    second.write_text('{"epoch": 2}')
    with pytest.raises(InputError, match=r"mine\.json: nothing reads the key epoch\. Did you mean epochs\?"):
        check_overrides(words)


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("false", False), ("True", True), (False, False)])
def test_switches_from_the_command_line(value: object, expected: bool) -> None:
    assert checked_bool(value, "centred") is expected
    with pytest.raises(InputError, match="centred must be True or False, got 'yes'"):
        checked_bool("yes", "centred")


def test_readable_errors_print_two_lines_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr("ufc_monai.base.errors._place", None)
    readable_errors()
    assert sys.excepthook is sys.__excepthook__  # somebody else's process
    monkeypatch.setattr(sys, "argv", ["/anywhere/monai/bundle/__main__.py", "run"])
    readable_errors()
    wrapped = RuntimeError("MONAI wraps it")
    wrapped.__cause__ = InputError("dataset_dir is not set")
    assert isinstance(find_input_error(wrapped), InputError)
    sys.excepthook(RuntimeError, wrapped, None)
    assert capsys.readouterr().err == "error: dataset_dir is not set\n"
    log_beside(tmp_path)
    sys.excepthook(KeyError, KeyError("a bug"), None)
    assert capsys.readouterr().err == f"error: KeyError: 'a bug' (traceback: {tmp_path / 'log.txt'})\n"
    assert "KeyError: 'a bug'" in (tmp_path / "log.txt").read_text()


def record(folder: Path, **settings: Any) -> RunRecord:
    inputs = {"split": folder / "split.json", "no": None}
    config = {"run": ["$@epochs"], "epochs": 2, **settings}
    outputs = {"split": folder / "split.json"}
    return RunRecord(folder, "stage/train", config, inputs=inputs, outputs=outputs, ckpt_dir=folder / "models")


def test_run_record_says_what_ran(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{}")
    one = record(tmp_path)
    one.start()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "started"
    results = {"loss": 1.5, "stuck": ["aorta"], "verdict": "fine"}
    left_out = {"tensor": torch.ones(1), "dice_absent": float("nan")}
    one.finish({**results, **left_out})
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["status"] == "complete"
    assert content["results"] == results
    assert content["inputs"]["split"]["sha256"] == content["outputs"]["split"]["sha256"]
    assert torch.__version__.startswith(content["versions"]["torch"])  # which may name a build behind a +
    assert content["folder"] == str(tmp_path)


def test_the_same_run_may_be_made_again_and_another_not(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{}")
    record(tmp_path).start()
    record(tmp_path).start()
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match=r"holds another run .*epochs 2 / 3.*--output_dir"):
        record(tmp_path, epochs=3).start()
    (tmp_path / "split.json").write_text('{"other": 1}')
    with pytest.raises(InputError, match="split "):
        record(tmp_path).start()


def test_a_training_that_was_refused_before_its_first_step_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{}")
    record(tmp_path).start()
    record(tmp_path, epochs=3).start()
    assert json.loads((tmp_path / "run.json").read_text())["settings"] == {"epochs": 3}
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "checkpoint.pt").touch()
    with pytest.raises(InputError, match="holds another run"):
        record(tmp_path).start()


@pytest.mark.parametrize(
    ("step", "results"),
    [("train", {}), ("train", {"training_dice_aorta": 0.5}), ("evaluate", {}), ("evaluate", {"mean_dice": torch.nan})],
)
def test_a_stage_that_has_done_nothing_is_not_complete(step: str, results: dict[str, float], tmp_path: Path) -> None:
    one = RunRecord(tmp_path, f"stage/{step}", {})
    one.start()
    with pytest.raises(InputError, match=f"stage/{step} has done nothing"):
        one.finish(results)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "started"


def test_mean_dice_leaves_out_absent_structures() -> None:
    dice: list[list[float | None]] = [[0.5, None], [1.0, 0.0], [None, None]]
    assert mean_over_present(dice) == pytest.approx(0.5)
    assert math.isnan(mean_over_present(dice[2:]))
