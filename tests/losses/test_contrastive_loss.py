from __future__ import annotations

from math import exp, log

import pytest
import torch
from batches import CLUSTERS, HIGHEST, LOWEST, draw, figures, gradient, masks, per_anchor, two_views, value
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses.contrastive import ContrastiveLoss
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.losses.contrastive import PRESETS, anchor_losses


def slow_loss(preset: str, embeddings: Tensor, clusters: Tensor, temperature: float) -> float:
    """The formulas as they stand in the papers, anchor by anchor, with neither masks nor log-sum-exp."""
    rows = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in embeddings.tolist()]
    labels = clusters.tolist()
    n = len(rows)
    losses: list[float] = []
    for i in range(n):
        e = [exp(sum(x * y for x, y in zip(rows[i], rows[j], strict=True)) / temperature) for j in range(n)]
        own = e[(i + n // 2) % n]
        mates = [e[j] for j in range(n) if j != i and labels[j] == labels[i]]
        others = [e[j] for j in range(n) if labels[j] != labels[i]]
        everyone = [e[j] for j in range(n) if j != i]
        formulas = {
            "ufc": -log(sum(mates) / sum(others)) / len(mates),
            "ufc_printed": -log((sum(mates) + e[i]) / sum(others)) / (len(mates) + 1),
            "ufc_softplus": -log(sum(mates) / sum(everyone)) / len(mates),
            "supcon_out": sum(-log(x / sum(everyone)) for x in mates) / len(mates),
            "sincere": sum(-log(x / (x + sum(others))) for x in mates) / len(mates),
            "fn_elim": -log(own / (own + sum(others))),
            "simclr": -log(own / sum(everyone)),
            "dcl": -log(own / (sum(everyone) - own)),
        }
        losses.append(formulas[preset])
    return sum(losses) / n


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("layout", CLUSTERS)
def test_equals_the_double_loop(preset: str, layout: str) -> None:
    embeddings, clusters = draw(10), two_views(CLUSTERS[layout])
    expected = slow_loss(preset, embeddings, clusters, temperature=0.3)
    assert value(preset, embeddings, clusters).item() == pytest.approx(expected, abs=1e-8)


def test_simclr_equals_monai() -> None:
    first, second = draw(6).float(), draw(6, seed=1).float()
    ours = value("simclr", torch.cat([first, second]), two_views([0] * 6))
    torch.testing.assert_close(ours, ContrastiveLoss(temperature=0.3)(first, second))


def test_simclr_equals_pytorch_metric_learning() -> None:
    embeddings, images = draw(12), two_views([0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(value("simclr", embeddings, images), NTXentLoss(temperature=0.3)(embeddings, images))


def test_sincere_equals_pytorch_metric_learning_where_all_anchors_have_as_many_positives() -> None:
    """Theirs is the mean over pairs, ours over anchors."""
    embeddings, clusters = draw(12), two_views([0, 1, 0, 2, 2, 1])
    theirs = NTXentLoss(temperature=0.3)(embeddings, clusters)
    torch.testing.assert_close(value("sincere", embeddings, clusters), theirs)


def test_supcon_out_equals_pytorch_metric_learning() -> None:
    embeddings, clusters = draw(12), two_views([0, 1, 0, 2, 2, 0])
    theirs = SupConLoss(temperature=0.3)(embeddings, clusters)
    torch.testing.assert_close(value("supcon_out", embeddings, clusters), theirs)


def test_unique_clusters_are_instance_discrimination() -> None:
    """Anchor by anchor, where every slice is its own cluster (to 1e-6; in float64 it is far less)."""
    embeddings, clusters = draw(10), two_views([0, 1, 2, 3, 4])
    nt_xent = per_anchor("simclr", embeddings, clusters)
    for preset in ["ufc_softplus", "sincere", "supcon_out", "fn_elim"]:
        torch.testing.assert_close(per_anchor(preset, embeddings, clusters), nt_xent, rtol=0, atol=1e-9)
    eq2 = per_anchor("ufc", embeddings, clusters)
    torch.testing.assert_close(eq2, per_anchor("dcl", embeddings, clusters), rtol=0, atol=1e-9)
    torch.testing.assert_close(F.softplus(eq2), nt_xent, rtol=0, atol=1e-9)
    torch.testing.assert_close(nt_xent.mean(), value("simclr", embeddings, clusters), rtol=0, atol=1e-9)


def test_an_anchor_without_a_negative_does_not_count() -> None:
    embeddings, clusters = draw(4), torch.tensor([0, 0, 0, 1])  # row 1 has no negative
    valid = per_anchor("ufc", embeddings, clusters)[[0, 2, 3]]
    torch.testing.assert_close(valid.mean(), value("ufc", embeddings, clusters))


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("ufc", log(12 / 3) / 3),
        ("ufc_printed", log(12 / 4) / 4),
        ("ufc_softplus", log(1 + 12 / 3) / 3),
        ("supcon_out", log(15)),
        ("sincere", log(1 + 12)),
        ("fn_elim", log(1 + 12)),
        ("simclr", log(15)),
        ("dcl", log(14)),
    ],
)
def test_collapse_constants(preset: str, expected: float) -> None:
    clusters = two_views([0, 0, 1, 1, 2, 2, 3, 3])  # 2b = 16, p = 3, n = 12
    collapsed = draw(1).expand(16, -1)
    assert value(preset, collapsed, clusters).item() == pytest.approx(expected)
    assert figures(preset, clusters)["chance"].item() == pytest.approx(expected)


def test_chance_level_with_clusters_of_different_size() -> None:
    clusters = two_views([0, 0, 0, 1])  # six anchors with p = 5, n = 2 and two with p = 1, n = 6
    assert figures("ufc", clusters)["chance"].item() == pytest.approx((6 * log(2 / 5) / 5 + 2 * log(6)) / 8)


@pytest.mark.parametrize(("p", "n", "low", "high"), [(1, 108, -15.3, 24.7), (36, 73, -0.54, 0.58)])
def test_range_of_eq2(p: int, n: int, low: float, high: float) -> None:
    positive = torch.arange(p + n)[None] < p
    best = torch.where(positive, HIGHEST, LOWEST) / 0.1
    extremes = [anchor_losses(s, positive, ~positive, PRESETS["ufc"]).item() for s in (best, -best)]
    assert extremes == pytest.approx([low, high], abs=0.05)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=6),
    seed=st.integers(0, 1000),
    preset=st.sampled_from(list(PRESETS)),
)
def test_order_views_names_and_lengths_do_not_matter(labels: list[int], seed: int, preset: str) -> None:
    b = len(labels)
    first, second, clusters = draw(b, seed=seed), draw(b, seed=seed + 1), torch.tensor(labels)
    expected = value(preset, torch.cat([first, second]), two_views(labels))
    assert torch.isfinite(expected)
    order = torch.randperm(b, generator=torch.Generator().manual_seed(seed))
    permuted = value(preset, torch.cat([first[order], second[order]]), clusters[order].repeat(2))
    swapped = value(preset, torch.cat([second, first]), two_views(labels))
    renamed = value(preset, torch.cat([first, second]), 10 - clusters.repeat(2))
    rescaled = value(preset, torch.cat([first * 7, second / 3]), two_views(labels))
    for other in (permuted, swapped, renamed, rescaled):
        torch.testing.assert_close(other, expected)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(labels=st.lists(st.integers(0, 2), min_size=2, max_size=8), seed=st.integers(0, 1000))
