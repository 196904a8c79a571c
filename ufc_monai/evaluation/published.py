"""What a bundle of a run has learned, ready to look at slices: those it was trained on, and those it was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import nn

from ufc_monai.artifacts.features import encode
from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.chain import SPLIT
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.split import Split
from ufc_monai.data.split_file import open_split
from ufc_monai.networks.build import build_network
from ufc_monai.transforms.chain import Standardise, slice_chain
from ufc_monai.transforms.labels import RemapLabelsd


@dataclass(frozen=True)
class Published:
    """A network of a run.

    Attributes:
        run: folder of the run.
        bundle: its name.
        record: its network.json.
        network: with its weights, in eval mode.
        device: where it is.
    """

    run: Path
    bundle: str
    record: Mapping[str, Any]
    network: nn.Module
    device: str

    @classmethod
    def open(cls, run: Path, bundle: str, device: str, training: Mapping[str, Any] | None = None) -> Published:
        """Read a network.

        Args:
            run: folder of the run.
            bundle: its name.
            device: where to compute.
            training: as of :func:`build_network`; ``None`` gives features.

        Raises:
            InputError: if there are no weights, or they do not fit.
        """
        models = run / bundle / "models"
        record = read_network(models, bundle)
        network = build_network(record["architecture"], training).to(device).eval()
        load_weights(network, models)
        return cls(run, bundle, record, network, device)

    @property
    def normalise(self) -> Standardise | None:
        """What slices go through on their way into the network."""
        return Standardise() if self.record["preprocessing"]["standardise"] else None

    def split(self, dataset_dir: Path) -> Split:
        """The split that it was trained with."""
        return open_split(self.run / SPLIT, dataset_dir, sha256=self.record["split_sha256"])

    def slices(
        self, items: Sequence[Mapping[str, Any]], dataset_dir: Path, remap: RemapLabelsd | None = None
    ) -> SliceDataset:
        """Slices as it was trained on, not yet normalised; with their labels if ``remap`` is given."""
        channels = self.record["architecture"]["in_channels"]
        chain = slice_chain(self.record["preprocessing"], channels, str(dataset_dir), remap)
        return SliceDataset(items, Compose(chain), self.run / self.bundle / "cache")

    def codes(self, slices: SliceDataset) -> NDArray[np.float32]:
        """The features of slices, (n, F)."""
        return encode(self.network, slices, torch.device(self.device), normalise=self.normalise)
