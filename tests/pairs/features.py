"""What two features bring to one training, how it is started, and what must hold of what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from conftest import NAMES, SMALL, copy_bundles, run_bundle
from monai.bundle import ConfigWorkflow
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ufc_monai.__main__ import main
from ufc_monai.base import host
from ufc_monai.base.bundles import laid_over
from ufc_monai.base.errors import InputError
from ufc_monai.commands.label import put_into_app
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.phantom.skin import make_skin_phantom

VAE, CONTRASTIVE, UNET = NAMES
RANKS, VOLUMES = 2, 8
METHODS = {"method": "moco", "dense": "shape_prior"}
DENSE = {"patch_steps": 2, "train::trainer::max_epochs": 2}
"""Both steps of local discrimination and of its shape prior, in two epochs."""
STUDY = ["--budgets", "2", "--folds", "1", "--seeds", "1", "--init_seeds", "1"]


class PowerCutError(Exception):
    """No handler knows it: nothing is saved on the way out."""


@dataclass
class Training:
    """One short training; each feature changes it a little.

    Attributes:
        folder: of everything.
        features: their names.
        bundle: which is trained.
        configs: the configuration files over each other.
        keys: over those.
        start: starts it.
    """

    folder: Path
    features: Collection[str]
    bundle: str = UNET
    configs: tuple[str, ...] = ("train",)
    keys: dict[str, Any] = field(default_factory=dict)
    start: str = "here"

    @property
    def data(self) -> Path:
        """The data set."""
        return self.folder / "data"

    @property
    def images(self) -> list[str]:
        """Of the data set, relative to it."""
        return sorted(str(p.relative_to(self.data)) for e in ("*_image.nii.gz", "images/*") for p in self.data.glob(e))

    @property
    def bundles(self) -> Path:
        """The three bundles' folder."""
        return self.folder / "bundles"

    @property
    def left(self) -> tuple[Path, Path]:
        """The record's folder and that of the weights."""
        if self.start == "study":
            kind = {VAE: "features", CONTRASTIVE: "pretraining", UNET: "n2_*"}[self.bundle]
            (found,) = self.folder.glob(f"study/runs/**/{kind}/train")
            return found, found.with_name("models")
        return self.bundles / self.bundle / "eval" / "train", self.bundles / self.bundle / "models"

    def label_of(self, image: str) -> str:
        """The label of an image."""
        return image.replace("images/", "labels/").replace(".png", "_segmentation.png").replace("_image", "_label")

    def write_list(self, volumes_each: int) -> None:
        """Say whose the volumes are."""
        labels = {"lesion": 255} if "colour" in self.features else MMWHS_LABELS
        entries = [
            {"image": image, "label": self.label_of(image), "patient": f"p{i // volumes_each}"}
            for i, image in enumerate(self.images)
        ]
        (self.data / "dataset.json").write_text(json.dumps({"training": entries, "labels": labels}))


def make_data(training: Training) -> None:
    """Eight labelled volumes or pictures."""
    if "colour" in training.features:
        make_skin_phantom(training.data, pictures=VOLUMES, size=48)
    else:
        make_phantom(training.data, patients=VOLUMES, matrix=32)


def with_bad_volume(training: Training) -> None:
    """One image is cut off."""
    image = training.data / training.images[0]
    image.write_bytes(image.read_bytes()[:100])
    training.keys["skip_bad"] = True


def with_cut(training: Training) -> None:
    """Every step is saved."""
    training.keys["checkpoint_seconds"] = 0


def with_prototypes(training: Training) -> None:
    """Stage 1 learns its features by contrast, and its prototypes guide what follows."""
    training.bundle, training.configs = VAE, (*training.configs, "contrastive_ae")


def with_method(training: Training) -> None:
    """Pretraining by a method with a queue and a second encoder, or by one that trains the decoder, too."""
    guides = ("ufc",) if {"prototypes", "method"} <= {*training.features} else ()
    training.bundle, training.configs = CONTRASTIVE, (training.configs[0], *methods_of(training), *guides)


def methods_of(training: Training) -> list[str]:
    """The configuration of stage 2, if a feature asks for one."""
    return [config for feature, name in METHODS.items() if feature in training.features for config in laid_over(name)]


def with_unlabelled(training: Training) -> None:
    """Stage 3 also learns from the scans whose labels are not used; a method trains its encoder first."""
    training.bundle, training.configs = UNET, ("train", "self_training")
    training.keys |= {"warm_up_steps": 2, "round_steps": 2}


