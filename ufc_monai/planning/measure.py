"""The time and the memory of one training step, from real ones on random slices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from monai.data import list_data_collate
from monai.transforms import Compose
from torch import Tensor

from ufc_monai.base.errors import unwrapped
from ufc_monai.base.machine import PROCESS_BYTES, refuse_too_little
from ufc_monai.transforms.volume import AxialSlicesd

LONGEST_STEP = 1.0
"""Seconds; a batch that would take longer is measured in part."""
PATIENCE = 3.0
"""Seconds of measuring, a stage."""
BYTES_PER_WEIGHT = 16
"""Weight, gradient and AdamW's two moments in float32."""
SECOND = {"assignment"}
"""Trainings that follow that of ``train``, for as many steps again: of prototypes."""
WITHOUT_FILES = {
    "pseudo_labels": None,
    "crop_region": None,
    "class_counts": "$torch.ones(@n_classes)",
    "queue_size": "@batch_size",
    "prototypes": "$torch.zeros(20, @latent_size)",
}
"""What the configurations would read from files, and what measuring takes instead."""


class Measured(NamedTuple):
    """What one whole batch takes.

    Attributes:
        step: seconds of a training step.
        forward: seconds of loading one slice and passing it through the network.
        memory: bytes of the process.
    """

    step: float
    forward: float
    memory: int


def measure_step(parser: ConfigParser) -> Measured:
    """Measure a training step.

    Args:
        parser: the configuration that a run will train with; the files that it reads are not there yet, and what it
            takes from them is replaced.

    Raises:
        InputError: if the configuration does not fit, or a batch surely needs more memory than there is.
    """
    for key, value in WITHOUT_FILES.items():
        if key in parser:
            parser[key] = value
    with unwrapped(), torch.random.fork_rng():
        measured = _Step(parser).measure()
        for part in SECOND & {*parser.config}:
            measured = measured._replace(step=measured.step + _Step(parser, part).measure().step)
        return measured


class _Step:
    """A training step as a configuration describes it, on random slices."""

    def __init__(self, parser: ConfigParser, part: str = "train") -> None:
        self.parser, self.parsed = parser, parser.get_parsed_content
        trainer = f"{part}::trainer"
        self.network, self.loss, self.optimizer, self.inferer, self.prepare = (
            self.parsed(f"{trainer}::{key}")
            for key in ("network", "loss_function", "optimizer", "inferer", "prepare_batch")
        )
        self.loader: str = parser[f"{trainer}::train_data_loader"].removeprefix("@")
        self.device, self.batch_size = torch.device(self.parsed("device")), self.parsed("batch_size")
        self.loss.to(self.device)

    def measure(self) -> Measured:
        began = time.monotonic()
        batch = self.batch()
        loading = time.monotonic() - began
        if self.device.type == "cpu":  # native code that finds no memory may end the program without a word
            refuse_too_little(self.memory(batch, 2, self.batch_size / 2))
        self.seconds(batch, 2)
        times, n = [self.seconds(batch, 2)], min(2, self.batch_size)
        if times[0] < LONGEST_STEP:
            n = min(self.batch_size, int(2 * LONGEST_STEP / times[0]))
            self.seconds(batch, n)
            times = [self.seconds(batch, n)]
        while len(times) < 3 and time.monotonic() - began < PATIENCE:
            times.append(self.seconds(batch, n))
        share = self.batch_size / n
        began = time.monotonic()
        memory = self.memory(batch, n, share)
        forward = (time.monotonic() - began) / self.passed  # a batch may hold several views of a slice
        return Measured(loading + share * statistics.median(times), loading / self.batch_size + forward, memory)

    def batch(self) -> dict[str, Any]:
        """A batch as the loader makes it from the slice store."""
        dataset = self.parser[f"{self.loader}::dataset"].removeprefix("@")
        dataset = self.parser.get(f"{dataset}::labelled", dataset).removeprefix("@")  # of two kinds of slices
        steps = self.parsed(f"{dataset}::transform").flatten().transforms
        cut = next(i for i, step in enumerate(steps) if isinstance(step, AxialSlicesd))
        size, channels, b = self.parsed("image_size"), self.parsed("channels"), self.batch_size
        generator = torch.Generator().manual_seed(0)
        classes = self.parsed("n_classes") if "n_classes" in self.parser else 1
        image = torch.rand(b, channels, size, size, generator=generator).half()
        label = torch.randint(classes, (b, 1, size, size), generator=generator).byte()
        behind = Compose(steps[cut + 1 :])
        slices = enumerate(zip(image, label, strict=True))
        samples = [behind({"image": x, "label": y, "id": f"#{i}", "position": i / b}) for i, (x, y) in slices]
        return {**list_data_collate(samples), "cluster": torch.randint(20, (b,), generator=generator)}

    def forward(self, batch: Mapping[str, Any], n: int) -> Any:
        """The loss of the first ``n`` slices of a batch."""
        image, target = self.prepare({key: x[:n] for key, x in batch.items()}, self.device)
        self.passed = len(image)
        return self.loss(self.inferer(image, self.network), target)

    def seconds(self, batch: Mapping[str, Any], n: int) -> float:
        """How long a step on the first ``n`` slices of a batch takes."""
        began = time.monotonic()
        loss = self.forward(batch, n)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()  # waits for a GPU
        return time.monotonic() - began

    def memory(self, batch: Mapping[str, Any], n: int, share: float) -> int:
        """Bytes for a whole batch: programs, weights, and what the graph keeps for the backward pass."""
        kept: dict[int, int] = {}
        weights: dict[int, int] = {p.untyped_storage().data_ptr(): p.numel() for p in self.network.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            graph = self.forward(batch, n)  # held, so that no storage is counted as another's
        graph.item()
        of_slices = sum(size for place, size in kept.items() if place not in weights)
        return PROCESS_BYTES + BYTES_PER_WEIGHT * sum(weights.values()) + round(share * of_slices)
