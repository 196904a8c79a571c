"""Makes files with something wrong in them: small volumes, data sets, and what stages hand to each other."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.networks.nets import BasicUNet
from monai.transforms import Compose
from numpy.typing import NDArray
from scans import make_image, write_dicom

from ufc_monai.artifacts.labelling import Slices, label_slices
from ufc_monai.artifacts.transfer import save_network
from ufc_monai.clustering.pipeline import ClusteringMethod
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data.slices import SliceDataset
from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.labels import RemapLabelsd
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed

SHAPE = (16, 16, 6)
STRAIGHT = np.diag([1.0, 1.0, 2.0, 1.0])
LABELS = {"liver": 1, "spleen": 2}


def voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """A bright body in air."""
    values = np.full(shape, -1000, dtype=np.int16)
    inside = np.random.default_rng(seed).integers(0, 200, shape)
    values[3:-3, 2:-2] = inside[3:-3, 2:-2]
    return values


def organ(shape: tuple[int, ...] = SHAPE, *ids: int) -> NDArray[np.uint8]:
    """A label with one block an id."""
    values = np.zeros(shape, dtype=np.uint8)
    for n, i in enumerate(ids or (1, 2)):
        values[4 + 2 * n : 6 + 2 * n, 4:9, 1:4] = i
    return values


def volume(path: Path, array: NDArray[Any] | None = None, affine: NDArray[Any] | None = STRAIGHT) -> Path:
    """A NIfTI file; ``affine`` ``None`` leaves it out of the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels() if array is None else array, affine)
    nib.save(image, path)
    return path


def volume_with(path: Path, **fields: Any) -> Path:
    """A volume whose header says something else, e.g. ``sform_code=0``; nibabel would mend it on writing."""
    volume(path)
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(raw, dtype=nib.Nifti1Header.template_dtype, count=1)
    for field, value in fields.items():
        header[field] = value
    path.write_bytes(raw)
    return path


def typed(path: Path, kind: Any) -> Path:
    """A volume whose voxels are of some NumPy type."""
    return volume(path, np.zeros(SHAPE, dtype=kind))


def with_voxel(value: float) -> NDArray[np.float32]:
    array = voxels().astype(np.float32)
    array[5, 5, 2] = value
    return array


def cut_off(path: Path, size: int = 300) -> Path:
    """Only the first bytes of a file."""
    path.write_bytes(path.read_bytes()[:size])
    return path


def content(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def series(folder: Path, uid: str = "1.2.3.4", **how: Any) -> Path:
    write_dicom(folder, make_image(0.0), uid, **how)
    return folder


def data_set(folder: Path, labelled: int = 5, unlabelled: int = 1) -> Path:
    """Folders ``images`` and ``labels``; the structures are named in a list."""
    for i in range(labelled + unlabelled):
        volume(folder / "images" / f"p{i}.nii.gz", voxels(i))
        if i < labelled:
            volume(folder / "labels" / f"p{i}.nii.gz", organ())
    content(folder / "dataset.json", json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    return folder


def listed(folder: Path, **lists: Any) -> Path:
    """A data set whose ``dataset.json`` says what is in it."""
    data_set(folder)
    content(folder / "dataset.json", json.dumps(lists))
    return folder


def preprocessing(keys: list[str]) -> Compose:
    """What the stages do to a volume before it is cut into slices."""
    labelled = [RemapLabelsd("label", LABELS)] if "label" in keys else []
    return Compose([LoadVolumed(keys), *labelled, NetworkGridd(keys, 32, (-250, 650))])


def slices(folder: Path, image: Path, label: Path | None = None) -> SliceDataset:
    """The slices of one volume as a stage opens them."""
    item = {"image": str(image)} | ({"label": str(label)} if label else {})
    transform = Compose([preprocessing(list(item)), AxialSlicesd(list(item), root=folder)])
    return SliceDataset([item], transform.flatten(), folder / "cache")


def weights(folder: Path, tensors: Mapping[str, Any], stage: str = "ufc_cluster_contrastive", **record: Any) -> Path:
    """``model.pt`` with a ``network.json`` beside it."""
    about = {"architecture": {}, "preprocessing": {"image_size": 16, "window": [-250, 650]}, **record}
    save_network(folder, tensors, {"stage": stage, **about})
    return folder / "model.pt"


def pseudo_labels(path: Path, **changes: Any) -> Path:
    """A pseudo-label file of one image with three slices; ``changes`` of ``None`` take a key away."""
    PseudoLabels({"a.nii.gz": [0, 1, 1]}, 2, {"fold": 0}).save(path)
    return edited(path, **changes)


def edited(path: Path, **changes: Any) -> Path:
    """A JSON file with some keys changed; ``None`` takes a key away."""
    there = {**json.loads(path.read_text()), **changes}
    return content(path, json.dumps({key: value for key, value in there.items() if value is not None}))


def unet() -> Any:
    return BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 16, 4), norm="batch")


def clustered(folder: Path) -> Path:
    """What stage 1's clustering leaves, of four volumes with six slices each."""
    for name, written in _clustered().items():
        (folder / name).write_bytes(written)
    return folder


@functools.cache
def _clustered() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _cluster(folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _cluster(folder: Path) -> None:
    ids = [f"{name}.nii.gz#{i}" for name in "abcd" for i in range(6)]
    features = np.random.default_rng(0).normal(size=(len(ids), 3)).astype(np.float32)
    np.savez(folder / "features.npz", features=features, ids=ids)
    thumbnails = np.zeros((len(ids), 8, 8), dtype=np.uint8)
    known = Slices(ids, [i[0] for i in ids], np.tile(np.linspace(0, 1, 6), 4), thumbnails)
    label_slices(folder, features, known, ClusteringMethod(n_clusters=3), provenance={"fold": 0})
