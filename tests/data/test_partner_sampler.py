"""Slices drawn with a partner: by weight, near the same position, or of the same cluster."""

from __future__ import annotations

import pytest
import torch

from ufc_monai.base.errors import InputError
from ufc_monai.data.samplers import PartnerSampler

WEIGHTS = torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0, 0.0])


def pairs(partners: str, n: int = 4000, **values: object) -> list[tuple[int, int]]:
    generator = torch.Generator().manual_seed(0)
    drawn = list(PartnerSampler(WEIGHTS, 2 * n, partners, generator, **values))  # type: ignore[arg-type]
    assert len(drawn) == 2 * n
    return list(zip(drawn[::2], drawn[1::2], strict=True))


def test_any_partner_is_drawn_by_weight() -> None:
    found = pairs("any")
    for side in range(2):
        counts = torch.bincount(torch.tensor([pair[side] for pair in found]), minlength=6) / len(found)
        assert torch.allclose(counts, WEIGHTS / WEIGHTS.sum(), atol=0.03)


def test_a_partner_of_the_same_cluster_where_there_is_one() -> None:
    clusters = [0, 0, 0, 1, 1, 2]
    found = pairs("cluster", clusters=clusters)
    assert all(clusters[one] == clusters[other] and one != other for one, other in found)
    alone = pairs("cluster", 200, clusters=[0, 0, 0, 1, 3, 2])
    assert {other for one, other in alone if one == 3} == {0, 1, 3, 4}, "no other of its cluster: any"


def test_a_partner_near_the_same_position() -> None:
    positions = [0.0, 0.04, 0.1, 0.9, 0.94, 1.0]
    assert {tuple(sorted(pair)) for pair in pairs("position", positions=positions)} == {(0, 1), (3, 4)}


def test_partners_of_another_part_once_it_has_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    sampler = PartnerSampler(WEIGHTS, 40, "any", generator, partner_weights=torch.zeros(6))
    assert set(list(sampler)[1::2]) <= {0, 1, 3, 4}
    sampler.partner_weights = torch.tensor([0.0, 0, 1, 0, 0, 1])
    drawn = list(sampler)
    assert set(drawn[1::2]) == {2, 5}
    assert not {2, 5} & set(drawn[::2])


@pytest.mark.parametrize("partners", ["cluster", "nearest"])
def test_a_rule_without_its_values_is_refused(partners: str) -> None:
    with pytest.raises(InputError, match=f"partners must be any, position or cluster, got '{partners}'"):
        PartnerSampler(WEIGHTS, 4, partners, torch.Generator())
