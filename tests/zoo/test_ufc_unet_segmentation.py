"""In the style of the zoo's ``ci/unit_tests``: train, evaluate, infer, and infer with the weights that are shipped."""

from __future__ import annotations

import csv
import unittest

import nibabel as nib
import numpy as np
from workflows import SIZE, WIDTHS, BundleTest


class TestUfcUnetSegmentation(BundleTest):
    bundle = "ufc_unet_segmentation"

    def test_train_evaluate_and_infer(self) -> None:
        small = {**SIZE, **WIDTHS, "epochs": 2, "min_steps": 4, "val_interval": 1}
        self.check("train", "train", **self.trained(**small, pretrained_path="none"))
        self.check("train+evaluate", "train", **self.trained(threads=1))
        with open(self.place / "train+evaluate" / "dice.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == 2
        self.check("inference", "infer", ckpt_dir=self.trained()["ckpt_dir"], threads=1)
        assert len(list((self.place / "inference").rglob("*_seg.nii.gz"))) == 5

    def test_shipped_weights(self) -> None:
        """They know the hearts of synthetic patients, at this size, too."""
        self.check("inference", "infer", threads=1)
        masks = sorted((self.place / "inference").rglob("*_seg.nii.gz"))
        assert len(masks) == 5
        for path in masks:
            label = nib.load(self.folder / "data" / path.name.replace("image_seg", "label"))
            heart, reference = (np.asarray(nib.load(path).dataobj) > 0, np.asarray(label.dataobj) % 421 > 0)
            dice = 2 * (heart & reference).sum() / (heart.sum() + reference.sum())
            assert dice > 0.6


if __name__ == "__main__":
    unittest.main()
