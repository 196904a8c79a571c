"""How much longer does ``run`` take beside a busy process?

    python benchmarks/beside.py [--dataset_dir DIR] [--steps 30] [--rounds 3] [--spinning True]

All of it stays on the first two cores that there are. A small ``run`` with the cpu preset and threads as they are by
default is done with them free and beside a process that counts, in turn; with ``--spinning``, also beside it and with
OpenMP threads that spin while they wait, as they do if nobody says otherwise. Prints medians of the seconds from the
command's start to its end, and a RESULT line: ``beside`` is the ratio to the free cores (aim: 2 at most). Without
``--dataset_dir`` synthetic patients are made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ufc_monai.base.bundles import BUNDLES

ROOT = Path(__file__).parents[1]
CORES = 2
SPINS = {"GOMP_SPINCOUNT": "300000"}
"""What GNU's OpenMP, PyTorch's on Linux, does by itself."""
FREE, BESIDE, SPINNING = "free", "beside", "spinning"


@contextlib.contextmanager
def busy(work: bool) -> Iterator[None]:
    """A process that counts, if there is to be one."""
    if not work:
        yield
        return
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as counting:
        try:
            yield
        finally:
            counting.kill()


def seconds(data: Path, folder: Path, steps: int, arm: str) -> float:
    """Seconds that a run takes."""
    words = ["run", "--dataset_dir", data, "--folder", folder, "--preset", "cpu", "--labelled", "2"]
    words += ["--bundles", ROOT / "bundles"]
    for bundle in BUNDLES:
        words += ["--set", f"{bundle}.epochs=1", "--set", f"{bundle}.min_steps={steps}"]
    command = [sys.executable, "-m", "ufc_monai", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(SPINS if arm == SPINNING else {})}
    with busy(arm != FREE):
        began = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a run failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def main() -> None:
    """Measure in turns; print medians and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spinning", type=lambda text: text == "True", default=False)
    a = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    arms = [FREE, BESIDE, *([SPINNING] if a.spinning else [])]
    found: dict[str, list[float]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as place:
        if not (data := a.dataset_dir):
            from ufc_monai.phantom.ct import make_phantom

            data = Path(place, "phantom")
            make_phantom(data, patients=8, labelled=6, matrix=128)
        for n in range(a.rounds):
            for arm in arms:
                found[arm].append(seconds(data.resolve(), Path(place, f"{arm}{n}"), a.steps, arm))
                print(f"round {n + 1}, {arm}: {found[arm][-1]:.1f} s", flush=True)
    free = median(found[FREE])
    for arm, taken in found.items():
        print(f"{arm:<10} {median(taken):7.1f} s, {median(taken) / free:.2f} of free")
    print("RESULT", f"free_s={free:.1f}", *(f"{arm}={median(found[arm]) / free:.2f}" for arm in arms[1:]))


if __name__ == "__main__":
    main()
