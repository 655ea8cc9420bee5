"""The commands that compare: their arguments follow from the table of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from compare.demo import DemoSettings, contact_sheet, run_demo
from compare.report.page import write_report
from compare.run import Machine
from compare.run import compare as compare_methods
from compare.run_folder import PICTURES, REPORT, TABLES, Run
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.budget import Metric
from video_env.models.device import resolve_device

Settings = Annotated[Any, tyro.conf.arg(name="")]


def _with_settings(command: Callable[..., None], arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the settings of those methods as arguments that are named on the command line."""
    named = [one for name, one in registry.table().items() if name in arguments]
    # What a method builds on has settings that decide its results too.
    kind = registry.settings_type(registry.with_those_built_on(named))
    command.__annotations__["method_settings"] = Annotated[kind, tyro.conf.arg(name="")]
    command.__defaults__ = (*(command.__defaults__ or ())[:-1], kind())
    return command


def compare_command(arguments: Sequence[str]) -> Callable[..., None]:
    """``video-env compare`` for these arguments."""

    def compare(
        methods: Annotated[tuple[str, ...], tyro.conf.Positional],
        path: tuple[Path, ...],
        out: Path,
        seeds: int = 1,
        split: str = "test",
        metric: Metric = "top1",
        title: str | None = None,
        overlay: str | None = None,
        report: bool = False,
        modules: tuple[str, ...] = (),
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine(),  # noqa: B008
        method_settings: Any = None,
    ) -> None:
        caches = [Cache(one) for one in path]
        run = compare_methods(
            methods, caches, out, seeds=seeds, settings=method_settings, modules=modules, split=split,
            metric=metric, title=title, overlay=overlay, machine=machine, command=["compare", *arguments],
        )  # fmt: skip
        written = (name for name in ("run.json", *TABLES, *PICTURES) if (out / name).is_file())
        print(f"\nIn {out}: " + ", ".join(written))
        if report or (out / REPORT).is_file():  # a report does not stay behind the tables
            print(f"written: {write_report(run)}")

    compare.__doc__ = _COMPARE.replace("METHODS", _listed())
    return _with_settings(compare, arguments)


_COMPARE = """Train methods, test them on the same videos, and compare accuracy, cost and training.

What is on disk already is not done again, so more methods, seeds or settings can be added to a run later.
With methods named, --help shows their settings too.

The methods:

METHODS

Args:
    methods: names from the table above, or of your own (see --modules).
    path: the cache; or one cache for each seed, of the same videos with different recognizers.
    out: folder for result tables, summary, claims, pictures, agents (see compare/run.py).
    seeds: trainings of each method, with seeds 0, 1, ...
    split: that is tested.
    metric: of curves and intervals.
    title: stands above the pictures.
    overlay: show the published figures on activitynet, fcvid or mini-kinetics too.
    report: write report.html too.
    modules: Python modules in the current folder, or installed, that add methods to the table.
    machine: how the work is spread.
    method_settings: of the methods named.
"""


def _listed() -> str:
    width = max(map(len, registry.table()))
    return "\n".join(f"  {one.name:{width}}  {one.about}" for one in registry.table().values())


def demo_command(arguments: Sequence[str]) -> Callable[..., None]:
    """``video-env demo`` for these arguments."""

    def demo(
        out: Path = Path("runs/demo"),
        seeds: int = 1,
        methods: tuple[str, ...] = (),
        show_data: bool = False,
        modules: tuple[str, ...] = (),
        machine: Annotated[Machine, tyro.conf.arg(name="")] = Machine(),  # noqa: B008
        settings: Annotated[DemoSettings, tyro.conf.arg(name="")] = DemoSettings(),  # noqa: B008
        method_settings: Any = None,
    ) -> None:
        """From video files to an accuracy-vs-budget curve, on the built-in data set.

        Args:
            out: folder of everything that is written; a run there that was interrupted goes on.
            seeds: trainings of every network and agent, with seeds 0, 1, ...
            methods: which are compared; by default all of the table (see video-env compare --help)
                but a few variants.
            show_data: only draw a contact sheet of the data set, to OUT/data.png.
            modules: Python modules in the current folder, or installed, that add methods to the table.
            machine: how the work is spread.
            settings: of the videos and networks.
            method_settings: of the methods named.
        """
        if seeds < 1:
            raise InputError(f"seeds: found {seeds}, expected at least 1")
        resolve_device(machine.device)
        if show_data:
            contact_sheet(out / "data.png", settings.data)
            print(f"written: {out / 'data.png'}")
            return
        run_demo(
            out, settings, methods=methods, method_settings=method_settings, modules=modules, seeds=seeds,
            machine=machine, command=["demo", *arguments],
        )  # fmt: skip

    return _with_settings(demo, arguments)


def report(
    run: Annotated[Path, tyro.conf.Positional], out: Path | None = None, videos: int | None = None
) -> None:
    """Write one self-contained HTML file of a comparison: summary, curve, claims, every video.

    Args:
        run: its folder.
        out: the file; by default RUN/report.html.
        videos: how many of the split are shown; by default all, up to 2,000.
    """
    print(f"written: {write_report(Run(run), out, videos=videos)}")
