"""Every sample of a batch is changed in its own way, labels follow, and a saved place is found again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ufc_monai.transforms.batch import BatchAugment, BatchAugmentd
from ufc_monai.transforms.views import TwoViews, TwoViewsd

SPATIAL = [
    {"rotation": 30.0},
    {"field": (0.6, 1.3)},
    {"shift": 0.2},
    {"rotation": 20.0, "field": (0.7, 1.2), "shift": 0.1},
    {"rotation": 20.0, "shift": 0.1, "flip": 1.0},
    {"field": (0.4, 0.8), "shift": None},
    {"elastic": 0.03},
    {"elastic": 0.02, "rotation": 20.0, "flip": 1.0},
]
EVERYTHING = {
    "rotation": 20.0,
    "brightness": 0.3,
    "contrast": (0.5, 1.5),
    "gamma": (0.5, 1.5),
    "noise": 0.2,
    "blur": 0.5,
}


def images(batch: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(batch, 1, 24, 24, generator=torch.Generator().manual_seed(seed)).to(dtype)


def augment(options: dict[str, object], seed: int = 0) -> BatchAugment:
    return BatchAugment(**options, seed=seed)  # type: ignore[arg-type]


def test_the_defaults_change_nothing() -> None:
    image, label = images(), (images(seed=1) * 8).to(torch.uint8)
    new_image, new_label = BatchAugment()(image, label)
    assert torch.allclose(new_image, image, atol=1e-5)
    assert new_label is not None
    assert torch.equal(new_label, label)


@pytest.mark.parametrize("options", SPATIAL)
def test_label_follows_the_image(options: dict[str, object]) -> None:
    """A smooth shape in the image, thresholded after augmentation, is where its mask went."""
    x = torch.arange(48.0)
    distance = ((x[:, None] - 20) ** 2 / 2 + (x[None, :] - 27) ** 2).sqrt()
    shape = torch.sigmoid(9 - distance).expand(6, 1, 48, 48).contiguous()
    new_image, new_label = augment(options)(shape, (shape > 0.5).to(torch.uint8))
    assert new_label is not None
    assert not torch.equal(new_label, (shape > 0.5).to(torch.uint8))
    seen = new_image > 0.5
    overlap = 2 * (seen & (new_label > 0)).sum() / (seen.sum() + (new_label > 0).sum())
    assert overlap > 0.96


@pytest.mark.parametrize("options", SPATIAL)
def test_label_is_the_nearest_pixel_of_the_very_same_grid(options: dict[str, object]) -> None:
    """Column and row numbers as an image say where each pixel came from: the label must come from the nearest."""
    n = 24
    centres = (torch.arange(n) + 0.5) / n
    ramps = torch.stack([centres[:, None].expand(n, n), centres[None].expand(n, n)])[None].contiguous()
    index = torch.arange(1, n * n + 1).reshape(1, 1, n, n)
    where, label = augment(options)(ramps, index)
    assert label is not None
    rows, columns = where[0] * n - 0.5
    came_from = (label[0, 0] - 1).float()
    # beside the border the ramps fade to 0; half a pixel off, a tie may fall to either side
    row, column = torch.div(came_from, n, rounding_mode="floor"), came_from % n
    inside = (label[0, 0] > 0) & (row > 0) & (row < n - 1) & (column > 0) & (column < n - 1)
    assert inside.sum() > n * n / 4
    assert ((torch.div(came_from, n, rounding_mode="floor") - rows).abs()[inside] <= 0.501).all()
    assert ((came_from % n - columns).abs()[inside] <= 0.501).all()


def test_rotation_turns_by_at_most_its_angle_to_both_sides() -> None:
    angles = BatchAugment(rotation=30).randomize(200)["angle"]
    assert angles.abs().max() <= torch.pi / 6
    assert angles.min() < -0.4
    assert angles.max() > 0.4


def test_field_below_one_zooms_in() -> None:
    square = torch.zeros(1, 1, 24, 24)
    square[..., 8:16, 8:16] = 1
    zoomed, _ = BatchAugment(field=(0.5, 0.5))(square)
    assert zoomed.sum() == pytest.approx(4 * 64, rel=0.15)


def test_random_crop_never_looks_outside() -> None:
    seen, _ = BatchAugment(field=(0.3, 0.9), shift=None)(torch.ones(64, 1, 24, 24))
    assert torch.allclose(seen, torch.ones_like(seen), atol=1e-5)


def test_a_given_shift_does_look_outside() -> None:
    seen, label = BatchAugment(shift=0.3)(torch.ones(8, 1, 24, 24), torch.ones(8, 1, 24, 24, dtype=torch.uint8))
    assert seen.min() == 0
    assert label is not None
    assert label.min() == 0


@pytest.mark.parametrize("extreme", [EVERYTHING, {"brightness": 2.0}, {"contrast": (5.0, 9.0)}, {"noise": 3.0}])
def test_values_stay_between_0_and_1(extreme: dict[str, object]) -> None:
    new, _ = augment(extreme)(images(16))
    assert new.isfinite().all()
    assert new.min() >= 0
    assert new.max() <= 1


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "noise", "blur"])
def test_intensity_changes_the_image_alone(name: str) -> None:
    image, label = images(), (images(seed=1) * 8).to(torch.uint8)
    new_image, new_label = augment({name: {"blur": 1.0}.get(name, EVERYTHING[name])})(image, label)
    assert not torch.allclose(new_image, image, atol=1e-3)
    assert new_label is not None
    assert torch.equal(new_label, label)


@pytest.mark.parametrize("options", [*SPATIAL, *({name: EVERYTHING[name]} for name in EVERYTHING)])
def test_every_sample_gets_its_own_parameters(options: dict[str, object]) -> None:
    same = images(1).expand(8, 1, 24, 24).contiguous()
    new, _ = augment(options)(same)
    # a blur strikes half of the samples only
    assert len({tuple(sample.flatten().tolist()) for sample in new}) >= 3


def test_blur_strikes_its_share_of_the_samples() -> None:
    struck = (BatchAugment(blur=0.25).randomize(2000)["blur"] > 0).float().mean()
    assert struck == pytest.approx(0.25, abs=0.04)


def test_seed_decides_and_the_global_one_does_not() -> None:
    image = images()
    torch.manual_seed(0)
    one, _ = augment(EVERYTHING, seed=5)(image)
    before = torch.get_rng_state()
    again, _ = augment(EVERYTHING, seed=5)(image)
    assert torch.equal(torch.get_rng_state(), before)
    other, _ = augment(EVERYTHING, seed=6)(image)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_saved_place_goes_on_identically() -> None:
    image = images()
    first = augment(EVERYTHING)
    first(image)
    saved = first.generator.get_state()
    expected = [first(image)[0] for _ in range(3)]
    resumed = augment(EVERYTHING, seed=99)
    resumed.generator.set_state(saved)
    assert all(torch.equal(resumed(image)[0], e) for e in expected)
    assert not torch.equal(expected[0], expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("label_dtype", [torch.uint8, torch.int64, torch.float32])
def test_dtypes_and_shapes_are_kept(dtype: torch.dtype, label_dtype: torch.dtype) -> None:
    image, label = images(dtype=dtype), torch.ones(4, 1, 24, 24, dtype=label_dtype)
    new_image, new_label = augment(EVERYTHING)(image, label)
    assert new_label is not None
    assert (new_image.dtype, new_label.dtype) == (dtype, label_dtype)
    assert new_image.shape == new_label.shape == image.shape


def test_twin_moves_image_and_label_together() -> None:
    old_image, old_label = images(), (images(seed=1) * 8).to(torch.uint8)
    batch = {"image": old_image, "label": old_label, "id": list("abcd")}
    new = BatchAugmentd(["image", "label"], augment(EVERYTHING))(batch)
    image, label = augment(EVERYTHING)(old_image, old_label)
    assert label is not None
    assert torch.equal(new["image"], image)
    assert torch.equal(new["label"], label)
    assert new["id"] == batch["id"]


def test_views_of_an_image_lie_one_batch_apart() -> None:
    image = torch.stack([torch.full((1, 24, 24), value) for value in (0.1, 0.5, 0.9)])
    views = TwoViews(BatchAugment(brightness=0.05))(image)
    assert views.shape == (6, 1, 24, 24)
    means = views.mean(dim=(1, 2, 3))
    assert torch.allclose(means, torch.tensor([0.1, 0.5, 0.9] * 2), atol=0.051)
    assert (means[:3] != means[3:]).all()


def test_pseudo_labels_are_repeated_for_the_second_views() -> None:
    batch = {"image": images(3), "cluster": torch.tensor([4, 5, 6]), "id": list("abc")}
    new = TwoViewsd("image", augment(EVERYTHING), repeat_keys=["cluster"])(batch)
    assert new["image"].shape == (6, 1, 24, 24)
    assert new["cluster"].tolist() == [4, 5, 6, 4, 5, 6]
    assert new["id"] == list("abc")


def test_solarisation_inverts_what_is_bright() -> None:
    image = torch.tensor([[0.0, 0.4], [0.6, 1.0]])[None, None]
    expected = torch.tensor([[0.0, 0.4], [0.4, 0.0]])[None, None]
    torch.testing.assert_close(BatchAugment(solarise=1.0)(image)[0], expected, atol=1e-6, rtol=0)


def test_asymmetric_views_share_one_generator() -> None:
    one = BatchAugment(rotation=10, blur=1.0, seed=3)
    two = one.changed({"blur": 0.0, "solarise": 1.0})
    assert (one.blur, one.solarise, two.rotation) == (1.0, 0.0, 10)
    image = images()
    views = TwoViews(one, two)(image)
    again = BatchAugment(rotation=10, blur=1.0, seed=3)
    first, _ = again(image)
    second, _ = again.changed({"blur": 0.0, "solarise": 1.0})(image)
    assert torch.equal(views, torch.cat([first, second]))
    assert torch.equal(one.generator.get_state(), again.generator.get_state())
