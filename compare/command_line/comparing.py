"""``video-env compare``, ``demo``, ``study`` and ``report``; the methods' settings are options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from compare.command_line.arguments import values
from compare.demonstration import DataSettings, contact_sheet, demonstrate, study
from compare.report.page import write_report
from compare.run import Machine
from compare.run import compare as compare_methods
from compare.run_folder import PICTURES, REPORT, TABLES, Run
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.budget import Metric
from video_env.models.device import resolve_device


def _with_settings(command: Callable[..., None], arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the settings of those methods as arguments that are named on the command line."""
    asked = values(arguments, "--methods")
    named = [one for name, one in registry.methods().items() if name in asked]
    # What a method builds on has settings that decide its results too.
    kind = registry.settings_type(registry.with_those_built_on(named))
    command.__annotations__["method_settings"] = Annotated[kind, tyro.conf.arg(name="")]
    command.__defaults__ = (*(command.__defaults__ or ())[:-1], kind())
    return command


def compare_command(arguments: Sequence[str]) -> Callable[..., None]:
    """``video-env compare`` for these arguments."""

    def compare(
        cache: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CACHE [CACHE ...]")],
        methods: tuple[str, ...],
        out: Path,
        seeds: int = 1,
        split: str = "test",
        metric: Metric = "top1",
        title: str | None = None,
        overlay: str | None = None,
        all_lines: bool = False,
        report: bool = False,
        modules: tuple[str, ...] = (),
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine(),  # noqa: B008
        method_settings: Any = None,
    ) -> None:
        if not cache:
            raise InputError("cache: found none, expected the folder of a cache")
        run = compare_methods(
            methods, [Cache(one) for one in cache], out, seeds=seeds, settings=method_settings,
            modules=modules, split=split, metric=metric, title=title, overlay=overlay, all_lines=all_lines,
            machine=machine, command=["compare", *arguments],
        )  # fmt: skip
        written = (name for name in ("run.json", *TABLES, *PICTURES) if (out / name).is_file())
        print(f"\nIn {out}: " + ", ".join(written))
        if report or (out / REPORT).is_file():  # a report does not stay behind the tables
            print(f"written: {write_report(run)}")

    compare.__doc__ = _COMPARE.replace("METHODS", _listed())
    return _with_settings(compare, arguments)


_COMPARE = """Train methods, test them on the same videos, and compare accuracy, cost and training.

What is on disk is not done again, so methods, seeds or settings can be added to a run later. With methods
named, --help shows their settings too.

The methods:

METHODS

Args:
    cache: Folder of the cache; or one cache for each seed, of the same videos with different recognizers.
    methods: Ids from the table above, or of your own methods (see --modules).
    out: Folder of result tables, summary, claims, pictures, agents.
    seeds: Number of trainings of each method, with seeds 0, 1, ...
    split: Split to test.
    metric: Metric of curves and intervals.
    title: Title of the pictures; by default the data set and the split.
    overlay: Data set whose published figures the curve shows too: activitynet, fcvid or mini-kinetics.
    all_lines: Draw a line for every method, not only for the eight that are looked for first.
    report: Write report.html too.
    modules: Python modules in the current folder, or installed, that add methods.
    machine: Spread of the work.
    method_settings: Settings of the methods named.
"""


def _listed() -> str:
    width = max(map(len, registry.methods()))
    return "\n".join(f"  {one.id:{width}}  {one.about}" for one in registry.methods().values())


def study_command(arguments: Sequence[str]) -> Callable[..., None]:
    """``video-env study`` for these arguments."""

    def run(
        out: Path = Path("runs/study"),
        seeds: int = 1,
        methods: tuple[str, ...] = (),
        show_data: bool = False,
        modules: tuple[str, ...] = (),
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine(),  # noqa: B008
        settings: Annotated[DataSettings, tyro.conf.arg(name="")] = DataSettings(),  # noqa: B008
        method_settings: Any = None,
    ) -> None:
        """The whole study of the built-in data set, from video files to curves, claims and a report.

        Args:
            out: Folder of everything that is written; an interrupted run there goes on.
            seeds: Number of trainings of every network and agent, with seeds 0, 1, ...
            methods: Ids of the methods to compare; by default all but a few variants (see video-env compare
                --help).
            show_data: Only draw a contact sheet of the data set, to OUT/data.png.
            modules: Python modules in the current folder, or installed, that add methods.
            machine: Spread of the work.
            settings: Settings of the videos and networks.
            method_settings: Settings of the methods named.
        """
        if seeds < 1:
            raise InputError(f"seeds: found {seeds}, expected at least 1")
        resolve_device(machine.device)
        if show_data:
            contact_sheet(out / "data.png", settings.data)
            print(f"written: {out / 'data.png'}")
            return
        study(
            out, settings, methods=methods, method_settings=method_settings, modules=modules, seeds=seeds,
            machine=machine, command=["study", *arguments],
        )  # fmt: skip

    return _with_settings(run, arguments)


def demo_command(arguments: Sequence[str]) -> Callable[..., None]:
    """``video-env demo`` for these arguments."""

    def run(
        out: Path = Path("runs/demo"),
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine(),  # noqa: B008
    ) -> None:
        """A short demonstration on a part of the built-in data set, from video files to a report.

        Args:
            out: Folder of everything that is written; an interrupted run there goes on.
            machine: Spread of the work.
        """
        resolve_device(machine.device)
        demonstrate(out, machine=machine, command=["demo", *arguments])

    return run


def report(
    run: Annotated[Path, tyro.conf.Positional], out: Path | None = None, videos: int | None = None
) -> None:
    """Write one self-contained HTML file of a comparison: summary, curve, claims, every video.

    Args:
        run: Folder of the comparison.
        out: File of the report; by default RUN/report.html.
        videos: Number of videos of the split to show; by default all, up to 2,000.
    """
    print(f"written: {write_report(Run(run), out, videos=videos)}")
