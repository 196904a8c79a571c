"""What a device can do, by fixed rules from its features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def multiplies_in_bf16(device: torch.device | str) -> bool:
    """Whether bf16 is quicker there: a CUDA GPU of compute capability 8 or more, a CPU with AVX512-BF16 or AMX-BF16."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


@contextlib.contextmanager
def short_products(device: torch.device) -> Iterator[None]:
    """Let float32 products round what they multiply, to TF32 on a GPU and to bf16 on a CPU, where that is quicker."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for single backends, which is the user's choice
        before = ""
    if before != "highest" or not multiplies_in_bf16(device):
        yield
        return
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
