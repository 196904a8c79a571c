from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import Case
from ufc_monai.data.split import make_split
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages
from ufc_monai.study.options import StudyOptions, volumes_of
from ufc_monai.study.plan import plan_runs
from ufc_monai.study.runs import FINE_TUNING, SELECTION, Run

VAE, CONTRASTIVE, UNET = NAMES
PLACES = Path("data"), Path("study"), ROOT / "bundles"
BASE = StudyOptions(*PLACES, preset="cpu", methods=("random", "simclr", "ufc"), budgets=("1", "2"))


def volumes(patients: int = 12, unlabelled: int = 3) -> list[Case]:
    cases = [Case(f"l{i:02}.nii.gz", f"m{i}.nii.gz", f"l{i:02}") for i in range(patients)]
    return cases + [Case(f"u{i}.nii.gz", None, f"u{i}") for i in range(unlabelled)]


def plan(cases: Sequence[Case] = volumes(), **changes: Any) -> list[Run]:
    return plan_runs(replace(BASE, **changes), make_split(cases, seed=0), cases)


def value(command: tuple[str, ...], key: str) -> str:
    return command[command.index(f"--{key}") + 1]


def test_shared_work_is_done_once() -> None:
    kinds = Counter(run.kind for run in plan(methods=(*BASE.methods, "ufc_random_clusters", "sincere"), seeds=3))
    assert kinds == {
        "features": 4,
        "clusters": 4,
        "clusters dealt anew": 4 * 3,
        "pretraining": 4 * 4 * 3,
        "linear probe": 4 * 4 * 3,
        FINE_TUNING: 4 * 5 * 2 * 3,
    }


def test_every_run_stands_behind_what_it_needs() -> None:
    seen: set[str] = set()
    for run in plan(methods=(*BASE.methods, "vae_init", "ufc_random_clusters", "ufc_not_centred"), init_seeds=2):
        assert seen.issuperset(run.needs)
        assert run.name not in seen
        assert all(word.startswith(f"runs/{run.name}/") for word in run.records)
        seen.add(run.name)


def test_arms_with_labels_that_cover_the_clusters() -> None:
    runs = plan(methods=("random", "ufc"), selection=("random", "coverage"), folds=2, seeds=2)
    kinds = Counter(run.kind for run in runs)
    assert kinds[SELECTION] == kinds["clusters"] == 2
    assert kinds["pretraining"] == 2 * 2
    assert kinds[FINE_TUNING] == 2 * 2 * 2 * 2 * 2
    for run in runs:
        if run.kind == FINE_TUNING:
            covers = str(run.method).endswith("@coverage")
            assert covers == ("--label_order_path" in run.commands[0])
            assert covers == (f"fold{run.fold}/selection" in run.needs)
    assert all("selection.json" not in " ".join(sum(run.commands, ())) for run in plan())
    with pytest.raises(InputError, match="--selection must be random, coverage or both, got best"):
        plan(selection=("best",))


def test_an_arm_is_a_start_and_a_training() -> None:
    """Arms of one start share its pretraining, and stage 3's configuration is laid over last."""
    runs = plan(methods=("random", "random+self_training", "ufc", "ufc+self_training", "random+paper"), folds=1)
    kinds = Counter(run.kind for run in runs)
    assert kinds["pretraining"] == kinds["linear probe"] == 1
    assert {run.method for run in runs if run.kind == "pretraining"} == {"ufc"}
    for run in runs:
        if run.kind != FINE_TUNING:
            continue
        start, _, training = str(run.method).partition("+")
        over = f",'{UNET}/configs/{training}.json'" if training else ""
        expected = f"['{UNET}/configs/train.json','{UNET}/configs/cpu.json'{over}]"
        assert value(run.commands[0], "config_file") == expected
        weights = "none" if start == "random" else "runs/fold0/ufc/seed0/pretraining/models/model.pt"
        assert value(run.commands[0], "pretrained_path") == weights
        assert run.name.startswith(f"fold0/{run.method}/")


def test_a_misspelt_arm_names_the_part_that_is_wrong() -> None:
    with pytest.raises(InputError, match=r"--methods: unknown training selftraining. Did you mean self_training\?"):
        plan(methods=("random+selftraining",))
    with pytest.raises(InputError, match=r"--methods: unknown method simlcr. Did you mean simclr\?"):
        plan(methods=("simlcr+self_training",))
    (alone,) = {run.method for run in plan(methods=("self_training",), folds=1)}
    assert alone == "self_training", "from random weights"


def test_a_budget_that_leaves_nothing_unlabelled_is_refused() -> None:
    labelled, changes = volumes(unlabelled=0), {"methods": ("random", "random+self_training"), "budgets": ("2", "100%")}
    with pytest.raises(InputError, match="--budgets: 100% leaves no training scan of fold 0 unlabelled"):
        plan(labelled, **changes)
    later = [Case(f"second/{case.image}", None, case.patient) for case in labelled]
    for cases in (volumes(), [*labelled, *later]):
        assert plan(cases, **changes)
    assert plan(labelled, **{**changes, "methods": ("random", "random+paper")})


