"""The tables of docs/results.md, from the recorded files in docs/results.

``python benchmarks/results_tables.py`` writes each table anew behind its mark, ``<!-- table: NAME -->``; a test holds
that nothing changes by it. Of a study, copy ``study.csv`` and ``study_figures.json`` to ``docs/results/NAME.csv`` and
``NAME.json``, and put ``<!-- table: study NAME: TITLE -->`` where the table with that title shall stand, and
``<!-- table: verdict NAME -->`` where its words shall.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ufc_monai.quality.predict import rank_correlation
from ufc_monai.report.page import markdown_cell, markdown_table
from ufc_monai.study.results import Results
from ufc_monai.study.tables import study_tables, verdict

DOCS = Path(__file__).parents[1] / "docs"
MARK = re.compile(r"(<!-- table: (?P<name>.+?) -->\n)(?:[^\n]+\n)+")
STARTS = {"random": "random initialisation", "pretrained": "pretrained encoder"}
BESIDE = {
    "today": "today",
    "mixed": "today",
    "mixed_1600": "mixed",
    "mixed_wide": "mixed",
    "self_symmetric": "mixed_1600",
    "mixed_elastic": "mixed",
    "mixed_more_elastic": "mixed_elastic",
    "mixed_most_elastic": "mixed_more_elastic",
    "mixed_elastic_16": "mixed_elastic",
    "mixed_ema_0.99": "mixed_elastic",
    "mixed_ema_0.998": "mixed_elastic",
    "mixed_late": "mixed_elastic",
    "self_elastic": "self_training",
    "self_more_elastic": "self_elastic",
    "self_elastic_again": "self_elastic",
    "by_cluster": "by_cluster_random",
    "by_cluster_random": "self_elastic_again",
    "partners_cluster": "partners_cluster_random",
    "partners_cluster_random": "self_elastic_again",
    "even": "even_random",
    "even_random": "self_elastic_again",
}
"""What each recipe is compared with; the others with self-training before it."""
ORGANS = {"ivc": "inferior vena cava"}


def filled(page: str, docs: Path = DOCS) -> str:
    """A page with every marked table made anew from the recorded files."""
    return MARK.sub(lambda found: f"{found[1]}{table_of(found['name'], docs / 'results')}\n", page)


def table_of(name: str, recorded: Path) -> str:
    """The Markdown of a table by the name in its mark."""
    if name in TABLES:
        return TABLES[name](recorded)
    kind, _, what = name.partition(" ")
    study, _, title = what.partition(": ")
    results = Results.load(recorded / f"{study}.csv")
    if kind == "verdict":
        return "\n".join(f"- {markdown_cell(line)}" for line in verdict(results))
    table = next(table for table in study_tables(results) if table.title == title)
    return markdown_table(table.head, table.rows)


def stages(recorded: Path) -> str:
    """What each stage of the run took and reports."""
    run = json.loads((recorded / "btcv_two_labels.json").read_text(encoding="utf-8"))
    vae, clusters, contrastive, probe = (run[key] for key in ("vae", "clusters", "contrastive", "probe"))
    own, raw = clusters["agreement"], clusters["agreement_of_raw_pixels"]
    (low, high), tuned = clusters["searched"], run["fine_tuning"]
    steps = _range(one["steps"] for one in tuned)
    learned = [one["lowest_training_dice"] for one in tuned]
    assert not any(one["not_converged"] for one in tuned)
    rows = [
        [f"1, train, {vae['epochs']} epochs, {vae['steps']} steps", f"{vae['seconds']:.0f}",
         f"{vae['active_dimensions']} of {vae['latent_size']} latent dimensions above 0.1 nat, KL {vae['kl']:.1f} "
         f"nats, squared error {vae['mse']:.4f} a pixel"],
        [f"1, features and clusters of {clusters['slices']:,} slices", f"{clusters['seconds']:.0f}",
         f"k = {clusters['n_clusters']} (elbow, {low} to {high} searched); NMI with the patient "
         f"{own['nmi_patient']:.2f}, with the slice position {own['nmi_position']:.2f}; {clusters['n_clusters']} "
         f"clusters of raw pixels: {raw['nmi_patient']:.2f} and {raw['nmi_position']:.2f}; pairs in clusters of one "
         f"patient {100 * own['same_patient_share']:.1f} % (chance {100 * own['same_patient_chance']:.1f} %)"],
        [f"2, train, {contrastive['epochs']} epochs, {contrastive['steps']} steps", f"{contrastive['seconds']:.0f}",
         f"loss {contrastive['loss']:.2f} (chance {contrastive['chance']:.2f}), effective rank "
         f"{contrastive['effective_rank']:.1f}, alignment {contrastive['alignment']:.2f}, uniformity "
         f"{contrastive['uniformity']:.2f}, share of anchors dropped {contrastive['dropped_anchors']:.0f}"],
        ["2, linear probe", f"{probe['seconds']:.0f}",
         f"mean AUC over organs, {probe['training_volumes']} training to {probe['validation_volumes']} validation "
         f"volumes: {probe['probe_auc']:.3f}; untrained encoder {probe['probe_auc_untrained']:.3f}"],
        [f"3, train, {steps} steps, {len(tuned)} runs", _range(one["seconds"] for one in tuned),
         f"every organ converged: lowest Dice on the training volumes {min(learned):.2f} to {max(learned):.2f}"],
        [f"3, test on 8 volumes, {len(tuned)} runs", _range(one["test_seconds"] for one in tuned), ""],
    ]  # fmt: skip
    return markdown_table(["stage", "seconds (`run.json`)", "what it reports"], rows)


def draws(recorded: Path) -> str:
    """Mean Dice of each label draw from both starts."""
    dice = _dice(recorded)
    rows = [
        [draw, *_compared([[row["mean"] for row in dice[start, draw]] for start in STARTS])] for draw in _draws(dice)
    ]
    means = [[fmean(row["mean"] for row in dice[start, draw]) for draw in _draws(dice)] for start in STARTS]
    return markdown_table(["label draw", *STARTS.values(), "difference"], [*rows, ["mean", *_compared(means)]])


def organs(recorded: Path) -> str:
    """Mean Dice of each organ over the draws, from both starts."""
    dice = _dice(recorded)
    names = [name for name in next(iter(dice.values()))[0] if name != "mean"]
    rows = []
    for name in names:
        means = [
            fmean(fmean(row[name] for row in dice[start, draw] if name in row) for draw in _draws(dice))
            for start in STARTS
        ]
        rows.append([ORGANS.get(name, name.replace("_", " ")), *(f"{100 * mean:.1f}" for mean in means)])
    return markdown_table(["organ, mean of the draws", *STARTS.values()], rows)


def methods(recorded: Path) -> str:
    """Every method's time, rank, probe and Dice."""
    rows = []
    for row in _rows(recorded / "btcv_methods.csv"):
        local = f" + {float(row['seconds_of_the_local_stage']):.0f}" if row["seconds_of_the_local_stage"] else ""
        name = "random initialisation" if row["method"] == "random" else f"`{row['method']}`"
        rows.append([
            name, _number(row["seconds_an_epoch"], 1) + local, _number(row["effective_rank"], 1),
            _number(row["probe_auc"], 3), _number(row["dice"], 1),
        ])  # fmt: skip
    return markdown_table(["method", "seconds an epoch", "effective rank", "probe AUC", "Dice (%)"], rows)


