"""Speeds: rounds and their statistics from given numbers, and what is timed for a point. No time decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compare.command_line.main import main
from compare.speeds import TIMED_APART, with_those_apart
from compare.summary import format_summary
from tests.result_tables import entry, table
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.evaluation import rounds, throughput
from video_env.evaluation.budget import summarise
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.results import read_results
from video_env.evaluation.rounds import BUSY, DISAGREE, Stopwatch, Times, speed_of, time_in_turns, total
from video_env.evaluation.throughput import Evaluated, measure_speeds


class Clock:
    """Seconds pass when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elapsed = self.computed = 0.0
        monkeypatch.setattr(rounds.time, "perf_counter", lambda: self.elapsed)
        monkeypatch.setattr(rounds.time, "process_time", lambda: self.computed)

    def task(self, name: str, log: list[str], seconds: Callable[[int], float]) -> rounds.Task:
        def run(watch: Stopwatch) -> None:
            log.append(name)
            self.elapsed += 100  # outside: does not count
            with watch:
                self.elapsed += (took := seconds(log.count(name) - 1))
                self.computed += took / 2

        return run


def test_tasks_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(monkeypatch), list[str]()
    tasks = {"a": clock.task("a", log, lambda call: 10 * call + 1), "b": clock.task("b", log, lambda call: 2)}
    times = time_in_turns(tasks, 3)
    assert log == ["a", "b"] * 4
    assert times["a"].elapsed == pytest.approx([11, 21, 31])
    assert times["a"].computed == pytest.approx([5.5, 10.5, 15.5])
    assert times["b"].elapsed == pytest.approx([2, 2, 2])


def test_speed_by_hand() -> None:
    """Two decisions a second apart and three images: 2·0.1 + 3·(0.2, 0.1, 0.1, 0.1, 0.1)."""
    own = np.array([0.2, 0.1, 0.1, 0.1, 0.1])
    times = {"policy": Times(np.full(5, 0.1), np.full(5, 0.1)), "network": Times(own, own)}
    work = total({"policy": 2, "network": 3}, times)
    assert work.elapsed == pytest.approx([0.8, 0.5, 0.5, 0.5, 0.5])
    *numbers, note = speed_of(work, computed=True)
    assert numbers == pytest.approx([2, 2, 2])
    assert note == ""


def test_a_slow_round_moves_no_median_and_rounds_that_disagree_are_said() -> None:
    calm = np.array([1.0, 1.0, 1.02, 0.98, 1.0, 1.0, 1.0])
    slow = calm.copy()
    slow[3] = 50
    assert speed_of(Times(slow, slow), computed=True)[::3] == speed_of(Times(calm, calm), computed=True)[::3]
    wild = np.array([1.0, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0])
    found = speed_of(Times(wild, wild), computed=True)
    assert found.per_second == 1 / 2
    assert (found.low, found.high) == pytest.approx((1 / 3, 1 / 1.5))
    assert found.note == DISAGREE


def test_a_busy_machine_is_said_and_does_not_slow_what_computes() -> None:
    """A process that had a processor for half the time computed as fast as ever; a GPU's time is all of it."""
    times = Times(np.full(5, 2.0), np.full(5, 1.0))
    assert speed_of(times, computed=True) == (1, 1, 1, BUSY)
    assert speed_of(times, computed=False) == (0.5, 0.5, 0.5, "")
    assert speed_of(Times(np.full(5, 1.1), np.full(5, 1.0)), computed=True).note == ""


@pytest.fixture
def one_second_each(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every task takes a second, in ``len(...)`` rounds."""
    asked: list[int] = []

    def turns(tasks: dict[object, rounds.Task], count: int) -> dict[object, Times]:
        asked.append(count)
        for task in tasks.values():
            task(Stopwatch())
        return {key: Times(np.ones(count), np.ones(count)) for key in tasks}

    monkeypatch.setattr(throughput, "time_in_turns", turns)
    return asked


def test_a_point_is_charged_for_what_it_ran(one_second_each: list[int]) -> None:
    """Of 32 videos, each task takes a second: N frames cost N/32 of the network and 1/32 of the decisions."""
    cache = Cache(PACKAGED_CACHE)
    entries = [
        *(entry(name, cache, "test", 3) for name in ("uniform", "oracle")),
        entry("random-patch", cache, "test"), entry("all-frames", cache, "test"),
    ]  # fmt: skip
    points = [Evaluated(one, evaluate(one, cache, "test"), cache) for one in entries]
    assert points[0].table["videos_per_second"].isna().all()
    found = measure_speeds(points, "test", "cpu")
    assert one_second_each == [rounds.ROUNDS]
    total_frames = cache.num_candidates
    of_patches = total_frames + total_frames  # a glance and a patch of each
    for speed, images in zip(found["videos_per_second"], (3, 3, of_patches, total_frames), strict=True):
        assert speed == pytest.approx(32 / (1 + images))
    assert found.loc[0, "speed_over_all_frames"] == pytest.approx(total_frames / (1 + 3))


def test_a_command_measures_its_points_together(tmp_path: Path, one_second_each: list[int]) -> None:
    out = tmp_path / "uniform.parquet"
    command = ["evaluate", "uniform", str(PACKAGED_CACHE), "--num-frames", "1", "2", "--out", str(out)]
    assert main(command) == 0
    assert len(one_second_each) == 1
    assert set(throughput.COLUMNS) <= set(read_results(out))


def test_what_speaks_against_a_speed_stands_beside_it() -> None:
    """All frames take 1 s in the first two calls, and 1.5 s in the third."""
    columns = {"videos_per_second_low": 8.0, "videos_per_second_high": 12.0}
    results = pd.concat(
        [
            table(name, {"num_frames": 1}, 0.5, 1, seeds=1, videos=20, speed=speed).assign(
                speed_over_all_frames=over, speed_note=note, **columns
            )
            for name, speed, over, note in (
                ("calm", 10, 10, ""), ("wild", 10, 10, DISAGREE), ("later", 10, 15, DISAGREE)
            )
        ]
    )  # fmt: skip
    summary = summarise(with_those_apart(results)).set_index("method")
    assert summary["speed_note"].to_dict() == {
        "calm": "", "wild": DISAGREE, "later": f"{DISAGREE}, {TIMED_APART}"
    }  # fmt: skip
    printed = format_summary(summary.reset_index())
    assert f"10 (8-12: {DISAGREE})" in printed
    assert f"10 (8-12: {DISAGREE}, {TIMED_APART})" in printed
