"""Augmentation of a whole batch at once, on the device that the batch lies on, and where its pixels lie then."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError

Range = Sequence[float]
KNOTS = 5
"""Along each side of an image, of an elastic displacement."""


class Augmented(NamedTuple):
    """An augmented batch.

    Attributes:
        image: (B, C, H, W).
        label: (B, 1, H, W), or ``None``.
        affine: where each pixel of it lies in the batch that was augmented, (B, 2, 3) as
            :func:`torch.nn.functional.affine_grid` takes it; see :func:`~ufc_monai.transforms.sampling_grid`. It knows
            nothing of ``elastic``.
    """

    image: Tensor
    label: Tensor | None
    affine: Tensor


@dataclass(eq=False)
class BatchAugment:
    """Random rotation, zoom, shift, flip, bending, intensity, noise, blur and colours, per sample of a batch.

    Images have values in [0, 1] and keep them. Labels follow the image exactly, by the nearest pixel; what comes from
    outside of the image is 0. Intensity leaves labels alone.

    Attributes:
        rotation: largest angle to either side, in degrees.
        field: range of the side of the seen square, as a share of the image's side: below 1 zooms in.
        shift: largest shift of the seen square along each axis, as a share of the image's side; ``None`` shifts as far
            as the square stays within the image, which makes a random crop of a ``field`` below 1.
        elastic: how far pixels are displaced, smoothly and in each sample by itself: standard deviation along each axis
            at :data:`KNOTS` x :data:`KNOTS` knots, as a share of the image's side.
        brightness: largest amount added or taken away.
        contrast: range of the factor about the image's mean.
        gamma: range of the exponent.
        noise: largest standard deviation of Gaussian noise.
        blur: probability of a Gaussian blur, with a standard deviation between 0.5 and 1.5 pixels.
        solarise: probability that what is brighter than 0.5 is inverted.
        flip: probability of a mirror image, left and right exchanged.
        saturation: range of the factor of a colour picture's saturation.
        hue: largest turn of a colour picture's hue to either side, as a share of the full circle.
        grey: probability that a colour picture becomes grey.
        seed: seed of the generator.

    Example:
        >>> augment = BatchAugment(rotation=10, field=(0.9, 1.1), seed=0)
        >>> image, label = torch.rand(4, 1, 32, 32), torch.ones(4, 1, 32, 32, dtype=torch.uint8)
        >>> new_image, new_label = augment(image, label)
        >>> new_label.dtype, tuple(new_image.shape)
        (torch.uint8, (4, 1, 32, 32))
    """

    rotation: float = 0.0
    field: Range = (1.0, 1.0)
    shift: float | None = 0.0
    elastic: float = 0.0
    brightness: float = 0.0
    contrast: Range = (1.0, 1.0)
    gamma: Range = (1.0, 1.0)
    noise: float = 0.0
    blur: float = 0.0
    solarise: float = 0.0
    flip: float = 0.0
    saturation: Range = (1.0, 1.0)
    hue: float = 0.0
    grey: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        if self.blur > 0:
            import kornia.filters  # noqa: F401, here, so that no step waits for it, and only where there is blur

    def changed(self, attributes: Mapping[str, Any]) -> BatchAugment:
        """The same augmentation, drawing from the same generator, but for some attributes."""
        other = copy.copy(self)
        for name, value in attributes.items():
            setattr(other, name, value)
        return other

    def randomize(self, batch: int, side: int | None = None) -> dict[str, Tensor]:
        """Draw the parameters of ``batch`` samples, each a float tensor (batch,).

        Args:
            batch: number of samples.
            side: pixels along the image's shorter side; keeps a random crop half a pixel away from its border, where
                the picture begins to fade.
        """

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(batch, generator=self.generator) * (high - low) + low

        def chance(probability: float) -> Tensor:
            return (uniform(0, 1) < probability).float()

        field = uniform(*self.field)
        within = (1 - field).clamp(min=0) / 2 * (1 - 1 / side if side else 1)
        room = within if self.shift is None else torch.tensor(float(self.shift))
        return {
            "angle": torch.deg2rad(uniform(-self.rotation, self.rotation)),
            "field": field,
            "x": uniform(-1, 1) * room,
            "y": uniform(-1, 1) * room,
            "brightness": uniform(-self.brightness, self.brightness),
            "contrast": uniform(*self.contrast),
            "gamma": uniform(*self.gamma),
            "noise": uniform(0, self.noise),
            "blur": uniform(0.5, 1.5) * chance(self.blur),
            "solarise": chance(self.solarise),
            "flip": chance(self.flip),
            "saturation": uniform(*self.saturation),
            "hue": 2 * math.pi * uniform(-self.hue, self.hue),
            "grey": chance(self.grey),
        }

    def __call__(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment a batch.

        Args:
            image: (B, C, H, W), values in [0, 1].
            label: (B, 1, H, W), any dtype, or ``None``.

        Returns:
            The new image and label, of the same shapes and dtypes.
        """
        return self.located(image, label)[:2]

    def displacement(self, batch: int, size: Sequence[int], device: torch.device) -> Tensor:
        """Draw how far each pixel looks from where it would, (batch, H, W, 2): a cubic field through random knots.

        Args:
            batch: number of samples.
            size: H and W.
            device: where it is computed; it is drawn on the CPU.
        """
        # grid_sample's square runs from -1 to 1, so a share of the side counts twice
        knots = torch.randn(batch, 2, KNOTS, KNOTS, generator=self.generator) * (2 * self.elastic)
        field = F.interpolate(knots.to(device), size=tuple(size), mode="bicubic", align_corners=True)
        return field.permute(0, 2, 3, 1)

    def located(self, image: Tensor, label: Tensor | None = None) -> Augmented:
        """Augment a batch as a call does, and tell where its pixels come from; the arguments are the same."""
        drawn = self.randomize(len(image), min(image.shape[-2:]))
        # while they lie on the CPU: asking a GPU would wait for it
        blurred = drawn["blur"].nonzero()[:, 0]
        sigma = drawn["blur"][blurred]
        coloured = changes_colour(drawn["saturation"], drawn["hue"], drawn["grey"])
        columns = _beside(torch.stack([*drawn.values()], dim=1).to(image.dtype), image).unbind(dim=1)
        p = dict(zip(drawn, columns, strict=True))
        seed = int(torch.randint(2**62, (), generator=self.generator))
        there = torch.Generator(image.device).manual_seed(seed)
        noise = torch.randn(image.shape, generator=there, dtype=image.dtype, device=image.device)
        affine = _affine(p)
        grid = sampling_grid(affine, image.shape[-2:])
        if self.elastic:
            grid = grid + self.displacement(len(image), image.shape[-2:], image.device).to(grid)
        seen = F.grid_sample(image, grid, align_corners=False)
        if label is not None:
            moved = F.grid_sample(label.to(image.dtype), grid, mode="nearest", align_corners=False)
            label = moved.to(label.dtype)
        if len(blurred):
            from kornia.filters import gaussian_blur2d

            chosen = _beside(blurred, image)  # kornia checks sigma where it lies
            seen = seen.index_copy(0, chosen, gaussian_blur2d(seen[chosen], (7, 7), sigma[:, None].expand(-1, 2)))
        return Augmented(_change_intensity(seen, p, noise, coloured=coloured), label, affine)


