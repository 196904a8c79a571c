"""On a full disk the slice store keeps the entries that it has, and goes on once there is space."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from full_disk import content
from monai.transforms import Compose

from ufc_monai.base.errors import InputError
from ufc_monai.data.slices import SliceDataset
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def half(path: Path, array: Any, allow_pickle: bool) -> None:
    Path(path).write_bytes(b"half")
    no_space()


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, str]]:
    for i in range(3):
        nib.save(nib.Nifti1Image(np.full((4, 4, 2), i, dtype=np.int16), np.eye(4)), tmp_path / f"{i}.nii")
    return [{"image": str(tmp_path / f"{i}.nii"), "patient": str(i)} for i in range(3)]


def build(items: list[dict[str, str]], cache: Path) -> SliceDataset:
    return SliceDataset(items, Compose([LoadVolumed("image"), AxialSlicesd("image")]), cache)


@pytest.mark.parametrize(
    ("owner", "name", "fail"),
    [(np, "save", half), (Path, "write_text", no_space), (tempfile, "mkdtemp", no_space), (Path, "rename", no_space)],
    ids=["array", "entry.json", "folder", "name"],
)
def test_entries_stand_and_the_rest_is_built_later(
    owner: Any, name: str, fail: Any, items: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    build(items[:1], cache)
    before = content(cache)
    with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
        patch.setattr(owner, name, fail)
        build(items, cache)
    assert str(caught.value).startswith("the disk is full: ")
    assert len(str(caught.value).splitlines()) == 1
    assert content(cache) == before
    assert not list(cache.rglob(".building-*"))
    dataset = build(items, cache)
    assert [float(dataset[i]["image"].max()) for i in (0, 2, 4)] == [0.0, 1.0, 2.0]


def test_a_store_without_a_folder(items: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", no_space)
    with pytest.raises(InputError, match="the disk is full"):
        build(items, tmp_path / "cache")
