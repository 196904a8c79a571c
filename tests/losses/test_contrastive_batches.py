"""What contrastive losses do with odd batches, precisions and arguments."""

from __future__ import annotations

import doctest

import pytest
import torch
from batches import NEED_CLUSTERS, PerAnchor, draw, figures, gradient, masks, two_views, value
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses import contrastive
from ufc_monai.losses.contrastive import PRESETS, ClusterContrastiveLoss, anchor_losses, uses_groups


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("preset", PRESETS)
def test_half_precision_input_is_computed_in_float32(preset: str, dtype: torch.dtype) -> None:
    embeddings = draw(8).to(dtype).requires_grad_()
    clusters = two_views([0, 0, 1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = value(preset, embeddings, clusters, temperature=0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == value(preset, embeddings.float(), clusters, temperature=0.05).item()
    assert gradient(loss, embeddings).isfinite().all()


def test_float64_is_kept() -> None:
    assert value("ufc", draw(4), two_views([0, 1])).dtype == torch.float64


@pytest.mark.parametrize("preset", PRESETS)
def test_low_temperature_neither_overflows_nor_loses_the_gradient(preset: str) -> None:
    embeddings = draw(8).float().requires_grad_()
    loss = value(preset, embeddings, two_views([0, 0, 1, 2]), temperature=1e-3)
    slope = gradient(loss, embeddings)
    assert loss.isfinite()
    assert slope.isfinite().all()
    assert slope.abs().max() > 1


@pytest.mark.parametrize("preset", NEED_CLUSTERS)
def test_a_batch_of_one_cluster_has_no_valid_anchor(preset: str) -> None:
    embeddings, clusters = draw(6).requires_grad_(), two_views([3, 3, 3])
    loss = value(preset, embeddings, clusters)
    assert loss.item() == 0
    assert (gradient(loss, embeddings) == 0).all()
    assert figures(preset, clusters) == {"chance": 0, "negatives": 0, "dropped_anchors": 1}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_single_image_has_no_negatives(preset: str) -> None:
    assert value(preset, draw(2), two_views([0])).item() == 0
    assert figures(preset, two_views([0]))["dropped_anchors"] == 1


def test_invalid_anchors_are_left_alone_and_the_others_keep_finite_gradients() -> None:
    similarity = draw(3, 4).requires_grad_()
    positive = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    negative = ~positive
    for preset in PRESETS.values():
        losses = anchor_losses(similarity, positive, negative, preset)
        slope = gradient(losses[0], similarity)
        assert losses.isfinite().all()
        assert slope.isfinite().all()
        assert (slope[1:] == 0).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_anchor_is_dropped_where_all_have_a_negative(preset: str) -> None:
    assert figures(preset, two_views([0, 0, 1]))["dropped_anchors"] == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_only_some_presets_look_at_the_clusters(preset: str) -> None:
    embeddings = draw(8)
    guided, unguided = (value(preset, embeddings, two_views(c)) for c in ([0, 0, 1, 2], [-1, -2, -3, -4]))
    assert uses_groups(preset) == (guided != unguided).item() == (preset in NEED_CLUSTERS)


def test_the_views_of_an_image_are_mates_whatever_the_pseudo_labels_say() -> None:
    embeddings = draw(4)
    disagreeing = value("ufc", embeddings, torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(disagreeing, value("ufc", embeddings, two_views([0, 1])))


def test_the_mean_is_over_valid_anchors_alone() -> None:
    clusters = torch.tensor([0, 0, 0, 1])  # row 1 has the other rows of cluster 0 and its own view, 3, as mates
    assert figures("ufc", clusters)["dropped_anchors"] == 0.25
    embeddings = draw(4)
    e = (F.normalize(embeddings, dim=1) @ F.normalize(embeddings, dim=1).T / 0.3).exp()
    rows = [
        -((e[0, 1] + e[0, 2]) / e[0, 3]).log() / 2,
        -((e[2, 0] + e[2, 1]) / e[2, 3]).log() / 2,
        -(e[3, 1] / (e[3, 0] + e[3, 2])).log(),
    ]
    torch.testing.assert_close(value("ufc", embeddings, clusters), torch.stack(rows).mean())


@pytest.mark.parametrize("preset", PRESETS)
def test_anchors_may_meet_any_number_of_keys(preset: str) -> None:
    """Room for a queue: keys that are neither positive nor negative change nothing."""
    embeddings, clusters = draw(8), two_views([0, 0, 1, 2])
    f = F.normalize(embeddings, dim=1)
    positive, negative = masks(clusters)
    square = anchor_losses(f @ f.T, positive, negative, PRESETS[preset])
    unused = torch.zeros(8, 5, dtype=torch.bool)
    keys = torch.cat([f, draw(5, seed=3)])
    wide = anchor_losses(
        f @ keys.T, torch.cat([positive, unused], 1), torch.cat([negative, unused], 1), PRESETS[preset]
    )
    torch.testing.assert_close(wide, square)


def test_default_is_eq2_at_the_papers_temperature() -> None:
    embeddings, clusters = draw(8), two_views([0, 0, 1, 2])
    torch.testing.assert_close(
        ClusterContrastiveLoss()(embeddings, clusters), value("ufc", embeddings, clusters, temperature=0.1)
    )


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"ufc_softplus.*got 'moco'"):
        ClusterContrastiveLoss("moco")
    with pytest.raises(InputError, match=r"ufc_softplus.*got 'moco'"):
        uses_groups("moco")


@pytest.mark.parametrize("preset", ["supcon_out", "ufc"])
def test_positions_within_a_threshold_are_mates(preset: str) -> None:
    """Whole numbers less than 1 apart are equal, so a threshold has to give what clusters give."""
    embeddings, clusters = draw(10), two_views([0, 1, 1, 2, 0])
    by_position = ClusterContrastiveLoss(preset, 0.3, threshold=1.0)(embeddings, clusters.double())
    torch.testing.assert_close(by_position, value(preset, embeddings, clusters))


def test_pcl_is_no_equivalence() -> None:
    """0 and 0.08 are mates, and 0.08 and 0.16, but 0 and 0.16 are not."""
    f = F.normalize(draw(6), dim=1)
    loss = PerAnchor("supcon_out", 0.3, threshold=0.1)
    s = f @ f.T / 0.3
    expected = torch.logsumexp(s[0, 1:], 0) - s[0, [1, 3, 4]].mean()
    torch.testing.assert_close(loss(f, torch.tensor([0, 0.08, 0.16]).repeat(2))[0], expected)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(InputError, match="temperature must be above 0"):
        ClusterContrastiveLoss(temperature=temperature)
    with pytest.raises(InputError, match="threshold must be above 0"):
        ClusterContrastiveLoss(threshold=temperature)


@pytest.mark.parametrize(("shape", "n_clusters"), [((5, 3), 5), ((4, 3), 2), ((4, 3, 1), 4), ((4,), 4)])
def test_wrong_shapes(shape: tuple[int, ...], n_clusters: int) -> None:
    with pytest.raises(ValueError, match="expected embeddings"):
        value("ufc", torch.zeros(shape), torch.zeros(n_clusters, dtype=torch.long))


def test_docstring_examples() -> None:
    assert doctest.testmod(contrastive).failed == 0
