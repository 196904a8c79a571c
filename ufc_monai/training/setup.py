"""What every bundle does first."""

from __future__ import annotations

import sys

import torch
from monai.utils import set_determinism

from ufc_monai.base.console import readable_errors
from ufc_monai.base.merged import configuration, is_plain
from ufc_monai.checks.overrides import check_overrides
from ufc_monai.checks.settings import check_settings
from ufc_monai.training.compute import check_device, set_threads


def prepare(device: torch.device | str, threads: int | None = None, seed: int | None = None) -> None:
    """Check the keys and numbers of the configuration that calls this, and set up the process for it.

    Args:
        device: where to compute.
        threads: PyTorch's threads on the CPU; ``None`` keeps its own choice.
        seed: of all random numbers, which also makes the computation deterministic; ``None`` leaves both.

    Raises:
        InputError: at a key that nothing reads, a number that cannot be, or a device that is not here.
    """
    readable_errors()
    check_overrides(sys.argv)
    check_settings({key: value for key, value in configuration().items() if is_plain(value)})
    check_device(device)
    set_threads(threads)
    if seed is not None:
        set_determinism(seed=seed)