def test_eq2_stays_in_its_range(labels: list[int], seed: int) -> None:
    clusters = two_views(labels)
    f = F.normalize(draw(len(clusters), seed=seed), dim=1)
    positive, negative = masks(clusters)
    valid = negative.any(1)
    losses = anchor_losses(f @ f.T / 0.1, positive, negative, PRESETS["ufc"])[valid]
    p, n = (mask.sum(1)[valid].double() for mask in (positive, negative))
    assert ((losses - (n / p).log() / p).abs() <= 2 / 0.1 / p + 1e-9).all()


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_two_tight_clusters_at_right_angles(temperature: float) -> None:
    clusters = two_views([0, 0, 0, 1, 1, 1])
    embeddings = F.one_hot(clusters).double()
    p, n, near = 5, 6, 1 / temperature
    expected = {
        "ufc": (log(n / p) - near) / p,
        "ufc_softplus": log(1 + n / p * exp(-near)) / p,
        "supcon_out": log(p + n * exp(-near)),  # its minimum is not near 0
        "sincere": log(1 + n * exp(-near)),
    }
    for preset, loss in expected.items():
        assert value(preset, embeddings, clusters, temperature).item() == pytest.approx(loss)


def test_gradient_of_eq2_pulls_and_pushes_with_one_over_p() -> None:
    clusters = two_views([0, 0, 1, 2])
    positive, negative = masks(clusters)
    similarity = draw(8, 8).requires_grad_()
    eq2 = anchor_losses(similarity, positive, negative, PRESETS["ufc"])
    pull = similarity.detach().masked_fill(~positive, -torch.inf).softmax(1)
    push = similarity.detach().masked_fill(~negative, -torch.inf).softmax(1)
    expected = (push - pull) / positive.sum(1, keepdim=True)
    torch.testing.assert_close(gradient(eq2.sum(), similarity), expected)


def test_self_changes_eq2_by_a_known_term() -> None:
    embeddings, clusters = draw(8), two_views([0, 0, 1, 1])  # p = 3
    f = F.normalize(embeddings, dim=1)
    similarity = (f @ f.T / 0.3).exp()
    attraction = (similarity * masks(clusters)[0]).sum(1)
    difference = 4 * value("ufc_printed", embeddings, clusters) - 3 * value("ufc", embeddings, clusters)
    torch.testing.assert_close(difference, (attraction / (attraction + exp(1 / 0.3))).log().mean())


def test_self_gives_no_gradient() -> None:
    embeddings, clusters = draw(8).requires_grad_(), two_views([0, 0, 1, 2])
    expected = gradient(value("ufc_printed", embeddings, clusters), embeddings)
    f = F.normalize(embeddings, dim=1)
    itself = torch.eye(8, dtype=torch.bool)
    constant_self = (f @ f.T / 0.3).masked_fill(itself, 1 / 0.3)
    positive, negative = masks(clusters)
    loss = anchor_losses(constant_self, positive | itself, negative, PRESETS["ufc_printed"]).mean()
    torch.testing.assert_close(gradient(loss, embeddings), expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_gradcheck(preset: str) -> None:
    clusters = two_views([0, 0, 1])
    assert torch.autograd.gradcheck(lambda x: value(preset, x, clusters), draw(6, 3).requires_grad_())
