"""Clustering features into pseudo-labels. Arrays in and out; knows nothing of bundles."""

from __future__ import annotations

from ufc_monai.clustering.agreement import agreement, warning
from ufc_monai.clustering.centring import centre_per_patient
from ufc_monai.clustering.centroids import assign, centroids
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters, expected_positives, mean_within_cluster_distance
from ufc_monai.clustering.pipeline import Clustering, cluster_slices
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.ward import cut_tree, ward_tree

__all__ = [
    "Clustering",
    "Elbow",
    "PseudoLabels",
    "agreement",
    "assign",
    "centre_per_patient",
    "centroids",
    "choose_n_clusters",
    "cluster_slices",
    "cut_tree",
    "expected_positives",
    "mean_within_cluster_distance",
    "ward_tree",
    "warning",
]
