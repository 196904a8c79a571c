"""New codes from the latent space of stage 1: of a cluster, or on the way between two slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.base.errors import InputError, meant
from ufc_monai.base.files import read_arrays
from ufc_monai.clustering.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class Codes:
    """The slices that stage 1 trained on.

    Attributes:
        features: (n, d).
        ids: of the slices, (n,).
        clusters: of the slices, (n,).
        n_clusters: how many there are.
    """

    features: NDArray[np.float32]
    ids: list[str]
    clusters: NDArray[np.int64]
    n_clusters: int

    @classmethod
    def read(cls, folder: Path) -> Codes:
        """Read ``features.npz`` and ``pseudo_labels.json`` of a folder.

        Raises:
            InputError: if one is missing or damaged, or they are of other slices.
        """
        file, labels = (
            read_arrays(folder / "features.npz", "features", "ids"),
            PseudoLabels.load(folder / "pseudo_labels.json"),
        )
        ids = file["ids"].tolist()
        return cls(file["features"], ids, np.array(labels.of_slices(ids)), labels.n_clusters)

    def draw(self, what: str, n: int, generator: torch.Generator) -> Tensor:
        """Codes from a Gaussian.

        Args:
            what: the number of a cluster, whose slices give mean and covariance; ``all`` for all slices; ``prior`` for
                mean 0 and variance 1, which is that of a VAE.
            n: how many.
            generator: draws.

        Returns:
            (n, d).

        Raises:
            InputError: at another word or number.
        """
        if what == "prior":
            return torch.randn(n, self.features.shape[1], generator=generator)
        if what != "all" and not (what.isdigit() and int(what) < self.n_clusters):
            raise InputError(f"--clusters must be numbers of 0 to {self.n_clusters - 1}, all or prior; got {what!r}.")
        some = self.features if what == "all" else self.features[self.clusters == int(what)]
        own = torch.from_numpy(some)
        mean = own.mean(dim=0)
        # mixtures of the slices' differences from their mean have its covariance, whatever its rank
        mixed = torch.randn(n, len(own), generator=generator) @ (own - mean)
        drawn: Tensor = mean + mixed / math.sqrt(max(1, len(own) - 1))
        return drawn

    def between(self, first: str, last: str, n: int) -> Tensor:
        """Codes at equal steps from one slice to another, both included, (n, d).

        Raises:
            InputError: at a slice that stage 1 did not train on.
        """
        for name in (first, last):
            if name not in self.ids:
                hint = meant(name, self.ids) or "Name slices of training patients, IMAGE#INDEX."
                raise InputError(f"--between: stage 1 knows no slice {name}. {hint}")
        a, b = (torch.from_numpy(self.features[self.ids.index(name)]) for name in (first, last))
        return torch.lerp(a, b, torch.linspace(0, 1, n)[:, None])