def recipes(recorded: Path) -> str:
    """Validation Dice of each recipe: its runs, their means, and what it changed in the same runs of another."""
    found: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for row in _rows(recorded / "btcv_recipes.csv"):
        found.setdefault(row["variant"], {})[row["fold"], row["draw"]] = row
    rows, places = [], sorted({place for runs in found.values() for place in runs})
    for name, runs in found.items():
        raw, cleaned = ({at: float(run[way]) for at, run in runs.items()} for way in ("raw", "smooth clean"))
        other = BESIDE.get(name, "self_symmetric")
        change = fmean(dice - float(found[other][at]["smooth clean"]) for at, dice in cleaned.items())
        each = " ".join(f"{cleaned[at]:.1f}" if at in cleaned else "-" for at in places)
        rows.append([
            f"`{name}`", _range(float(run["steps"]) for run in runs.values()), f"{fmean(raw.values()):.1f}", each,
            f"{fmean(cleaned.values()):.1f}", "-" if other == name else f"{change:+.1f} to `{other}`",
        ])  # fmt: skip
    return markdown_table(["recipe", "steps", "mean, raw", "cleaned, each run", "mean", "change, same runs"], rows)


def round_labels(recorded: Path) -> str:
    """What the last round taught of each structure, beside the labels that it was not shown."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in _rows(recorded / "btcv_round_labels.csv"):
        found.setdefault(row["structure"], {})[row["variant"]] = row
    variants = list(next(iter(found.values())))
    shares = ("right", "ignored", "background", "false")
    rows = [[ORGANS.get(name, name.replace("_", " ")), *(" / ".join(row[v][s] for v in variants) for s in shares)]
            for name, row in found.items()]  # fmt: skip
    return markdown_table([f"%, {' / '.join(f'`{v}`' for v in variants)}", *shares], rows)


def rounds(recorded: Path) -> str:
    """Test Dice by strategy and number of labelled volumes: the mean, and each draw's difference to the first."""
    dice: dict[str, dict[str, dict[str, float]]] = {}
    for row in _rows(recorded / "btcv_rounds.csv"):
        dice.setdefault(row["volumes"], {}).setdefault(row["strategy"], {})[row["draw"]] = float(row["dice"])
    first, *others = next(iter(dice.values()))
    rows = []
    for volumes, of in dice.items():
        ahead = ([f"{value - of[first][draw]:+.1f}" for draw, value in of[name].items()] for name in others)
        means = [f"{fmean(of[name].values()):.1f}" for name in (first, *others)]
        rows.append([volumes, means[0], *(f"{mean} ({' '.join(a)})" for mean, a in zip(means[1:], ahead, strict=True))])
    return markdown_table(["labelled volumes", first, *(f"{name} (ahead of {first})" for name in others)], rows)


