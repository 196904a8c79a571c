from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ufc_monai.artifacts.pseudo_label import THUMBNAIL, thumbnails_of
from ufc_monai.data.store import write_entry


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 100])
def test_thumbnails_are_those_of_the_slices_one_by_one(tmp_path: Path, channels: int, side: int) -> None:
    rng, entries = np.random.default_rng(0), []
    for k, n in enumerate((1, 4)):
        (tmp_path / str(k)).mkdir()
        image = rng.uniform(-0.5, 1.5, (n, channels, side, side)).astype(np.float16)
        entries.append(write_entry(tmp_path / str(k), [{"id": f"{k}#{i}"} for i in range(n)], {"image": image}))
    dataset: Any = SimpleNamespace(entries=entries)
    size = min(side, THUMBNAIL)
    expected = []
    for image in (entry.sample(i)["image"].float() for entry in entries for i in range(len(entry))):
        small = (F.adaptive_avg_pool2d(image, size).clamp(0, 1) * 255).round().to(torch.uint8)
        expected.append(small.movedim(0, -1) if channels == 3 else small[0])
    np.testing.assert_array_equal(thumbnails_of(dataset, tmp_path), torch.stack(expected).numpy())
