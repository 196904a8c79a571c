from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ufc_monai.report.clusters import save_elbow
from ufc_monai.report.drawing import radiological, save_rows


def test_right_is_on_the_left_and_front_is_at_the_top() -> None:
    image = np.zeros((4, 6))
    image[3, 5] = 1.0  # farthest to the patient's right, farthest to the front
    image[0, 5] = 0.5  # left, front
    picture = radiological(image)
    assert picture.shape == (6, 4)
    assert picture[0, 0] == 1.0
    assert picture[0, -1] == 0.5


def test_montage_shows_the_slices_in_their_cells(tmp_path: Path) -> None:
    first, second = np.zeros((2, 32, 32)), np.zeros((1, 32, 32))
    first[1, 16:, 16:] = 1.0  # the second slice's right front quarter
    second[0] = 1.0
    path = tmp_path / "clusters.png"
    save_rows(path, [first, second], ["cluster 0\n2 slices", "cluster 1\n1 slice"])
    picture = imread(path)[..., :3].mean(axis=-1)
    height, width = picture.shape[0] // 2, picture.shape[1] // 9
    cells = picture[: 2 * height, : 9 * width].reshape(2, height, 9, width).swapaxes(1, 2)
    bright = cells.mean(axis=(2, 3))
    assert (bright[:, 0] > 0.01).all()  # the titles
    np.testing.assert_allclose(bright[:, 1:4], np.array([[0, 0.25, 0], [1, 0, 0]]), atol=0.15)
    assert cells[0, 2, height // 4, width // 4] > 0.9  # upper left
    assert cells[0, 2, 3 * height // 4, 3 * width // 4] < 0.1


@pytest.mark.parametrize("clusters", [1, 60])
def test_montage_of_few_and_many_clusters(clusters: int, tmp_path: Path) -> None:
    images = [np.full((1 + i % 12, 24, 16), 0.5) for i in range(clusters)]
    save_rows(tmp_path / "clusters.png", images, [f"cluster {i}" for i in range(clusters)])
    height, width = imread(tmp_path / "clusters.png").shape[:2]
    # 24 from the left of the patient to the right, 16 from back to front: a picture that is wider than tall.
    assert height / width == pytest.approx(clusters * 16 / 24 / 9, rel=0.02)


def test_each_row_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        save_rows(tmp_path / "clusters.png", [np.zeros((1, 8, 8))], [])
    assert not list(tmp_path.iterdir())


def test_elbow_marks_the_number_used(tmp_path: Path) -> None:
    ks, curve = list(range(2, 21)), [1 / k for k in range(2, 21)]
    columns = []
    for n_clusters in (5, 15):
        save_elbow(tmp_path / "elbow.png", ks, curve, n_clusters, searched=(2, 20))
        red, green, blue = np.moveaxis(imread(tmp_path / "elbow.png")[60:, :, :3], -1, 0)
        columns.append(np.flatnonzero(((red > 0.7) & (green < 0.4) & (blue < 0.4)).any(axis=0)).mean())
    assert columns[0] < columns[1]
    assert [file.name for file in tmp_path.iterdir()] == ["elbow.png"]


def test_elbow_of_one_number(tmp_path: Path) -> None:
    save_elbow(tmp_path / "elbow.png", [2], [0.5], 2, searched=(2, 2))
    assert (tmp_path / "elbow.png").stat().st_size > 1000
