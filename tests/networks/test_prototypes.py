"""The contrastive auto-encoder's parts, against loops and by what they must keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ufc_monai.base.errors import InputError
from ufc_monai.networks.build import build_network
from ufc_monai.networks.prototypes import SIMILARITIES, ContrastiveAutoEncoder, Projector, Prototypes, with_prototypes

ARCHITECTURES: list[dict[str, Any]] = [
    {"name": "BetaVAE", "image_size": 32, "latent_size": 6, "channels": [4, 8]},
    {"name": "UNetVAE", "image_size": 32, "latent_size": 6, "features": [4, 4, 8, 8, 16, 4], "norm": "batch"},
]


def made(similarity: str = "dot", temperature: float = 1.0) -> tuple[Prototypes, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prototypes = Prototypes(3, 4, similarity, temperature)
    prototypes.vectors.copy_(torch.randn(4, 3, generator=generator))
    return prototypes, torch.randn(5, 3, generator=generator)


def similarity_of(name: str, z: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(z, b, strict=True))
    if name == "cosine":
        return dot / math.sqrt(sum(x * x for x in z) * sum(y * y for y in b))
    return dot if name == "dot" else -sum((x - y) ** 2 for x, y in zip(z, b, strict=True))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_assignment_equals_the_loop(similarity: str, temperature: float) -> None:
    prototypes, codes = made(similarity, temperature)
    found = prototypes(codes)
    assert torch.equal(found[:, :3], codes)
    for z, assigned in zip(codes.tolist(), found[:, 3:].tolist(), strict=True):
        powers = [math.exp(similarity_of(similarity, z, b) / temperature) for b in prototypes.vectors.tolist()]
        assert assigned == pytest.approx([power / sum(powers) for power in powers], rel=1e-4)


def test_long_prototypes_win_by_the_published_rule_alone() -> None:
    chosen = {}
    for similarity in SIMILARITIES:
        prototypes = Prototypes(2, 2, similarity)
        prototypes.vectors.copy_(torch.tensor([[1.0, 0.0], [9.0, 3.0]]))
        chosen[similarity] = int(prototypes.scores(torch.tensor([[1.0, 0.1]])).argmax())
    assert chosen == {"dot": 1, "cosine": 0, "squared_distance": 0}
    assert int(prototypes.nearest(torch.tensor([[1.0, 0.1]]))) == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_prototypes_follow_their_codes_as_in_the_loop(momentum: float) -> None:
    prototypes, codes = made("squared_distance")
    before, nearest = prototypes.vectors.clone(), prototypes.nearest(codes)
    assert torch.equal(prototypes.follow(codes, momentum), nearest)
    for k, vector in enumerate(before):
        own = [z for z, place in zip(codes, nearest.tolist(), strict=True) if place == k]
        expected = momentum * vector + (1 - momentum) * sum(own) / len(own) if own else vector
        torch.testing.assert_close(prototypes.vectors[k], expected)
    assert len(set(nearest.tolist())) < 4, "one has no code and stays"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a["name"])
def test_the_second_phase_starts_where_the_first_ended(architecture: dict[str, Any]) -> None:
    torch.manual_seed(0)
    earlier, x = build_network(architecture, {}).eval(), torch.rand(3, 1, 32, 32)
    described = {**architecture, "prototypes": {"number": 4, "similarity": "cosine"}}
    network = with_prototypes(build_network(described, {}), earlier, torch.randn(4, 6)).eval()
    torch.testing.assert_close(network(x), earlier(x))
    features = build_network(described)
    features.load_state_dict(network.state_dict())
    assert torch.equal(features.eval()(x), network(x)[1])
    network.train()(x)[0].sum().backward()
    wide = next(p for p in network.parameters() if p.ndim == 2 and p.shape[1] == 10)
    assert wide.grad is not None
    assert (wide.grad[:, 6:] != 0).any(), "the decoder learns of the assignment"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a["name"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_published_network_is_scripted(architecture: dict[str, Any]) -> None:
    network, x = build_network({**architecture, "prototypes": {"number": 4}}).eval(), torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


def test_contrast_reaches_the_encoder_through_the_projector() -> None:
    autoencoder, projector = build_network(ARCHITECTURES[0], {}), Projector(6)
    network = ContrastiveAutoEncoder(autoencoder, projector)
    *parts, projections = network(torch.rand(4, 1, 32, 32))
    assert [tuple(part.shape) for part in parts] == [(4, 1, 32, 32), (4, 6), (4, 6), (4, 6)]
    projections.sum().backward()
    assert all(p.grad is not None for name, p in autoencoder.named_parameters() if name.startswith("encode."))
    assert [tuple(p.shape) for p in projector.parameters() if p.ndim == 2] == [(12, 6), (12, 12), (6, 12)]


def test_another_similarity_is_refused() -> None:
    with pytest.raises(InputError, match="similarity must be one of dot, cosine, squared_distance; got 'dto'"):
        Prototypes(3, 4, "dto")
