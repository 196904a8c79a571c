"""What slices know of themselves beside their pixels: columns that look like dictionaries, for a million slices."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Item = dict[str, Any]


class Items(Sequence[Item]):
    """A sequence of dictionaries that are made when they are asked for."""

    def column(self, key: str) -> NDArray[Any]:
        """The values under one key, (n,); text as objects, so that equal ones are stored once.

        Raises:
            KeyError: at another key.
        """
        raise NotImplementedError

    def _at(self, index: int) -> Item:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Item:  # type: ignore[override]
        return self._at(range(len(self))[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self._at, range(len(self)))


@dataclass(frozen=True)
class VolumeItems(Items):
    """The slices of one volume.

    Attributes:
        n: how many.
        shared: values that all of them have.
        numbered: what stands before ``#0``, ``#1``, ... in values that count the slices, as their ids do.
        columns: values that differ, (n,) each.

    Example:
        >>> items = VolumeItems.of([{"id": "a#0", "patient": "p"}, {"id": "a#1", "patient": "p"}])
        >>> items.shared, items.numbered, items[1]
        ({'patient': 'p'}, {'id': 'a'}, {'id': 'a#1', 'patient': 'p'})
    """

    n: int
    shared: Mapping[str, Any]
    numbered: Mapping[str, str]
    columns: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, items: Sequence[Mapping[str, Any]]) -> VolumeItems:
        """Take dictionaries of the same keys apart."""
        n = len(items)
        columns = {key: [item[key] for item in items] for key in (items[0] if n else ())}
        shared = {key: values[0] for key, values in columns.items() if values.count(values[0]) == n}
        names = {key: str(values[0]).removesuffix("#0") for key, values in columns.items() if key not in shared}
        numbered = {key: name for key, name in names.items() if columns[key] == [f"{name}#{i}" for i in range(n)]}
        rest = {key: values for key, values in columns.items() if key not in shared and key not in numbered}
        return cls(n, shared, numbered, rest)

    def __len__(self) -> int:
        return self.n

    def _at(self, index: int) -> Item:
        numbered = {key: f"{name}#{index}" for key, name in self.numbered.items()}
        return {**numbered, **self.shared, **{key: values[index] for key, values in self.columns.items()}}

    def column(self, key: str) -> NDArray[Any]:
        """See :meth:`Items.column`."""
        if key in self.columns:
            values = self.columns[key]
        elif key in self.numbered:
            values = [f"{self.numbered[key]}#{i}" for i in range(self.n)]
        else:
            values = [self.shared[key]] * self.n
        return np.array(values, dtype=object if any(isinstance(value, str) for value in values) else None)


class JoinedItems(Items):
    """The items of several volumes, one behind the other.

    Args:
        volumes: of one slice or more each.
    """

    def __init__(self, volumes: Sequence[Items]) -> None:
        self.volumes = list(volumes)
        self.ends = list(accumulate(map(len, self.volumes)))

    def __len__(self) -> int:
        return self.ends[-1]

    def place(self, index: int) -> tuple[int, int]:
        """Which volume a slice is of, and its number in it; ``index`` may count from the end."""
        place = range(len(self))[index]
        volume = bisect_right(self.ends, place)
        return volume, place - self.ends[volume] + len(self.volumes[volume])

    def _at(self, index: int) -> Item:
        volume, number = self.place(index)
        return self.volumes[volume][number]

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self.volumes)

    def column(self, key: str) -> NDArray[Any]:
        """See :meth:`Items.column`."""
        return np.concatenate([volume.column(key) for volume in self.volumes])
