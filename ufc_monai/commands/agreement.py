"""``agreement``: do the clusters of a run reproduce labels that an observer gave?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import VAE
from ufc_monai.base.chain import VAE_TRAINING, data_set_of, record_of
from ufc_monai.base.errors import InputError
from ufc_monai.base.tables import write_table
from ufc_monai.evaluation.agreement import GROUPS, MEASURES, SPREAD, Row
from ufc_monai.evaluation.comparison import Comparison
from ufc_monai.report.agreement import save_agreement
from ufc_monai.report.page import aligned
from ufc_monai.training.compute import device_of

logger = logging.getLogger(__name__)

PLACE = f"{VAE}/eval/agreement"
DRAWN = ("accuracy", "nmi", "knn", "linear_probe")


def agreement(
    weights: Path,
    labels: str,
    *,
    dataset_dir: Path | None = None,
    beside: Sequence[str] = (),
    steps: int = 300,
    keys: Mapping[str, Any] | None = None,
) -> Path:
    """Compare clusters with labels, beside baselines and a supervised classifier.

    Args:
        weights: folder of the run.
        labels: a CSV with the columns image and label, or a rule for masks: ``dominant``, ``area`` or ``level``.
        dataset_dir: folder of its data set; ``None`` is the one that it was started with.
        beside: folders of further runs with the same split and fold.
        steps: of fine-tuning the supervised baselines.
        keys: ``threads`` and ``device``.

    Returns:
        ``agreement.csv``, a row a method; beside it ``agreement.png``.

    Raises:
        InputError: if the run has no clusters, or labels or data do not fit.
    """
    data = dataset_dir or Path(data_set_of(record_of(weights, VAE_TRAINING)))
    if dataset_dir is None and (data == Path() or not data.is_dir()):
        raise InputError(f"--dataset_dir: the data set of {weights} is not known or not there. Name its folder.")
    compared = Comparison(weights, data, labels, device_of(keys or {}))
    seen = compared.seen
    logger.info(
        "%d classes (%s); %d labelled slices to learn from, %d slices of %d patients to judge on",
        *(
            len(seen.names),
            ", ".join(seen.names),
            seen.known.sum(),
            len(seen.held_out),
            len(set(seen.patients.tolist())),
        ),
    )
    rows = dict(compared.rows(list(map(Path, beside)), steps))
    target = weights / PLACE / "agreement.csv"
    _write(target, rows)
    save_agreement(target.with_suffix(".png"), rows, DRAWN, next(iter(rows.values()))["accuracy"])
    shown = [[name, *(_shown(row, measure) for measure in MEASURES)] for name, row in rows.items()]
    logger.info("%s\n%s", aligned([["method", *MEASURES], *shown]), "95 % intervals over patients in brackets")
    logger.info("%s, beside it agreement.png", target)
    return target


def _shown(row: Row, measure: str) -> str:
    if measure not in row:
        return "-"
    return f"{row[measure]:.3f} [{row[f'{measure}_low']:.3f}, {row[f'{measure}_high']:.3f}]"


def _write(path: Path, rows: Mapping[str, Row]) -> None:
    columns = [name for measure in MEASURES for name in (measure, f"{measure}_low", f"{measure}_high")]
    columns += [*SPREAD, GROUPS]
    cells = ([name, *(f"{row[key]:.4f}" if key in row else None for key in columns)] for name, row in rows.items())
    write_table(path, [["method", *columns], *cells])