class BatchAugmentd(MapTransform):
    """Dictionary twin of :class:`BatchAugment` for a collated batch: image and labels move together.

    Args:
        keys: key of the image and, behind it, of one label at most.
        augment: the augmentation.
        affine_key: where the new pixels lie in the old image is kept under this key, (B, 2, 3); ``None`` drops it.
    """

    def __init__(self, keys: KeysCollection, augment: BatchAugment, affine_key: str | None = None) -> None:
        super().__init__(keys)
        self.augment = augment
        self.affine_key = affine_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Augment one batch."""
        d = dict(data)
        image, label, affine = self.augment.located(*(d[key] for key in self.keys))
        d |= zip(self.keys, (image, label), strict=False)
        return d if self.affine_key is None else {**d, self.affine_key: affine}


def _beside(values: Tensor, image: Tensor) -> Tensor:
    """On the image's device, without waiting for it: only a copy from pinned memory goes on by itself."""
    return (values.pin_memory() if image.is_cuda else values).to(image.device, non_blocking=True)


def _affine(p: Mapping[str, Tensor]) -> Tensor:
    """Where each output pixel looks: the unit square, mirrored, scaled by ``field``, turned, moved by ``shift``."""
    cos, sin = torch.cos(p["angle"]) * p["field"], torch.sin(p["angle"]) * p["field"]
    side = 1 - 2 * p["flip"]  # left and right lie along the first axis of an image, the second of the grid
    # grid_sample's square runs from -1 to 1, so a shift by a share of the side counts twice
    x, y = 2 * p["x"], 2 * p["y"]
    return torch.stack([torch.stack([cos, -sin * side, x], dim=1), torch.stack([sin, cos * side, y], dim=1)], dim=1)


