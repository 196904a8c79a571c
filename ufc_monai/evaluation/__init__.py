"""How good weights are: Dice, distances, convergence on the training volumes, a linear probe."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
