from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from full_disk import full_at
from jinja2 import UndefinedError

from ufc_monai.base.chain import TEST, standing_record
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of
from ufc_monai.commands.report import report
from ufc_monai.report.curves import read_metrics
from ufc_monai.report.drawing import save_rows
from ufc_monai.report.page import write_page
from ufc_monai.report.run import write_report

VAE, CONTRASTIVE, UNET = "ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation"
NASTY = "<script>alert(1)</script>"
RAN = ((VAE, "train"), (VAE, "inference"), (CONTRASTIVE, "train"), (UNET, "train"), (UNET, "evaluate"))


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    record = {"status": "complete", "seconds": 3.0, "started": "2026-01-02T03:04:05+00:00", "command": []}
    for bundle, place in RAN:
        write(tmp_path / bundle / "eval" / place / "run.json", {**record, "results": {}})
    said = {"verdict": "Too early to say.", "regions": "Regions: 2.0 of 2 are in use."}
    verdict = {"results": said, "command": ["x", "--dataset_dir", f"/data/{NASTY}"]}
    write(tmp_path / CONTRASTIVE / "eval" / "train" / "run.json", {**record, **verdict})
    write(tmp_path / VAE / "eval" / "train" / "run.json", {**record, **verdict, "results": {}})
    lines = [{"epoch": i, "loss": 1 / i, "chance": 1.0, "mse": 1 / i, "effective_rank": 2.0} for i in (1, 2, 3)]
    for bundle in (VAE, CONTRASTIVE, UNET):
        write(tmp_path / bundle / "eval" / "train" / "metrics.jsonl", "\n".join(map(json.dumps, lines)))
    agreement = {"nmi_patient": 0.1, "nmi_position": 0.6}
    elbow = {"chosen": 2, "reason": "k = 2 is the elbow."}
    origin = {"elbow": elbow, "agreement": agreement, "agreement_of_raw_pixels": agreement}
    labels = {"format": 1, "n_clusters": 2, "provenance": origin, "clusters": {"a": [0, 1]}}
    write(tmp_path / VAE / "eval" / "inference" / "pseudo_labels.json", labels)
    write(tmp_path / UNET / "eval" / "evaluate" / "dice.csv", f"volume,mean,{NASTY}\n{NASTY},0.5,0.5\n")
    slices = np.zeros((2, 8, 8))
    save_rows(tmp_path / VAE / "eval" / "train" / "reconstructions.png", [slices, slices + 1], ["slice", "copy"])
    scores = {"pretrained": 0.9, "untrained": None}
    probe = {"structures": {NASTY: scores}, "mean": scores, "training_volumes": 4, "validation_volumes": 2}
    write(tmp_path / CONTRASTIVE / "eval" / "probe" / "probe.json", probe)
    return tmp_path


def test_patients_samples_and_agreement_are_shown(a_run: Path) -> None:
    folder = a_run / VAE / "eval"
    write(
        folder / "inference" / "patients.csv", f"patient,slices,cluster_0,nearest_1,distance_1\n{NASTY},9,1.0,q,0.25\n"
    )
    lines = "method,accuracy,accuracy_low,accuracy_high,silhouette\nmost frequent class,0.6,0.5,0.7,\n"
    write(folder / "agreement" / "agreement.csv", lines)
    save_rows(folder / "samples" / "cluster_3.png", [np.zeros((2, 8, 8))], ["cluster 3"])
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    for words in ("the patients most alike", "0.25", "Agreement with labels", "0.6 [0.5, 0.7]", "Sampled: cluster 3"):
        assert words in text
    assert "cluster_0" not in text


def test_report_holds_what_ran(a_run: Path) -> None:
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    for words in (
        "Test",
        "Clusters",
        "Stage 1: auto-encoder",
        "Too early to say.",
        "Linear probe",
        "0.900",
        "What ran",
    ):
        assert words in text
    assert text.count("data:image/svg+xml;base64,") == 2
    assert text.count("data:image/png;base64,") == 1
    assert text.count("<section>") == text.count("</section>") == 7


def test_a_report_of_the_first_round_leaves_that_of_the_newest(a_run: Path) -> None:
    (a_run / "report.html").write_text("of the newest")
    report(a_run / "rounds" / "1")
    assert (a_run / "report.html").read_text() == "of the newest"
    assert (a_run / "report_1.html").is_file()


