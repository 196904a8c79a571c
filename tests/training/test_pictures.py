from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NAMES
from ignite.engine import Engine
from monai.data import MetaTensor
from tiny_volumes import save_volume
from torch import Tensor, nn

from ufc_monai.evaluation.structures import StructureTable
from ufc_monai.networks.vae import BetaVAE
from ufc_monai.report import clusters, drawing
from ufc_monai.report.masks import read_planes, save_planes
from ufc_monai.training.loaders import PrepareBatch
from ufc_monai.training.pictures import EmbeddingPicture, MasksPicture, ReconstructionsPicture, ViewsPicture
from ufc_monai.transforms.batch import BatchAugment
from ufc_monai.transforms.chain import Standardise
from ufc_monai.transforms.views import TwoViewsd


class Slices(list[dict[str, Any]]):
    """What a handler looks at in a SliceDataset."""

    @property
    def items(self) -> list[dict[str, Any]]:
        return list(self)


@pytest.fixture
def dataset() -> Any:
    images = torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return Slices({"image": image, "cluster": i // 5, "position": i / 20} for i, image in enumerate(images))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of the drawing functions by the picture's name; nothing is drawn."""
    calls: dict[str, Any] = {}
    for home, name in ((drawing, "save_rows"), (clusters, "save_embedding_map")):
        monkeypatch.setattr(home, name, lambda path, *args: calls.__setitem__(path.stem, args))
    return calls


def run(handler: Any, **attributes: Any) -> None:
    """One step of an engine that looks like MONAI's trainer."""
    engine = Engine(lambda _engine, _batch: None)
    engine.state.device = torch.device("cpu")
    for name, value in attributes.items():
        setattr(engine, name, value)
    handler.attach(engine)
    engine.run([0], max_epochs=1)


def test_views_are_those_that_training_draws_next(dataset: Any, drawn: dict[str, Any], tmp_path: Path) -> None:
    augment = BatchAugment(rotation=20, field=(0.5, 1), shift=None, noise=0.1, blur=0.5, seed=3)
    augment.randomize(5)  # somewhere in the middle of a stream
    state, everywhere = augment.generator.get_state(), torch.get_rng_state()
    prepare = PrepareBatch(target_key="cluster", transform=TwoViewsd("image", augment, repeat_keys=["cluster"]))
    run(ViewsPicture(tmp_path, dataset), prepare_batch=prepare)
    assert torch.equal(augment.generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), everywhere)
    (slices, first, second), _, titles = drawn["views"]
    assert slices.shape == first.shape == second.shape == (8, 16, 16)
    expected, _ = augment(torch.from_numpy(np.concatenate([slices, slices]))[:, None])
    np.testing.assert_array_equal(np.concatenate([first, second]), expected[:, 0])
    assert titles[0] == "cluster 0"
    assert titles[-1] == "cluster 3"


def test_no_cluster_no_title(dataset: Any, drawn: dict[str, Any], tmp_path: Path) -> None:
    plain = Slices({**item, "cluster": -1} for item in dataset)
    prepare = PrepareBatch(target_key="cluster", transform=TwoViewsd("image", BatchAugment(), repeat_keys=["cluster"]))
    run(ViewsPicture(tmp_path, plain), prepare_batch=prepare)  # type: ignore[arg-type]
    assert drawn["views"][2] == [""] * 8


def test_reconstructions_are_of_the_mean(dataset: Any, drawn: dict[str, Any], tmp_path: Path) -> None:
    vae = BetaVAE(image_size=16, latent_size=4, channels=(4, 8)).train()
    run(ReconstructionsPicture(tmp_path, dataset), network=vae)
    images, reconstructions = drawn["reconstructions"][0]
    assert vae.training
    with torch.no_grad():
        expected = vae.eval()(torch.from_numpy(images)[:, None])[0].clamp(0, 1)
    np.testing.assert_array_equal(reconstructions, expected[:, 0])


@pytest.fixture
def colours() -> Any:
    images = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    return Slices({"image": image, "cluster": 0, "position": 0.5} for image in images)


def test_standardised_pictures_are_drawn_in_their_own_colours(
    colours: Any, drawn: dict[str, Any], tmp_path: Path
) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            assert torch.allclose(x.mean(dim=(2, 3)), torch.zeros(8, 3), atol=1e-5)
            return (x,)

    run(ReconstructionsPicture(tmp_path, colours, Standardise()), network=Same())
    images, reconstructions = drawn["reconstructions"][0]
    assert images.shape == (8, 16, 16, 3)
    np.testing.assert_array_equal(images[0], colours[0]["image"].movedim(0, -1))
    np.testing.assert_allclose(reconstructions, images, atol=1e-5)

    views = TwoViewsd("image", BatchAugment(), repeat_keys=["cluster"])
    prepare = PrepareBatch(target_key="cluster", transform=views, normalise=Standardise())
    run(ViewsPicture(tmp_path, colours), prepare_batch=prepare)
    np.testing.assert_allclose(drawn["views"][0][1], images, atol=1e-5)
    assert prepare.normalise is not None


def test_embedding_is_that_of_standardised_pictures(colours: Any, drawn: dict[str, Any], tmp_path: Path) -> None:
    run(EmbeddingPicture(tmp_path, colours, nn.Flatten(), Standardise()))
    expected = drawn.pop("embedding")[0]
    for item in colours:
        item["image"] = Standardise()(item["image"])
    run(EmbeddingPicture(tmp_path, colours, nn.Flatten()))
    np.testing.assert_allclose(drawn["embedding"][0], expected, atol=1e-4)


def test_embedding_is_flattened_to_its_main_directions(dataset: Any, drawn: dict[str, Any], tmp_path: Path) -> None:
    for i, item in enumerate(dataset):
        item["image"] = torch.stack([torch.full((1, 4), float(i)), torch.full((1, 4), i % 2 * 0.1)], dim=1)
    run(EmbeddingPicture(tmp_path, dataset, nn.Flatten()))
    points, clusters, positions = drawn["embedding"]
    assert points.shape == (20, 2)
    assert abs(np.corrcoef(points[:, 0], positions)[0, 1]) > 0.999
    assert clusters.tolist() == [i // 5 for i in range(20)]


def test_no_map_of_a_broken_training(dataset: Any, drawn: dict[str, Any], tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) * torch.nan

    run(EmbeddingPicture(tmp_path, dataset, Broken()))
    assert not drawn


LPS = np.diag([-2.0, -3.0, 5.0, 1.0])


def evaluated(folder: Path, name: str, moved: int, labelled: bool = True, value: int = 1) -> dict[str, Any]:
    """A volume of 12 x 8 x 6 voxels stored as LPS; of its labelled block the prediction is moved by some voxels."""
    image, label = np.zeros((2, 12, 8, 6))
    image[0, 0] = 200
    label[:2, 0, 1] = 1
    label[0, 0, 2] = 1
    path = save_volume(folder / name, image, LPS)

    def placed(voxels: Tensor) -> MetaTensor:
        return MetaTensor(voxels, affine=torch.from_numpy(LPS), meta={"filename_or_obj": str(path)})

    classes = torch.from_numpy(label[None]).byte()
    item = {"image": placed(torch.zeros(1, 2, 2, 3))}
    item["pred"] = placed(value * classes.roll(moved, 1))
    return {**item, "label": placed(classes)} if labelled else item


def shown_of(folder: Path, items: list[dict[str, Any]], judge: Any = None, **options: Any) -> Any:
    engine = Engine(lambda _engine, batch: [items[batch]])
    if not judge:
        judge = StructureTable(folder, ["aorta"], folder)
        judge.attach(engine)
    MasksPicture(folder, ["aorta"], window=(-200, 600), root=folder, judge=judge, **options).attach(engine)
    engine.run(range(len(items)), max_epochs=1)
    return read_planes(folder / "planes.npz")


def test_three_planes_where_the_structure_is_largest_turned_to_ras(tmp_path: Path) -> None:
    planes = shown_of(tmp_path, [evaluated(tmp_path, "a.nii.gz", 2)])["a.nii.gz"][1]
    axial, coronal, sagittal = planes
    assert [cut.title for cut in planes] == ["axial", "coronal", "sagittal"]
    assert [cut.image.shape for cut in planes] == [(12, 8), (12, 6), (8, 6)]
    assert np.argwhere(axial.reference).tolist() == [[10, 7], [11, 7]]
    assert np.argwhere(axial.prediction).tolist() == [[8, 7], [9, 7]]
    assert np.argwhere(coronal.reference).tolist() == [[10, 1], [11, 1], [11, 2]]
    assert np.argwhere(sagittal.reference).tolist() == [[7, 1], [7, 2]]
    assert [cut.aspect for cut in planes] == pytest.approx([3 / 2, 5 / 2, 5 / 3])
    assert axial.image[11, 7] == pytest.approx(0.5, abs=0.01)
    assert axial.image[0, 0] == pytest.approx(0.25, abs=0.01)
    assert (tmp_path / "overlays.png").stat().st_size > 5000


def test_the_worst_are_kept_worst_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ufc_monai.training.pictures.MOST", 3)
    items = [evaluated(tmp_path, f"{i}.nii.gz", moved) for i, moved in enumerate((0, 2, 0, 1, 1))]
    assert list(shown_of(tmp_path, items)) == ["1.nii.gz", "3.nii.gz", "4.nii.gz"]


def test_beside_another_test_its_volumes_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ufc_monai.training.pictures.MOST", 1)
    items = [evaluated(tmp_path, f"{i}.nii.gz", moved) for i, moved in enumerate((0, 2))]
    (tmp_path / "own").mkdir()
    beside = tmp_path / "own" / "planes.npz"
    assert list(shown_of(tmp_path, items, beside=beside)) == ["1.nii.gz"], "it has not run"
    save_planes(beside, {"0.nii.gz": {}})
    assert list(shown_of(tmp_path, items, beside=beside)) == ["0.nii.gz"]
    assert list(shown_of(tmp_path, items, beside=tmp_path / "planes.npz")) == ["1.nii.gz"], "its own are of before"
    save_planes(beside, {"other.nii.gz": {}})
    assert list(shown_of(tmp_path, items, beside=beside)) == ["1.nii.gz"], "it is of another data set"


def test_of_scans_without_labels_the_predicted_dice_tells(tmp_path: Path) -> None:
    class Quality:
        def __init__(self) -> None:
            self.left = [0.9, 0.2]

        @property
        def mean_dice(self) -> float:
            return self.left.pop(0)

    items = [evaluated(tmp_path, f"{i}.nii.gz", 0, labelled=False, value=7) for i in range(2)]
    found = shown_of(tmp_path, items, ids=[7], judge=Quality())
    assert list(found) == ["1.nii.gz", "0.nii.gz"]
    cut = found["1.nii.gz"][1][0]
    assert cut.reference is None
    assert cut.prediction.max() == 1


def test_nothing_found_nothing_drawn(tmp_path: Path) -> None:
    item = evaluated(tmp_path, "a.nii.gz", 0, value=0)
    item["label"] *= 0
    assert shown_of(tmp_path, [item]) == {"a.nii.gz": {}}
    assert not (tmp_path / "overlays.png").exists()


def test_every_stage_leaves_its_pictures(chain: Path) -> None:
    vae, contrastive, _ = NAMES
    for picture in (
        f"{vae}/eval/train/reconstructions",
        *(f"{contrastive}/eval/train/{p}" for p in ("views", "embedding")),
    ):
        assert (chain / f"{picture}.png").stat().st_size > 5000
