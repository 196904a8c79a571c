"""Label ids of the files to class indices of the network, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.base.errors import BadFileError, InputError
from ufc_monai.transforms.twin import Twin

IGNORE = 255
"""Class index of pixels without a judgement: no loss, no metric (nnU-Net's ``ignore`` label)."""
UNCLAIMED = -1
LARGEST_ID = 2**16 - 1
"""Of a structure; what labels and masks are stored in goes no further."""


def is_id(value: float) -> bool:
    """Whether a voxel's value may be the id of a structure, or of the background."""
    return 0 <= value <= LARGEST_ID and value == int(value)


def few(values: Collection[Any]) -> str:
    """The first few of some numbers or names, sorted, and how many there are if there are more."""
    shown = ", ".join(value if isinstance(value, str) else f"{value:g}" for value in sorted(values)[:5])
    return shown if len(values) <= 5 else f"{shown}, ... ({len(values)} of them)"


class Overlap(NamedTuple):
    """Voxels of a structure in two class maps.

    Attributes:
        both: in prediction and reference.
        predicted: in the prediction.
        reference: in the reference.
    """

    both: int
    predicted: int
    reference: int

    @classmethod
    def of(cls, predicted: Tensor, reference: Tensor) -> Overlap:
        """Count two masks of the same shape."""
        # a sum would copy each as int64
        return cls(*(int(mask.count_nonzero()) for mask in (predicted & reference, predicted, reference)))

    @property
    def dice(self) -> float | None:
        """In [0, 1]; ``None`` where the reference does not hold the structure."""
        return 2 * self.both / (self.predicted + self.reference) if self.reference else None


class RemapLabels(Transform):
    """Map label ids to class indices 0..n in the order in which ``labels`` names them; 0 is background.

    Args:
        labels: ``{name: id}``, 254 at most; the first name becomes class 1. The id 0 is always background.
        background_labels: ids that are turned into background.
        ignore_id: the id that becomes :data:`IGNORE`, if there is one.

    Raises:
        InputError: if ``labels`` is empty or too long, or an id stands twice; when called, at an id that no name
            claims, or a value that is not an id.

    Example:
        >>> remap = RemapLabels({"aorta": 820, "left_ventricle": 500}, background_labels=[421], ignore_id=9)
        >>> remap(torch.tensor([[0, 500, 820, 421, 9]])).tolist()
        [[0, 2, 1, 0, 255]]
    """

    def __init__(
        self, labels: Mapping[str, int], background_labels: Sequence[int] = (), ignore_id: int | None = None
    ) -> None:
        if not isinstance(background_labels, list | tuple) or not all(
            isinstance(i, int) and is_id(i) for i in background_labels
        ):
            raise InputError(f"background_labels must be a list of ids like [3,4], got {background_labels!r}.")
        ids = [int(i) for i in labels.values()]
        others = [0, *{int(i) for i in background_labels}, *([] if ignore_id is None else [ignore_id])]
        if not 0 < len(ids) < IGNORE or len({*ids, *others}) != len(ids) + len(others):
            raise InputError(
                f"labels must name 1 to {IGNORE - 1} ids, each id once and none of 0, background_labels or the ignore "
                f"label; got labels={dict(labels)}, background_labels={list(background_labels)}, ignore={ignore_id}."
            )
        self.labels = dict(labels)
        self.background_labels = tuple(int(i) for i in background_labels)
        self.class_of = dict.fromkeys(others, 0) | {i: n for n, i in enumerate(ids, start=1)}
        if ignore_id is not None:
            self.class_of[ignore_id] = IGNORE

    def __call__(self, label: Tensor) -> Tensor:
        """Return class indices (uint8) in the shape of ``label``; its meta data are kept."""
        plain = np.asarray(label)
        table = np.full(max(self.class_of) + 3, UNCLAIMED, dtype=np.int16)  # the last two: larger, negative
        table[list(self.class_of)] = list(self.class_of.values())
        classes, strange = np.empty_like(plain, dtype=np.uint8), False
        both = (np.moveaxis(np.atleast_2d(array), -1, 0) for array in (plain, classes))
        for values, found in zip(*both, strict=True):  # a slice at a time: an index takes 8 bytes a voxel
            ids = values.astype(np.int64)
            mapped = table[ids.clip(-1, len(table) - 2)]
            strange |= bool((mapped == UNCLAIMED).any() or (ids != values).any())
            found[...] = mapped
        if strange:
            name = label.meta.get("filename_or_obj", "label") if isinstance(label, MetaTensor) else "label"
            unknown = [i for i in np.unique(plain).tolist() if i not in self.class_of]
            if no_ids := [i for i in unknown if not is_id(i)]:
                raise BadFileError(
                    f"{name}: holds values that are not ids: {few(no_ids)}. Export the label again, by the nearest "
                    "voxel where it is resampled."
                )
            raise InputError(
                f"{name}: label id {few(unknown)} is claimed by no class; labels={self.labels}. Name it in 'labels', "
                f"or list it in 'background_labels' (now {list(self.background_labels)}) to make it background."
            )
        remapped = torch.from_numpy(classes)
        return MetaTensor(remapped).copy_meta_from(label) if isinstance(label, MetaTensor) else remapped


def classes_of(mask: NDArray[Any], ids: Iterable[int]) -> NDArray[np.uint8]:
    """Class indices from 1 in the order of the ids, 0 for all else, in the shape of a mask."""
    classes = np.zeros(mask.shape, np.uint8)
    for n, i in enumerate(ids, start=1):
        classes[mask == i] = n
    return classes


class RemapLabelsd(Twin):
    """Dictionary twin of :class:`RemapLabels`, whose arguments follow ``keys``."""

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[str, int],
        background_labels: Sequence[int] = (),
        ignore_id: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RemapLabels(labels, background_labels, ignore_id), allow_missing_keys)


