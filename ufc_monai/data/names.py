"""What a file's path says: whether it is a scan or a label, and of what. The table of layouts that are understood."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ufc_monai.base.formats import stem_of

PART = "(?P<part>Tr|Ts|Va|Val)?"
"""What follows the words of a folder in the Decathlon, nnU-Net and AMOS; labels lie in the folder of the same part."""
TEST_PART = "ts"
SCAN = "images?|imgs?|imaging|cts?|scans?|volumes?|vol"
LABEL = "labels?|segs?|segmentations?|masks?|annot(ation)?s?|gt|(ground_?)?truth|rois?|contours?"
"""The words that call a file, or all files of a folder, a scan or a label."""
MODALITY = "orig|0000|flair|t1|t1n|t1c|t1ce|t1gd|t1w|t2|t2w|t2f"
"""What else may stand at the end of a scan's name: of BraTS, BIDS and nnU-Net."""
SCAN_FOLDER = re.compile(f"({SCAN}|rawdata){PART}", re.IGNORECASE)
LABEL_FOLDER = re.compile(f"({LABEL}|instances){PART}", re.IGNORECASE)
SCAN_END = re.compile(f"((^|[ ._-])({SCAN}|{MODALITY}))+$", re.IGNORECASE)
LABEL_END = re.compile(f"(^|[ ._-])({LABEL}|dseg)$", re.IGNORECASE)
"""The end, or the whole, of a name. What stands before it is what label and scan share."""
SCAN_BEGIN = re.compile(rf"({SCAN})([_-]|(?=\d))", re.IGNORECASE)
LABEL_BEGIN = re.compile(rf"({LABEL})([_-]|(?=\d))", re.IGNORECASE)
"""How names begin that differ there: img0001 and label0001, volume-0 and segmentation-0."""
DERIVED = {"derivatives", "sourcedata"}
"""The folders of BIDS in which only labels are read."""
BIDS = re.compile(r"sub-[A-Za-z0-9]+")
"""The folder of a patient in BIDS."""
BIDS_REST = re.compile(r"((?:^|/)sub-[A-Za-z0-9]+)_[^/]*$")
"""A name in BIDS, which goes on after the patient."""
BIDS_DERIVED = re.compile(r"_(desc|space|label|res|den|seg)-[A-Za-z0-9]+")
"""What BIDS adds to a scan's name for what was made of it."""
CHANNEL = re.compile(r"(?P<scan>.+)_(?!0000)\d{4}")
"""nnU-Net's number of a further channel, which ends an image's name."""


@dataclass(frozen=True)
class Name:
    """What the path of a file, or of the folder of a DICOM series, says.

    Attributes:
        path: relative to the data set's folder.
        is_label: whether a folder or the name calls it a label; what is called nothing is a scan.
        scan: what it is a scan or label of, without the words of the table: ``case_1`` of ``case_1/imaging.nii.gz``.
        key: the same for scan and label of one pair, and for nothing else.
        form: the path with ``*`` in the place of all but the words of the table.
        placed: whether one of its folders is in the table.
        part: of a data set: ``tr``, ``ts``, ``va`` or nothing.
        derived: whether it is what BIDS keeps of a scan that was processed.
    """

    path: str
    is_label: bool
    scan: str
    key: tuple[str, str]
    form: str
    placed: bool
    part: str
    derived: bool

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return stem_of(self.path)


@functools.cache
def read_name(path: str) -> Name:
    """Read a path, relative to the data set's folder and with forward slashes.

    Example:
        >>> read_name("imagesTr/liver_1_0000.nii.gz").scan, read_name("case_2/segmentation.nii.gz").scan
        ('liver_1', 'case_2')
    """
    *folders, _ = path.split("/")
    found = [(LABEL_FOLDER.fullmatch(name), SCAN_FOLDER.fullmatch(name)) for name in folders]
    kept = [name for name, matches in zip(folders, found, strict=True) if not any(matches)]
    part = next((m["part"].lower() for matches in found for m in matches if m and m["part"]), "")
    ending = LABEL_END.search(stem := stem_of(path))
    base = SCAN_END.sub("", stem[: ending.start()] if ending else stem)
    begins = LABEL_BEGIN.match(base)
    form, derived = _form(stem, base), bool(DERIVED.intersection(kept))
    # BIDS: the name says all that the folders from there on do
    if at := [i for i, name in enumerate(kept) if name in DERIVED or BIDS.fullmatch(name)]:
        kept, base = kept[: at[0]], BIDS_DERIVED.sub("", base)
    unique = [] if kept and kept[-1] == base else [base] * bool(base)  # BraTS repeats the folder's name
    return Name(
        path=path,
        is_label=bool(ending or begins or any(label for label, _ in found)),
        scan="/".join(kept + unique) or stem,
        key=(part, "/".join(kept + [(LABEL_BEGIN if begins else SCAN_BEGIN).sub("", name) for name in unique]) or stem),
        form="/".join([name if any(m) else "*" for name, m in zip(folders, found, strict=True)] + [form]),
        placed=any(map(any, found)),
        part=part,
        derived=derived and not (ending or begins),
    )


def _form(stem: str, base: str) -> str:
    begins = LABEL_BEGIN.match(base) or SCAN_BEGIN.match(base)
    return f"{begins.group() if begins else ''}{'*' if base else ''}{stem[len(base) :]}"


def is_word(folder: str) -> bool:
    """Whether a folder's path, relative to the data set's, names no patient: ``images``, ``ct``."""
    return all(SCAN_FOLDER.fullmatch(name) for name in folder.split("/"))


def patients_of(scans: Sequence[str]) -> list[str]:
    """The patients of some scans, named as :attr:`Name.scan`: the last part of the name where it tells them apart.

    Example:
        >>> patients_of(["site_a/p1", "site_b/p1", "p2", "sub-03_ses-1"])
        ['site_a/p1', 'site_b/p1', 'p2', 'sub-03']
    """
    names = [BIDS_REST.sub(r"\1", scan) for scan in scans]
    common = Counter(name.rpartition("/")[2] for name in set(names))
    return [last if common[last := name.rpartition("/")[2]] == 1 else name for name in names]
