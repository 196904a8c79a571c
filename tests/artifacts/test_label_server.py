"""The bundles as MONAI Label's stock app calls them: what it overrides, and which keys it reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT, SMALL, copy_bundles, refused
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import SaveImaged

from ufc_monai.__main__ import main
from ufc_monai.artifacts.labelling import assign_slices
from ufc_monai.artifacts.paint import ClusterPainter
from ufc_monai.artifacts.served import mask_ids, named_classes
from ufc_monai.base.errors import find_input_error
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.training.save import WeightsSaver
from ufc_monai.transforms.clean import CleanVolume
from ufc_monai.transforms.labels import RemapLabels

VAE, CONTRASTIVE, UNET = NAMES
CONFIGS = {"config_file": "train", "meta_file": "metadata"}
SETTINGS = {
    key: SMALL[UNET][key] for key in ("image_size", "threads", "features", "norm", "learning_rate", "val_interval")
}


@pytest.fixture(scope="module")
def painted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Three volumes with masks as a client of the server paints them: the values are its channel_def's."""
    folder = tmp_path_factory.mktemp("painted")
    items = []
    for image in sorted(phantom.glob("*_image.nii.gz"))[:3]:
        label = nib.load(str(image).replace("_image", "_label"))
        indices = RemapLabels(MMWHS_LABELS, [421])(torch.as_tensor(np.asarray(label.dataobj)[None].astype(np.int16)))[0]
        path = folder / image.name
        nib.save(nib.Nifti1Image(indices.numpy().astype(np.uint8), label.affine), path)
        items.append({"image": str(image), "label": str(path)})
    return items


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The bundle alone, with the settings of the small network written into it, as its user would do."""
    root = copy_bundles(tmp_path) / UNET
    path = root / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **SETTINGS}))
    return root


def train(root: Path, training: list[Any], validation: list[Any] | None, epochs: int = 1) -> ConfigWorkflow:
    """What MONAI Label 0.8.5's BundleTrainTask hands to ``monai.bundle.run``."""
    config = json.loads((root / "configs" / "train.json").read_text())
    handlers = config["train"]["handlers"]
    if (root / "models" / "model.pt").is_file():
        loader = {"_target_": "CheckpointLoader", "load_path": str(root / "models" / "model.pt"), "strict": False}
        handlers = [{**loader, "load_dict": {"model": "$@network"}}, *handlers]
    overrides: dict[str, Any] = {"bundle_root": str(root), "device": "cpu", "train#handlers": handlers}
    overrides |= {"train#trainer#max_epochs": epochs, "train#dataset#data": training}
    if validation is not None:
        overrides["validate#dataset#data"] = validation
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "train.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **overrides,
    )
    for step in (workflow.initialize, workflow.run, workflow.finalize):
        step()
    return workflow


def network(root: Path) -> Any:
    return json.loads((root / "models" / "network.json").read_text())


