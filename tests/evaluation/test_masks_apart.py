"""Each test image has a mask of its own."""

from __future__ import annotations

import json

import pytest
from conftest import NAMES, ROOT
from monai.bundle import ConfigParser

from ufc_monai.base.errors import find_input_error


def test_two_test_images_of_one_name_do_not_share_a_mask() -> None:
    config = json.loads((ROOT / "bundles" / NAMES[2] / "configs" / "evaluate.json").read_text(encoding="utf-8"))
    images = [{"image": f"/elsewhere/{folder}/image.nii.gz"} for folder in "ab"]
    parser = ConfigParser(
        {
            "imports": ["$import ufc_monai.transforms as transforms"],
            "output_dir": "/out",
            "dataset_dir": "/data",
            "validate": {"dataset": {"data": images}},
            "first": config["run"][0],
        }
    )
    with pytest.raises(Exception, match="mask_paths") as caught:
        parser.get_parsed_content("first")
    assert "would both be /out/image_seg.nii.gz" in str(find_input_error(caught.value))
