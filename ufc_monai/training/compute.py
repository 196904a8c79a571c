"""Threads and precision: fixed rules from what the machine has, never from a timing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.base.machine import multiplies_in_bf16

PRECISIONS = ("auto", "fp32", "bf16")


def set_threads(threads: int | None) -> int:
    """Set PyTorch's threads on the CPU.

    Args:
        threads: how many; ``None`` keeps PyTorch's own choice (one a core). Take 1 on a machine that others use too:
            two threads beside a busy process are several times slower than one.

    Returns:
        The number in force.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def device_of(keys: Mapping[str, Any]) -> str:
    """Set up a command that computes in its own process: its threads and its device, else a GPU or the CPU.

    Args:
        keys: ``threads`` and ``device``, as the command was given them.

    Raises:
        InputError: at a device that this machine does not have.
    """
    device = str(keys.get("device", "cuda:0" if torch.cuda.is_available() else "cpu"))
    check_device(device)
    set_threads(keys.get("threads"))
    return device


def check_device(device: torch.device | str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: naming the key ``device``.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"device: {device} cannot be used here ({reason}). Pass --device cpu.") from e


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """The precision to compute in.

    Args:
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 where the device multiplies in it
            (:func:`~ufc_monai.base.machine.multiplies_in_bf16`), else fp32.
        device: where the network is.

    Raises:
        InputError: at an unknown precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if precision != "auto":
        return precision
    return "bf16" if multiplies_in_bf16(device) else "fp32"


def slices_at_once(image_size: int, device: torch.device | str) -> int:
    """How many slices to segment at once: what a CPU's caches take, or what keeps a GPU busy.

    A CPU is quickest with as many as hold 65,536 pixels together, one of 256 x 256; more only miss its caches
    (docs/performance.md).

    Args:
        image_size: side of a slice, in pixels.
        device: where the network is.
    """
    pixels = 256**2 if torch.device(device).type == "cpu" else 16 * 256**2
    return max(1, pixels // image_size**2)


class AutocastInferer(Inferer):
    """Run an inferer under autocast and hand back float32.

    MONAI's trainer knows autocast on CUDA only; this one serves every device. The loss and its backward pass are
    outside, in float32.

    Args:
        precision: ``"fp32"`` or ``"bf16"``, as :func:`resolve_precision` gives it.
        inferer: the inferer to run; a plain forward pass by default.
    """

    def __init__(self, precision: str, inferer: Inferer | None = None) -> None:
        super().__init__()
        self.precision = precision
        self.inferer = inferer or SimpleInferer()

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Forward ``inputs`` through ``network``; the result may be a tensor or a tuple of tensors."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.inferer(inputs, network, *args, **kwargs)
        return tuple(part.float() for part in output) if isinstance(output, tuple) else output.float()
