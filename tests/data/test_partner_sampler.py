"""Slices drawn with a partner, by weight."""

from __future__ import annotations

import torch

from ufc_monai.data.samplers import PartnerSampler

WEIGHTS = torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0, 0.0])


def test_slices_and_partners_are_drawn_by_weight() -> None:
    drawn = torch.tensor(list(PartnerSampler(WEIGHTS, 8000, torch.Generator().manual_seed(0))))
    assert len(drawn) == 8000
    for side in range(2):
        shares = torch.bincount(drawn[side::2], minlength=6) / 4000
        assert torch.allclose(shares, WEIGHTS / WEIGHTS.sum(), atol=0.03)
        assert not shares[WEIGHTS == 0].any()


def test_partners_of_another_part_once_it_has_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    sampler = PartnerSampler(WEIGHTS, 40, generator, torch.zeros(6))
    assert set(list(sampler)[1::2]) <= {0, 1, 3, 4}
    sampler.partner_weights = torch.tensor([0.0, 0, 1, 0, 0, 1])
    drawn = list(sampler)
    assert set(drawn[1::2]) == {2, 5}
    assert not {2, 5} & set(drawn[::2])


def test_an_order_is_that_of_its_generator() -> None:
    generator = torch.Generator().manual_seed(3)
    sampler, state = PartnerSampler(WEIGHTS, 40, generator), generator.get_state()
    first = list(sampler)
    assert list(sampler) != first
    generator.set_state(state)
    assert list(sampler) == first


def test_more_slices_than_multinomial_takes() -> None:
    weights = torch.zeros(2**24 + 2)
    weights[[3, -1]] = 1
    assert set(PartnerSampler(weights, 40, torch.Generator().manual_seed(0))) == {3, 2**24 + 1}
