"""What makes two runs the same: the merged configuration, less what has no say in the result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL, merged, refused, run_bundle
from monai.bundle import ConfigParser
from PIL import Image

from ufc_monai.base.bundles import laid_over
from ufc_monai.base.merged import WITHOUT_A_SAY, configuration, sections_of, settings_of

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture(scope="module")
def trained(chain: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The keys of a fine-tuning on volumes of one's own choice, which has run."""
    folder = tmp_path_factory.mktemp("identity")
    (split,) = chain.glob("*/eval/split.json")
    volumes = json.loads(split.read_text())["folds"][0]["label_orders"][0]
    order = folder / "order.json"
    order.write_text(json.dumps({"chosen": volumes}))
    where = {"output_dir": str(folder / "out"), "ckpt_dir": str(folder / "models"), "label_order_path": str(order)}
    run_bundle(chain, UNET, "train", phantom, **SMALL[UNET], **where)
    return {**SMALL[UNET], **where}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"val_interval": 2}, "val_interval 1 / 2)"),
        ({"threads": 2, "num_workers": 1, "precision": "fp32", "checkpoint_seconds": 5}, None),
        ({"train::trainer::max_epochs": 7}, "epochs 2 / 7, "),
        ({"train::sampler::replacement": False}, "configuration of train "),
    ],
)
def test_what_distinguishes_two_runs(
    changes: dict[str, Any], difference: str | None, trained: dict[str, Any], chain: Path, phantom: Path
) -> None:
    """The weights that are kept are the best of those that were validated, so that val_interval has a say."""
    if difference is None:
        run_bundle(chain, UNET, "train", phantom, **{**trained, **changes})
    else:
        with refused() as message:
            run_bundle(chain, UNET, "train", phantom, **{**trained, **changes})
        assert f"differs in {difference}" in message[0]


def test_another_order_of_labels_is_another_run(trained: dict[str, Any], chain: Path, phantom: Path) -> None:
    """The file counts by its content, not by its name."""
    path = Path(trained["label_order_path"])
    before = path.read_text()
    path.write_text(json.dumps({"chosen": json.loads(before)["chosen"][::-1]}))
    with refused() as message:
        run_bundle(chain, UNET, "train", phantom, **trained)
    assert "differs in label_order " in message[0]
    path.write_text(before)


def test_masks_of_a_shape_count_by_their_content_and_not_by_their_folder(tmp_path: Path) -> None:
    masks, known = [], []
    for name, width in (("a", 5), ("b", 5), ("c", 9)):
        pixels = np.zeros((32, 32), np.uint8)
        pixels[:, :width] = 255
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "mask.png")
        keys = {**SMALL[CONTRASTIVE], "shape_dir": str(tmp_path / name), "structure_dir": str(tmp_path / name)}
        parser = merged(CONTRASTIVE, "train", *laid_over("shape_prior"), **keys)
        masks.append(parser.get_parsed_content("run_record::resolved::shape_masks"))
        known.append((settings_of(parser.config), sections_of(parser.config)))
    assert masks[0] == masks[1] != masks[2]
    assert known[0] == known[1] == known[2]


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return value + 1 if isinstance(value, int | float) else [0.123]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("config", ["train", "inference"])
def test_every_key_has_a_say_but_for_a_short_list(name: str, config: str) -> None:
    """Also a key that is added tomorrow; only paths, and what changes how a run computes but not what, is left out."""
    path = ROOT / "bundles" / name / "configs" / f"{config}.json"
    content = json.loads(path.read_text())
    known = settings_of(content), sections_of(content)
    keys = list(content)
    for key in keys[keys.index("bundle_root") : keys.index("device") + 1]:
        changed = {**content, key: another(content[key])}
        same = (settings_of(changed), sections_of(changed)) == known
        assert same == (key in WITHOUT_A_SAY or key.endswith("_path")), key


def test_a_tracking_store_has_no_say() -> None:
    config = {"run": ["$@handlers"], "handlers": [{"_target_": "Own"}], "uri": "here"}
    tracker = {"_target_": "MLFlowHandler", "tracking_uri": "@uri"}
    tracked = {**config, "handlers": [{"_target_": "Own"}, tracker]}
    assert sections_of(tracked) == sections_of(config)
    assert settings_of(tracked) == {}


@pytest.mark.usefixtures("warm")
def test_a_configuration_is_found_by_whoever_evaluates_it(tmp_path: Path) -> None:
    """By MONAI's command line with an args_file, and by its Python functions."""
    with refused() as message:
        configuration()
    assert "for expressions" in message[0]
    written = "$Path(@output_dir).write_text(str(base.configuration()['epochs']))"
    imports = ["$from pathlib import Path", "$import ufc_monai.base as base"]
    config = {"imports": imports, "output_dir": str(tmp_path / "found")}
    path = tmp_path / "bundle" / "configs" / "train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**config, "epochs": 1, "initialize": [written], "run": [written]}))
    arguments = tmp_path / "args.json"
    arguments.write_text(json.dumps({"config_file": str(path), "epochs": 3}))
    words = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--args_file", str(arguments)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found").read_text() == "3"
    parser = ConfigParser({**config, "epochs": 5, "found": {"nested": [written]}})
    parser.get_parsed_content("found::nested")
    assert (tmp_path / "found").read_text() == "5"
