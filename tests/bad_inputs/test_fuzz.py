from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import OTHER, REFUSED, SAME, damaged, digest, tried
from fuzz_files import nifti

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="reads each file in a process of its own")
def test_a_damaged_file_is_an_error_or_the_same() -> None:
    """Some of what ``make fuzz`` does."""
    path = os.pathsep.join([str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "fuzz.py"), "--changes", "136", "--seed", "1"]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_no_bit_of_a_compressed_volume_changes_it_in_silence(tmp_path: Path) -> None:
    path, read = nifti("a.nii.gz")(tmp_path)
    sound, written, drawn = digest(read()), path.read_bytes(), random.Random(0)
    found = set()
    for i in range(80):
        path.write_bytes(damaged(written, i % 8 == 0, drawn))
        found.add(tried(read, sound)[0])
    assert found - {SAME} == {REFUSED}, OTHER