def test_masks_that_are_probably_bad_come_first(a_run: Path) -> None:
    place = a_run / "ufc_unet_segmentation" / "eval" / "inference"
    row = "{},aorta,{},,,,,,not found\n".format
    write(place / "quality.csv", "scan,structure,predicted_dice,a,c,f,m,u,note\n" + row("fine", 0.9) + row("poor", 0.2))
    write_report(a_run, a_run / "report.html")
    assert "poor" not in (a_run / "report.html").read_text("utf-8"), "of masks that are not complete"
    record = {"status": "complete", "command": [], "results": {"quality": "calibrated on 2 validation volumes"}}
    write(place / "run.json", record)
    write_report(a_run, a_run / "report.html")
    page = (a_run / "report.html").read_text("utf-8")
    assert "Dice is predicted: calibrated on 2 validation volumes." in page
    assert page.index("Masks of the unlabelled scans, worst first") < page.index("<td>poor</td>")
    assert page.index("<td>poor</td>") < page.index("<td>fine</td>")


def test_the_rounds_of_self_training_are_shown(a_run: Path) -> None:
    record = json.loads((a_run / UNET / "eval" / "train" / "run.json").read_text())
    folder = a_run / UNET / "eval" / "train" / "unlabelled_labels"
    volumes = [{"predicted": [90, 8, 0], "kept": [80, 3, 0]}, {"predicted": [90, 12, 0], "kept": [90, 9, 0]}]
    content = {"round": 1, "names": ["background", NASTY, "vein"], "off": [2], "volumes": volumes}
    write(folder / "round_1" / "round.json", content)
    write(folder / "round_2" / "round.json", {**content, "round": 2, "agreement": [1.0, 0.9, None]})
    write_report(a_run, a_run / "report.html")
    assert "Unlabelled scans" not in (a_run / "report.html").read_text(encoding="utf-8"), "of an earlier training"
    write(a_run / UNET / "eval" / "train" / "run.json", {**record, "results": {"self_training": "given up, why"}})
    write_report(a_run, a_run / "report.html")
    assert "Self-training on these scans: given up, why." in (a_run / "report.html").read_text(encoding="utf-8")
    write(a_run / UNET / "eval" / "train" / "run.json", {**record, "results": {"self_training": "2 rounds"}})
    write_report(a_run, a_run / "report.html")
    assert "Self-training on these scans" not in (a_run / "report.html").read_text(encoding="utf-8")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert f"<td>{html.escape(NASTY)}</td><td>0.60 / -</td><td>0.60 / 0.90</td>" in text
    assert "<td>vein</td><td>- / -</td><td>- / -</td>" in text
    assert "Not learned from predictions in round 1: vein. Not learned from predictions in round 2: vein." in text


def test_a_number_of_clusters_that_was_asked_for_is_not_the_elbows(a_run: Path) -> None:
    write_report(a_run, a_run / "report.html")
    assert "2 clusters of 2 slices. k = 2 is the elbow." in (a_run / "report.html").read_text(encoding="utf-8")
    path = a_run / VAE / "eval" / "inference" / "pseudo_labels.json"
    labels = json.loads(path.read_text())
    labels["provenance"]["elbow"] = {"chosen": 5, "reason": "k = 5 is the elbow."}
    write(path, labels)
    write_report(a_run, a_run / "report.html")
    said = "2 clusters of 2 slices. This number was requested. k = 5 is the elbow."
    assert said in (a_run / "report.html").read_text(encoding="utf-8")


def test_what_was_left_out_or_out_of_date_is_said(a_run: Path) -> None:
    path = a_run / UNET / "eval" / "train" / "run.json"
    bad = {f"case_{i}.nii.gz": f"no affine {NASTY}" for i in range(7)}
    write(path, {**json.loads(path.read_text()), "skipped": bad, "stale": ["a was made from another b"]})
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert "bad files (--skip_bad), 7 in all: case_0.nii.gz: no affine" in text
    assert "and 2 more (see run.json)" in text
    assert "out of date (--allow_stale): by stage 3: fine-tune, pretrained encoder" in text
    assert NASTY not in text


WITHOUT = """
import sys

for name in ("torch", "monai", "pandas", "ignite"):
    sys.modules[name] = None
from ufc_monai.__main__ import main

sys.exit(main(["report", "--folder", sys.argv[1]]))
"""


