"""``video-env evaluate``, and what is made of result tables: ``curve`` and ``selections``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from compare.command_line.signatures import REQUIRED, CacheFolder, Option, as_command
from compare.summary import write_summary
from video_env.cache.store import Cache
from video_env.errors import InputError, require_seed
from video_env.evaluation import registry
from video_env.evaluation.agent_kinds import AGENT_KINDS, RELEASED
from video_env.evaluation.budget import Metric, summarise
from video_env.evaluation.chosen_elsewhere import entry_of_choices, match_selections
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.labels import setting_labels
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job, Method
from video_env.evaluation.results import join_results, read_results, write_results
from video_env.evaluation.selections import Format, write_selections
from video_env.evaluation.throughput import Evaluated, with_speeds
from video_env.models.device import resolve_device


def commands() -> dict[str, Callable[..., None]]:
    """By name: every method that needs no training, every kind of agent, and every released system."""
    return {
        **{one.id: _untrained(one) for one in registry.methods().values() if one.train is None},
        **{kind.name: _saved(kind.entry) for kind in AGENT_KINDS.values()},
        **{f"released-{system.name}": _saved(system.entry) for system in RELEASED.values()},
        "selections": chosen_elsewhere,
    }


_OUT: dict[str, Option] = {"out": (Path, REQUIRED, "File of the result table (.parquet).")}
_SPLIT: dict[str, Option] = {"split": (str, "test", "Split to test: train, validation or test.")}
_NAME: dict[str, Option] = {
    "method": (str | None, None, "Id in tables, instead of the usual one; also the name in curves.")
}


def _untrained(untrained: Method) -> Callable[..., None]:
    """A method with its settings; they give one point or several."""

    def command(
        cache: CacheFolder,
        out: Path,
        split: str = "test",
        seed: int = 0,
        method: str | None = None,
        device: str = "auto",
        settings: Any = untrained.settings,
    ) -> None:
        _require_parquet(out)
        opened = Cache(cache)
        resolve_device(device)
        require_seed(seed)
        job = Job(opened, split, seed, None, {untrained.id: settings}, device)
        entries = untrained.list_entries(job)
        if method is not None:
            entries = [_named(entry, method) for entry in entries]
        _evaluate(entries, opened, out, split, device)

    command.__doc__ = f"""Evaluate {untrained.id}: {untrained.about}.

    Args:
        cache: Folder of the cache.
        out: File of the result table (.parquet).
        split: Split to test: train, validation or test.
        seed: Seed of random draws, which the table states.
        method: Id in tables, instead of the usual one; also the name in curves.
        device: auto, cpu, cuda:0, ...
        settings: Settings of the method.
    """
    # Annotations are text here, in which a local name means nothing.
    command.__annotations__["settings"] = Annotated[type(untrained.settings), tyro.conf.arg(name="")]
    return command


def _saved(entry_of: Callable[..., Entry]) -> Callable[..., None]:
    """A saved agent, or a released checkpoint."""

    def run(cache: Path, out: Path, split: str, method: str | None, **options: Any) -> None:
        _require_parquet(out)
        opened = Cache(cache)
        resolve_device(options["device"])
        entry = entry_of(cache=opened, **options)
        if method is not None:
            entry = _named(entry, method)
        _evaluate([entry], opened, out, split, options["device"])

    return as_command(entry_of, run, also={**_OUT, **_SPLIT, **_NAME})


def chosen_elsewhere(
    cache: CacheFolder,
    selections: Path,
    out: Path,
    format: Format = "jsonl",
    split: str = "test",
    method: str | None = None,
    choosing_gflops: float = 0.0,
    device: str = "auto",
) -> None:
    """Evaluate the frames that any program chose, with the recognizer of a cache.

    Each frame goes to the nearest candidate of the cache; several on one candidate count once.

    Args:
        cache: Folder of the cache.
        selections: File with a choice for every video of the split.
        out: File of the result table (.parquet).
        format: Format of the file: our own lines or table (jsonl, csv), a list of frame numbers for each
            video in order (frame-idx), lines of doc_id and index (doc-id), a list of id and frame_timestamps
            (frame-timestamps).
        split: Split to test: train, validation or test.
        method: Id in tables, and the name in curves; by default the file's name.
        choosing_gflops: GFLOPs per video that the choosing took, which the method is charged with.
        device: auto, cpu, cuda:0, ...
    """
    _require_parquet(out)
    opened = Cache(cache)
    resolve_device(device)
    matched = match_selections(selections, opened, split, format)
    entry = entry_of_choices(matched, selections.stem if method is None else method, choosing_gflops)
    print(f"{selections}: {matched}")
    _evaluate([entry], opened, out, split, device)


def _named(entry: Entry, method: str) -> Entry:
    if not method.strip():
        raise InputError("method: found an empty name, expected an id")
    return replace(entry, method=method, title=method)


def _require_parquet(out: Path) -> None:
    if out.suffix != ".parquet":
        raise InputError(f"out {out}: expected a name that ends in .parquet")


def _evaluate(entries: list[Entry], cache: Cache, out: Path, split: str, device: str) -> None:
    points = [Evaluated(entry, evaluate(entry, cache, split, device), cache) for entry in entries]
    table = join_results(with_speeds(points, split, device))
    write_results(table, out)
    summary = summarise(table)
    videos = table["video"].nunique()
    for row, setting in zip(summary.to_dict("records"), setting_labels(summary), strict=True):
        name = ", ".join(filter(None, (row["title"], setting)))
        print(
            f"{out}: {name}: top-1 {row['top1']:.3f}, mAP {row['mean_average_precision']:.3f} at "
            f"{row['gflops']:.4g} GFLOPs per video, {row['frames']:.2f} frames, {videos} videos"
        )


def curve(
    results: tyro.conf.Positional[list[Path]],
    out: Path,
    metric: Metric = "top1",
    title: str = "",
    overlay: str | None = None,
    all_lines: bool = False,
) -> None:
    """Summary table and accuracy-vs-budget curve from result tables.

    Args:
        results: Result tables, or folders of them.
        out: Folder of summary.csv, areas.csv and curve.png.
        metric: Metric of the curve, its intervals and the areas: top1 or mean_average_precision.
        title: Title of the curve.
        overlay: Data set whose published figures the curve shows too: activitynet, fcvid or mini-kinetics.
        all_lines: Draw a line for every method, not only for the eight that are looked for first.
    """
    write_summary(
        read_results(*results), out, metric=metric, title=title, overlay=overlay, all_lines=all_lines
    )


def selections(cache: CacheFolder, results: list[Path], out: Path, format: Format = "jsonl") -> None:
    """The frames chosen, for other programs: video, method, setting, seed, frame indices, seconds, the rate.

    Args:
        cache: Folder of the cache that the tables were made on.
        results: Result tables, or folders of them.
        out: File to write.
        format: JSON lines (jsonl) or a table (csv); or, of one choice for each video, what other programs
            read: a list of frame numbers for each video in order (frame-idx), lines of doc_id and index
            (doc-id), a list of id and frame_timestamps (frame-timestamps).
    """
    table = read_results(*results)
    write_selections(Cache(cache), table, out, format)
    print(f"{out}: {len(table)} selections")
