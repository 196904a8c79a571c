"""The report's section on the clusters: what is in them, what they follow, what they spare, and how others compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.bundles import CONTRASTIVE, VAE
from ufc_monai.files import found_json, sha256_of
from ufc_monai.report.page import card, paragraph, picture, section, table
from ufc_monai.report.pairs import PAIRS_HEAD, PAIRS_MEAN, pair_rows

__all__ = ["clusters_section"]

FIGURES = {
    "largest": ("quality", "largest_share", "{:.0%}"),
    "of one slice": ("quality", "single_slices", "{:d}"),
    "silhouette": ("quality", "silhouette", "{:.2f}"),
    "NMI, patient": ("agreement", "nmi_patient", "{:.2f}"),
    "NMI, position": ("agreement", "nmi_position", "{:.2f}"),
}
"""What clusterings are compared by: where it stands in their provenance, and how it is written."""

ALIKE = (
    "A good cluster shows one level of the body, from many patients; a bad one shows one patient.",
    ("Clusters across patients and positions", "Sizes of the clusters; which patients and levels they are made of."),
)
ALIKE_PICTURES = (
    "In a good cluster what is to be found looks alike; in a bad one only the camera, a ruler or the border does.",
    ("Sizes of the clusters", "Patients have one picture each, so that clusters cannot follow patients or levels."),
)
"""Captions for volumes, and where patients have one slice each, which agrees with nothing."""


def clusters_section(folder: Path) -> str:
    """The section; empty where nothing was clustered.

    Args:
        folder: of the run.
    """
    place = folder / VAE / "eval" / "inference"
    labels = found_json(place / "pseudo_labels.json", "--folder")
    if not labels:
        return ""
    origin, probe = labels["provenance"], found_json(folder / CONTRASTIVE / "eval" / "probe" / "probe.json", "--folder")
    examples, lie = ALIKE if origin.get("agreement") else ALIKE_PICTURES
    return section(
        "Clusters",
        [
            paragraph(_first_words(labels)),
            *(card(text[0].upper() + text[1:], "warning") for text in origin.get("warnings", [])),
            picture(
                place / "clusters.png",
                "Examples of each cluster",
                examples,
            ),
            _agreement(origin),
            picture(
                place / "cluster_map.png",
                *lie,
            ),
            _pairs(probe),
            _comparison(folder / VAE / "eval", probe),
            picture(
                place / "elbow.png",
                "Number of clusters",
                "The bend depends on the range searched; any number near it serves.",
            ),
        ],
    )


def _first_words(labels: Mapping[str, Any]) -> str:
    origin = labels["provenance"]
    n = sum(len(clusters) for clusters in labels["clusters"].values())
    words = [
        f"{labels['n_clusters']} clusters of {n} slices",
        f" ({origin['method']})" if "method" in origin else "",
        f", from the tree of {m} of them" if (m := origin.get("slices_in_tree", n)) < n else "",
        ".",
    ]
    if quality := origin.get("quality"):
        silhouette = f"; silhouette {quality['silhouette']:.2f}" if "silhouette" in quality else ""
        words.append(
            f" The largest holds {100 * quality['largest_share']:.0f} % of the slices; clusters of a single slice: "
            f"{quality['single_slices']}{silhouette}."
        )
    if elbow := origin.get("elbow"):
        words.append(" So many were asked for." if elbow["chosen"] != labels["n_clusters"] else "")
        words.append(f" {elbow['reason']}")
    return "".join(words)


def _agreement(origin: Mapping[str, Any]) -> str:
    named = {"clusters of the VAE's features": "agreement", "as many of raw pixels": "agreement_of_raw_pixels"}
    rows = [
        [name, f"{values['nmi_patient']:.2f}", f"{values['nmi_position']:.2f}"]
        for name, key in named.items()
        if (values := origin.get(key))
    ]
    if not rows:
        return ""
    said = "0: the cluster tells nothing of it, 1: everything. Position should be above patient."
    return table(["agreement (NMI)", "with patient", "with position"], rows) + paragraph(said, "soft")


def _pairs(probe: Mapping[str, Any]) -> str:
    """What a batch does to pairs of slices, known where there are labels."""
    shares = probe.get("false_negatives")
    if not shares:
        return ""
    said = f"Counted on the {probe['training_volumes']} labelled training volumes. {PAIRS_MEAN}"
    return "<h3>False negatives</h3>\n" + table(PAIRS_HEAD, pair_rows(shares)) + paragraph(said, "soft")


def _comparison(folder: Path, probe: Mapping[str, Any]) -> str:
    """All clusterings of the features that are clustered above, if there are others than that one."""
    found = {
        path: found_json(path, "--folder") for path in sorted(folder.glob("*/pseudo_labels*.json"), key=_shown_first)
    }
    models = [labels["provenance"].get("model_sha256") for labels in found.values()]
    rows = []
    for (path, labels), model in zip(found.items(), models, strict=True):
        if model != models[0]:
            continue
        name = path.relative_to(folder).as_posix()
        pairs = probe.get("clusterings", {}).get(name, {})
        known = pairs.get("false_negatives") is not None and pairs["sha256"] == sha256_of(path)
        share = f"{100 * pairs['false_negatives']:.1f} %" if known else "-"
        place = path.parent.name + path.stem.removeprefix("pseudo_labels").replace("_", ", ")
        rows.append([*_described(labels), share, place])
    if len(rows) < 2:
        return ""
    said = (
        "The first is shown above. Look for position above patient, no cluster that holds most slices, few of one "
        "slice, few false negatives; a silhouette near 1 is well separated, near 0 cut through. A dash: the probe has "
        "not seen these clusters; run it again. To pretrain with others, hand stage 2 their file: --pseudo_labels_path "
        "ufc_feature_vae/eval/FOLDER/pseudo_labels.json."
    )
    head = ["method", "clusters", *FIGURES, "false negatives", "folder"]
    return "<h3>Clusterings compared</h3>\n" + table(head, rows) + paragraph(said, "soft")


def _shown_first(path: Path) -> tuple[bool, str, int, str]:
    """The clusters shown above first, then by folder, cuts of one tree from few to many clusters."""
    return path.parent.name != "inference", path.parent.name, len(path.name), path.name


def _described(labels: Mapping[str, Any]) -> list[str]:
    origin = labels["provenance"]
    figures = [(origin.get(part, {}).get(name), form) for part, name, form in FIGURES.values()]
    centred = "" if origin.get("centred_per_patient", True) else ", not centred"
    method = origin.get("method", "-").removeprefix("agglomerative, ").replace(", Euclidean", "")
    return [
        f"{method}{centred}",
        str(labels["n_clusters"]),
        *("-" if value is None else form.format(value).replace("%", " %") for value, form in figures),
    ]