def test_a_key_of_a_method_goes_to_the_arms_that_have_it() -> None:
    overrides = {UNET: {"warm_up_steps": 9, "min_steps": 7}, CONTRASTIVE: {"queue_size": 48}}
    runs = plan(methods=("random", "random+self_training", "ufc", "moco"), overrides=overrides, folds=1, budgets=("1",))
    for run in runs:
        words = " ".join(run.commands[0]) if run.commands else ""
        assert ("--warm_up_steps 9" in words) == (run.method == "random+self_training")
        assert ("--min_steps 7" in words) == (run.kind == FINE_TUNING)
        assert ("--queue_size 48" in words) == (run.kind == "pretraining" and run.method == "moco")
    with pytest.raises(InputError, match="--set: warm_up_steps is no key of ufc_unet_segmentation"):
        plan(methods=("random",), overrides={UNET: {"warm_up_steps": 9}})


def test_arms_differ_in_their_start_alone() -> None:
    """Labels, steps, seeds and the test are those of every arm."""
    keys = {"window": [0, 255], "threads": 1}
    by_cell: dict[tuple[Any, ...], set[str]] = {}
    for run in plan(seeds=2, keys=keys, overrides={UNET: {"min_steps": 9}}):
        if run.kind == FINE_TUNING:
            words = [" ".join(command) for command in run.commands]
            start = value(run.commands[0], "pretrained_path")
            assert (start == "none") == (run.method == "random")
            same = [word.replace(start, "START").replace(run.folder, "PLACE") for word in words]
            by_cell.setdefault((run.fold, run.budget, run.draw, run.init_seed), set()).add("\n".join(same))
    assert len(by_cell) == 4 * 2 * 2
    assert all(len(commands) == 1 for commands in by_cell.values())


COMMON = st.fixed_dictionaries(
    {},
    optional={
        "window": st.just([0, 255]),
        "background_labels": st.just([2]),
        "skip_bad": st.booleans(),
        "threads": st.integers(1, 4),
        "n_clusters": st.integers(2, 9),
    },
)
OVER = st.fixed_dictionaries({}, optional={VAE: st.just({"epochs": 2}), UNET: st.just({"norm": "batch"})})
OF_A_RUN = {"split_path", "cache_dir", "output_dir", "ckpt_dir", "pretrained_path", "pseudo_labels_path"}
OF_A_RUN |= {"fold", "seed", "label_draw"}


def in_common(commands: Iterable[tuple[str, ...]]) -> set[tuple[tuple[str, str], ...]]:
    """The options of commands, without places and what chooses patients and seeds."""
    pairs = (zip(command[4::2], command[5::2], strict=True) for command in commands)
    return {tuple(sorted(pair for pair in options if pair[0][2:] not in OF_A_RUN)) for options in pairs}


@settings(deadline=None, max_examples=30)
@given(keys=COMMON, overrides=OVER, preset=st.sampled_from(["cpu", "paper"]))
def test_a_study_starts_its_stages_as_a_run_does(keys: dict[str, Any], overrides: dict[str, Any], preset: str) -> None:
    shared: dict[str, Any] = {"keys": keys, "overrides": overrides, "preset": preset}
    runs = plan(methods=("ufc",), budgets=("2",), folds=1, **shared)
    options = RunOptions(BASE.dataset_dir, BASE.folder, BASE.bundles, labelled=2, method="ufc", **shared)
    stages = plan_stages(options, volumes(unlabelled=0))
    assert len(stages) == 6
    assert in_common(sum((run.commands for run in runs), ())) == in_common(stage.command for stage in stages)


def test_no_patient_is_tested_with_weights_of_another_fold() -> None:
    runs = {run.name: run for run in plan(methods=("vae_init", "ufc"))}
    for run in runs.values():
        assert all(runs[need].fold == run.fold for need in run.needs)
        trainings = [c for c in run.commands if "train.json" in value(c, "config_file") and "evaluate" not in c[5]]
        assert all(value(command, "fold") == str(run.fold) for command in trainings)


def test_seeds_and_draws() -> None:
    def cells(**changes: Any) -> list[tuple[Any, ...]]:
        runs = plan(methods=("ufc",), budgets=("1",), folds=1, **changes)
        return [(r.draw, r.seed, r.init_seed, r.counts) for r in runs if r.kind == FINE_TUNING]

    assert cells(seeds=2) == [(0, 0, 0, True), (1, 1, 1, True)]
    assert [draw for draw, *_ in cells(seeds=7)] == [0, 1, 2, 3, 4, 0, 1]
    assert cells(seeds=2, draws=2) == [(0, 0, 0, True), (0, 1, 1, True), (1, 0, 0, True), (1, 1, 1, True)]
    assert cells(init_seeds=3)[1:] == [(0, 0, 1, False), (0, 0, 2, False)]


