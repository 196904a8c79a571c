"""``pseudo_labels.json``: the cluster of every slice, known by its id, and where the clusters come from."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, read_json

FORMAT = 1
KEY = "pseudo_labels_path"
AGAIN = "Run inference.json of ufc_feature_vae again."


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of the slices of some images.

    Attributes:
        clusters: for each image, by its path relative to the data set's folder, the cluster of each slice from the
            feet up; the slice id ``"<image>#<index>"`` is found at ``clusters[image][index]``.
        n_clusters: number of clusters; all entries are below it.
        provenance: how they were made: method, curve, feature treatment, seeds, hashes. JSON values.
    """

    clusters: dict[str, list[int]]
    n_clusters: int
    provenance: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all; one line per image, so that it can be read and compared.

        Raises:
            ValueError: if ``provenance`` holds NaN, which JSON does not have.
        """
        images = ",\n".join(f"    {json.dumps(i)}: {json.dumps(c)}" for i, c in sorted(self.clusters.items()))
        provenance = json.dumps(self.provenance, indent=2, allow_nan=False).replace("\n", "\n  ")
        with atomic_path(path) as temporary:
            temporary.write_text(
                f'{{\n  "format": {FORMAT},\n  "n_clusters": {self.n_clusters},\n  "provenance": {provenance},\n'
                f'  "clusters": {{\n{images}\n  }}\n}}\n',
                encoding="utf-8",
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PseudoLabels:
        """Read a file.

        Raises:
            InputError: if it is missing, damaged or of another format.
        """
        if not Path(path).is_file():
            raise InputError(
                f"{KEY}: there is no file {path}. Run ufc_feature_vae's train.json and inference.json first, or name "
                f"the file with --{KEY}."
            )
        content = read_json(path, KEY)
        if content.get("format") != FORMAT:
            raise InputError(f"{KEY}: {path} has format {content.get('format')}, expected {FORMAT}. {AGAIN}")
        if missing := {"clusters", "n_clusters", "provenance"} - content.keys():
            raise InputError(f"{KEY}: {path} lacks {', '.join(sorted(missing))}. {AGAIN}")
        labels = cls(content["clusters"], content["n_clusters"], content["provenance"])
        try:
            # operator.index refuses anything but a whole number
            used = {operator.index(c) for clusters in labels.clusters.values() for c in clusters}
            inside = used <= set(range(labels.n_clusters))
            labels.provenance.get("fold")
        except (TypeError, AttributeError) as e:
            raise InputError(f"{KEY}: {path} is damaged ({e}). {AGAIN}") from e
        if not inside:
            raise InputError(f"{KEY}: {path} holds clusters outside of 0..{labels.n_clusters - 1}. {AGAIN}")
        return labels

    def lookup(self, image: str, slice_index: int) -> int:
        """The cluster of one slice.

        Args:
            image: its path relative to the data set's folder.
            slice_index: counted from the feet up.

        Raises:
            InputError: if the slice is unknown.
        """
        clusters = self.clusters.get(image, [])
        if not 0 <= slice_index < len(clusters):
            raise InputError(
                f"{KEY}: no pseudo-label for slice {image}#{slice_index}: the file was made for other data. Run "
                "ufc_feature_vae's inference.json on this data."
            )
        return clusters[slice_index]

    def of_slices(self, ids: Iterable[str]) -> list[int]:
        """The clusters of slices by their ids, ``"<image>#<index>"``.

        Raises:
            InputError: as :meth:`lookup`.
        """
        places = (name.rpartition("#") for name in ids)
        return [self.lookup(image, int(index)) for image, _, index in places]

    def check_images(self, images: Mapping[str, int]) -> None:
        """Check that the pseudo-labels were made for some images.

        Args:
            images: number of slices of each image that needs pseudo-labels. The file may hold further images.

        Raises:
            InputError: if an image is unknown or has another number of slices.
        """
        wrong = [image for image, n in sorted(images.items()) if len(self.clusters.get(image, [])) != n]
        if wrong:
            known = len(self.clusters.get(wrong[0], []))
            raise InputError(
                f"{KEY}: made for other data or another split: {len(wrong)} of {len(images)} images do not fit, first "
                f"{wrong[0]} ({images[wrong[0]]} slices, {known} pseudo-labels). Run ufc_feature_vae on this data and "
                "split."
            )
