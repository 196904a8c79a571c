"""The arms of a study: what fine-tuning starts from, by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE, fine_tunings, laid_over
from ufc_monai.base.bundles import clusterings as stage_1_clusterings
from ufc_monai.base.bundles import methods as stage_2_methods
from ufc_monai.base.errors import InputError, meant
from ufc_monai.base.files import read_json

RANDOM = "random"
"""Fine-tuning from random weights."""
SHUFFLED = "ufc_random_clusters"
"""The negative control: UFC with the pseudo-labels dealt out anew over the slices."""
NOT_CENTRED = "ufc_not_centred"
"""UFC with clusters of the plain features, patient's mean included, as in the paper."""
COVERING = "@coverage"
"""Behind the name of an arm whose labels cover the clusters."""


@dataclass(frozen=True)
class Clusters:
    """How the slices are clustered.

    Attributes:
        name: of the run that clusters.
        configs: configurations of stage 1 laid over each other.
        keys: keys of the bundle, over those of the study.
        shuffled: whether the pseudo-labels are then dealt out anew over the slices.
    """

    name: str = "clusters"
    configs: tuple[str, ...] = ("inference",)
    keys: dict[str, Any] = field(default_factory=dict)
    shuffled: bool = False


@dataclass(frozen=True)
class Arm:
    """One arm of a study.

    Attributes:
        name: as the user gives it, also a folder's name.
        bundle: the one that pretrains it; ``None`` for random weights.
        configs: laid over the bundle's train.json and the preset, in stage 1 before the preset.
        clusters: the pseudo-labels that guide it, if any.
        covers: whether the volumes that cover the clusters best get the labels, not those of the split's draw.
        training: configurations of stage 3 that are laid over its training.
    """

    name: str
    bundle: str | None = None
    configs: tuple[str, ...] = ()
    clusters: Clusters | None = None
    covers: bool = False
    training: tuple[str, ...] = ()

    @property
    def start(self) -> str:
        """What fine-tuning starts from: the name without the training."""
        return "+".join(part for part in self.name.split("+") if part not in self.training) or RANDOM

    @property
    def unlabelled(self) -> str:
        """What the fine-tuning of a run has as its option of that name."""
        return "+".join(self.training) or "none"

    @property
    def title(self) -> str:
        """What the tables call it."""
        return f"{self.name}{COVERING}" if self.covers else self.name


ARMS = {
    arm.name: arm
    for arm in (
        Arm(RANDOM),
        Arm("vae_init", VAE, ("unet_encoder",)),  # an auto-encoder on the UNet's own encoder
        Arm(SHUFFLED, CONTRASTIVE, ("ufc",), Clusters(shuffled=True)),
        Arm(NOT_CENTRED, CONTRASTIVE, ("ufc",), Clusters("clusters_not_centred", keys={"centred": False})),
    )
}
"""Arms other than a method of stage 2 as it is."""


def find_arms(methods: Sequence[str], clusterings: Sequence[str], bundles: Path) -> list[Arm]:
    """The arms of a study, in order.

    Args:
        methods: ``random``, ``vae_init``, ``ufc_random_clusters``, ``ufc_not_centred``, or a configuration of stage 2,
            or several with ``+`` between them. A part that names a configuration of stage 3 is how it is fine-tuned:
            ``random+self_training``.
        clusterings: ``NAME:VALUE``, UFC with other clusters: ``agglomerative:20``, or another configuration of stage
            1 with a number of clusters (of ``dbscan``: with its ``eps``).
        bundles: folder of the bundles.

    Raises:
        InputError: at an unknown or repeated name.
    """
    arms = [_arm(name, bundles) for name in methods]
    arms += [_clustering(text, bundles) for text in clusterings]
    names = [arm.name for arm in arms]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"--methods: {min(twice)} is named twice.")
    if not names:
        raise InputError("--methods: name at least one, e.g. random,simclr,ufc.")
    return arms


def _arm(name: str, bundles: Path) -> Arm:
    training = tuple(part for part in name.split("+") if part in fine_tunings(bundles))
    first, *others = [part for part in name.split("+") if part not in training] or [RANDOM]
    if first in ARMS and others:
        _check_known("--methods: unknown training", others[0], UNET, fine_tunings(bundles))
    start = "+".join([first, *others])
    return replace(ARMS.get(start) or _method(start, bundles), name=name, training=training)


def _method(name: str, bundles: Path) -> Arm:
    path: Any = "@default_pseudo_labels_path"
    configs = laid_over(name)
    for part in configs:
        _check_known("--methods: unknown method", part, CONTRASTIVE, stage_2_methods(bundles), ARMS)
        config = read_json(bundles / CONTRASTIVE / "configs" / f"{part}.json", "--bundles")
        path = config.get("pseudo_labels_path", path)
    guided = str(path).lower() not in ("none", "null")
    return Arm(name, CONTRASTIVE, tuple(configs), Clusters() if guided else None)


def _clustering(text: str, bundles: Path) -> Arm:
    name, _, value = text.partition(":")
    known = {*stage_1_clusterings(bundles), "agglomerative"}
    _check_known("--clusterings: unknown clustering", name, VAE, known)
    key, number = ("eps", float) if name == "dbscan" else ("n_clusters", int)
    try:
        keys = {key: number(value)}
    except ValueError as e:
        raise InputError(f"--clusterings: expected NAME:NUMBER such as agglomerative:20, got {text!r}.") from e
    configs = ("inference",) if name == "agglomerative" else ("inference", name)
    return Arm(f"ufc_{name}_{value}", CONTRASTIVE, ("ufc",), Clusters(f"clusters_{name}_{value}", configs, keys))


def _check_known(what: str, name: str, bundle: str, known: Collection[str], others: Collection[str] = ()) -> None:
    if name not in known:
        every = sorted({*known, *others})
        hint = meant(name, every) or f"Expected one of {', '.join(every)}."
        raise InputError(f"{what} {name}. {hint} One of your own is a file bundles/{bundle}/configs/{name}.json.")
