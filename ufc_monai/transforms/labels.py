"""Label ids of the files to class indices of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

from ufc_monai.errors import WAY_OUT, InputError

__all__ = ["RemapLabels", "RemapLabelsd"]

UNCLAIMED = 255
LARGEST_ID = 2**16 - 1
"""Of a structure; what labels and masks are stored in goes no further."""


def is_id(value: float) -> bool:
    """Whether a voxel's value may be the id of a structure, or of the background."""
    return 0 <= value <= LARGEST_ID and value == int(value)


class RemapLabels(Transform):
    """Map label ids to class indices 0..n in the order in which ``labels`` names them; 0 is background.

    Args:
        labels: ``{name: id}``; the first name becomes class 1. The id 0 is always background.
        ignore_labels: ids that are turned into background.

    Raises:
        InputError: if ``labels`` is empty or an id stands twice, and, when called, at an id that no name claims, or a
            value that is no id.

    Example:
        >>> remap = RemapLabels({"aorta": 820, "left_ventricle": 500}, ignore_labels=[421])
        >>> remap(torch.tensor([[0, 500, 820, 421]])).tolist()
        [[0, 2, 1, 0]]
    """

    backend = (TransformBackends.TORCH,)

    def __init__(self, labels: Mapping[str, int], ignore_labels: Sequence[int] = ()) -> None:
        if not isinstance(ignore_labels, list | tuple) or not all(
            isinstance(i, int) and is_id(i) for i in ignore_labels
        ):
            raise InputError(f"ignore_labels must be a list of ids like [3,4], got {ignore_labels!r}.")
        ids = [int(i) for i in labels.values()]
        if not ids or len(set(ids) | {int(i) for i in ignore_labels} | {0}) != len(ids) + len(set(ignore_labels)) + 1:
            raise InputError(
                f"labels must name at least one id, each id once and none of 0 or ignore_labels; got labels="
                f"{dict(labels)}, ignore_labels={list(ignore_labels)}."
            )
        self.labels = dict(labels)
        self.ignore_labels = tuple(int(i) for i in ignore_labels)
        self.class_of = {0: 0} | dict.fromkeys(self.ignore_labels, 0) | {i: n for n, i in enumerate(ids, start=1)}

    def __call__(self, label: Tensor) -> Tensor:
        """Return class indices (uint8) in the shape of ``label``; its meta data are kept."""
        plain = label.as_tensor() if isinstance(label, MetaTensor) else label
        ids = plain.long()
        table = torch.full((max(self.class_of) + 2,), UNCLAIMED, dtype=torch.uint8)  # the last: all larger ids
        for i, n in self.class_of.items():
            table[i] = n
        classes = table[ids.clamp(0, len(table) - 1)]
        if (classes == UNCLAIMED).any() or (ids < 0).any() or (ids != plain).any():
            name = label.meta.get("filename_or_obj", "label") if isinstance(label, MetaTensor) else "label"
            strange = [i for i in torch.unique(plain).tolist() if i not in self.class_of]
            if no_ids := [i for i in strange if not is_id(i)]:
                raise InputError(
                    f"{name}: holds values that are no ids: {_short(no_ids)}. Export the label anew, by the nearest "
                    f"voxel where it is resampled. {WAY_OUT}"
                )
            raise InputError(
                f"{name}: label id {_short(strange)} is claimed by no class; labels={self.labels}. Name it in "
                f"'labels', or list it in 'ignore_labels' (now {list(self.ignore_labels)}) to make it background."
            )
        remapped: Tensor = convert_to_dst_type(classes, label, dtype=torch.uint8)[0]
        return remapped


class RemapLabelsd(MapTransform):
    """Dictionary twin of :class:`RemapLabels`.

    Args:
        keys: keys of the labels.
        labels: as in :class:`RemapLabels`.
        ignore_labels: as in :class:`RemapLabels`.
        allow_missing_keys: do not complain about an item without the key.
    """

    backend = RemapLabels.backend

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[str, int],
        ignore_labels: Sequence[int] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.remap = RemapLabels(labels, ignore_labels)

    def __call__(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Remap every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.remap(d[key])
        return d


def _short(ids: Sequence[float]) -> str:
    """The first few ids, as a file's reader would write them."""
    shown = ", ".join(f"{i:g}" for i in ids[:5])
    return shown + (f", ... ({len(ids)} ids)" if len(ids) > 5 else "")
