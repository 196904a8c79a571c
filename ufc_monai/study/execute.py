"""Running a plan: one run is a function, and an executor calls it, in threads here or on a Dask cluster."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from ufc_monai.base.errors import InputError, find_input_error
from ufc_monai.base.files import read_json, sha256_of, write_json
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work
from ufc_monai.clustering.coverage import covering_order
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.planning.stages import BEGUN, COMPLETE, shown, stopped_by_signals
from ufc_monai.study.runs import SHUFFLE, Run

logger = logging.getLogger(__name__)

Submit = Callable[[Run, str | None, int], "Future[str | None]"]
"""Hands a run over, with the device that it computes on and its place in the plan: the first goes first."""
CONNECTING = 30
"""Seconds that a scheduler has to answer."""


def execute(
    folder: Path, runs: Sequence[Run], submit: Submit, slots: Sequence[str | None], note: Callable[[], None]
) -> None:
    """Do every run that is not complete, each once; runs that failed before are tried again.

    A run that needs a failed one does not start. Of the runs that could start, the first in the plan does.

    Args:
        folder: of the study.
        runs: its plan, each run after those that it needs; those that fail are told why.
        submit: from :func:`threads` or :func:`cluster`.
        slots: the device of each of the runs at once; ``None`` leaves it to the bundles.
        note: called at the start, and whenever runs have ended.

    Raises:
        InputError: if the cluster is gone.
    """
    todo = list[Run]()
    for run in runs:  # what reads a run that is made anew is looked at again, and may be out of date by then
        if run.state(folder) != COMPLETE or {other.name for other in todo} & {*run.needs}:
            todo.append(run)
    complete = {run.name for run in runs} - {run.name for run in todo}
    free, under_way = list(slots), dict[Future[str | None], tuple[Run, str | None]]()
    with stopped_by_signals():
        while True:
            for run in [run for run in todo if complete.issuperset(run.needs)][: len(free)]:
                todo.remove(run)
                run.error, device = None, free.pop(0)
                under_way[submit(run, device, runs.index(run))] = run, device
            note()
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                run, device = under_way.pop(future)
                free.append(device)
                run.error = _error_of(future)
                if run.error:
                    logger.warning("%s: FAILED: %s", run.name, run.error)
                else:
                    complete.add(run.name)
                    logger.info("%s: complete, %d of %d", run.name, len(complete), len(runs))


@contextlib.contextmanager
def threads(folder: Path, jobs: int) -> Iterator[Submit]:
    """An executor of threads in this process; leaving the block early stops the runs in progress.

    Args:
        folder: of the study.
        jobs: runs at once.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield lambda run, device, _: pool.submit(perform, folder, run, device, stop)
        except BaseException:
            stop.set()
            raise


