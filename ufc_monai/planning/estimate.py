"""What training will take on this machine, from a few real steps on random slices."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from monai.bundle import ConfigParser

from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.base.chain import ALONE_FINE_TUNING, FINE_TUNING, PRETRAINING, RANDOM_FINE_TUNING, VAE_TRAINING
from ufc_monai.base.errors import InputError
from ufc_monai.base.machine import LESS_MEMORY, PROCESS_BYTES, at_once
from ufc_monai.clustering.clusterers import Agglomerative
from ufc_monai.data.case import Case
from ufc_monai.data.inspect import VolumeFacts, inspect_cases
from ufc_monai.data.label_names import find_ignore_id, find_labels
from ufc_monai.data.split import pretraining_images
from ufc_monai.data.store import reading_bytes
from ufc_monai.planning.measure import measure_step
from ufc_monai.planning.options import ChainOptions, RunOptions, open_config
from ufc_monai.quality.known import MOST_VOLUMES
from ufc_monai.training.compute import set_threads
from ufc_monai.training.log import duration
from ufc_monai.training.schedule import usual_interval
from ufc_monai.transforms.labels import is_id

logger = logging.getLogger(__name__)

TRAININGS = {VAE: VAE_TRAINING, CONTRASTIVE: PRETRAINING, UNET: FINE_TUNING}
DAY = 86400.0
MANY = 500
"""With more volumes than these, it is said beforehand how long reading them will take."""
TRIED = 10
"""Volumes, about, that this is measured on."""
WARD_SECONDS = 2e-8
"""Ward's tree of n slices takes this times n^2."""
FEATURE_BYTES = 4 * 8
"""Ward's tree takes this for each slice and dimension."""


@dataclass(frozen=True)
class StageEstimate:
    """What the training of one bundle will take.

    Attributes:
        stage: the title of its training.
        steps: optimiser steps.
        seconds: reading the volumes, all steps, validation, and for stage 1 features and clusters; starting the
            programs and the final test are not in it.
        disk_bytes: of the slice store.
        memory_bytes: of the process at its largest while training or clustering. Rule: 0.8 GB for the programs, 16
            bytes a weight, what the backward pass of one batch needs; or, if that is more, four copies of the features
            in float64 for Ward's tree. With a GPU, the training's part is needed there.
        device: where training was measured, e.g. ``"cpu, threads: 2"``.
    """

    stage: str
    steps: int
    seconds: float
    disk_bytes: int
    memory_bytes: int
    device: str


def estimate_stages(options: RunOptions, cases: Sequence[Case], facts: Sequence[VolumeFacts]) -> list[StageEstimate]:
    """Estimate the trainings of a run, in order; stage 3 only where there are labels, with its controls to compare.

    Networks, losses, optimisers and augmentation are built from the configurations as the run will build them, and
    PyTorch's threads are set as they set them.

    Args:
        options: of the run.
        cases: all volumes.
        facts: of all or of some of them; the rest is taken to be like them.

    Raises:
        InputError: at an option that does not fit, or if ``facts`` holds no volume that can be read.
    """
    estimates = [estimate_training(options, name, cases, facts) for name in BUNDLES[:2]]
    if any(case.label for case in cases):
        fine_tuning = estimate_training(options, UNET, cases, facts)
        estimates.append(fine_tuning)
        if options.compare:
            estimates.append(replace(fine_tuning, stage=RANDOM_FINE_TUNING.title, disk_bytes=0))
            if options.unlabelled != "none":
                alone = estimate_training(replace(options, unlabelled="none"), UNET, cases, facts)
                estimates.append(replace(alone, stage=ALONE_FINE_TUNING.title, disk_bytes=0))
    return estimates


