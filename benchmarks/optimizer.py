"""Processor time of AdamW's step in PyTorch's three ways, for the networks of stages 1 and 3.

    python benchmarks/optimizer.py [--rounds 10] [--steps 5] [--threads 1]

Gradients are random and stay; the three take turns, and medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch import nn

from ufc_monai.base.bundles import UNET, VAE

BUNDLES = Path(__file__).parents[1] / "bundles"
WAYS = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def network_of(bundle: str, preset: str) -> nn.Module:
    """The network that a bundle trains, without any data."""
    parser = ConfigParser()
    names = ("train", "cpu") if preset == "cpu" else ("train",)
    parser.read_config([str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names])
    if bundle == UNET:
        parser["class_ids"], parser["start"] = {"one": 1}, {}
    network: nn.Module = parser.get_parsed_content("training_network")
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    return network


def milliseconds(optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Of a step, on average."""
    began = time.process_time()
    for _ in range(steps):
        optimizer.step()
    return 1000 * (time.process_time() - began) / steps


def main() -> None:
    """Print a line a network and one RESULT line of the fused step's shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shares = {}
    for bundle in (UNET, VAE):
        for preset in ("cpu", "train"):
            ways = {w: torch.optim.AdamW(network_of(bundle, preset).parameters(), **how) for w, how in WAYS.items()}
            found: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(options.rounds + 1):  # the first makes the moments and does not count
                for way, optimizer in ways.items():
                    found[way].append(milliseconds(optimizer, options.steps))
            medians = {way: statistics.median(times[1:]) for way, times in found.items()}
            shares[f"{bundle}_{preset}"] = medians["fused"] / medians["plain"]
            print(f"{bundle} {preset}.json: " + ", ".join(f"{way} {ms:.1f} ms" for way, ms in medians.items()))
    print("RESULT " + " ".join(f"{name}={share:.2f}" for name, share in shares.items()))


if __name__ == "__main__":
    main()
