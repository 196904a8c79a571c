"""What a study compares, and smaller studies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.data.split import N_DRAWS
from ufc_monai.planning.options import ChainOptions, check_options


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ChainOptions):
    """What a study compares; budget and method of its single runs are those of its arms.

    Attributes:
        methods: names of arms, see :func:`find_arms`.
        budgets: label budgets: numbers of volumes, or shares such as ``"5%"`` of a fold's labelled training volumes.
        folds: number of folds; ``None`` is all.
        seeds: pretraining seeds; fine-tuning has the same.
        draws: number of label draws for each seed; ``None`` pairs seed s with draw s.
        init_seeds: fine-tuning seeds of the first fold, seed and draw, for the noise of initialisation alone.
        clusterings: further arms, see :func:`find_arms`.
        selection: how labels are granted: ``"random"`` takes the split's draws, ``"coverage"`` the volumes that cover
            the clusters best; with both, every arm comes twice.
    """

    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    folds: int | None = None
    seeds: int = 1
    draws: int | None = None
    init_seeds: int = 1
    clusterings: tuple[str, ...] = ()
    selection: tuple[str, ...] = ("random",)

    def repeats(self) -> list[tuple[int, int]]:
        """Pairs of seed and label draw."""
        if self.draws is None:
            return [(seed, seed % N_DRAWS) for seed in range(self.seeds)]
        return [(seed, draw) for draw in range(self.draws) for seed in range(self.seeds)]


def volumes_of(budget: str, split: Mapping[str, Any], fold: int) -> int:
    """A label budget in volumes.

    Raises:
        InputError: if it is neither a number nor a share, or exceeds what the fold has.
    """
    most = len(split["folds"][fold]["label_orders"][0])
    try:
        share = budget.endswith("%")
        volumes = max(1, math.floor(float(budget[:-1]) / 100 * most + 0.5)) if share else int(budget)
    except ValueError as e:
        raise InputError(f"--budgets: expected numbers of volumes, or shares such as 5%, got {budget!r}.") from e
    if not 1 <= volumes <= most:
        raise InputError(f"--budgets: fold {fold} has {most} labelled training volumes, got {budget}.")
    return volumes


def check_study(options: StudyOptions, split: Mapping[str, Any]) -> None:
    """Refuse options that do not fit the data set or the bundles.

    Raises:
        InputError: naming the option.
    """
    check_options(options, options.methods)
    folds = split["folds"]
    if not folds[0]["test"]:
        n = len(folds[0]["training"])
        raise InputError(
            f"not measurable with {n} labelled volumes: a study tests on patients that nothing was trained on, which "
            "takes 4 labelled patients or more."
        )
    if not options.selection or {*options.selection} - {"random", "coverage"}:
        raise InputError(f"--selection must be random, coverage or both, got {','.join(options.selection)}.")
    for name, most in (("folds", len(folds)), ("seeds", 99), ("draws", N_DRAWS), ("init_seeds", 99)):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= most:
            raise InputError(f"--{name} must be 1 to {most} for this data set, got {value}.")
    if len(set(options.budgets)) < len(options.budgets) or not options.budgets:
        raise InputError(f"--budgets: name each budget once, e.g. 1,2,4; got {','.join(options.budgets)}.")
