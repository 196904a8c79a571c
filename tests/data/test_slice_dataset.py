"""Slices come out of the store as they would out of MONAI's own cache, and the store never goes stale."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    Lambdad,
    Orientationd,
    RandFlipd,
    RandGaussianNoised,
    ScaleIntensityd,
)
from scans import STRAIGHT, make_image, write_dicom
from torch.utils.data import DataLoader

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.store import SliceStore
from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.labels import RemapLabelsd
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed

Item = dict[str, str]
BOTH = ["image", "label"]
N_CLASSES = len(MMWHS_LABELS) + 1


def preprocessing(root: Path, size: int = 24, behind: tuple[Any, ...] = ()) -> Compose:
    """What the segmentation stage does to a volume, and what stands ``behind`` the cut."""
    return Compose(
        [
            LoadVolumed(BOTH),
            RemapLabelsd("label", MMWHS_LABELS, background_labels=[421]),
            NetworkGridd(BOTH, size, (-250, 650)),
            AxialSlicesd(BOTH, root=root),
            *behind,
        ]
    )


@pytest.fixture(scope="module")
def items(phantom: Path) -> list[Item]:
    return [case.item(phantom) for case in find_cases(phantom)[:2]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests share, which are not about building."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def dataset(items: list[Item], phantom: Path, cache: Path) -> SliceDataset:
    return SliceDataset(items, preprocessing(phantom), cache)


@pytest.fixture
def small(tmp_path: Path) -> list[Item]:
    """One volume of 6 by 6 by 3 voxels with a label, quick to build."""
    save(tmp_path / "scan.nii.gz", np.arange(108, dtype=np.float32).reshape(6, 6, 3))
    save(tmp_path / "seg.nii.gz", np.ones((6, 6, 3), dtype=np.uint8))
    return [{"image": str(tmp_path / "scan.nii.gz"), "label": str(tmp_path / "seg.nii.gz")}]


def save(path: Path, array: np.ndarray[Any, Any]) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def cut(*before: Any) -> Compose:
    return Compose([LoadVolumed(BOTH), *before, AxialSlicesd(BOTH)])


def adding(amount: int) -> Callable[[Any], Any]:
    return lambda x: x + amount


def entries(cache: Path) -> dict[Path, int]:
    """The files of a store and when they were written."""
    return {f: f.stat().st_mtime_ns for f in cache.rglob("*") if f.is_file()}


def built(cache: Path) -> int:
    return len(list(cache.rglob("entry.json")))


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[key]))
        else:
            assert value == other[key]


def test_samples_equal_those_of_a_cache_dataset(items: list[Item], phantom: Path, cache: Path) -> None:
    transform = preprocessing(phantom, behind=(ScaleIntensityd("image"),))
    expected = [s for volume in CacheDataset(items, transform, progress=False) for s in volume]
    slices = SliceDataset(items, transform, cache)
    assert len(slices) == len(expected)
    for i, sample in enumerate(expected):
        assert_same(slices[i], sample)
    assert_same(slices[-1], expected[-1])
    assert [s["id"] for s in expected] == [item["id"] for item in slices.items]


def test_samples_know_who_and_where_they_are(dataset: SliceDataset, items: list[Item], phantom: Path) -> None:
    n = len(dataset.entries[0])
    name = Path(items[0]["image"]).relative_to(phantom).as_posix()
    sample = dataset[n - 1]
    assert (sample["id"], sample["patient"]) == (f"{name}#{n - 1}", items[0]["patient"])
    assert sample["position"] == (n - 0.5) / n
    assert sample["image"].shape == sample["label"].shape == (1, 24, 24)
    assert dataset[n]["id"].endswith("#0")
    assert dataset.slices_per_image()[name] == n
    assert sum(dataset.slices_per_image().values()) == len(dataset)


@pytest.mark.parametrize("index", [-10_000, 10_000])
def test_index_outside_is_an_index_error(dataset: SliceDataset, index: int) -> None:
    with pytest.raises(IndexError):
        dataset[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_any_loader_shuffles_it(dataset: SliceDataset, workers: int) -> None:
    assert dataset[0]["id"]  # what knows where slices lie has to travel well
    loader = DataLoader(
        dataset, batch_size=5, shuffle=True, num_workers=workers, generator=torch.Generator().manual_seed(0)
    )
    batches = list(loader)
    ids = [name for batch in batches for name in batch["id"]]
    assert sorted(ids) == sorted(item["id"] for item in dataset.items)
    assert ids != [item["id"] for item in dataset.items]
    place = next(i for i, item in enumerate(dataset.items) if item["id"] == ids[0])
    assert torch.equal(batches[0]["image"][0], dataset[place]["image"])


def test_a_literal_list_is_enough(small: list[Item], tmp_path: Path) -> None:
    slices = SliceDataset(small, cut(), tmp_path / "cache")
    volume = np.arange(108, dtype=np.float32).reshape(6, 6, 3)
    assert len(slices) == 3
    for i in range(3):
        assert np.array_equal(slices[i]["image"][0], volume[:, :, i])
    assert slices[0]["patient"] == slices[0]["id"].rpartition("#")[0]


def test_second_time_builds_nothing(small: list[Item], tmp_path: Path) -> None:
    SliceDataset(small, cut(), tmp_path / "cache")
    before = entries(tmp_path / "cache")
    SliceDataset(small, cut(), tmp_path / "cache")
    assert entries(tmp_path / "cache") == before


def test_what_stands_behind_the_cut_builds_nothing(small: list[Item], tmp_path: Path) -> None:
    plain = SliceDataset(small, cut(), tmp_path / "cache")
    flip = RandFlipd(BOTH, prob=0.5, spatial_axis=0).set_random_state(0)
    flipping = SliceDataset(small, Compose([cut(), flip]), tmp_path / "cache")
    assert built(tmp_path / "cache") == 1
    seen = [torch.equal(torch.as_tensor(flipping[0]["image"]), plain[0]["image"]) for _ in range(10)]
    assert set(seen) == {True, False}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ScaleIntensityd("image", minv=0, maxv=1), ScaleIntensityd("image", minv=0, maxv=2)),
        (Lambdad("image", lambda x: x + 1), Lambdad("image", lambda x: x + 2)),
        (Lambdad("image", lambda x: x + 2), Lambdad("image", lambda x: x * 2)),
        (Lambdad("image", lambda x, a=1: x + a), Lambdad("image", lambda x, a=2: x + a)),
        (Lambdad("image", adding(1)), Lambdad("image", adding(2))),
        (Lambdad("image", partial(torch.add, other=1)), Lambdad("image", partial(torch.add, other=2))),
    ],
    ids=["setting", "constant of a function", "code of a function", "default", "closure", "partial"],
)
def test_another_setting_builds_anew(small: list[Item], tmp_path: Path, one: Any, other: Any) -> None:
    first = SliceDataset(small, cut(one), tmp_path / "cache")[0]["image"]
    second = SliceDataset(small, cut(other), tmp_path / "cache")[0]["image"]
    assert built(tmp_path / "cache") == 2
    assert not torch.equal(first, second)


@pytest.mark.parametrize("key", BOTH)
def test_touched_file_builds_anew(small: list[Item], tmp_path: Path, key: str) -> None:
    SliceDataset(small, cut(), tmp_path / "cache")
    save(Path(small[0][key]), np.full((6, 6, 3), 7, dtype=np.uint8))
    os.utime(small[0][key], ns=(0, 0))
    assert torch.all(SliceDataset(small, cut(), tmp_path / "cache")[0][key] == 7)
    assert built(tmp_path / "cache") == 2


def test_a_touched_dicom_slice_builds_anew(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", make_image(STRAIGHT))
    item = {"image": str(tmp_path / "series")}
    transform = Compose([LoadVolumed("image"), AxialSlicesd("image")])
    for _ in range(2):
        SliceDataset([item], transform, tmp_path / "cache")
    assert built(tmp_path / "cache") == 1
    os.utime(next((tmp_path / "series").iterdir()), ns=(0, 0))
    SliceDataset([item], transform, tmp_path / "cache")
    assert built(tmp_path / "cache") == 2


def test_two_stores_may_build_at_once(small: list[Item], tmp_path: Path, phantom: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: SliceDataset(small, cut(), tmp_path / "cache"), range(4)))
    assert built(tmp_path / "cache") == 1
    assert list((tmp_path / "cache").rglob(".building-*")) == []
    for slices in opened:
        assert_same(slices[1], opened[0][1])


def test_the_slower_of_two_builds_takes_the_faster_ones_entry(small: list[Item], tmp_path: Path) -> None:
    store = SliceStore(tmp_path / "cache", cut().transforms)
    (entry,) = store.open(small)
    before = entries(tmp_path / "cache")
    store._build(small[0], entry.folder)
    assert entries(tmp_path / "cache") == before


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(
    small: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(path: Path, array: Any, allow_pickle: bool) -> None:
        Path(path).write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(np, "save", fail)
        SliceDataset(small, cut(), tmp_path / "cache")
    assert entries(tmp_path / "cache") == {}
    assert list((tmp_path / "cache").rglob(".building-*")) == []
    assert len(SliceDataset(small, cut(), tmp_path / "cache")) == 3


def test_what_a_killed_build_leaves_is_no_entry(small: list[Item], tmp_path: Path) -> None:
    store = SliceStore(tmp_path / "cache", cut().transforms)
    killed = store.folder / ".building-dead"
    killed.mkdir(parents=True)
    (killed / "image.npy").write_bytes(b"half")
    assert len(SliceDataset(small, cut(), tmp_path / "cache")) == 3
    assert killed.exists()  # it may belong to a build that still runs
    os.utime(killed, (0, 0))
    SliceDataset([small[0] | {"patient": "another"}], cut(), tmp_path / "cache")
    assert not killed.exists()


def test_what_another_process_has_just_built_is_not_swept(
    small: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SliceStore(tmp_path / "cache", cut().transforms)
    store.folder.mkdir(parents=True)
    monkeypatch.setattr(Path, "glob", lambda folder, _: iter([folder / ".building-gone"]))
    assert len(store.open(small)) == len(small)


def test_random_transform_before_the_cut_is_refused(small: list[Item], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RandGaussianNoised is random and stands before AxialSlicesd"):
        SliceDataset(small, cut(RandGaussianNoised("image")), tmp_path / "cache")


def test_a_transform_without_cut_is_refused(small: list[Item], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs one AxialSlicesd"):
        SliceDataset(small, Compose([LoadVolumed(BOTH)]), tmp_path / "cache")


def test_no_volumes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got no volumes"):
        SliceDataset([], cut(), tmp_path / "cache")


def spoil(item: Item, damage: str) -> str:
    """Damage a volume; returns the file that the error should name."""
    volume = np.arange(108, dtype=np.float32).reshape(6, 6, 3)
    path = Path(item["label" if damage in ("other shape", "unclaimed id") else "image"])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "NaN":
        volume[1, 2, 0] = np.nan
        save(path, volume)
    elif damage == "4D":
        save(path, np.stack([volume, volume], axis=-1))
    elif damage == "other shape":
        save(path, np.ones((6, 6, 4), dtype=np.uint8))
    elif damage == "unclaimed id":
        save(path, np.full((6, 6, 3), 9, dtype=np.uint8))
    else:
        path.unlink()
    return str(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("truncated", "cannot be read as a volume"),
        ("NaN", "holds NaN or infinite voxels"),
        ("4D", "expected a 3D volume of one channel"),
        ("other shape", "so that both lie on one grid"),
        ("unclaimed id", "label id 9 is claimed by no class"),
        ("missing", "there is no file"),
    ],
)
def test_an_unusable_volume_is_named(small: list[Item], tmp_path: Path, damage: str, reason: str) -> None:
    name = spoil(small[0], damage)
    with pytest.raises(InputError, match=reason) as caught:
        SliceDataset(small, cut(RemapLabelsd("label", {"liver": 1})), tmp_path / "cache")
    assert name in str(caught.value)
    assert built(tmp_path / "cache") == 0


def test_a_failing_transform_is_named_with_the_file(small: list[Item], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.nii\.gz: Orientationd failed on it"):
        SliceDataset(small, cut(Orientationd("image", axcodes="XYZ", labels=None)), tmp_path / "cache")


def test_class_counts_are_those_of_the_samples(dataset: SliceDataset) -> None:
    counts = dataset.class_counts(N_CLASSES)
    assert counts.dtype == torch.int64
    assert counts.shape == (len(dataset), N_CLASSES)
    for i in range(0, len(dataset), 7):
        label = dataset[i]["label"]
        assert counts[i].tolist() == [int((label == c).sum()) for c in range(N_CLASSES)]


def test_foreground_weights_grow_with_the_classes_present(dataset: SliceDataset) -> None:
    weights = dataset.foreground_weights(N_CLASSES, base=0.2)
    for i in range(len(dataset)):
        present = set(torch.unique(dataset[i]["label"]).tolist()) - {0}
        assert weights[i].item() == pytest.approx(0.2 + len(present) / (N_CLASSES - 1))
    assert weights.min() < weights.max()


def test_pickle_carries_no_pixels(dataset: SliceDataset) -> None:
    before = len(pickle.dumps(dataset))
    pixels = sum(entry.array("image").nbytes for entry in dataset.entries)
    assert pixels > before
    travelled = pickle.dumps(dataset)
    assert len(travelled) < before + 100 * len(dataset.entries)  # where arrays begin
    assert_same(pickle.loads(travelled)[3], dataset[3])
