"""The numbers of a training, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from monai.networks.layers.utils import get_norm_layer

from ufc_monai.errors import InputError

__all__ = ["LARGEST_SEED", "check_settings"]

WHOLE = {
    **{"epochs": 0, "min_steps": 0, "kl_warmup_epochs": 0, "num_workers": 0},
    **{"batch_size": 1, "val_interval": 1, "latent_size": 1, "head_hidden": 1, "embedding_size": 1},
    **{"image_size": 16, "fold": 0, "label_draw": 0, "threads": 1},
}
"""Keys that are whole numbers, and the least that they may be."""
LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
POSITIVE = ("temperature",)
SHARES = ("key_momentum", "target_momentum")
"""Keys that lie between 0 and 1 and are neither."""
NOT_NEGATIVE = ("learning_rate", "weight_decay", "beta", "checkpoint_seconds")
WIDTHS = ("features", "vae_channels")
UNET_WIDTHS = 6
SMALLEST_UNET = 32
"""Smaller slices are one pixel where the network is deepest, and have no statistics there."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse invalid values, and those with which nothing can be trained.

    Args:
        settings: values by key; keys without a rule are passed over.

    Raises:
        InputError: naming the key, what it must be and what it is.
    """
    for key, value in settings.items():
        if wanted := _wanted(key, value):
            raise InputError(f"{key} must be {wanted}, got {value!r}.")
    if "features" in settings and settings.get("image_size", SMALLEST_UNET) < SMALLEST_UNET:
        raise InputError(
            f"image_size must be {SMALLEST_UNET} or more for a UNet, which halves it four times; got "
            f"{settings['image_size']}."
        )


def _wanted(key: str, value: Any) -> str | None:
    """What a value should be, if it is not."""
    if key in WHOLE:
        fits = (_is_whole(value) and value >= WHOLE[key]) or (key == "threads" and value is None)
        return None if fits else f"a whole number of {WHOLE[key]} or more"
    if key == "seed":
        return None if _is_whole(value) and 0 <= value <= LARGEST_SEED else f"a whole number of 0 to {LARGEST_SEED}"
    if key == "norm":
        return None if _is_norm(value) else "'batch', 'instance' or another of MONAI's, as ['group',{'num_groups':4}]"
    if key in POSITIVE:
        return None if _is_finite(value) and value > 0 else "a number above 0"
    if key in SHARES:
        return None if _is_finite(value) and 0 < value < 1 else "a number between 0 and 1"
    if key in NOT_NEGATIVE:
        return None if _is_finite(value) and value >= 0 else "a number of 0 or more"
    if key == "window":
        rising = _is_list(value) and len(value) == 2 and all(map(_is_finite, value)) and value[0] < value[1]
        return None if rising else "two rising numbers like [-125,275]"
    if key == "background_labels":
        return None if _is_list(value) and all(map(_is_whole, value)) else "a list of ids like [3,4]"
    if key in WIDTHS:
        wide = _is_list(value) and len(value) > 0 and all(_is_whole(n) and n > 0 for n in value)
        six = key != "features" or (wide and len(value) == UNET_WIDTHS)
        return None if wide and six else f"a list of {'six ' * (key == 'features')}whole numbers above 0"
    return None


def _is_norm(value: Any) -> bool:
    """Whether MONAI can build it; for a number of channels that most groups divide."""
    try:
        get_norm_layer(tuple(value) if _is_list(value) else value, spatial_dims=2, channels=2520)
    except Exception:  # whatever PyTorch says of its arguments
        return False
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