def test_a_runs_report_needs_neither_pytorch_nor_an_extra(a_run: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(a_run)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (a_run / "report.html").is_file()


def test_a_page_without_what_its_template_shows_is_not_written(tmp_path: Path) -> None:
    for template in ("run.html", "study.html", "study.md"):
        with pytest.raises(UndefinedError):
            write_page(tmp_path / "page.html", template)
    assert not list(tmp_path.iterdir())


def test_names_are_escaped_and_nothing_is_fetched(a_run: Path) -> None:
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 4
    sources = re.findall(r'(?:src|(?<!xlink:)href|url)\s*[=(]\s*"?([^"\s)]*)', text)
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_no_comparison_over_a_structure_that_did_not_converge(a_run: Path) -> None:
    path = a_run / UNET / "eval" / "train" / "run.json"
    write(path, {**json.loads(path.read_text()), "results": {"not_converged": ["aorta"]}})
    for place in ("random_train", "random_evaluate"):
        write(a_run / UNET / "eval" / place / "run.json", {"status": "complete"})
    write(a_run / UNET / "eval" / "random_evaluate" / "dice.csv", "volume,mean,aorta\nx,0.1,0.1\n")
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert "Not converged: aorta" in text
    assert "no verdict" in text
    assert "points of mean Dice" not in text


def test_figures_of_an_earlier_run_are_left_out(a_run: Path) -> None:
    """A stage that goes on from one that was begun anew is out of date, and so is one whose input has changed."""
    write_report(a_run, a_run / "report.html")
    assert all(text in (a_run / "report.html").read_text(encoding="utf-8") for text in ("Too early", "2.0 of 2 are in"))
    assert "have changed since" not in (a_run / "report.html").read_text(encoding="utf-8")
    record = a_run / CONTRASTIVE / "eval" / "train" / "run.json"
    content = record.read_text()
    record.unlink()
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert "have changed since: stage 3: fine-tune, pretrained encoder; stage 3: test, pretrained encoder." in text
    assert "Mean Dice" not in text
    labels = a_run / VAE / "eval" / "inference" / "pseudo_labels.json"
    made_from = {
        "pseudo_labels": {"path": f"/elsewhere/{VAE}/eval/inference/{labels.name}", "sha256": sha256_of(labels)}
    }
    write(record, {**json.loads(content), "folder": f"/elsewhere/{CONTRASTIVE}/eval/train", "inputs": made_from})
    assert standing_record(a_run, TEST)
    labels.write_text(labels.read_text() + " ")
    assert not standing_record(a_run, TEST)


@pytest.mark.parametrize("table", [None, "", "volume,mean,aorta\n", "volume,mean,aorta\nx,,\n"])
def test_a_test_without_any_dice_is_left_out(table: str | None, a_run: Path) -> None:
    path = a_run / UNET / "eval" / "evaluate" / "dice.csv"
    path.unlink()
    if table is not None:
        write(path, table)
    write_report(a_run, a_run / "report.html")
    assert "Mean Dice on the test volumes" not in (a_run / "report.html").read_text(encoding="utf-8")


def test_commands_are_those_that_one_types(a_run: Path) -> None:
    path = a_run / VAE / "eval" / "train" / "run.json"
    words = ["/venv/lib/python3/site-packages/monai/bundle/__main__.py", "run", "--dataset_dir", "/my data"]
    write(path, {**json.loads(path.read_text()), "command": words})
    write_report(a_run, a_run / "report.html")
    page = html.unescape((a_run / "report.html").read_text(encoding="utf-8"))
    assert "\npython -m monai.bundle run --dataset_dir '/my data'\n" in page.replace(">", "\n")


def test_a_record_may_hold_little(a_run: Path) -> None:
    write(a_run / VAE / "eval" / "train" / "run.json", {"command": ["x", "--dataset_dir"]})
    labels = {"format": 1, "n_clusters": 1, "provenance": {}, "clusters": {"a": [0]}}
    write(a_run / VAE / "eval" / "inference" / "pseudo_labels.json", labels)
    write(a_run / VAE / "eval" / "split.json", {"folds": [], "unlabelled": ["a"], "images": {"a": "0"}})
    write_report(a_run, a_run / "report.html")
    assert "1 clusters of 1 slices" in (a_run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("place", "other"), [("inference", False), ("birch", True)])
def test_other_clusters_than_those_shown_are_said(place: str, other: bool, a_run: Path) -> None:
    path = a_run / CONTRASTIVE / "eval" / "train" / "run.json"
    used = {"path": f"/moved/{VAE}/eval/{place}/pseudo_labels.json", "sha256": "0"}
    content = json.loads(path.read_text())
    write(path, {**content, "inputs": {**content.get("inputs", {}), "pseudo_labels": used}})
    write_report(a_run, a_run / "report.html")
    said = f"Stage 2 was pretrained with the clusters of {used['path']}, not with those shown below."
    assert (said in (a_run / "report.html").read_text(encoding="utf-8")) == other


def test_clusters_are_described_and_warned_of(a_run: Path) -> None:
    path = a_run / VAE / "eval" / "inference" / "pseudo_labels.json"
    content = json.loads(path.read_text())
    write_report(a_run, a_run / "report.html")
    assert "card warning" not in (a_run / "report.html").read_text(encoding="utf-8")
    quality = {"largest_share": 0.5, "single_slices": 2, "silhouette": 0.123}
    more = {"method": f"by {NASTY}", "quality": quality, "warnings": ["the clusters follow the patient"]}
    write(path, {**content, "provenance": {**content["provenance"], **more}})
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert '<div class="card warning"><p>The clusters follow the patient</p></div>' in text
    assert "2 clusters of 2 slices (by &lt;script" in text
    assert "The largest holds 50 % of the slices; clusters of a single slice: 2; silhouette 0.12." in text


def test_false_negatives_stand_beside_the_clusters(a_run: Path) -> None:
    path = a_run / CONTRASTIVE / "eval" / "probe" / "probe.json"
    row = {"pushed_apart": 1.0, "false_negatives": 0.0812, "true_positives": None}
    write(path, {**json.loads(path.read_text()), "false_negatives": {"simclr": row}})
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    assert "<td>SimCLR, MoCo</td><td>100.0 %</td><td>8.1 %</td><td>-</td>" in text
    assert text.index("<h2>Clusters") < text.index("<h3>False negatives") < text.index("<h2>Stage 1")
    assert "<td>UFC" not in text


def test_clusterings_are_compared_if_there_are_several(a_run: Path) -> None:
    place = a_run / VAE / "eval"
    write_report(a_run, a_run / "report.html")
    assert "Clusterings compared" not in (a_run / "report.html").read_text(encoding="utf-8")
    other = {"format": 1, "n_clusters": 17, "clusters": {"a": [0, 1]}}
    agreement = {"nmi_patient": 0.25, "nmi_position": 0.75}
    write(place / "kmeans" / "pseudo_labels.json", {**other, "provenance": {"method": "k", "agreement": agreement}})
    for k in (7, 12):
        write(place / "inference" / f"pseudo_labels_k{k}.json", {**other, "provenance": {"centred_per_patient": False}})
    write(place / "average" / "pseudo_labels.json", {**other, "provenance": {"model_sha256": "of an earlier training"}})
    write_report(a_run, a_run / "report.html")
    text = (a_run / "report.html").read_text(encoding="utf-8")
    rows = re.findall(r"<td>((?:inference|kmeans|average).*?)</td>", text)
    assert rows == ["inference", "inference, k7", "inference, k12", "kmeans"]
    figures = "<td>k</td><td>17</td><td>-</td><td>-</td><td>-</td><td>0.25</td><td>0.75</td>"
    assert f"{figures}<td>-</td>" in text
    assert "not centred" in text
    probe, labels = a_run / CONTRASTIVE / "eval" / "probe" / "probe.json", place / "kmeans" / "pseudo_labels.json"
    pairs = {labels.relative_to(place).as_posix(): {"false_negatives": 0.0123, "sha256": sha256_of(labels)}}
    write(probe, {**json.loads(probe.read_text()), "clusterings": pairs})
    for shown in ("1.2 %", "-"):  # and no more once the clusters have changed
        write_report(a_run, a_run / "report.html")
        assert f"{figures}<td>{shown}</td>" in (a_run / "report.html").read_text(encoding="utf-8")
        labels.write_text(labels.read_text() + " ")


def test_a_report_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stage has run"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_cut_off_is_shown_up_to_there(a_run: Path) -> None:
    path = a_run / VAE / "eval" / "train" / "metrics.jsonl"
    path.write_text(path.read_text() + '\n{"epoch": 4, "lo')
    assert len(read_metrics(path)) == 3
    write_report(a_run, a_run / "report.html")


def test_on_a_full_disk_the_earlier_report_stands(a_run: Path) -> None:
    path = a_run / "report.html"
    path.write_text("an earlier report")
    with full_at("report.html") as said:
        write_report(a_run, path)
    assert said[0].startswith(f"the disk is full: {path} was not written; what was there before stands.")
    assert path.read_text() == "an earlier report"
    assert not list(a_run.glob(".*"))
    write_report(a_run, path)
    assert "image/svg+xml" in path.read_text(encoding="utf-8")
