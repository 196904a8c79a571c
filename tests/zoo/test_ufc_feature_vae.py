"""In the style of the model zoo's ``ci/unit_tests``: train, then infer."""

from __future__ import annotations

import unittest

import numpy as np
from workflows import SIZE, BundleTest


class TestUfcFeatureVAE(BundleTest):
    bundle = "ufc_feature_vae"

    def test_train_and_infer(self) -> None:
        small = {**SIZE, "vae_channels": [4, 8, 8], "latent_size": 8, "epochs": 2, "kl_warmup_epochs": 1}
        self.check("train", "train", **self.trained(**small))
        self.check("inference", "infer", **self.trained(n_clusters=3, threads=1))
        with np.load(self.place / "inference" / "features.npz") as file:
            assert file["features"].shape == (len(file["ids"]), 8)
        assert (self.place / "inference" / "pseudo_labels.json").is_file()


if __name__ == "__main__":
    unittest.main()