def calibration(recorded: Path) -> str:
    """Predicted beside true Dice of each organ in scans that the networks of the rounds had no label of."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in _rows(recorded / "btcv_calibration.csv"):
        found.setdefault(row["structure"], []).append((float(row["predicted_dice"]), float(row["dice"])))
    found["all"] = [pair for pairs in found.values() for pair in pairs]
    rows = []
    for name, pairs in found.items():
        predicted, true = zip(*pairs, strict=True)
        error = fmean(abs(p - t) for p, t in pairs)
        rank = rank_correlation(np.array(predicted), np.array(true))
        figures = [f"{100 * value:.1f}" for value in (fmean(predicted), fmean(true), error)]
        rows.append([ORGANS.get(name, name.replace("_", " ")), str(len(pairs)), *figures, f"{rank:.2f}"])
    return markdown_table(["organ", "masks", "predicted Dice, %", "true", "mean error", "rank correlation"], rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "btcv_two_labels, stages": stages,
    "btcv_two_labels, draws": draws,
    "btcv_two_labels, organs": organs,
    "btcv_methods": methods,
    "btcv_recipes": recipes,
    "btcv_round_labels": round_labels,
    "btcv_rounds": rounds,
    "btcv_calibration": calibration,
}


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _dice(recorded: Path) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Dice of every test volume, by start and label draw; structures that a volume lacks are left out."""
    dice: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in _rows(recorded / "btcv_two_labels.csv"):
        values = {name: float(value) for name, value in list(row.items())[3:] if value}
        dice.setdefault((row["start"], row["label_draw"]), []).append(values)
    return dice


def _draws(dice: dict[tuple[str, str], Any]) -> list[str]:
    return list(dict.fromkeys(draw for _, draw in dice))


def _compared(columns: Sequence[Sequence[float]]) -> list[str]:
    one, other = (100 * fmean(column) for column in columns)
    return [f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}"]


def _number(text: str, decimals: int) -> str:
    return f"{float(text):.{decimals}f}" if text else "-"


def _range(values: Any) -> str:
    found = [f"{value:.0f}" for value in sorted(values)]
    return found[0] if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


if __name__ == "__main__":
    RESULTS = DOCS / "results.md"
    RESULTS.write_text(filled(RESULTS.read_text(encoding="utf-8")), encoding="utf-8")
