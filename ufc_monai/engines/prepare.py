"""What every bundle does first."""

from __future__ import annotations

import sys

import torch
from monai.utils import set_determinism

from ufc_monai.engines.compute import check_device, set_threads
from ufc_monai.engines.configuration import configuration, settings_of
from ufc_monai.engines.console import readable_errors
from ufc_monai.engines.overrides import check_overrides
from ufc_monai.engines.settings import check_settings

__all__ = ["prepare"]


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
    check_settings(settings_of(configuration()))
    check_device(device)
    set_threads(threads)
    if seed is not None:
        set_determinism(seed=seed)