def test_one_or_two_labels_write_weights_and_train_twice(
    bundle: Path, painted: list[dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing validates: the server hands over an empty list, or none if it is asked for the bundle's own."""
    train(bundle, painted[:1], None)
    assert "starts from random weights" in caplog.text
    first = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert network(bundle)["labels"] == {name: i for i, name in enumerate(MMWHS_LABELS, start=1)}
    caplog.clear()
    train(bundle, painted[:2], [])
    assert "random weights" not in caplog.text
    second = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert first.keys() == second.keys()
    assert not torch.equal(first["final_conv.weight"], second["final_conv.weight"])


def test_a_training_that_crashed_is_begun_anew(
    bundle: Path, painted: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server cannot ask for ``resume``; the weights that it had are those to go on from."""
    path = bundle / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "checkpoint_seconds": 0}))
    with monkeypatch.context() as context, pytest.raises(RuntimeError):
        context.setattr(WeightsSaver, "_completed", lambda *_: 1 / 0)
        train(bundle, painted[:2], [])
    assert (bundle / "models" / "checkpoint.pt").is_file()
    train(bundle, painted[:2], [])
    assert json.loads((bundle / "eval" / "train" / "run.json").read_text())["status"] == "complete"


def test_a_broken_scan_is_an_error_without_options_of_a_command(chain: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"no scan")
    with pytest.raises(RuntimeError) as caught:
        serve(chain / UNET, tmp_path / "scan.nii.gz")
    reason = find_input_error(caught.value)
    assert str(reason).endswith("Copy the file again or remove it.")


@pytest.mark.usefixtures("warm")
def test_a_client_is_told_which_label_training_refuses(
    bundle: Path, painted: list[dict[str, str]], tmp_path: Path
) -> None:
    """The server shows its clients the last lines of the program in which it trains, and that alone."""
    label = nib.load(painted[0]["label"])
    bad = tmp_path / "labels" / "final" / "bad.nii.gz"
    bad.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.full(label.shape, 77, np.uint8), label.affine), bad)
    app = tmp_path / "monailabel" / "interfaces" / "utils" / "app.py"
    app.parent.mkdir(parents=True)
    items = [{**painted[0], "label": str(bad)}]
    given = {"bundle_root": str(bundle), "device": "cpu", "train#dataset#data": items, "validate#dataset#data": []}
    configs = {name: str(bundle / "configs" / f"{file}.json") for name, file in CONFIGS.items()}
    app.write_text(f"import monai.bundle\nmonai.bundle.run(run_id='run', **{configs!r}, **{given!r})\n")
    done = subprocess.run([sys.executable, str(app)], capture_output=True, text=True, check=False, cwd=tmp_path)
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert done.returncode == 1
    assert "Traceback" in done.stderr, "for the server's log"
    assert lines[-1].startswith(f"error: {bad}: label id 77 is claimed by no class")
    assert "--skip_bad" not in lines[-1]


def test_an_ignored_id_that_is_the_number_of_a_channel_does_not_keep_from_training(
    bundle: Path, painted: list[dict[str, str]]
) -> None:
    train(bundle, painted[:1], None)
    path = bundle / "models" / "network.json"
    ids = {name: 10 * i for name, i in network(bundle)["labels"].items()}
    path.write_text(json.dumps({**network(bundle), "labels": ids, "ignore_id": 2}))
    train(bundle, painted[:1], None)
    assert network(bundle)["ignore_id"] is None


def test_words_and_keys_of_a_server_are_its_own(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the bundle lacks is refused on a user's command line alone."""
    words = ["--app", "apps/monaibundle", "--config_file", "server.json", "--args_file", "server.args", "--epohcs", "1"]
    monkeypatch.setattr("sys.argv", ["monailabel", "start_server", *words])
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "train.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        epohcs=1,
    )
    workflow.initialize()


def test_with_validation_the_best_weights_are_kept(bundle: Path, painted: list[dict[str, str]]) -> None:
    train(bundle, painted[:2], painted[2:], epochs=2)
    assert network(bundle)["chosen"]["val_mean_dice"] >= 0
    record = json.loads((bundle / "eval" / "train" / "run.json").read_text())
    assert record["settings"]["training_volumes"] == 2


def test_a_bundle_with_weights_keeps_their_network(chain: Path, painted: list[dict[str, str]], tmp_path: Path) -> None:
    """The configuration asks for another network; the one that is served is trained on. The encoder may be gone."""
    root = tmp_path / UNET
    shutil.copytree(chain / UNET, root, ignore=shutil.ignore_patterns("cache"))
    before = network(root)
    workflow = train(root, painted[:2], [])
    assert {key: network(root)[key] for key in ("architecture", "preprocessing")} == {
        key: before[key] for key in ("architecture", "preprocessing")
    }
    assert workflow.parser.get_parsed_content("optimizer").param_groups[0]["initial_lr"] == 0.0005


def test_without_weights_it_starts_from_the_encoder_beside_it(
    chain: Path, painted: list[dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy_bundles(tmp_path)
    shutil.copytree(chain / CONTRASTIVE / "models", tmp_path / CONTRASTIVE / "models")
    with caplog.at_level("INFO"):
        train(tmp_path / UNET, painted[:1], [])
    assert "70 of 70 encoder tensors" in caplog.text
    assert network(tmp_path / UNET)["architecture"]["features"] == SMALL[UNET]["features"]


def test_what_cannot_be_trained_is_refused(bundle: Path, chain: Path, painted: list[dict[str, str]]) -> None:
    path = bundle / "configs" / "train.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"pretrained_path": "nowhere/model.pt"}))
    with refused() as message:
        train(bundle, painted[:1], [])
    assert "no file nowhere" in message[0]
    path.write_text(json.dumps(config))
    shutil.copytree(chain / UNET / "models", bundle / "models")
    metadata = bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"aorta"', '"liver"'))
    with refused() as message:
        train(bundle, painted[:1], [])
    assert "names the classes 1 left_ventricle" in message[0]


def test_training_data_have_to_be_named(bundle: Path) -> None:
    workflow = ConfigWorkflow(str(bundle / "configs" / "train.json"), logging_file=False, bundle_root=str(bundle))
    workflow.initialize()
    with refused() as message:
        workflow.run()
    assert "dataset_dir is not set" in message[0]
    assert not (bundle / "eval").exists()


def serve(root: Path, image: Path, keys: str = "preprocessing inferer postprocessing") -> Any:
    """What MONAI Label does with a volume: the keys of inference.json it reads, the device given as a word."""
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.config |= {"bundle_root": str(root), "device": "cpu"}
    net, before, inferer, after = (parser.get_parsed_content(key) for key in f"network_def {keys}".split())
    net.load_state_dict(torch.load(root / "models" / "model.pt", weights_only=True))
    before.transforms[0]._loader.image_only = False
    item = before({"image": str(image), "image_path": str(image)})
    with torch.inference_mode():
        item["pred"] = inferer(item["image"][None], net.eval())[0]
    for transform in after.transforms:
        if not isinstance(transform, SaveImaged):  # the server answers with the mask itself
            item = transform(item)
    return item["pred"]


def test_a_volume_is_segmented_by_the_served_keys(chain: Path, phantom: Path, tmp_path: Path) -> None:
    image = min(phantom.glob("*_image.nii.gz"))
    mask = serve(chain / UNET, image)
    assert mask.shape[1:] == nib.load(image).shape
    assert set(mask.unique().tolist()) <= set(range(8))  # the channels, which metadata.json names as it comes
    shutil.copytree(chain / UNET, tmp_path / UNET, ignore=shutil.ignore_patterns("cache", "eval"))
    path = tmp_path / UNET / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", "1": "liver"}
    path.write_text(json.dumps(metadata))
    with refused() as message:
        serve(tmp_path / UNET, image)
    assert "names the classes 1 liver; the weights have 500 left_ventricle" in message[0]


def test_a_volume_is_painted_with_the_clusters_of_its_slices(chain: Path, phantom: Path) -> None:
    """Every slice has one colour, and it is the cluster that Python gives the features on disk."""
    places = chain / VAE / "eval" / "inference"
    with np.load(places / "features.npz") as file:
        features = {name: file["features"][i] for i, name in enumerate(file["ids"].tolist())}
    image = sorted({name.partition("#")[0] for name in features})[0]
    own = np.stack([features[f"{image}#{i}"] for i in range(sum(n.startswith(f"{image}#") for n in features))])
    expected = assign_slices(places / "centroids.npz", own, [image] * len(own)) + 1
    mask = serve(chain / VAE, phantom / image, "pre_transforms inferer post_transforms")
    stored = nib.load(phantom / image)
    assert mask.shape[1:] == stored.shape
    upright = nib.as_closest_canonical(nib.Nifti1Image(mask[0].numpy(), stored.affine)).get_fdata()
    for i, cluster in enumerate(expected.tolist()):
        assert set(np.unique(upright[..., i])) <= {0, cluster}
        assert upright[upright.shape[0] // 2, upright.shape[1] // 2, i] == cluster
    assert len(set(expected.tolist())) > 1


def test_clusters_of_other_weights_are_not_painted(chain: Path, phantom: Path, tmp_path: Path) -> None:
    painter = ClusterPainter(chain / VAE / "models" / "centroids.npz", "another")
    volume = torch.zeros(1, 1, 32, 32, 3)
    for broken, words in ((painter, "other weights"), (ClusterPainter(tmp_path / "none.npz", ""), "there is no")):
        with refused() as message:
            broken(volume, torch.nn.Identity())
        assert words in message[0]


def test_a_run_goes_into_the_app(chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = tmp_path / "monaibundle"
    assert main(["label", "--folder", str(chain), str(app)]) == 1
    app.mkdir()
    (app / "main.py").touch()
    assert main(["label", "--folder", str(chain), str(app)]) == 0
    names = ["cluster 0", "cluster 1", "cluster 2", "cluster 3"]
    assert list(named_classes(app / "model" / VAE)) == names
    assert named_classes(app / "model" / UNET) == MMWHS_LABELS
    assert {p.name for p in (app / "model" / VAE / "models").iterdir()} == {"model.pt", "network.json", "centroids.npz"}
    assert "demonstration" not in (app / "model" / UNET / "configs" / "metadata.json").read_text()
    mask = serve(app / "model" / UNET, min(phantom.glob("*_image.nii.gz")))
    assert set(mask.unique().tolist()) <= {0, *MMWHS_LABELS.values()}
    assert mask.dtype == torch.int32
    assert "--values channels" in caplog.text  # these ids have gaps
    shutil.rmtree(app / "model")
    assert main(["label", "--folder", str(chain), str(app), "--values", "channels"]) == 0
    assert named_classes(app / "model" / UNET) == {name: i for i, name in enumerate(MMWHS_LABELS, start=1)}
    assert main(["label", "--folder", str(chain), str(app)]) == 1  # perhaps trained on by now


def test_a_folder_without_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As that of a study, whose weights are those of its runs."""
    copy_bundles(tmp_path / "study")
    (tmp_path / "main.py").touch()
    assert main(["label", "--folder", str(tmp_path / "study"), str(tmp_path)]) == 1
    assert "has weights. Name a finished run's folder, not a study's" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_server_cleans_as_the_weights_that_it_has_just_trained_want(chain: Path, tmp_path: Path) -> None:
    """It parses its configuration once."""
    root = tmp_path / UNET
    shutil.copytree(chain / UNET, root)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(root), "dataset_dir": ""})
    clean = parser.get_parsed_content("postprocessing").transforms[0]
    scores = torch.randn(8, 8, 8, 4)
    for cleaning in ({"slices": 3, "connected": [1]}, {"slices": 1, "connected": [2, 3]}, None):
        path = root / "models" / "network.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cleaning": cleaning}))
        found = clean({"pred": scores.clone()})["pred"]
        assert torch.equal(found, CleanVolume(cleaning)(scores.clone()))


def test_what_a_client_sees_fits_the_masks_and_what_it_paints_is_learned(
    chain: Path, phantom: Path, tmp_path: Path
) -> None:
    """In a copy that ``label`` made, both are the data set's ids, in whatever order the classes are."""
    (tmp_path / "main.py").touch()
    main(["label", "--folder", str(chain), str(tmp_path)])
    root = tmp_path / "model" / UNET
    items = [{"image": str(i), "label": str(i).replace("_image", "_label")} for i in sorted(phantom.glob("*_image*"))]
    path = root / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **SETTINGS}))
    workflow = train(root, items[:1], [])
    assert network(root)["labels"] == MMWHS_LABELS
    assert list(network(root)["labels"]) == list(MMWHS_LABELS)  # sorted by id, other channels would be trained
    counts = workflow.parser.get_parsed_content("class_counts")
    ids = np.asarray(nib.load(items[0]["label"]).dataobj)
    assert counts[6] / counts[5] == pytest.approx((ids == 820).sum() / (ids == 205).sum(), rel=0.2)


def test_the_values_of_a_server_are_ids_or_channels_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def describe(**channels: int) -> None:
        (tmp_path / "configs").mkdir(exist_ok=True)
        named = {str(i): name for name, i in channels.items()}
        content = {"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", **named}}}}}
        (tmp_path / "configs" / "metadata.json").write_text(json.dumps(content))

    labels = {"Liver": 10, "aorta": 2}
    describe(aorta=2, liver=10)
    assert list(mask_ids(tmp_path, labels).items()) == [("Liver", 10), ("aorta", 2)]
    assert not caplog.text
    describe(liver=1, aorta=2)
    assert mask_ids(tmp_path, labels) == {"Liver": 1, "aorta": 2}
    assert "not the data set's ids, 10 liver, 2 aorta" in caplog.text
    for wrong in ({"aorta": 1, "liver": 2}, {"aorta": 10, "liver": 2}, {"liver": 10}):
        describe(**wrong)
        with refused() as message:
            mask_ids(tmp_path, labels)
        assert "the weights have 10 liver, 2 aorta" in message[0]
    describe(liver=3)
    with refused():
        mask_ids(tmp_path, {"Liver": 1, "liver": 3})  # a server tells no capitals


