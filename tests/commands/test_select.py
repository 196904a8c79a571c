"""Which volumes to label first, on the phantom."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL
from PIL import Image

from ufc_monai.__main__ import main
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.phantom.ct import make_phantom


def arguments(data: Path, folder: Path, budget: int) -> list[str]:
    words = ["select", "--dataset_dir", str(data), "--folder", str(folder), "--budget", str(budget)]
    words += ["--preset", "cpu", "--threads", "1", "--bundles", str(ROOT / "bundles")]
    for key, value in SMALL[NAMES[0]].items():
        if key != "threads":
            words += ["--set", f"{NAMES[0]}.{key}={value!r}"]
    return words


@pytest.mark.usefixtures("warm")
def test_volumes_without_labels_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    make_phantom(data, patients=7, labelled=1, matrix=40)
    with caplog.at_level("INFO"):
        assert main(arguments(data, folder, 3)) == 0
    found = json.loads((folder / "selection.json").read_text())
    clusters = PseudoLabels.load(folder / NAMES[0] / "eval" / "inference" / "pseudo_labels.json").clusters
    assert len(set(found["chosen"])) == 3
    assert len(found["labelled_before"]) == 1
    assert {*found["chosen"], *found["labelled_before"]} <= clusters.keys()
    assert not {*found["chosen"]} & {*found["labelled_before"]}
    assert np.all(np.diff([0.0, *found["covered"]]) >= 0)
    assert all(image in caplog.text for image in found["chosen"])
    with Image.open(folder / "selection.png") as picture:
        assert np.asarray(picture).std() > 0
    assert not (folder / NAMES[1] / "models").exists()  # stage 2 is not needed
    caplog.clear()
    with caplog.at_level("INFO"):
        assert main(arguments(data, folder, 2)) == 0
    assert caplog.text.count("(complete, skipped)") == 2
    assert json.loads((folder / "selection.json").read_text())["chosen"] == found["chosen"][:2]
    assert main(arguments(data, folder, 7)) == 1
    assert capsys.readouterr().err.startswith("error: --budget must be 1 to 6, the volumes without labels in")