@contextlib.contextmanager
def cluster(folder: Path, address: str, *, gpus: bool) -> Iterator[Submit]:
    """A Dask cluster as an executor. It hands the runs of a lost worker to another one.

    When the block ends early, runs that workers have started finish; the next command finds them complete.

    Args:
        folder: of the study; workers see it at the same path.
        address: of the scheduler, e.g. ``tcp://10.0.0.1:8786``.
        gpus: whether each run asks its worker for one ``GPU``.

    Raises:
        InputError: if Dask is not installed, or no scheduler answers.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as e:
        raise InputError('--scheduler: Dask is not installed. Run: pip install "ufc-monai[study]"') from e
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # we report a lost scheduler ourselves
    try:
        client = Client(address, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError) as e:
        raise InputError(f"--scheduler: no Dask scheduler answers at {address} ({e}).") from e
    with client:
        logger.info("%d workers; dashboard: %s", len(client.nthreads()), client.dashboard_link)
        if gpus:
            logger.info("each run takes one GPU of a worker's resources, see dask worker --resources GPU=1")
        pool = client.get_executor(pure=False, resources={"GPU": 1} if gpus else {})

        def submit(run: Run, device: str | None, place: int) -> Future[str | None]:
            with dask.annotate(priority=-place):  # the default is the order in which they could start
                future: Future[str | None] = pool.submit(perform, folder, run, device)
            return future

        yield submit


def perform(folder: Path, run: Run, device: str | None = None, stop: threading.Event | None = None) -> str | None:
    """Do one run, in this process; safe to call again wherever it was cut off.

    The run's own lock keeps others out: processes of a lost worker, or a worker that only seemed lost.

    Args:
        folder: of the study.
        run: what to do.
        device: where its commands compute; ``None`` leaves it to the bundles.
        stop: stops it.

    Returns:
        What went wrong, if anything did.

    Raises:
        KeyboardInterrupt: if it was stopped.
    """
    if not (folder / "study.json").is_file():
        return f"{folder} is not on {socket.gethostname()}: every worker must see the study at the same path"
    place = folder / run.folder
    with (
        at_work(place.with_name(f".{place.name}.lock"), wait=stop is None) as lock,
        Host(folder, lock, place / "log.txt", aloud=False) as host,
    ):
        if run.state(folder) == COMPLETE:
            return None
        place.mkdir(parents=True, exist_ok=True)
        for step in run.steps:
            state = step.state(folder, {})
            if state == COMPLETE:
                continue
            logger.info("%s\n  %s", run.name, shown(step.command))
            goes_on = state == BEGUN
            if code := step.run(host, {}, goes_on=goes_on, device=device, stop=stop):
                return _last_line(host.log, code)
        if not run.commands:
            work_on_clusters(folder, run)
            source = folder / "runs" / run.needs[0] / "pseudo_labels.json"
            read = {"pseudo_labels": {"path": str(source), "sha256": sha256_of(source)}}
            write_json(folder / run.records[0], {"stage": run.kind, "status": "complete", "inputs": read})
        # the run is complete: nothing resumes from it, and no report shows its masks
        for left in (*(place / "models").glob("checkpoint*.pt"), *place.glob("test/planes.npz")):
            left.unlink()
    return None


def _error_of(future: Future[str | None]) -> str | None:
    """What went wrong with a run, in it or in its process."""
    try:
        return future.result()
    except CancelledError as e:
        raise InputError("--scheduler: the cluster is gone. Start it, and give the same command again.") from e
    except Exception as e:
        return str(find_input_error(e) or f"{type(e).__name__}: {e}")


def _last_line(path: Path, code: int) -> str:
    """The last line of a log, where an error stands, with the signal that ended the process, if any did."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    said = (errors or lines or [""])[-1]
    return said if code > 0 else f"ended by signal {-code} ({said})"


def work_on_clusters(folder: Path, run: Run) -> None:
    """Do a run of the kind :data:`SHUFFLE` or :data:`SELECTION`.

    Args:
        folder: of the study.
        run: the run; its ``pseudo_labels.json`` or ``selection.json`` is written.
    """
    source = Path("runs", run.needs[0], "pseudo_labels.json")
    labels = PseudoLabels.load(folder / source)
    if run.kind == SHUFFLE:
        _shuffled(labels, source, run.seed or 0).save(folder / run.folder / "pseudo_labels.json")
    else:
        labelled = read_json(folder / "split.json", "--folder")["folds"][run.fold]["label_orders"][0]
        write_json(folder / run.folder / "selection.json", {"chosen": covering_order(labels, labelled)})


def _shuffled(labels: PseudoLabels, source: Path, seed: int) -> PseudoLabels:
    """The negative control: clusters of the same sizes, dealt out at random over all slices."""
    images = sorted(labels.clusters)
    dealt = np.random.default_rng(seed).permutation([c for image in images for c in labels.clusters[image]]).tolist()
    rest = iter(dealt)
    clusters = {image: list(itertools.islice(rest, len(labels.clusters[image]))) for image in images}
    provenance = {**labels.provenance, "shuffled_with_seed": seed, "shuffled_from": source.as_posix()}
    return PseudoLabels(clusters, labels.n_clusters, provenance)