def estimate_training(
    options: ChainOptions, bundle: str, cases: Sequence[Case], facts: Sequence[VolumeFacts]
) -> StageEstimate:
    """Estimate the training of one bundle; arguments and errors are those of :func:`estimate_stages`."""
    parser = open_config(options, bundle)
    if bundle == UNET:
        parser["class_ids"] = _class_ids(options, facts, parser["background_labels"])
    names = ("batch_size", "image_size", "channels", "threads", "device")
    batch, image_size, channels, threads, device = map(parser.get_parsed_content, names)
    training, validation = _images(options, bundle, cases)
    every = parser.get("round_steps", 0)  # of self-training, which predicts the other volumes in each round
    stored = _images(options, CONTRASTIVE, cases)[0] if every else training
    (n, _), (all_of_them, reading), (looked_at, reading_validation) = (
        _amount(images, facts) for images in (training, stored, validation)
    )
    threads, measured = set_threads(threads), measure_step(parser)
    batches, others = max(1, n // batch), all_of_them - n
    epochs = _epochs(parser, batches)
    steps = epochs * batches
    validations = math.ceil(epochs / (parser.get("val_interval", 1) or usual_interval(epochs)))
    rounds = max(0, steps - parser["warm_up_steps"]) / max(every, batches) if every else 0
    passes = validations * looked_at + rounds * others + _seen_afterwards(bundle, training, validation, facts)
    tree, tree_bytes = _ward(options, n, parser["latent_size"]) if bundle == VAE else (0.0, 0)
    reading = reading / reading_memory(cases, facts)[0] + reading_validation
    return StageEstimate(
        TRAININGS[bundle].title,
        steps=steps,
        seconds=steps * measured.step + passes * measured.forward + reading + tree,
        # float16, and uint8 for labels; of the unlabelled slices those of two rounds, and all that was predicted
        disk_bytes=image_size**2 * (n * (2 * channels + (bundle == UNET)) + others * (2 * channels + 4)),
        memory_bytes=max(measured.memory, tree_bytes),
        device=f"cpu, threads: {threads}" if torch.device(device).type == "cpu" else str(device),
    )


def _class_ids(options: ChainOptions, facts: Sequence[VolumeFacts], background: Sequence[int]) -> dict[str, int]:
    """As many as a run will have, which is all that counts; MONAI would read names as configuration."""
    found = {int(i) for f in facts for i in f.label_voxels if i and is_id(i)} - {*background}
    return {str(i): i for i in (known_labels(options) or {}).values() or sorted(found) or [1]}


def _epochs(parser: ConfigParser, batches: int) -> int:
    """The epochs of a training whose epoch has so many batches."""
    parsed = parser.get_parsed_content
    epochs: int = max(parsed("epochs"), math.ceil(parser.get("min_steps", 0) / batches))
    if "patch_steps" in parser:  # of local discrimination
        epochs = math.ceil((parsed("patch_steps") + parsed("region_steps")) / batches)
    return epochs


def _seen_afterwards(
    bundle: str, training: Sequence[str], validation: Sequence[str], facts: Sequence[VolumeFacts]
) -> int:
    """Slices that pass through the network once it is trained."""
    if bundle == VAE:  # for their features
        return _amount(training, facts)[0]
    if bundle == UNET:  # quality looks at volumes twice: whole, and by its views
        return 2 * sum(_amount(some[:MOST_VOLUMES], facts)[0] for some in (training, validation))
    return 0


def _ward(options: ChainOptions, n: int, latent_size: int) -> tuple[float, int]:
    """Seconds and bytes of the process for the tree of n slices; more clusters than these are refused."""
    if (k := options.keys.get("n_clusters") or 0) > n:  # None takes the elbow
        raise InputError(f"--n_clusters must be 2 to {n} for about {n} slices to cluster, got {k}.")
    seconds = WARD_SECONDS * min(n, Agglomerative().largest_tree) ** 2
    return seconds, PROCESS_BYTES + FEATURE_BYTES * latent_size * n


def _images(options: ChainOptions, bundle: str, cases: Sequence[Case]) -> tuple[list[str], list[str]]:
    """The images that a bundle trains on, and those that it validates on."""
    split = options.split_of(cases)
    if bundle == UNET:
        fold = split["folds"][options.fold]
        granted = fold["label_orders"][options.label_draw][: options.labelled]
        return granted, [c.image for c in cases if c.label and c.patient in fold["validation"]]
    return pretraining_images(split, options.fold, cases), []


def _amount(images: Sequence[str], facts: Sequence[VolumeFacts]) -> tuple[int, float]:
    """Slices of some images, and the seconds that one reader takes for them."""
    read = {f.image: (f.slices, f.seconds) for f in facts if f.slices}
    if not read:
        raise InputError("no volume can be read, so nothing can be estimated. Run check on the data set.")
    slices, seconds = zip(*read.values(), strict=True)
    usual = statistics.fmean(slices), statistics.median(seconds)  # the first file that is read waits for imports
    amounts = [read.get(image, usual) for image in images]
    return round(sum(n for n, _ in amounts)), sum(time for _, time in amounts)


def refuse_days(estimates: Sequence[StageEstimate]) -> None:
    """Ask before what will take more than a day.

    Raises:
        InputError: naming the option that begins it all the same.
    """
    if (seconds := sum(e.seconds for e in estimates)) > DAY:
        raise InputError(
            f"this will take about {duration(seconds)} on {estimates[0].device}. Begin it with --yes, or take a quick "
            "preset: --preset cpu, paper+cpu or isic+cpu."
        )


def reading_memory(cases: Sequence[Case], facts: Sequence[VolumeFacts]) -> tuple[int, int]:
    """How many volumes are read at once while the slice store is built, and the bytes that the process then takes."""
    sizes = sorted(_reading_sizes(cases, facts).values(), reverse=True)
    readers = at_once(sizes)
    return readers, PROCESS_BYTES + sum(sizes[:readers])


def least_memory(
    estimates: Iterable[StageEstimate], cases: Sequence[Case], facts: Sequence[VolumeFacts]
) -> tuple[int, str]:
    """Bytes of main memory that the largest process needs, and what would need less.

    The training's part of it is a GPU's where there is one; volumes can be read one after the other.
    """
    sizes = _reading_sizes(cases, facts)
    largest = max(sizes, key=sizes.__getitem__)
    reading = PROCESS_BYTES + sizes[largest], f"smaller volumes (crop or resample {largest}, the largest)"
    return max([reading, *((e.memory_bytes, LESS_MEMORY) for e in estimates if e.device.startswith("cpu"))])


def _reading_sizes(cases: Sequence[Case], facts: Sequence[VolumeFacts]) -> dict[str, int]:
    """Bytes that reading each image takes; one that was not looked at counts as the largest."""
    known = {f.image: reading_bytes(f.grid.shape, f.label is not None) for f in facts if f.grid}
    return {case.image: known.get(case.image, max(known.values(), default=0)) for case in cases}


def read_volumes(options: ChainOptions, cases: Sequence[Case], previews: int = 0) -> list[VolumeFacts]:
    """What the volumes are like, as a run will read them; ``previews`` of them keep a slice to show.

    How long that will take is said before, where there are many.
    """
    how = {key: open_config(options, UNET)[key] for key in ("background_labels", "channels")}
    how |= {"ignore_id": known_ignore_id(options), "labels": known_labels(options)}
    if len(cases) > MANY:
        tried = inspect_cases(options.dataset_dir, cases[:: len(cases) // TRIED], **how)
        if readable := sum(bool(f.slices) for f in tried):
            _, seconds = _amount([case.image for case in cases], tried)
            text = "%d volumes to read: about %s, by %d of them"
            logger.info(text, len(cases), duration(seconds / reading_memory(cases, tried)[0]), readable)
    return inspect_cases(options.dataset_dir, cases, previews=previews, **how)


def known_labels(options: ChainOptions) -> dict[str, int] | None:
    """Names and ids of the structures, or ``None`` if they are unnamed.

    Raises:
        InputError: if the option ``labels``, or dataset.json's, is not such a mapping.
    """
    return find_labels(open_config(options, UNET)["labels"], options.dataset_dir)


def known_ignore_id(options: ChainOptions) -> int | None:
    """The id of voxels to ignore, if any; errors are those of :func:`known_labels`."""
    return find_ignore_id(open_config(options, UNET)["labels"], options.dataset_dir)
