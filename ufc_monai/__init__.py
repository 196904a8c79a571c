"""Unsupervised feature clustering for contrastive pretraining of CT segmentation networks.

The package under the three MONAI bundles ``ufc_feature_vae``, ``ufc_cluster_contrastive`` and
``ufc_unet_segmentation``. The paper: Y. Zhang, X. Hu, N. Sapkota, Y. Shi, D. Z. Chen, "Unsupervised Feature Clustering
Improves Contrastive Representation Learning for Medical Image Segmentation", BIBM 2022.
"""

from __future__ import annotations

__version__ = "0.1.0"