class ClassesToIds(Transform):
    """Map class indices 0..n to the ids of ``labels``: the inverse of :class:`RemapLabels`.

    Args:
        labels: ``{name: id}``, in the order of the classes.

    Example:
        >>> ClassesToIds({"aorta": 820, "left_ventricle": 500})(torch.tensor([[0, 2, 1]])).tolist()
        [[0, 500, 820]]
    """

    def __init__(self, labels: Mapping[str, int]) -> None:
        self.ids = [0, *(int(i) for i in labels.values())]
        self.dtype = torch.uint8 if max(self.ids) <= torch.iinfo(torch.uint8).max else torch.int32

    def __call__(self, classes: Tensor) -> Tensor:
        """Return ids in the shape of ``classes``, uint8 where all of ``labels`` fit and int32 elsewhere."""
        plain = classes.as_subclass(Tensor)
        ids = torch.zeros_like(plain, dtype=self.dtype)
        for n, i in enumerate(self.ids):  # an index would take 8 bytes a voxel
            ids.masked_fill_(plain == n, i)
        mapped: Tensor = convert_to_dst_type(ids, classes, dtype=self.dtype)[0]
        return mapped


class ClassesToIdsd(Twin):
    """Dictionary twin of :class:`ClassesToIds`, whose argument follows ``keys``."""

    def __init__(self, keys: KeysCollection, labels: Mapping[str, int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, ClassesToIds(labels), allow_missing_keys)


class ClearIgnoredd(MapTransform):
    """Make background of the pixels that the label ignores, in label and prediction: no metric sees them then.

    Args:
        keys: ``label``, whose pixels :data:`IGNORE` are cleared, and predictions on its grid: class indices (1, ...) or
            logits (C, ...).
    """

    def __call__(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Clear every key."""
        d = dict(data)
        ignored = d["label"] == IGNORE
        if ignored.any():
            for key in self.key_iterator(d):
                d[key] = _cleared(d[key], ignored.to(d[key].device))
        return d


def _cleared(value: Tensor, ignored: Tensor) -> Tensor:
    if len(value) == 1:
        return value.masked_fill(ignored, 0)
    return torch.cat([value[:1].masked_fill(ignored, torch.inf), value[1:]])
