"""Metrics, curves and areas against numbers worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from compare.entries import untrained_entry
from compare.summary import write_summary
from video_env.cache.store import Cache
from video_env.envs.frame_select import FrameSelect
from video_env.errors import InputError
from video_env.evaluation.budget import area_under_curve, oracle_gain, summarise
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.metrics import bootstrap_interval, mean_average_precision, resampled_means
from video_env.evaluation.protocols import Entry
from video_env.evaluation.results import read_results, write_results


def test_mean_average_precision_by_hand() -> None:
    """Class 0: its videos rank 1st and 3rd: (1/1 + 2/3) / 2. Class 1: ranks 2nd: 1/2. Class 2: absent."""
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    scores = np.array([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1]])
    assert mean_average_precision(labels, scores) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def test_bootstrap_interval_is_the_normal_one_for_many_videos() -> None:
    values = (np.random.default_rng(0).random((1, 2000)) < 0.7).astype(float)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.004)


def test_bootstrap_interval_is_that_of_scipy_for_many_videos() -> None:
    values = np.random.default_rng(0).normal(size=300)
    expected = bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert bootstrap_interval(values[None]) == pytest.approx((expected.low, expected.high), abs=0.02)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_resampled_means_vary_as_means_of_seeds_do(seeds: int) -> None:
    """Of independent values with variance s², their mean has s²/S."""
    of_seeds = np.random.default_rng(0).normal(size=(seeds, 1, 1))
    found = resampled_means(np.repeat(of_seeds, 5, axis=1), resamples=20_000)
    assert found.var() == pytest.approx(of_seeds.var(ddof=1) / seeds, rel=0.05)


@pytest.mark.parametrize("seeds", [1, 3])
def test_resampled_means_are_the_bootstrap(seeds: int) -> None:
    """Their quantiles are the interval that is drawn entry by entry."""
    values = np.random.default_rng(1).normal(size=(seeds, 300, 2)) + np.arange(seeds)[:, None, None]
    means = resampled_means(values, resamples=4000)
    for column in range(2):
        expected = bootstrap_interval(values[..., column], statistic=np.mean, resamples=4000)  # type: ignore[arg-type]
        assert np.quantile(means[:, column], (0.025, 0.975)) == pytest.approx(expected, abs=0.05)


def test_bootstrap_interval_sees_seeds_that_differ() -> None:
    alike, differing = np.full((3, 500), 0.5), np.repeat([[0.2], [0.5], [0.8]], 500, axis=1)
    assert bootstrap_interval(alike) == (0.5, 0.5)
    low, high = bootstrap_interval(differing)
    assert high - low > 0.3


def table(
    method: str, setting: str, accuracy: float, gflops: float, frames: int, seed: int = 0
) -> pd.DataFrame:
    count = 200
    correct = np.arange(count) < round(accuracy * count)
    return pd.DataFrame(
        {
            "method": method, "setting": setting, "seed": seed, "split": "test", "data": "d",
            "video": [f"v{number}" for number in range(count)],
            "label": np.arange(count) % 2, "labels": [[number % 2] for number in range(count)],
            "prediction": 0, "correct": correct, "confidence": 0.5, "gflops": gflops, "frames": frames,
            "selected": [[0]] * count, "scores": [[0.5, 0.5]] * count,
            "videos_per_second": 10.0, "training_seconds": 3.0,
        }
    )  # fmt: skip


def curves() -> pd.DataFrame:
    points = [("uniform", 0.5, 1, 1), ("uniform", 0.7, 3, 3), ("oracle", 0.9, 1, 1), ("oracle", 1.0, 3, 3),
              ("mine", 0.8, 2, 2), ("mine", 0.9, 4, 3), ("dear", 0.9, 50, 2), ("dear", 0.95, 60, 3)]  # fmt: skip
    return pd.concat([table(method, f"N = {frames}", *rest, frames) for method, *rest, frames in points])


def test_summary_area_and_gain_by_hand() -> None:
    summary = summarise(curves()).set_index(["method", "setting"])
    assert summary.loc[("mine", "N = 2"), "top1"] == pytest.approx(0.8)
    assert summary.loc[("mine", "N = 2"), "mean_average_precision"] == pytest.approx(0.5)
    low, high = summary.loc[("mine", "N = 2"), ["top1_low", "top1_high"]]
    assert 0.7 < low < 0.8 < high < 0.9
    # At two frames uniform is at 0.6 and the oracle at 0.95, halfway between their points.
    gain = summary["share_of_oracle_gain"]
    assert gain["mine", "N = 2"] == pytest.approx(0.2 / 0.35)
    assert gain["uniform", "N = 1"] == pytest.approx(0)
    assert gain["oracle", "N = 3"] == pytest.approx(1)
    areas, (low, high) = area_under_curve(summary.reset_index())
    assert (low, high) == (2, 3)
    assert "dear" not in areas
    assert areas["uniform"] == pytest.approx((0.6 + 0.7) / 2)
    assert areas["mine"] == pytest.approx((0.8 + 0.85) / 2)


def test_area_leaves_out_what_shares_no_range_with_the_others() -> None:
    """Uniform covers 1 to 3; a covers 1 to 1.5 and b 2 to 3: a overlaps fewer of the other three."""
    points = [("uniform", 0.5, 1), ("uniform", 0.7, 3), ("a", 0.6, 1), ("a", 0.6, 1.5), ("b", 0.8, 2), ("b", 0.9, 3),
              ("c", 0.7, 1.8), ("c", 0.7, 3)]  # fmt: skip
    tables = [table(method, f"{gflops}", accuracy, gflops, 1) for method, accuracy, gflops in points]
    areas, ends = area_under_curve(summarise(pd.concat(tables)))
    assert ends == (2, 3)
    assert areas.to_dict() == pytest.approx({"uniform": 0.65, "b": 0.85, "c": 0.7})


def test_patches_have_no_share_of_the_gain_over_whole_frames() -> None:
    patches = table("patches", "36²", 0.9, 2, 2).assign(exit_after=2)
    gain = summarise(pd.concat([curves(), patches])).set_index("method")["share_of_oracle_gain"]
    assert np.isnan(gain["patches"])
    assert gain["mine"].notna().all()


def test_gain_is_missing_without_its_ends() -> None:
    summary = summarise(table("mine", "N = 2", 0.8, 2, 2))
    assert oracle_gain(summary).isna().all()
    assert area_under_curve(summary)[0].empty


def test_seeds_are_averaged() -> None:
    both = pd.concat([table("mine", "N = 2", 0.8, 2, 2, seed=0), table("mine", "N = 2", 0.6, 2, 2, seed=1)])
    row = summarise(both).iloc[0]
    assert (row["seeds"], row["top1"]) == (2, pytest.approx(0.7))


def test_tables_on_disk_give_the_summary(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("uniform", "oracle"):
        for count in (1, 3):
            entry = untrained_entry(name, cache, "test", count)
            write_results(evaluate(entry, cache, "test"), tmp_path / "results" / f"{name}-{count}.parquet")
    results = read_results(tmp_path / "results")
    assert len(results) == 4 * 8
    write_summary(results, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "oracle" in printed
    assert "area under the curve" in printed
    assert (tmp_path / "out" / "curve.png").stat().st_size > 10_000
    precise = write_summary(results, tmp_path / "precise", metric="mean_average_precision")
    inside = precise["mean_average_precision"].between(
        precise["mean_average_precision_low"], precise["mean_average_precision_high"]
    )
    assert inside.mean() > 0.7
    assert (tmp_path / "precise" / "curve.png").read_bytes() != (tmp_path / "out" / "curve.png").read_bytes()
    saved = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert saved["method"].tolist() == ["uniform", "uniform", "oracle", "oracle"]
    # Rows keep what the recognizer said.
    one = results[(results["method"] == "oracle") & (results["frames"] == 3)]
    assert (np.stack(one["scores"].to_list()).argmax(axis=1) == one["prediction"]).all()
    assert one["selected"].map(len).eq(3).all()


def test_tables_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no result tables"):
        read_results(tmp_path)
    write_results(table("a", "N = 1", 0.5, 1, 1), tmp_path / "a.parquet")
    write_results(table("b", "N = 1", 0.5, 1, 1).assign(split="train"), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"different split .* test in .*a\.parquet; train in .*b\.parquet"):
        read_results(tmp_path)
    write_results(table("a", "N = 1", 0.5, 1, 1), tmp_path / "twice" / "1.parquet")
    write_results(table("a", "N = 1", 0.6, 1, 1), tmp_path / "twice" / "2.parquet")
    with pytest.raises(InputError, match=r"a, N = 1, seed 0 stands in .*1\.parquet and .*2\.parquet"):
        read_results(tmp_path / "twice")
    (tmp_path / "c.parquet").write_bytes(b"half a table")
    with pytest.raises(InputError, match=r"c\.parquet: cannot be read"):
        read_results(tmp_path / "c.parquet")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"d\.parquet: no column"):
        read_results(tmp_path / "d.parquet")


class Stubborn:
    """Chooses the second frame, then the first one again and again."""

    gflops, looks_at = 0.0, "nothing"

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        nothing_chosen = observation["selected"].sum(axis=1) == 0
        return np.where(nothing_chosen, 1, 0), state


def test_a_frame_that_is_chosen_again_counts_again(cache: Cache) -> None:
    options = {"observation": "index", "max_frames": 5}
    found = evaluate(Entry("stubborn", "", 0, "FrameSelect-v0", Stubborn(), options), cache, "test")
    assert found["selected"].tolist() == [[0, 1]] * 8
    assert found["frames"].eq(5).all()
    per_frame = cache.gflops["embedding"] + cache.gflops["hidden"]
    assert found["gflops"].to_numpy() == pytest.approx(5 * per_frame + cache.gflops["output"])


def test_an_environment_need_not_count_frames(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be processed again, those chosen are those processed (docs/adding/environment.md)."""
    described = FrameSelect.describe

    def describe(self: FrameSelect, state: Any) -> dict[str, np.ndarray]:
        return {name: values for name, values in described(self, state).items() if name != "processed"}

    monkeypatch.setattr(FrameSelect, "describe", describe)
    found = evaluate(untrained_entry("uniform", cache, "test", 3), cache, "test")
    assert found["frames"].eq(3).all()
