"""Clustering features into pseudo-labels. Arrays in and out; knows nothing of bundles."""

from __future__ import annotations

from ufc_monai.clustering.clusterers import DBSCAN, Agglomerative, KMeans
from ufc_monai.clustering.coverage import Coverage, choose_volumes, cluster_histograms, covering_order
from ufc_monai.clustering.false_negatives import count_false_negatives
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.pipeline import Clustering, cluster_slices
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.tree import cut_tree

__all__ = [
    "DBSCAN",
    "Agglomerative",
    "Clustering",
    "ClusteringMethod",
    "Coverage",
    "KMeans",
    "PseudoLabels",
    "choose_volumes",
    "cluster_histograms",
    "cluster_slices",
    "count_false_negatives",
    "covering_order",
    "cut_tree",
]
