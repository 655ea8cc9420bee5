"""The area under a curve against an integral that is summed up cost by cost, and as a ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compare.summary import write_summary
from tests.result_tables import table
from video_env.evaluation.budget import areas, guess, summarise
from video_env.evaluation.metrics import area_under_curve, mean_average_precision


def summed_up(gflops: np.ndarray, accuracy: np.ndarray, low: float, high: float, guess: float) -> float:
    """Mean height over a fine grid of costs, equally spaced in their logarithm."""
    heights = [
        max((right for cost, right in zip(gflops, accuracy, strict=True) if cost <= budget), default=guess)
        for budget in np.exp(np.linspace(np.log(low), np.log(high), 20_001))
    ]
    return float(np.mean(heights))


@pytest.mark.parametrize("seed", range(20))
def test_area_is_the_integral_of_the_best_accuracy_at_no_more_than_each_cost(seed: int) -> None:
    """Settings lie below, in and above the range, cost the same or nothing, and dearer ones may be worse."""
    draws = np.random.default_rng(seed)
    count, (low, high) = draws.integers(1, 7), np.sort(draws.uniform(0.01, 100, 2))
    gflops = np.exp(draws.uniform(np.log(low / 3), np.log(high * 3), count))
    gflops[draws.random(count) < 0.2] = draws.choice([0.0, gflops[0]])
    accuracy = draws.random(count)
    found = area_under_curve(gflops, accuracy, ends=(low, high), guess=0.1)
    assert found == pytest.approx(summed_up(gflops, accuracy, low, high, 0.1), abs=1e-3)


def results(*points: tuple[str, float, float]) -> pd.DataFrame:
    """Of (method, top-1, GFLOPs); one frame costs 1 and all cost 12, and half of the videos are of a class."""
    return pd.concat(
        [
            table(method, {"number": number}, top1, gflops, seeds=2)
            for number, (method, top1, gflops) in enumerate(points)
        ],
        ignore_index=True,
    )


def test_methods_that_share_no_cost_are_ranked_sensibly() -> None:
    found = results(
        ("cheap and good", 0.9, 1.2), ("dear and as good", 0.9, 8), ("cheap and bad", 0.55, 1.1),
        ("dearer than all frames", 1.0, 13), ("all frames", 0.95, 12), ("steps", 0.7, 2), ("steps", 0.9, 8),
    )  # fmt: skip
    area = areas(found, summarise(found)).set_index("method")
    assert area["gflops_low"].unique() == [1.0]
    assert area["gflops_high"].unique() == [12.0]
    of = area["area"]
    assert of["cheap and good"] > of["steps"] > of["dear and as good"] > of["dearer than all frames"]
    assert of["cheap and good"] > of["cheap and bad"]
    # From 1.2 of 1 to 12: the rest of the range has what a guess gives.
    share = np.log(12 / 1.2) / np.log(12)
    assert of["cheap and good"] == pytest.approx(0.9 * share + 0.5 * (1 - share))
    # One that costs as much as all frames saves nothing.
    assert of["all frames"] == of["dearer than all frames"] == pytest.approx(0.5)


def test_a_guess_is_the_most_frequent_class_and_equal_scores() -> None:
    found = table("a", {}, 0.5, 1, seeds=2, videos=100)
    classes = [[0]] * 50 + [[1, 2]] * 30 + [[2]] * 20
    found["labels"] = classes * 2
    found["scores"] = [[0.25] * 4] * 200
    assert guess(found) == pytest.approx(0.5)
    matrix = np.array([[number in of_video for number in range(4)] for of_video in classes])
    assert guess(found, "mean_average_precision") == pytest.approx(
        mean_average_precision(matrix, np.full((100, 4), 0.25))
    )


def test_every_method_is_in_one_ranking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames and patches, one setting and several."""
    patches = table("looks", {"patch_size": 36}, 0.8, 3, seeds=2).assign(exit_after=2)
    found = pd.concat([results(("uniform", 0.6, 1), ("uniform", 0.7, 2), ("once", 0.9, 2)), patches])
    write_summary(found, tmp_path)
    saved = pd.read_csv(tmp_path / "areas.csv")
    assert saved.columns.tolist() == ["method", "title", "family", "area", "gflops_low", "gflops_high"]
    assert saved["method"].tolist() == ["uniform", "looks", "once"]
    printed = capsys.readouterr().out.split("area under the curve")[1].splitlines()
    assert "1 to 12 GFLOPs" in printed[0]
    assert "a guess gives 0.500" in printed[0]
    assert [line.split()[0] for line in printed[1:]] == ["once", "uniform", "looks"]


def test_without_the_cost_of_frames_there_is_no_area(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_summary(table("a", {}, 0.5, 1, ends=(float("nan"), float("nan"))), tmp_path)
    assert "area under the curve: none" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "areas.csv").empty
