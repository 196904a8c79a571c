from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAMES, run_bundle

from ufc_monai.__main__ import main
from ufc_monai.base.lock import at_work
from ufc_monai.clustering.pseudo_labels import PseudoLabels


@pytest.mark.parametrize("inside", ["", NAMES[0], f"{NAMES[0]}/eval/inference"])
def test_another_number_of_clusters(chain: Path, tmp_path: Path, inside: str) -> None:
    place = tmp_path / NAMES[0] / "eval" / "inference"
    shutil.copytree(chain / NAMES[0] / "eval" / "inference", place)
    assert main(["cut", "--k", "6", "--folder", str(tmp_path / inside)]) == 0
    assert PseudoLabels.load(place / "pseudo_labels_k6.json").n_clusters == 6
    assert PseudoLabels.load(place / "pseudo_labels.json").n_clusters == 4


def test_nothing_is_cut_while_a_run_is_at_work(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / NAMES[0] / "eval" / "inference"
    shutil.copytree(chain / NAMES[0] / "eval" / "inference", place)
    with at_work(tmp_path / "run.lock"):
        assert main(["cut", "--k", "6", "--folder", str(tmp_path)]) == 1
    assert "is in use" in capsys.readouterr().err
    assert not (place / "pseudo_labels_k6.json").exists()


def test_clusters_without_a_tree_are_not_cut(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_bundle(chain, NAMES[0], "inference", phantom, clustering="kmeans", n_clusters=5, output_dir=str(tmp_path))
    assert main(["cut", "--k", "6", "--folder", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "clusters by k-means, seed 0, which leaves no tree to cut" in error


@pytest.mark.parametrize("command", ["cut", "phantom"])
def test_what_is_quick_needs_neither_torch_nor_monai(command: str) -> None:
    modules = f"ufc_monai.__main__, ufc_monai.commands.{command}"
    code = f"import sys, {modules}; print({{'torch', 'monai'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_errors(tmp_path: Path, chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cut", "--k", "6", "--folder", str(tmp_path)]) == 1
    assert "Run stage 1 first" in capsys.readouterr().err
    assert main(["cut", "--k", "1", "--folder", str(chain)]) == 1
    assert "--k must be 2 to " in capsys.readouterr().err
    assert main(["cut", "--k", "100000", "--folder", str(chain)]) == 1
    assert "error: --k must be 2 to " in capsys.readouterr().err
