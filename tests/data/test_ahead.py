"""What is read ahead comes in its order, one batch ahead and no further, and so do errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ufc_monai.data.ahead import ReadAhead


class Loader:
    """Three batches; making the third fails where asked to. It notes what has been made, and in which threads."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.made: list[int] = []
        self.threads = set[threading.Thread]()

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        for batch in range(3):
            if self.fails and batch == 2:
                raise OSError("damaged")
            self.threads.add(threading.current_thread())
            self.made.append(batch)
            yield batch


def test_batches_come_in_order_made_elsewhere_one_ahead() -> None:
    loader = Loader()
    ahead = ReadAhead(loader)
    assert len(ahead) == 3
    for batch in ahead:
        assert len(loader.made) <= batch + 2
    assert list(ahead) == [0, 1, 2]
    assert threading.current_thread() not in loader.threads


def test_an_error_comes_when_its_batch_is_due() -> None:
    loader, seen = Loader(fails=True), []
    with pytest.raises(OSError, match="damaged"):
        for batch in ReadAhead(loader):
            seen.append(batch)
    assert seen == [0, 1]


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in ReadAhead(Loader()):
        break
    assert threading.active_count() == before
