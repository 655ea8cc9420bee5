"""Methods side by side: everything that is not on disk yet is trained and tested, then all is summed up.

``compare.run_folder`` describes a comparison's folder. Trainings run beside each other in processes of
their own; testing follows in one process, and then all that was tested is timed in turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from compare.published_figures import reported_figures
from compare.run_folder import Run, claim, require_no_links
from compare.speeds import is_timed, time_points
from compare.sum_up import sum_up
from video_env.cache.store import Cache
from video_env.errors import InputError, require_positive
from video_env.evaluation import registry
from video_env.evaluation.budget import Metric
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job, Method
from video_env.evaluation.results import join_results, point_columns, read_results, write_results
from video_env.files import alone, clear_leftovers, write_bytes
from video_env.models.device import resolve_device
from video_env.orphans import end_with_parent

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": f"{4 << 30}", "MALLOC_TRIM_THRESHOLD_": f"{8 << 30}"}
"""For the processes that train: glibc gives large blocks back to the system, and a network that asks for the
same ones at every step spends a quarter of its time on page faults."""


@dataclass(frozen=True)
class Machine:
    """How the work is spread; no result depends on ``jobs``.

    Attributes:
        jobs: trainings beside each other; by default as many as the cores allow, on a GPU one.
        threads: of the processor for each of them.
        device: where networks run: auto, cpu, cuda:0, ...
    """

    jobs: int | None = None
    threads: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        require_positive(self, "threads")
        if self.jobs is not None:
            require_positive(self, "jobs")

    def resolved_jobs(self) -> int:
        """``jobs``, with its default resolved."""
        if self.jobs is not None:
            return self.jobs
        if resolve_device(self.device).type == "cuda":
            return 1
        return max(1, len(os.sched_getaffinity(0)) // self.threads)


def compare(
    names: Sequence[str],
    caches: Sequence[Cache],
    out: Path,
    *,
    seeds: int = 1,
    settings: object = None,
    modules: Sequence[str] = (),
    split: str = "test",
    metric: Metric = "top1",
    title: str | None = None,
    overlay: str | None = None,
    all_lines: bool = False,
    machine: Machine = Machine(),
    command: Sequence[str] | None = None,
) -> Run:
    """Train and test what is not on disk yet under ``out``, and sum up all that is there.

    Args:
        names: ids of methods (``video_env.evaluation.registry``).
        caches: one for all seeds, or one for each: the same videos, each with a recognizer of its own.
        out: the comparison's folder.
        seeds: trainings of each method, with seeds 0, 1, ...
        settings: an instance of ``registry.settings_type``; other methods have their defaults.
        modules: where methods stand that are not ours, for the processes that train.
        split: that is tested.
        metric: of curves and intervals.
        title: stands above the pictures; by default the data set and the split.
        overlay: a data set whose published figures the curve shows too (``compare.published_figures``).
        all_lines: draw every method's line, not only those that are looked for first.
        machine: how the work is spread.
        command: the command line that asks for it, to be kept with the run.

    Raises:
        InputError: a module cannot be imported, a method is unknown, the folder holds a comparison of other
            data, splits or settings, the caches do not belong together, or a method's settings do not fit
            them.
    """
    registry.load(modules)
    methods = registry.find(names)
    if not methods:
        raise InputError(f"methods: found none, expected some of {', '.join(registry.methods())}")
    of_seed = _by_seed(caches, seeds)
    for cache in of_seed.values():
        cache.rows(split)  # its error lists the splits that there are
    chosen = registry.with_those_built_on(methods)
    given = registry.settings_of(chosen, settings)
    resolve_device(machine.device)
    if overlay is not None:
        reported_figures(overlay, metric)  # an unknown one is said before the work is done
    with alone(out):
        require_no_links(out)
        for folder in out.glob("seed-*/results"):
            clear_leftovers(folder)
        run = claim(
            out,
            caches=of_seed,
            split=split,
            title=title,
            methods={name: asdict(own) for name, own in given.items()},
            fixed=_with_results(out),
            command=command,
        )
        _do(methods, of_seed, out, split, given, machine, modules)
        return sum_up(run, metric=metric, overlay=overlay, all_lines=all_lines)


def _do(
    methods: Sequence[Method],
    of_seed: dict[int, Cache],
    out: Path,
    split: str,
    given: dict[str, Any],
    machine: Machine,
    modules: Sequence[str],
) -> None:
    """Train and test what is not on disk yet."""
    work = [
        (method, Job(cache, split, seed, out / f"seed-{seed}" / "agents", given, machine.device))
        for method in _in_order(methods)
        for seed, cache in of_seed.items()
    ]
    open_work = [(method, job) for method, job in work if not _finished(out, method, job)]
    if not open_work:
        tqdm.write(f"all results are in {out} already; they are summed up again")
    # What needs no training, nor that of others, first: where its settings do not fit, that is said at once.
    at_once, later = (
        [(method, job) for method, job in open_work if bool(method.has_work or method.builds_on) == waits]
        for waits in (False, True)
    )
    for method, job in at_once:
        _test(out, method, job)
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(machine.threads)
        failed = _train([(m, j) for m, j in later if m.has_work], out, machine, modules)
    for method, job in later:
        if (method.id, job.seed) not in failed:
            _test(out, method, job)
    _raise_first(failed, machine)
    untimed = [(method, job) for method, job in work if not is_timed(_table_file(out, method, job))]
    time_points(
        [(_table_file(out, method, job), method.list_entries(job), job.cache) for method, job in untimed],
        split, machine.device,
    )  # fmt: skip


def _with_results(out: Path) -> set[str]:
    """Methods whose settings have decided results that are on disk."""
    names = {file.stem for file in out.glob("seed-*/results/*.parquet")}
    known = registry.find(name for name in names if name in registry.methods())
    return names | {method.id for method in registry.with_those_built_on(known)}


def _by_seed(caches: Sequence[Cache], seeds: int) -> dict[int, Cache]:
    if seeds < 1:
        raise InputError(f"seeds: found {seeds}, expected at least 1")
    if len(caches) not in (1, seeds):
        raise InputError(
            f"caches: found {len(caches)} for {seeds} seeds, expected one for all seeds or one for each"
        )
    for cache in caches[1:]:
        for what, found, first in (
            ("videos", cache.meta["build"]["annotations"], caches[0].meta["build"]["annotations"]),
            ("candidate frames", cache.num_candidates, caches[0].num_candidates),
        ):
            if found != first:
                raise InputError(
                    f"caches: those of different {what} cannot be compared: {first} in {caches[0].path}, "
                    f"{found} in {cache.path}"
                )
    return {seed: caches[seed % len(caches)] for seed in range(seeds)}


def _in_order(methods: Sequence[Method]) -> list[Method]:
    """Those that others build on first, so that these find their trainings done."""
    names = {method.id for method in methods}
    return [method for method in registry.with_those_built_on(methods) if method.id in names]


def _table_file(out: Path, method: Method, job: Job) -> Path:
    return out / f"seed-{job.seed}" / "results" / f"{method.id}.parquet"


def _record_file(out: Path, method: Method, job: Job) -> Path:
    return out / f"seed-{job.seed}" / "results" / f"{method.id}.json"


def _finished(out: Path, method: Method, job: Job) -> bool:
    """Whether the result table is there and whole; what is not is said, and done again."""
    file = _table_file(out, method, job)
    if not file.is_file():
        return False
    try:
        results = read_results(file)
        videos = set(job.cache.index["video"].iloc[job.cache.rows(job.split)])
        groups = results.groupby([*point_columns(results), "seed"], dropna=False)["video"]
        if not all(set(group) == videos for _, group in groups):
            raise InputError(f"{file}: not every video of the split is in it")
        json.loads(_record_file(out, method, job).read_text())
    except (InputError, OSError, ValueError) as error:
        tqdm.write(f"{method.id}, seed {job.seed}: its results are not whole and are made anew ({error})")
        return False
    return True


Failed = dict[tuple[str, int], tuple[str, BaseException]]
"""By method and seed: what is said of it, and why it failed."""


def _train(work: list[tuple[Method, Job]], out: Path, machine: Machine, modules: Sequence[str]) -> Failed:
    """Train what is not trained yet; one that fails does not keep the others from finishing."""
    jobs = min(machine.resolved_jobs(), len(work))
    failed: Failed = {}
    if jobs <= 1:
        for method, job in work:
            try:
                method.do_work(job)
            except Exception as why:
                failed[method.id, job.seed] = (f"{method.id}, seed {job.seed}", why)
        return failed
    os.environ.update({name: value for name, value in KEEP_MEMORY.items() if name not in os.environ})
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), end_with_parent)
    bar = tqdm(total=len(work), desc=f"training, {jobs} beside each other", unit="training")
    try:
        futures: dict[Future[None], tuple[str, int]] = {}
        for method, job in work:
            log = _log_file(out, method.id, job.seed)
            future = pool.submit(_trained, method.id, job, log, machine.threads, tuple(modules))
            futures[future] = (method.id, job.seed)
        for future in as_completed(futures):
            name, seed = futures[future]
            bar.update()
            error = future.exception()
            bar.set_postfix_str(f"{'done' if error is None else 'failed'}: {name}, seed {seed}")
            if error is not None:
                failed[name, seed] = (
                    f"{name}, seed {seed} (its output: {_log_file(out, name, seed)})",
                    error,
                )
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
    return failed


def _log_file(out: Path, name: str, seed: int) -> Path:
    return out / f"seed-{seed}" / "logs" / f"{name}.txt"


def _raise_first(failed: Failed, machine: Machine) -> None:
    """Raise the first failure; what its message does not say, and all others, is said before."""
    for number, (what, error) in enumerate(failed.values()):
        if number or not isinstance(error, InputError):
            tqdm.write(f"failed: {what}: {error}")
    for what, error in failed.values():
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "a training's process was ended from outside, often because memory ran out; run the command "
                f"again with fewer --jobs than {machine.resolved_jobs()}, it goes on where it was"
            ) from error
        if isinstance(error, InputError):
            raise InputError(f"{what}: {error}", needs=error.needs) from error
        raise error


def _trained(name: str, job: Job, log: Path, threads: int, modules: tuple[str, ...]) -> None:
    """In a process of its own: train one method, what it prints going to a file."""
    torch.set_num_threads(threads)
    registry.load(modules)
    (method,) = registry.find([name])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            method.do_work(job)
        except Exception:
            traceback.print_exc()  # the line that failed, for whoever wrote the method
            raise


def _test(out: Path, method: Method, job: Job) -> None:
    """Evaluate all entries of a method with one seed, and keep what their trainings took beside the table."""
    try:
        entries = method.list_entries(job)
        with tqdm(entries, desc=f"testing {method.id}, seed {job.seed}", unit="setting") as bar:
            tables = [evaluate(entry, job.cache, job.split, job.device) for entry in bar]
    except InputError as error:
        raise InputError(f"method {method.id!r}, seed {job.seed}: {error}", needs=error.needs) from error
    except Exception as error:
        tqdm.write(f"failed: {method.id}, seed {job.seed}: {error}")
        raise
    trainings = [
        {
            "method": entry.method, "title": entry.title, "family": entry.family, **entry.setting,
            "seed": job.seed, **asdict(entry.training),
        }
        for entry in _once(entries)
    ]  # fmt: skip
    write_bytes(_record_file(out, method, job), json.dumps(trainings).encode())
    write_results(join_results(tables), _table_file(out, method, job))


def _once(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The first entry of each training: others are the same agent at another budget."""
    seen = []
    for entry in entries:
        if entry.training.seconds and entry.training not in seen:
            seen.append(entry.training)
            yield entry