ALLOWED = {
    *("torch", "monai", "numpy", "ufc_monai"),
    *("ignite", "tqdm"),  # MONAI's engines and their progress bars
    *("torchgen", "functorch", "typing_extensions", "packaging", "setuptools", "filelock", "fsspec", "sympy", "mpmath"),
    *("networkx", "jinja2", "markupsafe"),  # PyTorch's own
}
WITHOUT_THE_REST = """
import importlib, importlib.abc, pydoc, sys

class OnlyAllowed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if not (top.startswith("_") or top in ALLOWED or top in sys.stdlib_module_names):
            raise ModuleNotFoundError(f"there is no {top} here", name=name)

ALLOWED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, OnlyAllowed())
for name in sys.argv[2].split(","):
    found = pydoc.locate(name, forceload=False)
    if found is None:
        raise SystemExit(f"{name} cannot be imported")
"""


def test_what_stage_3_imports_needs_monai_torch_and_numpy_only() -> None:
    """A server has nothing of ours beside the package: no kornia, no kneed, no matplotlib."""
    configs = [(ROOT / "bundles" / UNET / "configs" / f"{name}.json").read_text() for name in ("train", "inference")]
    names = set(re.findall(r"ufc_monai[\w.]+", "".join(configs)))
    rooms = "|".join(path.parent.name for path in ROOT.glob("ufc_monai/*/__init__.py"))
    names |= {f"ufc_monai.{name}" for name in re.findall(rf"(?:{rooms})\.\w+(?=\()", "".join(configs))}
    names.add("ufc_monai.artifacts.ClusterPainter")
    assert {"ufc_monai.artifacts.starting_point", "ufc_monai.evaluation.training_dice"} <= names
    assert "ufc_monai.training.prepare" in names
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_THE_REST, ",".join(ALLOWED), ",".join(sorted(names))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
