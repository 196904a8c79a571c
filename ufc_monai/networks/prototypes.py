"""What the contrastive auto-encoder (Ferrante et al. 2022) adds to those of stage 1: a projector, and prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.base.errors import InputError

SIMILARITIES = ("dot", "cosine", "squared_distance")


class Prototypes(nn.Module):
    """Vectors in the latent space to which codes are softly assigned.

    Args:
        latent_size: length of a code.
        number: of prototypes, k.
        similarity: ``"dot"``, as published, by which long prototypes win; ``"cosine"``; or ``"squared_distance"``, the
            negative one, by which the nearest wins.
        temperature: what similarities are divided by.

    Attributes:
        vectors: (k, latent_size), part of the state dict; no gradient reaches them.

    Raises:
        InputError: at another similarity.
    """

    def __init__(self, latent_size: int, number: int, similarity: str = "dot", temperature: float = 1.0) -> None:
        super().__init__()
        if similarity not in SIMILARITIES:
            raise InputError(f"similarity must be one of {', '.join(SIMILARITIES)}; got {similarity!r}.")
        self.similarity = similarity
        self.temperature = temperature
        self.vectors: Tensor = nn.Buffer(torch.zeros(number, latent_size))  # TorchScript reads no note of the class

    def scores(self, z: Tensor) -> Tensor:
        """How well codes (B, latent_size) fit each prototype, (B, k); a softmax of it is the assignment."""
        codes = z.float()[:, None]  # no matrix product, which autocast would round
        if self.similarity == "cosine":
            return F.cosine_similarity(codes, self.vectors, dim=2) / self.temperature
        scores = (codes * self.vectors).sum(dim=2)
        if self.similarity == "squared_distance":  # without the code's own square, which is the same for all
            scores = 2 * scores - self.vectors.square().sum(dim=1)
        return scores / self.temperature

    def forward(self, z: Tensor) -> Tensor:
        """Codes with their assignment behind them, (B, latent_size + k): what is decoded."""
        return torch.cat([z, self.scores(z).softmax(dim=1)], dim=1)

    def nearest(self, z: Tensor) -> Tensor:
        """The prototype at the smallest distance of each code, (B,), whatever the similarity."""
        return torch.cdist(z.float(), self.vectors).argmin(dim=1)

    @torch.no_grad()
    def follow(self, z: Tensor, momentum: float) -> Tensor:
        """Move the prototypes towards the means of the codes that fit them best; others stay.

        Args:
            z: codes of a batch, (B, latent_size).
            momentum: what a prototype keeps of itself; 0 is the batch's mean, as published.

        Returns:
            The prototype of each code, (B,).
        """
        chosen = self.scores(z).argmax(dim=1)
        members = F.one_hot(chosen, len(self.vectors)).T.float()
        sizes = members.sum(dim=1, keepdim=True)
        means = members @ z.float() / sizes.clamp(min=1)
        self.vectors.lerp_(means, (1 - momentum) * (sizes > 0))
        return chosen


class Projector(nn.Sequential):
    """Three layers from a code to what NT-Xent compares; thrown away after the first phase.

    Args:
        size: length of both.
    """

    def __init__(self, size: int) -> None:
        wide = 2 * size
        super().__init__(
            *(nn.Linear(size, wide), nn.ReLU(inplace=True), nn.Linear(wide, wide), nn.ReLU(inplace=True)),
            nn.Linear(wide, size),
        )


class ContrastiveAutoEncoder(nn.Module):
    """What the first phase trains.

    Args:
        autoencoder: a ``BetaVAE`` or ``UNetVAE`` without prototypes.
        projector: maps codes (B, latent_size) to projections.
    """

    def __init__(self, autoencoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.projector = projector

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What the auto-encoder returns, and the projections of its means behind that."""
        reconstruction, mu, logvar, z = self.autoencoder(x)
        return reconstruction, mu, logvar, z, self.projector(mu)


def with_prototypes(network: nn.Module, earlier: nn.Module, vectors: Tensor) -> nn.Module:
    """Start the second phase where the first has ended: the decoder does not look at the assignment yet.

    Args:
        network: an auto-encoder with prototypes.
        earlier: the same without, trained.
        vectors: the prototypes, (k, latent_size).

    Returns:
        The network.
    """
    own = network.state_dict()
    weights = {
        name: value if value.shape == own[name].shape else F.pad(value, (0, len(vectors)))
        for name, value in earlier.state_dict().items()
    }
    network.load_state_dict({**weights, "prototypes.vectors": vectors})
    return network
