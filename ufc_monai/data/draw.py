"""Drawing a split: which patients train, validate, test, and in which order their labels are granted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ufc_monai.data.case import Case
from ufc_monai.data.official import ROLES

FORMAT = 1
"""Of ``split.json``."""
N_FOLDS = 4
"""Folds of the cross-validation; training : validation : test is 2 : 1 : 1 as in the paper."""
N_DRAWS = 5
"""Label draws: orders in which the labels of the training volumes are granted, one nested list each."""


def make_split(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Draw folds and label orders; the part of ``split.json`` that does not depend on the files' content.

    Fold f tests on part f of four, validates on part f + 1 and trains on the other two. Fewer than 4 labelled patients
    make a single fold in which all of them train. An official split is a single fold, too.
    """
    labelled = sorted({c.patient for c in cases if c.label})
    drawn = np.random.default_rng(seed).permutation(labelled).tolist()
    if any(c.role for c in cases):
        # without a label one cannot train on it, but held out it stays
        trains = [c for c in cases if c.label or c.role != "training"]
        of_role = {role: sorted({c.patient for c in trains if c.role == role}) for role in ROLES}
        folds = [of_role]
        labelled = [patient for patients in of_role.values() for patient in patients]
    elif len(labelled) < N_FOLDS:
        folds = [{"training": sorted(drawn), "validation": [], "test": []}]
    else:
        parts = [sorted(drawn[f::N_FOLDS]) for f in range(N_FOLDS)]
        folds = []
        for f in range(N_FOLDS):
            test, validation = parts[f], parts[(f + 1) % N_FOLDS]
            folds.append(
                {"training": sorted(set(drawn) - {*test, *validation}), "validation": validation, "test": test}
            )
    return {
        "format": FORMAT,
        "seed": seed,
        "folds": [
            {**fold, "label_orders": _label_orders(cases, fold["training"], (seed, f))} for f, fold in enumerate(folds)
        ],
        "unlabelled": sorted({c.patient for c in cases} - set(labelled)),
    }


def _label_orders(cases: Sequence[Case], training: Sequence[str], seed: tuple[int, int]) -> list[list[str]]:
    images = sorted(c.image for c in cases if c.label and c.patient in training)
    return [np.random.default_rng([*seed, draw]).permutation(images).tolist() for draw in range(N_DRAWS)]
