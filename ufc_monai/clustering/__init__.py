"""Clustering features into pseudo-labels. Arrays in and out; knows nothing of bundles."""

from __future__ import annotations

from ufc_monai.clustering.agreement import agreement, warning
from ufc_monai.clustering.centring import centre_per_patient
from ufc_monai.clustering.centroids import assign, centroids
from ufc_monai.clustering.coverage import Coverage, choose_volumes, cluster_histograms, covering_order
from ufc_monai.clustering.curve import (
    CurvePoint,
    fitted_curve,
    mean_within_cluster_distance,
    same_cluster_chance,
    tree_curve,
)
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters, expected_positives
from ufc_monai.clustering.false_negatives import false_negatives
from ufc_monai.clustering.landmarks import choose_landmarks, landmark_labels
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.partitions import dbscan, kmeans
from ufc_monai.clustering.pipeline import Clustering, cluster_slices
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.quality import quality, size_warning
from ufc_monai.clustering.raw_pixels import raw_pixel_tree, raw_pixels
from ufc_monai.clustering.scaling import Scaling, fit_scaling
from ufc_monai.clustering.tree import cut_tree, merge_tree

__all__ = [
    "Clustering",
    "ClusteringMethod",
    "Coverage",
    "CurvePoint",
    "Elbow",
    "PseudoLabels",
    "Scaling",
    "agreement",
    "assign",
    "centre_per_patient",
    "centroids",
    "choose_landmarks",
    "choose_n_clusters",
    "choose_volumes",
    "cluster_histograms",
    "cluster_slices",
    "covering_order",
    "cut_tree",
    "dbscan",
    "expected_positives",
    "false_negatives",
    "fit_scaling",
    "fitted_curve",
    "kmeans",
    "landmark_labels",
    "mean_within_cluster_distance",
    "merge_tree",
    "quality",
    "raw_pixel_tree",
    "raw_pixels",
    "same_cluster_chance",
    "size_warning",
    "tree_curve",
    "warning",
]
