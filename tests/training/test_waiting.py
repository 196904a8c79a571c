"""No step of a training reads a number from the device: a GPU would be waited for."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NAMES, SMALL, copy_bundles, run_bundle
from ignite.engine import Engine, Events
from torch import Tensor

from ufc_monai.training.checkpoint import TrainingCheckpoint
from ufc_monai.training.guard import LossGuard
from ufc_monai.transforms import batch
from ufc_monai.transforms.batch import BatchAugment

READING = {
    *("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__"),
    *("nonzero", "masked_select", "bincount", "unique", "unique_consecutive", "equal", "allclose"),
}
"""What cannot return before a GPU has computed."""


class OnDevice(Tensor):
    """As if it lay on a GPU: so does everything that is computed with it, and reading it is noted."""

    watched = False
    steps = 0
    found: list[str] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        leaves = name == "to" and "cpu" in [value for value in args[1:] if isinstance(value, str)]
        waits = name in READING or _chooses(name, args) or (leaves and not kwargs.get("non_blocking"))
        if OnDevice.watched and waits:
            OnDevice.found += [name, *traceback.format_stack(limit=4)[:-1]]
        result = super().__torch_function__(func, tuple(types), tuple(args), kwargs)  # type: ignore[no-untyped-call]
        return result.as_subclass(Tensor) if leaves else result


def _chooses(name: str, args: Sequence[Any]) -> bool:
    """Whether it is an index by a mask, whose length nobody knows before."""
    masks = args[1] if isinstance(args[1] if len(args) > 1 else None, tuple) else args[1:2]
    return name == "__getitem__" and any(isinstance(m, Tensor) and m.dtype == torch.bool for m in masks)


class Watch:
    """Listed first: puts batches on the device, and looks until the end of the epoch, where figures may be read."""

    def attach(self, engine: Engine) -> None:
        prepare = engine.prepare_batch
        transform = prepare.transform or dict

        def moved(batch: Mapping[str, Tensor]) -> Any:
            return transform({key: value.as_subclass(OnDevice) for key, value in batch.items()})

        prepare.transform = moved
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda: setattr(OnDevice, "steps", OnDevice.steps + OnDevice.watched)
        )
        # behind the first step, pictures are drawn
        engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: setattr(OnDevice, "watched", True))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: setattr(OnDevice, "watched", False))


def test_what_is_noted() -> None:
    OnDevice.watched, OnDevice.found = True, []
    x = torch.ones(3).as_subclass(OnDevice) * 2
    assert isinstance((x @ torch.ones(3, 2)).sum(), OnDevice)
    assert not OnDevice.found
    for read in (lambda: float(x[0]), lambda: bool(x.any()), lambda: x[x > 1], lambda: x.tolist(), lambda: x.cpu()):
        read()
        assert OnDevice.found
        OnDevice.found = []
    assert type(x.to("cpu", non_blocking=True)) is Tensor
    OnDevice.watched = False


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training is watched, and looks at its losses as on a GPU."""
    attach = TrainingCheckpoint.attach

    def attach_both(self: TrainingCheckpoint, engine: Engine) -> None:
        Watch().attach(engine)
        attach(self, engine)

    monkeypatch.setattr(TrainingCheckpoint, "attach", attach_both)
    monkeypatch.setattr(LossGuard.__init__, "__defaults__", (True,))
    monkeypatch.setattr(batch, "_beside", lambda values, image: values.as_subclass(type(image)))
    OnDevice.found, OnDevice.steps = [], 0


@pytest.mark.parametrize(
    ("name", "method"), [(NAMES[0], ""), (NAMES[1], "+simclr"), (NAMES[1], "+moco"), (NAMES[2], "")]
)
@pytest.mark.usefixtures("watching")
def test_a_step_reads_nothing(name: str, method: str, phantom: Path, tmp_path: Path) -> None:
    keys = {NAMES[1]: {"pseudo_labels_path": "none"}, NAMES[2]: {"pretrained_path": "none"}}.get(name, {})
    small = {**SMALL[name], "epochs": 1, "batch_size": 16}
    run_bundle(copy_bundles(tmp_path), name, f"train{method}", phantom, **small, **keys)
    assert OnDevice.steps >= 1
    assert not OnDevice.found, "".join(OnDevice.found)


@pytest.mark.usefixtures("watching")
def test_colours_read_nothing() -> None:
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).as_subclass(OnDevice)
    augment = BatchAugment(rotation=20, field=(0.5, 1), shift=None, blur=0.5, solarise=0.5, hue=0.1, grey=0.5)
    OnDevice.watched = True
    result, _ = augment(image)
    OnDevice.watched = False
    assert isinstance(result, OnDevice)
    assert not OnDevice.found, "".join(OnDevice.found)
