"""A predicted Dice from what a mask shows of itself: the maths, without files or networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WEIGHTS = np.array([-1.2, 0.2, 2.1, 0.0, -0.015, -0.015])
"""Of 1, agreement, confidence, fragments and the strangeness of volume and place, before anything is calibrated: fitted
by ``benchmarks/quality.py`` to validation volumes of abdominal CT at two labelled volumes, rounded."""
TRUST = 0.3
"""How strongly a calibration is drawn towards these weights, in the unit of a sum of squares over rows."""
FARTHEST = 6.0
"""Standard deviations beyond which strange is strange."""
LEAST_SPREAD = np.array([0.35, 0.06, 0.06, 0.06])
"""Standard deviations that a few labelled volumes cannot refute: of a volume's logarithm, of a centre's fractions."""
TRUSTED = 2
"""How many volumes these count for."""


class Place(NamedTuple):
    """Where a structure is, and how large.

    Attributes:
        millilitres: its volume; 0 where there is none.
        centre: of its voxels, as fractions of the network's grid: right, front, head.
    """

    millilitres: float
    centre: tuple[float, float, float]

    @property
    def numbers(self) -> NDArray[np.float64]:
        """Logarithm of the volume, and the centre, (4,)."""
        return np.array([np.log(max(self.millilitres, 1e-9)), *self.centre])


class Signs(NamedTuple):
    """What a mask of a structure in one scan shows of itself.

    Attributes:
        agreement: mean Dice of the mask with those of the views, in [0, 1].
        confidence: mean probability of its voxels, in [0, 1].
        fragments: share of its voxels that cleaning has thrown away, in [0, 1].
        place: of the mask.
    """

    agreement: float
    confidence: float
    fragments: float
    place: Place


@dataclass(frozen=True)
class Usual:
    """Volume and place of a structure in the labelled scans.

    Attributes:
        mean: of :attr:`Place.numbers`, (4,).
        spread: standard deviations, (4,).
        share: of the labelled scans that hold it.
    """

    mean: Sequence[float]
    spread: Sequence[float]
    share: float

    @classmethod
    def of(cls, places: Sequence[Place], scans: int) -> Usual:
        """From the places in those of the ``scans`` that hold the structure; a few cannot tell how far it varies."""
        found, n = np.array([place.numbers for place in places]), len(places)
        spread = np.sqrt((n * found.var(axis=0) + TRUSTED * LEAST_SPREAD**2) / (n + TRUSTED - 1))
        return cls(found.mean(axis=0).tolist(), spread.tolist(), n / scans)


def evidence(signs: Signs, usual: Usual | None) -> NDArray[np.float64]:
    """What a Dice is predicted from, (6,): what :data:`WEIGHTS` weigh; nothing is strange without labelled scans."""
    volume, place = 0.0, 0.0
    if usual:
        away = np.abs(signs.place.numbers - usual.mean) / usual.spread
        volume, place = min(FARTHEST, float(away[0])), min(FARTHEST, float(away[1:].max()))
    return np.array([1.0, signs.agreement, signs.confidence, signs.fragments, volume, place])


@dataclass(frozen=True)
class Calibration:
    """How evidence becomes a Dice, and how well.

    Attributes:
        weights: (6,), see :data:`WEIGHTS`.
        volumes: that it was fitted to.
        rank_correlation: Spearman's, of predicted and true mean Dice of volumes that were left out in turn; ``None``
            where there are too few.
        mean_error: mean absolute difference of these.
    """

    weights: Sequence[float] = tuple(WEIGHTS.tolist())
    volumes: int = 0
    rank_correlation: float | None = None
    mean_error: float | None = None

    def dice(self, signs: Signs, usual: Usual | None = None) -> float | None:
        """The Dice that a mask probably has, in [0, 1].

        A structure that was not found has 0 where most labelled scans hold it, and ``None`` elsewhere.
        """
        if not signs.place.millilitres:
            return 0.0 if usual and usual.share >= 0.5 else None
        return float(np.clip(evidence(signs, usual) @ np.asarray(self.weights), 0, 1))

    def __str__(self) -> str:
        if not self.volumes:
            return "not calibrated by validation volumes of these weights: trust its order, not its height"
        of = f"{self.volumes} validation volume{'s' * (self.volumes > 1)}"
        rank = "" if self.rank_correlation is None else f"rank correlation of scans {self.rank_correlation:.2f}, "
        return f"calibrated on {of}: {rank}mean error {self.mean_error:.3f}"


def calibrate(rows: NDArray[np.float64], dice: NDArray[np.float64], volumes: Sequence[str]) -> Calibration:
    """Fit the weights to volumes whose Dice is known.

    Args:
        rows: evidence of structures that were found, (n, 6).
        dice: true Dice, (n,).
        volumes: whose they are, (n,); each in turn is predicted from the others, which measures the fit.
    """
    if not len(rows):
        return Calibration()
    of = np.asarray(volumes)
    left_out = np.concatenate([rows[of == v] @ _fitted(rows[of != v], dice[of != v]) for v in np.unique(of)])
    truth = np.concatenate([dice[of == v] for v in np.unique(of)])
    predicted, order = left_out.clip(0, 1), np.sort(of)
    means = [np.array([x[order == v].mean() for v in np.unique(of)]) for x in (predicted, truth)]
    return Calibration(
        _fitted(rows, dice).round(6).tolist(),
        len(np.unique(of)),
        rank_correlation(*means),  # of scans, which are ranked by it; some structures are easier than others in all
        float(np.abs(predicted - truth).mean()),
    )


def _fitted(rows: NDArray[np.float64], dice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares, drawn towards the weights that hold without any row."""
    pull = TRUST * np.eye(len(WEIGHTS))
    return np.asarray(WEIGHTS + np.linalg.solve(rows.T @ rows + pull, rows.T @ (dice - rows @ WEIGHTS)))


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Spearman's; ``None`` of fewer than three pairs, or where all of one are the same.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0, 3.0]), np.array([0.1, 0.2, 0.4, 0.4]))
        1.0
    """
    if len(one) < 3 or not (np.ptp(one) and np.ptp(other)):
        return None
    from scipy.stats import spearmanr  # slow to import, and needed once a training

    return round(float(spearmanr(one, other).statistic), 4)


def distance(features: NDArray[np.float32], exemplars: NDArray[np.float32]) -> float:
    """How far a scan is from the training set: the median over its slices of the distance to the nearest exemplar.

    The distance is 1 - cosine, of features as they differ from the exemplars' mean. On abdominal CT it tells scans that
    are upside down, inverted or noisy from those of other patients, which the Euclidean distance does not.

    Args:
        features: of the scan's slices, (n, d).
        exemplars: of slices of the training set, (m, d).

    Returns:
        In [0, 2].
    """
    mean, spread = exemplars.mean(axis=0), exemplars.std(axis=0)
    scale = spread + 0.1 * spread.mean() + 1e-6  # what hardly varies in training must not decide alone
    ours, known = ((values - mean) / scale for values in (features, exemplars))
    ours, known = (values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6) for values in (ours, known))
    return float(np.median((1 - ours @ known.T).min(axis=1)))


def farthest_usual(training: Sequence[NDArray[np.float32]], validation: Sequence[NDArray[np.float32]]) -> float | None:
    """The distance from which on a scan is unlike the training set; ``None`` if nothing tells.

    Half as far again as the farthest of the validation volumes, which the network has not learned; without these, as
    the farthest of the training volumes from the others.

    Args:
        training: features of the exemplars of each training volume, (m, d).
        validation: features of the slices of each validation volume, (n, d).
    """
    known = np.concatenate(training)
    apart = [distance(volume, known) for volume in validation]
    if not apart and len(training) > 1:
        others = [np.concatenate([*training[:k], *training[k + 1 :]]) for k in range(len(training))]
        apart = [distance(volume, rest) for volume, rest in zip(training, others, strict=True)]
    return 1.5 * max(apart) if apart else None
