"""A full disk, or a folder that may not be written to, where ``run`` itself writes: one line, and it goes on later."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from pretended_run import content, pretend_to_run
from test_every_seam import FAULTS, writes

from ufc_monai.base.errors import last_words
from ufc_monai.commands import run
from ufc_monai.planning.stages import Step


def kind_of(seam: str) -> tuple[str, str]:
    """What is done, and to what: of the bundles' files, whose copies are alike, to those of one suffix."""
    done, _, name = seam.partition(" ")
    return done, re.sub(r".*/(configs|docs)/.*?(\.\w+)?\.?$", r"\1/*\2", name)


@pytest.mark.slow
def test_every_seam_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stages are programs of their own."""
    options, under_way, seams = pretend_to_run(tmp_path, monkeypatch), list[Step](), dict[tuple[str, str], str]()
    pretend = Step.run

    def apart(step: Step, *given: Any, **how: Any) -> int:
        under_way.append(step)
        try:
            return pretend(step, *given, **how)
        finally:
            under_way.clear()

    def note(seam: str) -> bool:
        if not under_way:
            seams.setdefault(kind_of(seam), seam)
        return False

    monkeypatch.setattr(Step, "run", apart)
    with writes(options.folder, 0, note):
        run.run_all(options)
    whole = content(options.folder).keys()
    assert len(seams) > 4
    for n, seam in enumerate(seams.values()):
        shutil.rmtree(options.folder)
        fault = list(FAULTS)[n % 2]
        with (
            writes(options.folder, fault, lambda name, seam=seam: name == seam and not under_way),  # type: ignore[misc]
            pytest.raises(Exception, match=r"disk is full|No space|Read-only|may not be") as caught,
        ):
            run.run_all(options)
        said = last_words(caught.value)
        assert FAULTS[fault] in said, (seam, said)
        assert str(options.folder) in said, (seam, said)
        assert len(said.splitlines()) <= 2, (seam, said)
        assert not list(options.folder.rglob(".*")), seam
        run.run_all(options)
        assert content(options.folder).keys() == whole, seam
