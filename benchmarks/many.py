"""Time and memory of what surrounds training, from 1,000 slices to a million, and how fast both grow.

    python benchmarks/many.py [--slices 1000 10000 100000 1000000] [--folder DIR] [--steps check build ...] [--d 32]

Makes volumes of 100 slices of 8 x 8 pixels, 20 of them with labels, then runs each step in a process of its own, the
later ones on what the earlier ones have left:

- ``check``: the command, with a preset for a CPU;
- ``split``: drawing the split, which each stage opens first;
- ``build``, ``open``: the slice store, made and found again; ``write``, which has to be asked for in the place of
  ``build``, makes the same entries without pixels, at once;
- ``order``: an epoch's order by PyTorch's sampler and by ``PartitionSampler``, and all positions and patients;
- ``lookup``: the pseudo-labels, read, checked against the data set and found for every slice;
- ``features``: ``features.npz``, written batch by batch;
- ``label``: tree, elbow, clusters, pictures and tables of these features (``--d`` dimensions), the tree of
  ``--landmarks`` slices at most;
- ``moved``: the share of the slices that change cluster when the tree's sample, a tenth of the slices, is another one,
  for as many clusters, matched one to one; and the ARI of both;
- ``report``: the page of such a run, with its size and its number of pictures.

Features are simulated: smooth along the body, with an offset and noise for each patient. Seconds are those of the
processor, of all threads together, without imports; ``clock_s`` in the RESULT line is the clock's. Memory is the
largest resident memory without mapped pages (``RssAnon``) above that after the imports, sampled fifty times a second.
An exponent is that between the two largest sizes. Needs Linux, and about 1 kB a slice on disk.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.transforms import Compose
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix
from torch.utils.data import RandomSampler

from ufc_monai.__main__ import main as command
from ufc_monai.artifacts.pseudo_label import PseudoLabeller
from ufc_monai.clustering.pipeline import ClusteringMethod, cluster_slices
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.commands import check as check_command  # noqa: F401  # imported now, not while it is measured
from ufc_monai.data.samplers import PartitionSampler
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.split_file import open_split
from ufc_monai.data.store import SliceStore, write_entry
from ufc_monai.data.store_key import key_of_volume
from ufc_monai.report.run import write_report
from ufc_monai.training.save import FeatureSaver
from ufc_monai.transforms.chain import slice_chain
from ufc_monai.transforms.volume import AxialSlicesd

DEPTH, LABELLED, BATCH = 100, 20, 128
BUNDLES = Path(__file__).parents[1] / "bundles"


def make_volumes(folder: Path, n: int) -> None:
    """Noise in a body in air; the first volumes with a label each."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for i in range(n):
        volume = np.random.default_rng(i).integers(-100, 200, (8, 8, DEPTH), dtype=np.int16)
        volume[[0, -1]], volume[:, [0, -1]] = -1000, -1000
        label = np.zeros(volume.shape, dtype=np.uint8)
        label[2:6, 2:6, 20 : 60 + i] = 1
        for part, array in (("imagesTr", volume), ("labelsTr", label))[: 1 + (i < LABELLED)]:
            image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.5, 1.0]))  # type: ignore[no-untyped-call]
            nib.save(image, folder / part / f"patient_{i:05d}.nii")


