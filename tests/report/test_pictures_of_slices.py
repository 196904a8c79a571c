"""Curves, maps and pictures of slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from ufc_monai.report.clusters import save_cluster_map, save_embedding_map
from ufc_monai.report.curves import curves_svg
from ufc_monai.report.drawing import save_rows
from ufc_monai.report.slices import Overlay, save_overlays, save_preview


def test_curves_leave_out_what_there_is_not() -> None:
    metrics = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]
    svg = curves_svg(metrics, [["loss", "chance"], ["kl"]])
    assert "loss" in svg
    assert "chance" not in svg
    assert curves_svg(metrics, [["loss", "chance"], ["kl"]]) == svg
    assert curves_svg([], [["loss"]]) == ""


@pytest.mark.parametrize(("patients", "clusters"), [(1, 1), (3, 60), (200, 5)])
def test_cluster_map_of_few_and_many(patients: int, clusters: int, tmp_path: Path) -> None:
    n = 10 * max(patients, clusters)
    names = [f"a rather long name of patient {i % patients}" for i in range(n)]
    rows = [("VAE features", 0.1, 0.5), ("raw pixels", 0.2, 0.4)]
    save_cluster_map(tmp_path / "map.png", np.arange(n) % clusters, names, np.linspace(0, 1, n), rows)
    assert imread(tmp_path / "map.png").shape[1] == 12 * 110


def test_cluster_map_of_pictures_has_no_patients_and_levels(tmp_path: Path) -> None:
    save_cluster_map(tmp_path / "map.png", np.arange(9) % 3, list("abcdefghi"), np.full(9, 0.5), [])
    assert imread(tmp_path / "map.png").shape[1] == 6 * 110


@pytest.mark.parametrize("clusters", [np.full(30, -1), np.zeros(30, dtype=int), np.arange(30) % 7, np.arange(60)])
def test_embedding_map_with_and_without_clusters(clusters: Any, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(len(clusters), 2))
    save_embedding_map(tmp_path / "map.png", points, clusters, np.linspace(0, 1, len(clusters)))
    panels = 1 if (clusters < 0).all() else 2
    assert imread(tmp_path / "map.png").shape[1] == pytest.approx(5.2 * 110 * panels, abs=1)


@pytest.mark.parametrize("cluster", [-1, 0])
def test_embedding_map_of_pictures_is_not_coloured_by_position(cluster: int, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(30, 2))
    save_embedding_map(tmp_path / "map.png", points, np.full(30, cluster), np.full(30, 0.5))
    assert imread(tmp_path / "map.png").shape[1] == pytest.approx(5.2 * 110, abs=1)


def test_views_stand_below_their_slices(tmp_path: Path) -> None:
    views = [np.full((3, 20, 20), level) for level in (0.2, 0.5, 1.0)]
    save_rows(tmp_path / "views.png", views, ["slice", "view 1", "view 2"], ["cluster 0", "cluster 1", "cluster 12"])
    picture = imread(tmp_path / "views.png")[..., 0]
    rows = [picture[int(picture.shape[0] * place), int(picture.shape[1] * 0.4)] for place in (0.25, 0.5, 0.8)]
    np.testing.assert_allclose(rows, [0.2, 0.5, 1.0], atol=0.02)


def test_overlays_colour_the_structures_alone(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), dtype=int)
    mask[10:30, 10:30] = 2
    overlay = Overlay("best: a", np.full((40, 40), 0.5), mask, np.zeros_like(mask), 1.0)
    save_overlays(tmp_path / "overlays.png", [overlay], ["aorta", "atrium"])
    picture = imread(tmp_path / "overlays.png")[..., :3]
    third, row = picture.shape[1] // 3, int(picture.shape[0] * 0.45)
    plain, reference, prediction = (picture[row, third * i + third // 2] for i in range(3))
    np.testing.assert_allclose(plain, 0.5, atol=0.02)
    np.testing.assert_allclose(prediction, 0.5, atol=0.02)
    assert np.ptp(reference) > 0.1


def test_long_names_are_not_cut_off_and_dollars_are_no_formula(tmp_path: Path) -> None:
    names = [f"portal vein and splenic vein, part {i} $\\bad{{$" for i in range(13)]
    overlay = Overlay("$\\worst$ " * 40, np.zeros((40, 40)), np.zeros((40, 40), dtype=int), np.zeros((40, 40)), 1.0)
    for draw in (save_overlays, save_preview):
        draw(tmp_path / "picture.png", [overlay], names)
        picture = imread(tmp_path / "picture.png")[..., :3]
        assert picture.max() > 0.9
        edges = (picture[:, :3], picture[:, -3:], picture[-3:])
        assert all(edge.max() < 0.1 for edge in edges)


@pytest.mark.parametrize(("volumes", "labelled"), [(1, True), (24, False)])
def test_preview_of_few_and_many(volumes: int, labelled: bool, tmp_path: Path) -> None:
    mask = np.ones((30, 20), dtype=int) if labelled else None
    shown = [Overlay(f"a long name of volume {i}.nii.gz", np.zeros((30, 20)), mask, None, 1.5) for i in range(volumes)]
    save_preview(tmp_path / "preview.png", shown, ["liver"] if labelled else [])
    assert imread(tmp_path / "preview.png").size > 10_000