def with_region(training: Training) -> None:
    """Stage 3 finds it by its labels, the others take numbers."""
    training.keys["region"] = "labels" if training.bundle == UNET else [0.2, 0.8, 0.2, 0.8]


def with_colour(training: Training) -> None:
    """Dermoscopy."""
    training.configs = (training.configs[0], "isic", *training.configs[1:])


def with_ranks(training: Training) -> None:
    """The file for several devices, last."""
    training.configs, training.start = (*training.configs, "multi_gpu_train"), also(training, "ranks")


def also(training: Training, start: str) -> str:
    """Started so, too."""
    return start if training.start == "here" else f"{training.start} {start}"


def with_study(training: Training) -> None:
    """A study of one run."""
    training.start = "study"


def with_server(training: Training) -> None:
    """A label server trains stage 3, whose classes metadata.json names by the data set's ids."""
    training.bundle, training.start = UNET, also(training, "server")


def with_patients(training: Training) -> None:
    """Two volumes of each of four patients."""
    training.write_list(2)


FEATURES: dict[str, Callable[[Training], None]] = {
    "skip_bad": with_bad_volume,
    "resume": with_cut,
    "prototypes": with_prototypes,
    "method": with_method,
    "dense": with_method,
    "unlabelled": with_unlabelled,
    "region": with_region,
    "colour": with_colour,
    "multi-volume patients": with_patients,
    "study": with_study,
    "two ranks": with_ranks,
    "MONAI Label": with_server,
}
"""In the order in which they change a training: the data first, then its keys, then how it is started."""


def compose(folder: Path, features: Collection[str]) -> Training:
    """A training with these features."""
    training = Training(folder, features)
    make_data(training)
    copy_bundles(training.bundles)
    for name in ("multi-volume patients", *FEATURES):  # a list names files, whether or not they can be read
        if name in features and not (name == "multi-volume patients" and (training.data / "dataset.json").exists()):
            FEATURES[name](training)
    training.keys = {**small(training), **training.keys}
    return training


def small(training: Training) -> dict[str, Any]:
    """Some steps of two epochs; a picture is one slice."""
    batch = {VAE: 2, CONTRASTIVE: 2, UNET: 1} if "colour" in training.features else {VAE: 12, CONTRASTIVE: 12, UNET: 8}
    dense = DENSE if "dense" in training.features and training.bundle == CONTRASTIVE else {}
    return {**SMALL[training.bundle], **dense, "min_steps": 1, "epochs": 2, "batch_size": batch[training.bundle]}


# How trainings are started: each as its users do, with ``extra`` keys, cut off at a step or not.


def here(training: Training, cut: bool, **extra: Any) -> None:
    """In this process, the way MONAI's command line does."""
    keys = {VAE: {}, CONTRASTIVE: {"pseudo_labels_path": "none"}, UNET: {"pretrained_path": "none"}}[training.bundle]
    if "prototypes" in training.features and training.bundle != VAE:
        make_clusters(training)
        keys.pop("pseudo_labels_path", None)
    if methods_of(training) and "unlabelled" in training.features and training.bundle == UNET:
        pretrain(training)
        keys = {}
    with cut_off(training) if cut else contextlib.nullcontext():
        run_bundle(
            training.bundles, training.bundle, "+".join(training.configs), training.data,
            **{**training.keys, **keys, **extra},
        )  # fmt: skip


def pretrain(training: Training) -> None:
    """Stage 2 by its method."""
    encoder = replace(training, bundle=CONTRASTIVE, configs=("train", *methods_of(training)))
    here(replace(encoder, keys=small(encoder)), cut=False)


def make_clusters(training: Training) -> None:
    """Stage 1, whose prototypes guide what follows."""
    first = replace(training, bundle=VAE, configs=("train", "contrastive_ae"))
    run_bundle(training.bundles, VAE, "+".join(first.configs), training.data, **small(first))
    where = str(training.bundles / VAE / "eval" / "inference")
    run_bundle(training.bundles, VAE, "inference+prototypes", training.data, output_dir=where)


