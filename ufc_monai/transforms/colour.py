"""Changing the colours of a batch of pictures, each in its own way."""

from __future__ import annotations

import torch
from torch import Tensor

from ufc_monai.errors import InputError


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
