"""Slices a second of a stage's training, beside what the step alone allows and beside per-slice transforms.

    python benchmarks/throughput.py [--dataset_dir DIR] [--stage 2] [--preset cpu] [--image_size 128] [--device cpu]

Trainings take turns, each for ``--steps`` steps a round:

* ``bundle``: the bundle as it runs: slice store, loader, two views of a whole batch at once on the device, handlers;
* ``limit``: the same step again and again, on one batch that lies ready on the device, without augmentation;
* ``dictionary_0``, ``dictionary_2``, of stage 2: the bundle with MONAI's dictionary transforms in place of the batch's,
  twice for every slice, in the main process and in two workers, as is usual.

Without ``--dataset_dir`` synthetic patients are made. Handlers that write files are left out. Prints the medians over
the rounds and a RESULT line. ``--profile`` prints where the bundle's time goes instead.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    CopyItemsd,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ThresholdIntensityd,
)

from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE
from ufc_monai.phantom.ct import make_phantom

ROOT = Path(__file__).parents[1] / "bundles"
WARM_UP = 2
"""Steps at the start of a round that do not count."""
KEPT = ("LossGuard", "LrScheduleHandler", "LatentMonitor", "ContrastiveMonitor", "ProgressBar")
VIEWS = ("image", "second")


class Training:
    """A stage as its configurations describe it; stage 2 is SimCLR, which needs no clusters.

    Args:
        options: of the command line.
        folder: for the slice store.
        workers: ``None`` for the bundle's loader and views, a number for dictionary transforms in so many workers.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, workers: int | None = None) -> None:
        parser = ConfigParser()
        bundle = ROOT / BUNDLES[options.stage - 1]
        names = ["train", *(["cpu"] if options.preset == "cpu" else []), *(["simclr"] * (bundle.name == CONTRASTIVE))]
        parser.read_config([str(bundle / "configs" / f"{name}.json") for name in names])
        parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(options.dataset_dir)
        if "pretrained_path" in parser:
            parser["pretrained_path"] = "none"
        parser["precision"] = options.precision
        parser["cache_dir"], parser["split_path"] = str(folder / "cache"), str(folder / "split.json")
        parser["output_dir"], parser["image_size"] = str(folder), options.image_size
        parser["device"] = f"$torch.device('{options.device}')"
        parser["threads"] = options.threads
        handlers = [h for h in parser["train::handlers"] if isinstance(h, dict)]
        parser["train::handlers"] = [h for h in handlers if h["_target_"].rpartition(".")[2] in KEPT]
        if options.batch_size:
            parser["batch_size"] = options.batch_size
        parser.get_parsed_content("initialize")
        if workers is not None:
            slices = parser.get_parsed_content("train::dataset")
            parser["train::dataloader"] = _dictionary_loader(slices, parser["batch_size"], workers)
            parser["train::trainer::prepare_batch"] = _two_views
        self.trainer = parser.get_parsed_content("train::trainer")
        if options.compile:
            self.trainer.network = torch.compile(self.trainer.network)
        self.batch_size, self.steps = parser["batch_size"], options.steps
        self.device = torch.device(options.device)

    def run(self) -> float:
        """Slices a second of one round."""
        times: list[float] = []
        with self.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: times.append(self._now())):
            self.trainer.state.max_epochs = None  # begin anew; MONAI's own run would take the loader's length
            Engine.run(self.trainer, self.trainer.data_loader, max_epochs=1, epoch_length=self.steps)
        return (len(times) - WARM_UP) * self.batch_size / (times[-1] - times[WARM_UP - 1])

    def limit(self, steps: int) -> float:
        """Slices a second of the step alone."""
        t = self.trainer
        image, target = t.prepare_batch(next(iter(t.data_loader)), self.device, non_blocking=False)
        t.network.train()
        times = []
        for _ in range(steps):
            t.optimizer.zero_grad(set_to_none=True)
            t.loss_function(t.inferer(image, t.network), target).backward()
            t.optimizer.step()
            times.append(self._now())
        return (steps - WARM_UP) * self.batch_size / (times[-1] - times[WARM_UP - 1])

    def _now(self) -> float:
        """The clock; a GPU is not waited for, but over many steps it sets the pace."""
        return time.perf_counter()


def _dictionary_loader(slices: Any, batch_size: int, workers: int) -> DataLoader:
    """Per-slice views with about the parameters of the bundle's, from transforms of MONAI."""
    steps: list[Any] = [CopyItemsd("image", names="second")]
    for key in VIEWS:
        steps += [
            RandAffined(key, prob=1, rotate_range=0.35, scale_range=0.3, translate_range=20, padding_mode="zeros"),
            RandGaussianSmoothd(key, sigma_x=(0.5, 1.5), sigma_y=(0.5, 1.5), prob=0.5),
            RandAdjustContrastd(key, gamma=(0.6, 1.6), prob=1),
            RandScaleIntensityd(key, factors=0.4, prob=1),
            RandShiftIntensityd(key, offsets=0.2, prob=1),
            RandGaussianNoised(key, std=0.08, prob=1),
            ThresholdIntensityd(key, 0.0, above=True, cval=0.0),
            ThresholdIntensityd(key, 1.0, above=False, cval=1.0),
        ]
    data = Dataset(slices, Compose(steps))
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=workers)


def _two_views(batch: Mapping[str, Any], device: torch.device, non_blocking: bool = False) -> tuple[Any, Any]:
    image = torch.cat([batch[key].to(device, non_blocking=non_blocking) for key in VIEWS])
    target = torch.as_tensor(batch["cluster"]).to(device, non_blocking=non_blocking)
    return image.as_tensor(), torch.cat([target, target])


def main() -> None:
    """Measure in turns and print the medians, the ratios and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path)
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"--steps must be more than {WARM_UP}, for the first {WARM_UP} of a round do not count")
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.dataset_dir is None:
            options.dataset_dir = folder / "phantom"
            make_phantom(options.dataset_dir, patients=8, matrix=256)
        ours = Training(options, folder)
        if options.profile:
            return _profile(ours)
        usual = {f"dictionary_{n}": Training(options, folder, n) for n in (0, 2) if options.stage == 2}
        found: dict[str, list[float]] = {name: [] for name in ("bundle", "limit", *usual)}
        for _ in range(options.rounds):
            found["bundle"].append(ours.run())
            found["limit"].append(ours.limit(options.steps))
            for name, training in usual.items():
                found[name].append(training.run())
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    for name, rate in medians.items():
        print(f"{name:<13} {rate:8.1f} slices/s   bundle / {name}: {medians['bundle'] / rate:.2f}")
    print("RESULT " + " ".join(f"{name}={rate:.2f}" for name, rate in medians.items()))


def _profile(training: Training) -> None:
    with torch.profiler.profile() as profile:
        training.run()
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


if __name__ == "__main__":
    main()
