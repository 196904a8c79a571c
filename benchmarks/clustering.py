"""Ward's tree by the package, scikit-learn, SciPy and fastcluster: time, memory, and whether the cuts are the same.

    python benchmarks/clustering.py [--n 5000 20000 45141] [--d 256] [--repeats 3] [--peers sklearn ...] [--device cpu]

Features are seeded, float32: overlapping groups of several sizes with a falling spectrum, as an encoder's are. 45,141
is the paper's ISIC pool. Each method runs in a process of its own, in turn, and the median of its repetitions counts;
imports and the making of the features do not. Memory is the largest resident memory without mapped pages (``RssAnon``),
sampled twenty times a second; imports and the features count, their making does not. ``--peers`` chooses some; those
that are not installed or run out of memory are named and left out. Ratios are the package's share of a peer's; the ARI
compares the cuts into 20 clusters. Needs Linux.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_CLUSTERS = 20
PEERS = ("sklearn", "scipy", "fastcluster")


def make_features(n: int, d: int) -> NDArray[np.float32]:
    """See above."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, d + 1) ** -0.5
    group = rng.choice(50, size=n, p=rng.dirichlet(np.ones(50)))
    return ((rng.normal(size=(50, d))[group] + rng.normal(size=(n, d))) * spectrum).astype(np.float32)


def method_of(name: str, device: str) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """From features to a linkage matrix or, from scikit-learn, labels."""
    if name == "package":
        import torch

        from ufc_monai.clustering.reciprocal import ward_linkage

        return lambda features: ward_linkage(torch.from_numpy(features).to(device))
    if name == "sklearn":
        from sklearn.cluster import AgglomerativeClustering

        return lambda features: AgglomerativeClustering(N_CLUSTERS, linkage="ward").fit_predict(features)
    if name == "scipy":
        from scipy.cluster.hierarchy import linkage

        return lambda features: linkage(features, method="ward")
    from fastcluster import linkage_vector

    return lambda features: linkage_vector(features, method="ward")


def child(name: str, n: int, d: int, device: str, out: Path) -> None:
    """Run one method once and write what came out."""
    method, features = method_of(name, device), make_features(n, d)
    method(features[:50])
    print("ready", flush=True)  # from here on the parent looks at the memory
    start = time.perf_counter()
    found = method(features)
    seconds = time.perf_counter() - start
    np.savez(out, found=found, seconds=seconds)


def measure(name: str, n: int, d: int, device: str) -> tuple[float, float, NDArray[Any]] | None:
    """Seconds, peak memory in GB, and what came out, of one run; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.npz")
        words = [sys.executable, __file__, "--child", name, "--n", str(n), "--d", str(d), "--device", device]
        pipe = subprocess.PIPE
        process = subprocess.Popen([*words, "--out", str(out)], stdout=pipe, stderr=pipe, text=True)
        peak = 0
        while process.stdout and process.stdout.readline().strip() not in ("ready", ""):
            pass
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            if found := re.search(r"RssAnon:\s+(\d+) kB", status):
                peak = max(peak, int(found[1]))
            time.sleep(0.05)
        errors = process.communicate()[1].strip().splitlines()
        if process.returncode:
            print(f"n = {n}: {name} failed: {errors[-1] if errors else f'signal {-process.returncode}'}", flush=True)
            return None
        with np.load(out) as file:
            return float(file["seconds"]), peak / 1e6, file["found"]


def compare(names: list[str], n: int, d: int, repeats: int, device: str) -> str:
    """Measure all methods at one size; the part of the RESULT line."""
    from sklearn.metrics import adjusted_rand_score

    from ufc_monai.clustering.clusterers import cut_tree

    runs: dict[str, list[tuple[float, float, NDArray[Any]]]] = {}
    for _ in range(repeats):
        for name in names:
            if (run := measure(name, n, d, device)) is not None:
                runs.setdefault(name, []).append(run)
    seconds = {name: median(run[0] for run in found) for name, found in runs.items()}
    memory = {name: max(run[1] for run in found) for name, found in runs.items()}
    labels = {name: found[0][2] for name, found in runs.items()}
    labels = {name: cut_tree(found, N_CLUSTERS) if found.ndim == 2 else found for name, found in labels.items()}
    result = []
    for name in runs:
        same = adjusted_rand_score(labels["package"], labels[name])
        line = f"n = {n}: {name} {seconds[name]:.2f} s, {memory[name]:.2f} GB, ARI with the package's cut {same:.3f}"
        print(line, flush=True)
        result.append(f"n{n}_{name}_s={seconds[name]:.2f} n{n}_{name}_gb={memory[name]:.2f} n{n}_{name}_ari={same:.4f}")
    for peer in [name for name in runs if name != "package"]:
        time_ratio, memory_ratio = (of["package"] / of[peer] for of in (seconds, memory))
        print(f"n = {n}: {time_ratio:.3f} of {peer}'s time, {memory_ratio:.3f} of its memory", flush=True)
        result.append(f"n{n}_{peer}_time_ratio={time_ratio:.3f} n{n}_{peer}_memory_ratio={memory_ratio:.3f}")
    return " ".join(result)


def main() -> None:
    """Compare at each size and print one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[5_000, 20_000, 45_141])
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.n[0], options.d, options.device, options.out)
        return
    names = ["package", *options.peers]
    for name in options.peers:
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed and left out")
            names.remove(name)
    parts = [compare(names, n, options.d, options.repeats, options.device) for n in options.n]
    print("RESULT " + " ".join(parts))


if __name__ == "__main__":
    main()
