"""What the dictionary twins of array transforms have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform


class Twin(MapTransform):
    """Base of dictionary twins: one array transform for every key.

    Args:
        keys: keys of what is transformed.
        transform: the array transform.
        allow_missing_keys: pass over keys that an item lacks.
    """

    def __init__(self, keys: KeysCollection, transform: Callable[[Any], Any], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys)
        self.transform = transform

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Transform every key."""
        return dict(data) | {key: self.transform(data[key]) for key in self.key_iterator(dict(data))}
