"""``sample``: what is drawn, where it goes, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, SMALL, copy_bundles, refused, run_bundle

from ufc_monai.__main__ import main
from ufc_monai.artifacts.sampling import Codes
from ufc_monai.base.errors import InputError
from ufc_monai.commands.sample import sample
from ufc_monai.data.datalist import find_cases
from ufc_monai.evaluation.published import Published
from ufc_monai.phantom.skin import make_skin_phantom

VAE = NAMES[0]


@pytest.fixture(scope="module")
def run(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("sample") / "run"
    shutil.copytree(chain, copy)
    return copy


def codes() -> Codes:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(400, 3)) @ np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 0.2]]) + [0, 4, 0]
    clusters = np.arange(400) % 2
    return Codes(features.astype(np.float32), [f"a#{i}" for i in range(400)], clusters, 3)


@pytest.mark.parametrize("what", ["1", "all"])
def test_draws_have_mean_and_covariance_of_the_slices(what: str) -> None:
    known = codes()
    drawn = known.draw(what, 20000, torch.Generator().manual_seed(0)).numpy()
    own = known.features[known.clusters == 1] if what == "1" else known.features
    np.testing.assert_allclose(drawn.mean(axis=0), own.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(own.T), atol=0.05)


def test_a_cluster_of_one_slice_is_that_slice() -> None:
    known = codes()
    known.clusters[7] = 2
    drawn = known.draw("2", 3, torch.Generator())
    np.testing.assert_allclose(drawn, np.tile(known.features[7], (3, 1)), rtol=1e-6)


def test_the_prior_knows_no_slices() -> None:
    drawn = codes().draw("prior", 20000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3), atol=0.05)


def test_between_two_slices_codes_lie_on_a_line() -> None:
    known = codes()
    way = known.between("a#3", "a#5", 5).numpy()
    assert np.array_equal(way[[0, -1]], known.features[[3, 5]])
    np.testing.assert_allclose(way[2], (known.features[3] + known.features[5]) / 2, rtol=1e-5)
    with refused() as message:
        known.between("a#3", "b#5", 5)
    assert message[0].startswith("--between: stage 1 knows no slice b#5. Did you mean a#5?")


def test_grids_and_volumes(run: Path) -> None:
    words = ["sample", "--weights", str(run), "--clusters", "0,2,prior", "--n", "10", "--threads", "1"]
    assert main(words) == 0
    folder = run / VAE / "eval" / "samples"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in ("cluster_0", "cluster_2", "prior") for kind in ("nii.gz", "png")
    )
    with pytest.raises(InputError, match=r"holds no volumes.*pictures that ufc_monai drew: 6"):
        find_cases(folder)
    volumes = [np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj) for name in ("cluster_0", "cluster_2")]
    assert volumes[0].shape == (32, 32, 10)
    assert volumes[0].min() >= -250
    assert volumes[0].max() <= 650
    before = volumes[0]
    assert main([*words[:3], "--clusters", "0", "--n", "10", "--threads", "1", "--seed", "0"]) == 0
    again = np.asarray(nib.load(folder / "cluster_0.nii.gz").dataobj)
    assert np.array_equal(before, again)


def test_the_ends_of_the_way_are_the_reconstructions(run: Path, phantom: Path, tmp_path: Path) -> None:
    ids = Codes.read(run / VAE / "eval" / "inference").ids
    (picture,) = sample(run, tmp_path / "out", between=(ids[2], ids[9]), n=3)
    found = np.asarray(nib.load(picture.with_suffix("").with_suffix(".nii.gz")).dataobj)
    network = Published.open(run, VAE, "cpu", {"sampling": False, "use_sigmoid": True})
    slices = network.slices(network.split(phantom).pretraining(0), phantom)
    with torch.no_grad():
        shown = network.network(torch.stack([slices[i]["image"] for i in (2, 9)]))[0][:, 0]
    np.testing.assert_allclose(found[..., [0, 2]], np.moveaxis(shown.numpy(), 0, 2) * 900 - 250, atol=1)


def test_colours(tmp_path: Path) -> None:
    make_skin_phantom(tmp_path / "data", pictures=8, size=48)
    bundles = copy_bundles(tmp_path / "run")
    run_bundle(bundles, VAE, "train+contrastive_ae+isic", tmp_path / "data", **SMALL[VAE], batch_size=2)
    run_bundle(bundles, VAE, "inference", tmp_path / "data", n_clusters=2)
    (picture,) = sample(bundles, clusters=("1",), n=4)
    volume = nib.load(picture.with_name("cluster_1.nii.gz"))
    assert volume.shape == (32, 32, 4, 3)
    with refused() as message:
        sample(bundles, clusters=("prior",))
    assert message[0].endswith("was trained with beta 0, which knows no prior. Draw from all.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--clusters", "4"], "--clusters must be numbers of 0 to 3, all or prior; got '4'"),
        (["--clusters", "liver"], "got 'liver'"),
        (["--n", "0"], "--n must be 1 or more"),
        (["--between", "a", "b"], "--between: stage 1 knows no slice a"),
    ],
)
def test_what_is_refused(words: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--weights", str(run), *words]) == 1
    assert said in capsys.readouterr().err
