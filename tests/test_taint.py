"""Text from files, whatever it is, neither runs nor means anything where MONAI parses it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, ROOT
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inert
from ufc_monai.commands.label import put_into_app
from ufc_monai.data.case import Case
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.data.split import make_split
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages, tracking_keys
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.plan import plan_runs
from ufc_monai.zoo.archive import bundle_files
from ufc_monai.zoo.metadata import metadata_of

VAE, CONTRASTIVE, UNET = NAMES
BUNDLES = ROOT / "bundles"
RAN = "UFC_MONAI_RAN"
CODE = f"__import__('os').environ.update({RAN}='1')"
HOSTILE = st.sampled_from(
    [
        *(f"${CODE}", "$import this", "@_meta_", "@network", "@", "%_meta_", "%metadata.json::name", "%", "@#name"),
        *("lesion @##name", "a @::b", "b%::c", "@:#x", "a#b", "a::b", "::", "#", "+name", "_target_", ""),
    ]
)
PLAIN = st.text("aorta $@%_-()äβ", max_size=12).map(lambda text: f"a{text}")
TEXT = HOSTILE | PLAIN
QUIET = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    yield
    assert os.environ.pop(RAN, None) is None


def as_monai_reads_it(path: Path) -> Any:
    parser = ConfigParser()
    parser.read_meta(path)
    return parser.get_parsed_content("_meta_")


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Where text could stand: each container with each key or index of it."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])


def tainted(draw: st.DataObject, content: dict[str, Any]) -> dict[str, Any]:
    """The content with hostile text in the place of a value, or of the name of one."""
    where, key = draw.draw(st.sampled_from(list(places(content))))
    text = draw.draw(HOSTILE)
    if isinstance(where, dict) and draw.draw(st.booleans()):
        where[text] = where.pop(key)
    else:
        where[key] = text
    return content


@QUIET
@given(st.dictionaries(PLAIN, st.recursive(TEXT, lambda x: st.lists(x) | st.dictionaries(TEXT, x), max_leaves=4)))
def test_what_passes_the_gate_reads_as_it_stands(tmp_path: Path, content: dict[str, Any]) -> None:
    try:
        inert(content, "x")
    except InputError as e:
        assert len(str(e).splitlines()) == 1  # noqa: PT017
        return
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(content))
    assert as_monai_reads_it(path) == content


@QUIET
@given(HOSTILE.filter(lambda text: text not in ("", "+name", "_target_", "a::b", "::")))
def test_the_gate_stops_what_means_something(text: str) -> None:
    for content in (text, [text], {"a": {"b": [text]}}):
        with pytest.raises(InputError, match="MONAI's configurations cannot hold the text"):
            inert(content, "x")


@QUIET
@given(st.dictionaries(TEXT, st.integers(0, 9), min_size=1, max_size=3))
def test_names_of_structures(tmp_path: Path, names: dict[str, int]) -> None:
    """From dataset.json, in both orders that are understood, to the metadata."""
    path = tmp_path / "metadata.json"
    metadata = json.loads((BUNDLES / UNET / "configs" / "metadata.json").read_text())
    network = json.loads((BUNDLES / UNET / "models" / "network.json").read_text())
    for listed in (names, {str(i): name for name, i in names.items()}):
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": listed}))
        try:
            labels = resolve_labels(None, tmp_path)
        except InputError as e:
            assert len(str(e).splitlines()) == 1  # noqa: PT017
            continue
        content = metadata_of(metadata, network | {"labels": labels})
        path.write_text(json.dumps(content))
        assert as_monai_reads_it(path) == content


@QUIET
@given(st.data(), st.sampled_from(NAMES), st.sampled_from(["models/network.json", "configs/metadata.json"]))
def test_files_beside_weights(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject, name: str, file: str
) -> None:
    """``package`` and ``label`` write metadata that means nothing, or nothing at all."""
    folder = tmp_path_factory.mktemp("run")
    for part in (name, UNET):
        shutil.copytree(BUNDLES / part, folder / part, dirs_exist_ok=True)
    path = folder / name / file
    path.write_text(json.dumps(tainted(draw, json.loads(path.read_text()))))
    app = folder / "app"
    app.mkdir()
    (app / "main.py").touch()
    written = folder / "written.json"
    try:
        written.write_bytes(bundle_files(folder / name)["configs/metadata.json"])
        put_into_app(folder, app)
    except Exception as e:  # a network that there is not, a key that is missing
        refused = not isinstance(e, InputError) or len(str(e).splitlines()) == 1
        assert refused
        assert not list((app / "model").glob("*"))
    for content in (written, *app.glob("model/*/configs/metadata.json")):
        if content.is_file():
            assert as_monai_reads_it(content) == json.loads(content.read_text())


@QUIET
@given(st.lists(HOSTILE.filter(bool), min_size=8, max_size=8, unique=True))
def test_names_of_scans_and_patients_reach_no_command(names: list[str]) -> None:
    cases = [Case(f"{name}.nii.gz", f"{name}_seg.nii.gz" if i < 7 else None, name) for i, name in enumerate(names)]
    run = RunOptions(Path("data"), Path("run"), BUNDLES, labelled=1, preset="cpu", compare=True)
    study = StudyOptions(
        run.dataset_dir,
        run.folder,
        BUNDLES,
        preset="cpu",
        methods=("random", "ufc"),
        budgets=("1",),
        selection=("coverage",),
    )
    commands = [stage.command for stage in plan_stages(run, cases)]
    commands += [command for each in plan_runs(study, make_split(cases, seed=0), cases) for command in each.commands]
    plain = [Case(f"p{i}.nii.gz", case.label and f"p{i}_seg.nii.gz", f"p{i}") for i, case in enumerate(cases)]
    expected = [stage.command for stage in plan_stages(run, plain)]
    expected += [command for each in plan_runs(study, make_split(plain, seed=0), plain) for command in each.commands]
    assert commands == expected


@QUIET
@given(HOSTILE)
def test_the_name_of_a_folder_that_is_tracked(name: str) -> None:
    assume(name and "/" not in name)
    try:
        words = list(tracking_keys(Path("somewhere", name)).values())
    except InputError as e:
        assert str(e).startswith("--folder: ")  # noqa: PT017
        return
    parser = ConfigParser({f"a{i}": word for i, word in enumerate(words)})
    assert [parser.get_parsed_content(f"a{i}") for i in range(len(words))] == words
