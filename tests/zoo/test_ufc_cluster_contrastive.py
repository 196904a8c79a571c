"""In the style of the zoo's ``ci/unit_tests``: train, infer, and infer with the weights that are shipped."""

from __future__ import annotations

import json
import unittest

import numpy as np
from workflows import SIZE, WIDTHS, BundleTest


class TestUfcClusterContrastive(BundleTest):
    bundle = "ufc_cluster_contrastive"

    def test_train_and_infer(self) -> None:
        small = {**SIZE, **WIDTHS, "head_hidden": 16, "embedding_size": 8, "epochs": 2}
        self.check("train+simclr", "train", **self.trained(**small))
        self.check("inference", "infer", ckpt_dir=self.trained()["ckpt_dir"], threads=1)
        assert self.features().shape[1] == 16
        assert (self.place / "train+simclr" / "views.png").is_file()
        record = json.loads((self.place / "train+simclr" / "run.json").read_text())
        assert record["status"] == "complete"

    def test_shipped_weights(self) -> None:
        self.check("inference", "infer", threads=1)
        assert np.isfinite(self.features()).all()

    def features(self) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        with np.load(self.place / "inference" / "features.npz") as file:
            assert len(file["ids"]) == len(file["features"])
            return file["features"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    unittest.main()
