"""The slice store's entries are named by all that decides about their voxels, and by nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import CastToTyped

from ufc_monai.base.files import sha256_of
from ufc_monai.data import store_key
from ufc_monai.data.store_key import key_of_transforms
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed

SOURCES = {
    "__init__": "",
    "steps": "from planted.arithmetic import twice\nclass Double:\n    __call__ = staticmethod(twice)\n",
    "arithmetic": "from planted import constants\ndef twice(x):\n    return constants.TWO * x\n",
    "constants": "TWO = 2\n",
    "elsewhere": "from planted.steps import Double\nunused = Double\n",
}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """A package of transforms; the key of its transform once a module has another source."""
    folder = tmp_path / "planted"
    folder.mkdir()
    for name, source in SOURCES.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    def key(changed: str, source: str) -> str:
        (folder / f"{changed}.py").write_text(source)
        store_key._source.cache_clear()
        found = key_of_transforms([importlib.import_module("planted.steps").Double()])
        (folder / f"{changed}.py").write_text(SOURCES[changed])
        return found

    yield key
    store_key._source.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
        del sys.modules[name]


@pytest.mark.parametrize("module", ["steps", "arithmetic", "constants"])
def test_a_byte_of_what_a_transform_uses_is_another_key(planted: Callable[[str, str], str], module: str) -> None:
    usual = planted(module, SOURCES[module])
    assert planted(module, SOURCES[module] + "\n") != usual
    assert planted(module, SOURCES[module]) == usual


def test_what_no_transform_uses_has_no_say(planted: Callable[[str, str], str]) -> None:
    renamed = SOURCES["elsewhere"].replace("unused", "another")
    assert planted("elsewhere", renamed) == planted("elsewhere", SOURCES["elsewhere"])


@pytest.mark.parametrize(
    ("name", "has_a_say"),
    [
        *((name, True) for name in ("volume", "reader")),
        *((name, False) for name in ("batch", "save", "labels")),
    ],
)
def test_our_own_modules(name: str, has_a_say: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed as another file's content stands for a changed source."""
    steps: list[Callable[..., Any]] = [LoadVolumed("image"), AxialSlicesd("image")]
    store_key._source.cache_clear()
    usual, original = key_of_transforms(steps), sha256_of
    store_key._source.cache_clear()
    monkeypatch.setattr(store_key, "sha256_of", lambda file: original(file) + "changed" * (file.stem == name))
    assert (key_of_transforms(steps) != usual) == has_a_say
    store_key._source.cache_clear()


@pytest.mark.parametrize("library", store_key.LIBRARIES)
def test_another_version_of_a_library_is_another_key(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, installed = key_of_transforms([]), store_key._version
    monkeypatch.setattr(store_key, "_version", lambda name: "0.0" if name == library else installed(name))
    assert key_of_transforms([]) != usual


SETTINGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.sampled_from([torch.float16, torch.uint8, np.dtype("float32"), np.float32, np.uint8, torch.nn.ReLU, max]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


class Holder:
    """A transform of any settings."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def __call__(self, data: Any) -> Any:
        """Nothing is done."""
        return data


@given(SETTINGS, SETTINGS)
def test_other_settings_are_another_key(one: Any, other: Any) -> None:
    keys = [key_of_transforms([Holder(settings)]) for settings in (one, other)]
    assert (keys[0] == keys[1]) == (repr(one) == repr(other))


def test_scalars_of_numpy_and_devices_count_by_their_value() -> None:
    settings = [
        np.float32(0.5),
        np.float32(1.5),
        np.bool_(True),
        np.int64(3),
        torch.device("cpu"),
        torch.device("cuda:1"),
    ]
    assert len({key_of_transforms([Holder(value)]) for value in settings}) == len(settings)


def test_another_type_of_voxel_is_another_key() -> None:
    assert len({key_of_transforms([CastToTyped("image", dtype)]) for dtype in (torch.float16, torch.float32)}) == 2