def test_random_weights_have_no_pretraining_seed() -> None:
    """So another fine-tuning seed is, with draws, the very run of another seed: done once, and counted."""
    runs = plan(methods=("random",), budgets=("1",), folds=1, seeds=2, draws=1, init_seeds=2)
    assert [(run.name, run.counts) for run in runs] == [
        ("fold0/random/n1_draw0_init0", True),
        ("fold0/random/n1_draw0_init1", True),
    ]


def test_clusters_reach_those_that_use_them() -> None:
    methods = ("simclr", "ufc", "moco", "moco+ufc", "ufc_not_centred", "ufc_random_clusters")
    runs = {run.name: run for run in plan(methods=methods, folds=1, clusterings=("agglomerative:3",))}
    arms = {run.method: run for run in runs.values() if run.kind == "pretraining"}
    needs = {method: run.needs for method, run in arms.items()}
    assert needs["simclr"] == needs["moco"] == ()
    assert needs["ufc"] == needs["moco+ufc"] == ("fold0/clusters",)
    assert needs["ufc_not_centred"] == ("fold0/clusters_not_centred",)
    assert needs["ufc_random_clusters"] == ("fold0/clusters_random_seed0",)
    assert needs["ufc_agglomerative_3"] == ("fold0/clusters_agglomerative_3",)
    assert value(runs["fold0/clusters_not_centred"].commands[0], "centred") == "False"
    assert value(runs["fold0/clusters_agglomerative_3"].commands[0], "n_clusters") == "3"
    assert value(arms["ufc"].commands[0], "pseudo_labels_path") == "runs/fold0/clusters/pseudo_labels.json"
    assert "moco.json','ufc_cluster_contrastive/configs/ufc.json" in value(arms["moco+ufc"].commands[0], "config_file")


def test_a_clustering_wins_over_the_study_s_number_of_clusters() -> None:
    runs = plan(methods=("ufc",), folds=1, keys={"n_clusters": 7}, clusterings=("agglomerative:3",))
    numbers = {run.name: value(run.commands[0], "n_clusters") for run in runs if run.kind == "clusters"}
    assert numbers == {"fold0/clusters": "7", "fold0/clusters_agglomerative_3": "3"}


def test_stage_1_as_a_start_is_built_like_stage_3() -> None:
    (run,) = [r for r in plan(methods=("vae_init",), folds=1, overrides={UNET: {"norm": "batch"}}) if r.kind[0] == "p"]
    configs = value(run.commands[0], "config_file")
    assert configs.index("unet_encoder") < configs.index("cpu.json")
    assert value(run.commands[0], "norm") == "batch"


def test_budgets_in_volumes_and_shares() -> None:
    split, budgets = make_split(volumes(), seed=0), ("2", "100%", "25%", "5%", "42%")
    assert [volumes_of(budget, split, 0) for budget in budgets] == [2, 6, 2, 1, 3]


def test_through_json_and_back() -> None:
    runs = plan(init_seeds=2)
    assert [Run.from_json(json.loads(json.dumps(asdict(run)))) for run in runs] == runs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ("ufcc",)}, "--methods: unknown method ufcc. Did you mean ufc?"),
        ({"methods": ("random+ufc",)}, "--methods: unknown training ufc"),
        ({"methods": ("cpu",)}, "--methods: unknown method cpu"),
        ({"methods": ("ufc", "ufc")}, "named twice"),
        ({"methods": ()}, "name at least one"),
        ({"budgets": ("7",)}, "--budgets: fold 0 has 6 labelled training volumes, got 7"),
        ({"budgets": ("two",)}, "--budgets: expected numbers"),
        ({"budgets": ("1", "1")}, "--budgets: name each budget once"),
        ({"folds": 5}, "--folds must be 1 to 4"),
        ({"draws": 6}, "--draws must be 1 to 5"),
        ({"seeds": 0}, "--seeds must be 1"),
        (
            {"clusterings": ("kmean:20",)},
            r"unknown clustering kmean\. .* a file bundles/ufc_feature_vae/configs/kmean\.json",
        ),
        ({"clusterings": ("agglomerative",)}, "expected NAME:NUMBER"),
        ({"overrides": {VAE: {"epohcs": 1}}}, "Did you mean epochs"),
        ({"overrides": {VAE: {"fold": 1}}}, "same in all stages"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        plan(**changes)


def test_three_labelled_volumes_measure_nothing() -> None:
    with pytest.raises(InputError, match="not measurable with 3 labelled volumes"):
        plan(volumes(patients=3))


def test_the_elbow_knows_the_batches_of_stage_2() -> None:
    for overrides in ({}, {CONTRASTIVE: {"batch_size": 12}}):
        runs = plan(methods=("ufc",), folds=1, overrides=overrides)
        (command,) = (run.commands[0] for run in runs if run.kind == "clusters")
        assert ("--batch_size" in command) == bool(overrides)
        assert not overrides or value(command, "batch_size") == "12"