def on_a_rank(rank: int, training: Training, action: Callable[..., object], *rest: Any) -> None:
    """One of two processes that gloo joins."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_RANK": str(rank)}
    meeting = training.folder / "meeting"
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    action(training, *rest)


def on_two_ranks(training: Training, action: Callable[..., object], *rest: Any) -> None:
    """An action on both at once; an error of one is raised as the InputError it was."""
    (training.folder / "meeting").unlink(missing_ok=True)
    try:
        spawn(on_a_rank, (training, action, *rest), nprocs=RANKS)  # type: ignore[no-untyped-call]
    except Exception as e:
        said = [line for line in str(e).splitlines() if "InputError: " in line]
        if said:
            raise InputError(said[-1].partition("InputError: ")[2]) from e
        raise


def study_on_ranks(training: Training, cut: bool) -> None:
    """The command under torchrun."""
    on_two_ranks(training, study_alone)


def study_alone(training: Training) -> None:
    """The command, its error raised as it is."""
    os.environ["UFC_TRACEBACK"] = "1"
    main(study_words(training))


def served_study(training: Training, cut: bool) -> None:
    """A study has many weights, so that an app takes none of them."""
    study(training, cut)
    (training.folder / "main.py").touch()
    put_into_app(training.folder / "study", training.folder)


def ranks(training: Training, cut: bool, **extra: Any) -> None:
    """On two ranks."""
    on_two_ranks(training, resumed if extra else here, cut)


def resumed(training: Training, cut: bool) -> None:
    """As :func:`here`, going on."""
    here(training, cut, resume=True)


def study(training: Training, cut: bool, **_: Any) -> None:
    """By the command, whose stages get killed or not; it goes on by itself."""
    words = study_words(training)
    begin, code = host.START, 0
    try:
        if cut:
            host.START = f"{KILLED}; {begin}"
        code = main(words)
    finally:
        host.START = begin
    if code and not cut:
        raise RuntimeError("the study failed")
    assert bool(code) == cut


KILLED = (
    "import glob, os; from torch.optim.optimizer import register_optimizer_step_post_hook as add; "
    "add(lambda *_: glob.glob('**/checkpoint.pt', recursive=True) and os.kill(os.getpid(), 9))"
)
"""A stage of which a checkpoint is there when it has taken a step."""


def study_words(training: Training) -> list[str]:
    """The command of a study of one fine-tuning."""
    guided = "prototypes" in training.features
    methods = "+".join([*methods_of(training), *["ufc"] * guided]) or "random"
    methods += "+self_training" if "unlabelled" in training.features else ""
    words = ["study", "--dataset_dir", str(training.data), "--folder", str(training.folder / "study"), *STUDY]
    words += ["--preset", "isic+cpu" if "colour" in training.features else "cpu", "--threads", "1"]
    words += ["--methods", methods, "--bundles", str(training.bundles)]
    words += ["--features", "contrastive_ae"] if guided else []
    words += ["--skip_bad", "True"] if "skip_bad" in training.features else []
    # what the study sets itself is not set, and what all of it takes is an option
    own = {"threads", "labelled_volumes", "skip_bad"}
    for bundle in NAMES:
        keys = training.keys if bundle == training.bundle else {**SMALL[bundle], "epochs": 1, "min_steps": 1}
        words += [word for k, v in keys.items() if k not in own for word in ("--set", f"{bundle}.{k}={v!r}")]
    return words


def served(training: Training, **extra: Any) -> None:
    """What its user has written into a bundle that a server trains: the classes by their ids, and the small network."""
    root = training.bundles / UNET
    classes = {"lesion": 255} if "colour" in training.features else MMWHS_LABELS
    named = {"0": "background", **{str(i): name for name, i in classes.items()}}
    edit(
        root / "configs" / "metadata.json",
        lambda m: m["network_data_format"]["outputs"]["pred"].update(channel_def=named),
    )
    keys = {key: value for key, value in training.keys.items() if key not in ("epochs", "labelled_volumes")}
    edit(root / "configs" / "train.json", lambda config: config.update(keys | extra))


def server(training: Training, cut: bool, **extra: Any) -> None:
    """A label server, beside whose bundle a pretrained encoder lies or not."""
    if methods_of(training):
        pretrain(training)
    if "prototypes" in training.features:  # which the server paints
        make_clusters(training)
    served(training, **extra)
    server_here(training, cut)


def server_on_ranks(training: Training, cut: bool) -> None:
    """As a server with several GPUs does."""
    served(training)
    on_two_ranks(training, server_here, cut)


def server_here(training: Training, cut: bool) -> None:
    """What MONAI Label hands to ``monai.bundle.run``: files, epochs and the device; all else lies in the bundle."""
    root, first = training.bundles / UNET, training.images[:4]
    items = [{"image": str(training.data / i), "label": str(training.data / training.label_of(i))} for i in first]
    overrides: dict[str, Any] = {"train#trainer#max_epochs": 2, "train#dataset#data": items[:3]}
    # the others are those of the encoder and of the clusters
    configs = [
        name for name in training.configs if name not in (*laid_over("+".join(METHODS.values())), "contrastive_ae")
    ]
    with cut_off(training) if cut else contextlib.nullcontext():
        workflow = ConfigWorkflow(
            config_file=[str(root / "configs" / f"{name}.json") for name in configs],
            meta_file=str(root / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            bundle_root=str(root),
            device="cpu",
            **{**overrides, "validate#dataset#data": items[3:]},
        )
        for step in (workflow.initialize, workflow.run, workflow.finalize):
            step()


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@contextlib.contextmanager
def cut_off(training: Training) -> Iterator[None]:
    """The power goes at the first step after a checkpoint."""

    def cut(*_: Any) -> None:
        if list(training.bundles.rglob("checkpoint.pt")):
            raise PowerCutError

    hook = register_optimizer_step_post_hook(cut)
    try:
        yield
    finally:
        hook.remove()


STARTS: dict[str, Callable[..., None]] = {"here": here, "ranks": ranks, "study": study, "server": server}
STARTS |= {"study ranks": study_on_ranks, "study server": served_study, "ranks server": server_on_ranks}


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def weights(training: Training) -> dict[str, torch.Tensor]:
    """What was trained."""
    found: dict[str, torch.Tensor] = torch.load(training.left[1] / "model.pt", weights_only=True)
    return found


def check(training: Training, features: Sequence[str]) -> None:
    """What every training leaves, and what each feature adds to that."""
    out, models = training.left
    record, network = read(out / "run.json"), read(models / "network.json")
    assert record["status"] == "complete"
    assert record["stage"] == f"{training.bundle}/train"
    assert all(torch.isfinite(value).all() for value in weights(training).values())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    bad = [training.images[0]] if "skip_bad" in features else []
    assert [Path(p).name for p in record["skipped"]] == [Path(p).name for p in bad]
    assert len(record.get("resumed", [])) == ("resume" in features)
    assert record["environment"]["ranks"] == (RANKS if "two ranks" in features else 1)
    if {"method", "dense"} & {*features}:
        settings = (
            read(training.bundles / CONTRASTIVE / "eval" / "train" / "run.json")
            if {"MONAI Label", "unlabelled"} & {*features}
            else record
        )
        assert ("key_momentum" if "method" in features else "patch_grid") in settings["settings"]
        assert training.bundle == CONTRASTIVE or record["inputs"]["pretrained"]
    if "prototypes" in features:
        own = network if training.bundle == VAE else read(training.bundles / VAE / "models" / "network.json")
        assert own["architecture"]["prototypes"]["number"] >= 2
        assert training.bundle == VAE or (training.bundles / VAE / "models" / "centroids.npz").is_file()
    assert (network["preprocessing"]["region"] is not None) == ("region" in features)
    assert network["architecture"]["in_channels"] == (3 if "colour" in features else 1)
    if "unlabelled" in features:
        assert list(out.glob("unlabelled_labels/round_*/round.json"))
    if training.bundle == UNET:
        assert network["labels"] == ({"lesion": 255} if "colour" in features else MMWHS_LABELS)
    if training.start == "study":
        assert {run["state"] for run in read(training.folder / "study" / "study.json")["runs"]} == {"complete"}
    if "MONAI Label" not in features:
        check_patients(training, out, features, bad)


def check_patients(training: Training, out: Path, features: Sequence[str], bad: list[str]) -> None:
    """No patient has two roles, and the bad volume none."""
    split = read(Path(training.folder, read(out / "run.json")["inputs"]["split"]["path"]))
    patients = {image: entry["patient"] for image, entry in split["images"].items()}
    assert len(patients) == VOLUMES - len(bad)
    assert len(set(patients.values())) == (VOLUMES // 2 if "multi-volume patients" in features else len(patients))
    for fold in split["folds"]:
        held_out = [*fold["validation"], *fold["test"]]
        assert len(set(held_out)) == len(held_out)
        assert not {patients[image] for image in fold["label_orders"][0]} & set(held_out)
