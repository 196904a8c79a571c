"""The values of a training's keys, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from monai.networks.layers.utils import get_norm_layer

from ufc_monai.base.errors import InputError

Fits = Callable[[Any], bool]
REAL = int | float
LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
SMALLEST_UNET = 32
"""Smaller slices are one pixel where the network is deepest, and have no statistics there."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse invalid values, and those with which nothing can be trained.

    Args:
        settings: values by key; keys without a rule are passed over.

    Raises:
        InputError: naming the key, what it must be and what it is.
    """
    for key, (fits, wanted) in RULES.items():
        if key in settings and not fits(settings[key]):
            raise InputError(f"{key} must be {wanted}, got {settings[key]!r}.")
    if "features" in settings and settings.get("image_size", SMALLEST_UNET) < SMALLEST_UNET:
        raise InputError(
            f"image_size must be {SMALLEST_UNET} or more for a UNet, which halves it four times; got "
            f"{settings['image_size']}."
        )


def _is_norm(value: Any) -> bool:
    """Whether MONAI can build it; for a number of channels that most groups divide."""
    try:
        get_norm_layer(tuple(value) if isinstance(value, list) else value, spatial_dims=2, channels=2520)
    except Exception:  # whatever PyTorch says of its arguments
        return False
    return True


def _number(kind: Any, holds: Fits = lambda _: True) -> Fits:
    return lambda x: isinstance(x, kind) and not isinstance(x, bool) and -math.inf < x < math.inf and holds(x)


def _list_of(fits: Fits, holds: Fits = lambda _: True) -> Fits:
    return lambda values: isinstance(values, list | tuple) and all(map(fits, values)) and holds(values)


COUNT = (_number(int, lambda n: n >= 0), "a whole number of 0 or more")
AT_LEAST_1 = (_number(int, lambda n: n >= 1), "a whole number of 1 or more")
NOT_NEGATIVE = (_number(REAL, lambda x: x >= 0), "a number of 0 or more")
SHARE = (_number(REAL, lambda x: 0 < x < 1), "a number between 0 and 1")
RULES: dict[str, tuple[Fits, str]] = {
    **dict.fromkeys(("epochs", "min_steps", "kl_warmup_epochs", "num_workers", "fold", "label_draw"), COUNT),
    **dict.fromkeys(("batch_size", "val_interval", "latent_size", "head_hidden", "embedding_size"), AT_LEAST_1),
    **dict.fromkeys(("learning_rate", "weight_decay", "beta", "checkpoint_seconds"), NOT_NEGATIVE),
    **dict.fromkeys(("key_momentum", "target_momentum"), SHARE),
    "image_size": (_number(int, lambda n: n >= 16), "a whole number of 16 or more"),
    "threads": (lambda n: n is None or AT_LEAST_1[0](n), AT_LEAST_1[1]),
    "seed": (_number(int, lambda n: 0 <= n <= LARGEST_SEED), f"a whole number of 0 to {LARGEST_SEED}"),
    "temperature": (_number(REAL, lambda x: x > 0), "a number above 0"),
    "norm": (_is_norm, "'batch', 'instance' or another of MONAI's, as ['group',{'num_groups':4}]"),
    "window": (
        _list_of(_number(REAL), lambda w: len(w) == 2 and w[0] < w[1]),
        "two rising numbers like [-125,275]",
    ),
    "background_labels": (_list_of(_number(int)), "a list of ids like [3,4]"),
    "features": (_list_of(AT_LEAST_1[0], lambda widths: len(widths) == 6), "a list of six whole numbers above 0"),
    "vae_channels": (_list_of(AT_LEAST_1[0], bool), "a list of whole numbers above 0"),
}
"""What the value of a key must be: a test, and the words for it."""