def make_features(n: int, d: int) -> NDArray[np.float32]:
    """A curve along the body, an offset for each patient, and noise."""
    rng = np.random.default_rng(0)
    levels, bends = (np.arange(DEPTH) + 0.5) / DEPTH, rng.normal(size=(2, 8, d))
    waves = np.arange(1, 9)[:, None] * np.pi * levels
    curve = np.sin(waves).T @ bends[0] + np.cos(waves).T @ bends[1]
    patients = rng.normal(size=(n // DEPTH, 1, d))
    noise = rng.standard_normal((n // DEPTH, DEPTH, d), dtype=np.float32)
    return (curve + patients + 2 * noise).reshape(n, d).astype(np.float32)


@contextmanager
def watched(result: dict[str, Any]) -> Iterator[None]:
    """Seconds of the clock and of the processor, and the growth of the memory, of the block."""

    def memory() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) if found else 0

    def look() -> None:
        while not done.wait(0.02):
            result["mb"] = max(result["mb"], (memory() - before) / 1e3)

    done, before = threading.Event(), memory()
    result["mb"] = 0.0
    watcher, began = threading.Thread(target=look, daemon=True), (time.process_time(), time.perf_counter())
    watcher.start()
    yield
    result |= {"s": time.process_time() - began[0], "clock_s": time.perf_counter() - began[1]}
    result["mb"] = max(result["mb"], (memory() - before) / 1e3)
    done.set()
    watcher.join()


class Steps:
    """What is measured, a method a step.

    Args:
        folder: of one size: ``data``, ``cache``, ``run``.
        n: slices.
        d: of the features.
        landmarks: slices that the tree is made of at most; ``None`` for the package's own limit.
    """

    def __init__(self, folder: Path, n: int, d: int, landmarks: int | None = None) -> None:
        self.folder, self.n, self.d, self.landmarks = folder, n, d, landmarks
        self.result = dict[str, Any]()
        self.data, self.inference = folder / "data", folder / "run" / "ufc_feature_vae" / "eval" / "inference"

    def check(self) -> None:
        """The command."""
        words = [self.data, "--preset", "cpu", "--labels", "{'organ': 1}", "--threads", "1"]
        with open(self.folder / "check.txt", "w") as said, redirect_stdout(said), watched(self.result):
            command(
                ["check", *map(str, words), "--output", str(self.folder / "preview.png"), "--bundles", str(BUNDLES)]
            )

    def split(self) -> None:
        """Draw the split."""
        with watched(self.result):
            open_split(self.folder / "split.json", self.data, 0).pretraining(0)

    def _stored(self) -> tuple[list[dict[str, str]], Compose]:
        files = [self.data / "imagesTr" / f"patient_{i:05d}.nii" for i in range(self.n // DEPTH)]
        how = {"image_size": 16, "window": [-250, 650], "region": None, "standardise": False}
        items = [{"image": str(file), "patient": file.stem} for file in files]
        return items, Compose(slice_chain(how, 1, self.data))

    def _opened(self) -> SliceDataset:
        return SliceDataset(*self._stored(), self.folder / "cache")

    def build(self) -> None:
        """Make the store."""
        items, steps = self._stored()
        with watched(self.result):
            SliceDataset(items, steps, self.folder / "cache")

    def write(self) -> None:
        """Write what building would leave, but for the pixels."""
        items, steps = self._stored()
        cut = next(i for i, step in enumerate(steps.transforms) if isinstance(step, AxialSlicesd))
        store, pixels = SliceStore(self.folder / "cache", steps.transforms[: cut + 1]), np.zeros((DEPTH, 1, 16, 16))
        with watched(self.result):
            for item in items:
                folder, name = store.folder / key_of_volume(item), Path(item["image"]).relative_to(self.data)
                folder.mkdir(parents=True)
                about = {"patient": item["patient"]}
                slices = [{"id": f"{name}#{i}", **about, "position": (i + 0.5) / DEPTH} for i in range(DEPTH)]
                write_entry(folder, slices, {"image": pixels.astype(np.float16)})

    def open(self) -> None:
        """Find the store."""
        self.build()

    def order(self) -> None:
        """Orders of an epoch, and columns."""
        dataset = self._opened()
        with watched(self.result):
            one = sum(RandomSampler(dataset, generator=torch.Generator().manual_seed(0)))
            parts = sum(1 for _ in PartitionSampler(dataset, 4, torch.Generator().manual_seed(0)))
            sum(item["position"] for item in dataset.items), len({item["patient"] for item in dataset.items})
        assert (one, parts) == (self.n * (self.n - 1) // 2, self.n)

    def lookup(self) -> None:
        """The cluster of every slice."""
        dataset, path = self._opened(), self.folder / "pseudo_labels.json"
        images = dataset.slices_per_image()
        PseudoLabels({image: list(range(10)) * (n // 10) for image, n in images.items()}, 10, {}).save(path)
        with watched(self.result):
            labels = PseudoLabels.load(path)
            labels.check_images(dataset.slices_per_image())
            found = labels.of_slices(item["id"] for item in dataset.items)
        assert sum(found) == 4.5 * self.n

    def features(self) -> None:
        """Stream features."""
        dataset, path = self._opened(), self.inference / "features.npz"
        names = list(dataset.slices_per_image())
        values = np.memmap(self.folder / "values.npy", np.float32, "w+", shape=(self.n, self.d))
        values[:] = make_features(self.n, self.d)
        self.inference.mkdir(parents=True, exist_ok=True)

        def step(engine: Engine, start: int) -> dict[str, Any]:
            rows = range(start, min(start + BATCH, self.n))
            engine.state.batch = {"id": [f"{names[i // DEPTH]}#{i % DEPTH}" for i in rows]}
            return {"pred": torch.from_numpy(np.array(values[rows.start : rows.stop]))}

        engine = Engine(step)
        FeatureSaver(path).attach(engine)
        with watched(self.result):
            engine.run(range(0, self.n, BATCH))
        (self.folder / "values.npy").unlink()

    def label(self) -> None:
        """Cluster and draw."""
        method = ClusteringMethod(max_slices_in_tree=self.landmarks)
        labeller = PseudoLabeller(self.inference, self._opened(), method, {"fold": 0})
        with watched(self.result):
            self.result["k"] = labeller.run()["n_clusters"]

    def moved(self) -> None:
        """Two samples compared."""
        features, patients = make_features(self.n, self.d), np.repeat(np.arange(self.n // DEPTH), DEPTH).astype(str)
        k, most = json.loads((self.inference / "pseudo_labels.json").read_text())["n_clusters"], self.n // 10
        with watched(self.result):
            one, other = (
                cluster_slices(features, patients, ClusteringMethod(n_clusters=k, max_slices_in_tree=most, seed=seed))
                for seed in (0, 1)
            )
        pairs = contingency_matrix(one.labels, other.labels)
        same = pairs[linear_sum_assignment(pairs, maximize=True)].sum()
        self.result["share"] = float(1 - same / self.n)
        self.result["ari"] = float(adjusted_rand_score(one.labels, other.labels))

    def report(self) -> None:
        """The page."""
        run, page = self.folder / "run", self.folder / "report.html"
        (self.inference / "run.json").write_text(json.dumps({"status": "complete", "seconds": 1, "started": "today"}))
        rows = [f"scan_{i}.nii,organ,{i / self.n:.3f}," for i in range(self.n // DEPTH)]
        quality = run / "ufc_unet_segmentation" / "eval" / "inference" / "quality.csv"
        quality.parent.mkdir(parents=True, exist_ok=True)
        quality.write_text("\n".join(["scan,structure,predicted_dice,note", *rows]))
        told = {"status": "complete", "results": {"quality": "simulated"}}
        quality.with_name("run.json").write_text(json.dumps(told))
        with watched(self.result):
            write_report(run, page)
        self.result |= {"page_mb": page.stat().st_size / 1e6, "pictures": page.read_text().count("<img ")}


STEPS = ("check", "split", "build", "write", "open", "order", "lookup", "features", "label", "moved", "report")
UNITS = {"s": "s", "mb": "MB"}


def measure(step: str, steps: Steps) -> dict[str, Any]:
    """Run one step in a process of its own, which shares the imports."""

    def run(there: Connection) -> None:
        getattr(steps, step)()
        there.send(steps.result)

    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=run, args=(there,))
    process.start()
    there.close()
    found: dict[str, Any] = here.recv()  # an EOFError where the step has failed and said why
    process.join()
    shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
    print(f"{steps.n} slices, {step}: {shown}", flush=True)
    return found


def exponent(sizes: list[int], values: list[float]) -> float:
    """Of the growth between the two largest sizes; NaN where there is one, or nothing to measure."""
    if len(sizes) < 2 or min(values[-2:]) <= 0:
        return math.nan
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def table(sizes: list[int], rows: dict[str, list[dict[str, Any]]]) -> str:
    """A line a step: time and memory at every size, and their exponents."""
    columns = [title for unit in UNITS.values() for title in (*(f"{n:,}, {unit}" for n in sizes), "exponent")]
    lines = ["| step | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for step, found in rows.items():
        cells = [step]
        for key in UNITS:
            values = [one[key] for one in found]
            cells += [*(f"{value:.3g}" for value in values), f"{exponent(sizes, values):.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all steps at each size; print a table and a RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the volumes go; they are removed; a temporary folder")
    parser.add_argument("--steps", nargs="+", default=[s for s in STEPS if s != "write"], choices=STEPS)
    parser.add_argument("--d", type=int, default=32)
    parser.add_argument("--landmarks", type=int, help="slices in the tree at most; by default as in the package")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: dict[str, list[dict[str, Any]]] = {step: [] for step in options.steps}
    for n in options.slices:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            make_volumes(folder / "data", n // DEPTH)
            for name in options.steps:
                rows[name].append(measure(name, Steps(folder, n, options.d, options.landmarks)))
        finally:
            shutil.rmtree(folder)
    print(table(options.slices, rows))
    parts = [
        f"{step}_n{n}_{key}={value:.4g}"
        for step, found in rows.items()
        for n, one in zip(options.slices, found, strict=True)
        for key, value in one.items()
    ]
    print("RESULT " + " ".join(parts))


if __name__ == "__main__":
    main()