def _change_intensity(image: Tensor, p: Mapping[str, Tensor], noise: Tensor, *, coloured: bool) -> Tensor:
    """Gamma, contrast, brightness, noise, colours, solarisation, in this order; it stays within [0, 1]."""

    def column(name: str) -> Tensor:
        return p[name][:, None, None, None]

    image = image.clamp(0, 1) ** column("gamma")
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = (image - mean) * column("contrast") + mean + column("brightness") + noise * column("noise")
    image = image.clamp(0, 1)
    if coloured:
        image = change_colour(image, p["saturation"], p["hue"], p["grey"])
    return torch.where((column("solarise") > 0) & (image > 0.5), 1 - image, image)


def changes_colour(saturation: Tensor, hue: Tensor, grey: Tensor) -> bool:
    """Whether parameters, (B,) each, change any sample; to be asked while they lie on the CPU."""
    return bool(hue.any() or grey.any() or (saturation != 1).any())


def change_colour(image: Tensor, saturation: Tensor, hue: Tensor, grey: Tensor) -> Tensor:
    """Saturation, then hue, then grey for some.

    Args:
        image: red, green and blue, (B, 3, H, W), values in [0, 1].
        saturation: factor of each sample, (B,): 0 is grey, 1 neutral.
        hue: turn about the circle of colours in radians, (B,).
        grey: above 0 for the samples that lose their colours, (B,).

    Raises:
        InputError: if the images do not have three channels.
    """
    if image.shape[1] != 3:
        raise InputError(
            f"hue, saturation and grey change colours, and these pictures have {image.shape[1]} channel: pass "
            "--channels 3, or leave them at 0, [1, 1] and 0."
        )
    from kornia.color import rgb_to_grayscale  # most data sets have no colours, and kornia takes its time
    from kornia.enhance import adjust_hue
    from kornia.enhance import adjust_saturation_with_gray_subtraction as adjust_saturation

    image = adjust_hue(adjust_saturation(image, saturation), hue)
    return torch.where(grey[:, None, None, None] > 0, rgb_to_grayscale(image), image)


def sampling_grid(affine: Tensor, size: Sequence[int]) -> Tensor:
    """The grid (B, H, W, 2) that :func:`torch.nn.functional.grid_sample` takes (``align_corners=False``).

    Args:
        affine: (B, 2, 3).
        size: H and W of what is sampled at the grid.
    """
    return F.affine_grid(affine, [len(affine), 1, *size], align_corners=False)


def inverse_affine(affine: Tensor) -> Tensor:
    """Where each pixel of the original lies in the augmented image, (B, 2, 3): sampling there undoes it."""
    matrix = torch.linalg.inv_ex(affine[..., :2]).inverse  # does not wait for a GPU, as inv does
    return torch.cat([matrix, -matrix @ affine[..., 2:]], dim=2)


def affine_between(view: Tensor, other: Tensor) -> Tensor:
    """Where each pixel of a view lies in another view of the same images, (B, 2, 3).

    Args:
        view: affines of the views, (B, 2, 3).
        other: of the other views.

    Example:
        >>> from ufc_monai.transforms import BatchAugment, TwoViews
        >>> views, affines = TwoViews(BatchAugment(rotation=20, flip=0.5)).located(torch.rand(4, 1, 32, 32))
        >>> grid = sampling_grid(affine_between(*affines.chunk(2)), (32, 32))
        >>> like_the_first = F.grid_sample(views[4:], grid, align_corners=False)
        >>> seen_by_both = (grid.abs() <= 1).all(dim=3)
    """
    back = inverse_affine(other)
    return torch.cat([back[..., :2] @ view[..., :2], back[..., :2] @ view[..., 2:] + back[..., 2:]], dim=2)
