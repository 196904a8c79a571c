"""Several losses as one, each of its own part of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.losses.protocol import figures_of


class CombinedLoss(nn.Module):
    """The weighted sum of a loss for each loader of a training.

    Args:
        terms: losses by the name of a loader.
        weights: of the terms, 1 where none is given.

    Attributes:
        figures: of the last batch: each term by its name, unweighted, and its own figures behind that name.

    Raises:
        InputError: at a weight for a term that is missing.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.weights = dict.fromkeys(terms, 1.0) | dict(weights or {})
        if unknown := self.weights.keys() - terms.keys():
            raise InputError(f"weights: unknown term {min(unknown)}; the terms are {', '.join(terms)}.")
        self.figures: dict[str, Tensor] = {}

    def forward(self, output: Tensor, targets: Mapping[str, Any]) -> Tensor:
        """The total of a batch.

        Args:
            output: of the network, the parts of all loaders behind each other.
            targets: by name, in the order of the parts; each as long as its part, or a tuple of such.

        Returns:
            A scalar.
        """
        sizes = [len(target[0] if isinstance(target, tuple) else target) for target in targets.values()]
        parts = dict(zip(targets, torch.split(output, sizes), strict=True))
        values = {name: term(parts[name], targets[name]) for name, term in self.terms.items()}
        own = {f"{name}_{key}": v for name, term in self.terms.items() for key, v in figures_of(term).items()}
        self.figures = {name: value.detach() for name, value in values.items()} | own
        return torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
