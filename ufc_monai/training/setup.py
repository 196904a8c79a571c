"""What every bundle does first: its keys and their values are checked, before anything is computed."""

from __future__ import annotations

import ast
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.networks.layers.utils import get_norm_layer
from monai.utils import set_determinism

from ufc_monai.base.errors import InputError, meant, readable_errors
from ufc_monai.base.merged import configuration, is_plain
from ufc_monai.training.compute import check_device, set_threads

VERBS = {"run", "run_workflow"}
"""What ``monai.bundle`` starts a configuration by; the words of a server that calls it are none of our business."""
RUN_ARGUMENTS = {
    *("run_id", "init_id", "final_id", "workflow_name", "workflow_type", "config_file", "meta_file", "logging_file"),
    *("args_file", "tracking", "tracking_uri", "experiment_name", "run_name", "properties_path"),
}
"""What ``monai.bundle run`` takes itself."""
READ_BY_MONAI = {"imports", "initialize", "run", "finalize"}
"""Sections that MONAI looks for in a configuration, whether anything refers to them or not."""
SURE = 0.75
"""How alike two names are, of 1, when the one is taken for the other misspelt."""

Fits = Callable[[Any], bool]
REAL = int | float
LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
MOST_THREADS = 1024
"""And processes of a loader. Of a million, PyTorch crashes."""
SMALLEST_UNET = 32
"""Smaller slices are one pixel where the network is deepest, and have no statistics there."""


def prepare(device: torch.device | str, threads: int | None = None, seed: int | None = None) -> None:
    """Check the keys and numbers of the configuration that calls this, and set up the process for it.

    Args:
        device: where to compute.
        threads: PyTorch's threads on the CPU; ``None`` keeps its own choice.
        seed: of all random numbers, which also makes the computation deterministic; ``None`` leaves both.

    Raises:
        InputError: at a key that nothing reads, a number that cannot be, or a device that is not here.
    """
    readable_errors()
    check_overrides(sys.argv)
    check_settings({key: value for key, value in configuration().items() if is_plain(value)})
    check_device(device)
    set_threads(threads)
    if seed is not None:
        set_determinism(seed=seed)


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse a misspelt key, which MONAI would accept and ignore.

    Args:
        arguments: the words of the process; nothing is checked unless they start a configuration.

    Raises:
        InputError: naming the key, and the one that was probably meant.
    """
    given = _given(arguments) if VERBS & set(arguments[:2]) else {}
    if "config_file" not in given:
        return
    files = _files(given["config_file"])
    configs = [ConfigParser.load_config_file(file) for file in files]
    known = {top_of(key) for config in configs for key in config}
    for key in given:
        if top_of(key) not in known | RUN_ARGUMENTS:
            hint = meant(top_of(key), known, "--") or "The keys are listed in the bundle's docs/README.md."
            raise InputError(f"--{key} is no key of {', '.join(files)}. {hint}")
    _check_configs(files, configs)


def _given(arguments: Sequence[str]) -> dict[str, Any]:
    """The keys of the command line and those of the file that it names, with their values."""
    given: dict[str, Any] = {}
    for i, word in enumerate(arguments):
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            name = key if "::" in key or "#" in key else key.replace("-", "_")
            given[name] = value if equals else next(iter(arguments[i + 1 :]), "")
    file = given.get("args_file")
    return {**(ConfigParser.load_config_file(file) if file else {}), **given}


def _files(value: Any) -> list[str]:
    if isinstance(value, str):
        value = ast.literal_eval(value) if value.startswith(("[", "(")) else [value]
    return [str(file) for file in value]


def _check_configs(files: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a key that nothing refers to where one of nearly the same name is known, or is missing."""
    used = set(re.findall(r"[@%](\w+)", json.dumps(list(configs), default=str)))
    tops = [list(map(top_of, config)) for config in configs]
    missing = used.difference(*tops)
    for file, keys in zip(files, tops, strict=True):
        known = set() if keys is tops[0] else set(tops[0])  # a file laid over the first may mean a key of it
        for key in keys:
            if key in used | READ_BY_MONAI | known:
                continue
            if hint := meant(key, missing | known, cutoff=SURE):
                raise InputError(f"{file}: nothing reads the key {key}. {hint}")


def top_of(key: str) -> str:
    """The top-level key that a key such as ``train::trainer::max_epochs`` belongs to."""
    return re.split("::|#", key.lstrip("+"))[0]


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
    if settings.get("epochs") == settings.get("min_steps", 1) == 0:
        raise InputError("epochs and min_steps are both 0: nothing would be trained. Set one of them to 1 or more.")
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
    **dict.fromkeys(("epochs", "min_steps", "kl_warmup_epochs", "fold", "label_draw"), COUNT),
    "num_workers": (_number(int, lambda n: 0 <= n <= MOST_THREADS), f"a whole number of 0 to {MOST_THREADS}"),
    **dict.fromkeys(("batch_size", "latent_size", "head_hidden", "embedding_size"), AT_LEAST_1),
    "val_interval": (lambda n: n is None or AT_LEAST_1[0](n), f"{AT_LEAST_1[1]}, or null"),
    **dict.fromkeys(("warm_up_steps", "region_steps"), COUNT),
    **dict.fromkeys(("round_steps", "patch_steps", "patch_grid", "regions"), AT_LEAST_1),
    **dict.fromkeys(("pixel_embedding_size", "cell_grid", "cells"), AT_LEAST_1),
    "local_regions": (_number(int, lambda n: n >= 2), "a whole number of 2 or more"),
    "local_region_size": AT_LEAST_1,
    "missing": NOT_NEGATIVE,
    "shape": (lambda s: s is None or isinstance(s, str), "a name"),
    "keep": (_number(REAL, lambda x: 0 < x <= 1), "a number above 0, 1 at most"),
    "smooth_slices": (_number(int, lambda n: n >= 1 and n % 2 == 1), "an odd number of 1 or more"),
    **dict.fromkeys(("learning_rate", "weight_decay", "beta", "checkpoint_seconds", "elastic"), NOT_NEGATIVE),
    **dict.fromkeys(("region_weight", "entropy_weight", "shape_weight", "cell_weight"), NOT_NEGATIVE),
    "reconstruction_weight": NOT_NEGATIVE,
    "prototype_momentum": (_number(REAL, lambda x: 0 <= x <= 1), "a number of 0 to 1"),
    **dict.fromkeys(("key_momentum", "target_momentum"), SHARE),
    "image_size": (_number(int, lambda n: n >= 16), "a whole number of 16 or more"),
    "threads": (
        lambda n: n is None or (AT_LEAST_1[0](n) and n <= MOST_THREADS),
        f"a whole number of 1 to {MOST_THREADS}",
    ),
    "seed": (_number(int, lambda n: 0 <= n <= LARGEST_SEED), f"a whole number of 0 to {LARGEST_SEED}"),
    **dict.fromkeys(
        ("temperature", "assignment_temperature", "region_temperature"),
        (_number(REAL, lambda x: x > 0), "a number above 0"),
    ),
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
