"""``report``: the report of a run or a study, rewritten."""

from __future__ import annotations

import logging
import pkgutil
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.rounds import newest_round, place_in
from ufc_monai.report.run import write_report

logger = logging.getLogger(__name__)


def report(folder: Path, output: Path | None = None) -> None:
    """Write the report of a run's or a study's folder.

    Args:
        folder: of the run or the study.
        output: the HTML file; ``None`` is ``report.html`` in the folder, or ``report_1.html`` of ``rounds/1``.

    Raises:
        InputError: if the file is a folder, or named for a study.
    """
    if (folder / "study.json").is_file():
        if output:
            raise InputError("--output: a study's report is several files, which stay in its folder. Leave it out.")
        # needs pandas; and the study's room builds on this one
        pkgutil.resolve_name("ufc_monai.study.report:report_study")(folder)
        return
    found = newest_round(folder)
    path = output or place_in(folder, "report.html")
    if path.is_dir():
        raise InputError(f"--output: {path} is a folder. Name the HTML file.")
    write_report(found, path)
    logger.info("report: %s", path)
