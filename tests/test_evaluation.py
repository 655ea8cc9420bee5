"""Metrics and curves against numbers worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from compare.summary import curves as pictures
from compare.summary import format_summary, in_order, write_summary
from tests.result_tables import entry, table
from video_env.cache.store import Cache
from video_env.envs.frame_select import FrameSelect
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.budget import oracle_gain, summarise
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.metrics import bootstrap_interval, mean_average_precision, resampled_means
from video_env.evaluation.plots import plot_curve
from video_env.evaluation.protocols import NO_TRAINING, Entry, Training
from video_env.evaluation.results import join_results, read_results, setting_columns, write_results
from video_env.evaluation.selections import write_selections
from video_env.evaluation.tables import read_table


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


def points(*of: tuple[str, float, float, float]) -> pd.DataFrame:
    """A table of (method, top-1, GFLOPs, number of frames), one seed of 200 videos each."""
    return pd.concat(
        [
            table(method, {"num_frames": frames}, top1, gflops, frames=frames, seeds=1, videos=200)
            for method, top1, gflops, frames in of
        ],
        ignore_index=True,
    )


def curves() -> pd.DataFrame:
    return points(
        ("uniform", 0.5, 1, 1), ("uniform", 0.7, 3, 3), ("oracle", 0.9, 1, 1), ("oracle", 1.0, 3, 3),
        ("mine", 0.8, 2, 2), ("mine", 0.9, 4, 3), ("dear", 0.9, 50, 2), ("dear", 0.95, 60, 3),
    )  # fmt: skip


def test_summary_and_gain_by_hand() -> None:
    summary = summarise(curves()).set_index(["method", "num_frames"])
    assert summary.loc[("mine", 2), "top1"] == pytest.approx(0.8)
    assert summary.loc[("mine", 2), "mean_average_precision"] == pytest.approx(0.5)
    low, high = summary.loc[("mine", 2), ["top1_low", "top1_high"]]
    assert 0.7 < low < 0.8 < high < 0.9
    # At two frames uniform is at 0.6 and the oracle at 0.95, halfway between their points.
    gain = summary["share_of_oracle_gain"]
    assert gain["mine", 2] == pytest.approx(0.2 / 0.35)
    assert gain["uniform", 1] == pytest.approx(0)
    assert gain["oracle", 3] == pytest.approx(1)


def test_patches_have_no_share_of_the_gain_over_whole_frames() -> None:
    patches = table("patches", {"patch_size": 36}, 0.9, 2, frames=2, seeds=1, videos=200).assign(exit_after=2)
    gain = summarise(pd.concat([curves(), patches])).set_index("method")["share_of_oracle_gain"]
    assert np.isnan(gain["patches"])
    assert gain["mine"].notna().all()


def test_gain_is_missing_without_its_ends() -> None:
    summary = summarise(points(("mine", 0.8, 2, 2)))
    assert oracle_gain(summary).isna().all()


ODD = ("CNN+LSTM", "centre of mass", "36², N = 2", "uniform+all-frames", "oracle", "a, b", "stage 2, GRU")
"""Names that mean something to a program that takes names apart."""


@pytest.mark.parametrize("title", ODD)
def test_a_name_decides_nothing(title: str, tmp_path: Path) -> None:
    """A user's method keeps its difference to uniform, and its line in the curve, whatever it is called."""
    own_id = "own" if title == "oracle" else title  # that id is taken
    own = pd.concat(
        [
            table(own_id, {"num_heads": heads, "mode": "fast, 36²"}, top1, gflops, title=title, noise=heads)
            for heads, top1, gflops in ((2, 0.8, 2), (4, 0.9, 2.5))
        ]
    )
    base = [
        table("uniform", {"num_frames": frames}, top1, frames, noise=7)
        for frames, top1 in ((1, 0.4), (3, 0.6))
    ]
    results = pd.concat([*base, own], ignore_index=True)
    summary = write_summary(results, tmp_path)
    found = summary.set_index(["method", "num_heads"])["difference_to_uniform"]
    right = {
        (
            row.method,
            row.num_heads if row.method == own_id else row.num_frames,
            row.seed,
            row.video,
        ): row.correct
        for row in results.itertuples()
    }
    for heads, gflops in ((2, 2), (4, 2.5)):
        # Counted video by video: between its points uniform is a mixture of both.
        share = (gflops - 1) / 2
        each = [
            right[own_id, heads, seed, video]
            - (1 - share) * right["uniform", 1, seed, video]
            - share * right["uniform", 3, seed, video]
            for seed, video in results[["seed", "video"]].drop_duplicates().itertuples(index=False)
        ]
        assert found[own_id, heads] == pytest.approx(sum(each) / len(each))
    saved = read_table(tmp_path / "summary.csv")
    assert set(saved.loc[saved["method"] == own_id, "title"]) == {title}
    assert setting_columns(saved) == ["num_frames", "num_heads", "mode"]
    figure = plot_curve(saved, tmp_path / "own.png")
    assert title in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def ours(method: str, family: str, *, patches: bool = False) -> pd.DataFrame:
    setting = {"patch_size": 36} if patches else {"num_frames": 1}
    found = table(method, setting, 0.5, 1, family=family, seeds=1, videos=4)
    return found.assign(exit_after=1) if patches else found


def test_pictures_show_at_most_eight_lines_and_what_was_added_is_one_of_them() -> None:
    of_frames = [
        *(ours(name, "heuristic") for name in ("uniform", "random", "centre", "motion", "early-exit")),
        *(ours(name, "stable-baselines3") for name in ("ppo", "a2c", "dqn", "maskable-ppo")),
        *(ours(name, "ocsampler") for name in ("ocsampler", "ocsampler-budget", "ocsampler-end-to-end")),
        *(ours(name, "bound") for name in ("oracle", "all-frames")),
    ]
    of_patches = [
        ours("adafocus", "adafocus", patches=True), ours("adafocus-stage-2", "adafocus", patches=True),
        ours("adafocus-v2", "adafocus-v2", patches=True), ours("adafocus-v2-exit", "adafocus-v2", patches=True),
        *(ours(f"{name}-patch", "heuristic", patches=True) for name in ("random", "centre", "most-moving")),
        ours("patch-oracle", "bound", patches=True), ours("patch-ppo", "stable-baselines3", patches=True),
    ]  # fmt: skip
    patches = {str(part["method"].iloc[0]) for part in of_patches}
    everything = in_order(pd.concat([*of_frames, *of_patches], ignore_index=True))
    found = pictures(everything, patches)
    assert found["curve.png"] == [
        "uniform", "adafocus", "adafocus-v2", "adafocus-v2-exit", "ocsampler", "ocsampler-budget", "oracle",
        "all-frames",
    ]  # fmt: skip
    assert found["patch-curve.png"] == [
        "random-patch", "most-moving-patch", "adafocus", "adafocus-v2", "adafocus-v2-exit", "patch-ppo",
        "patch-oracle", "all-frames",
    ]  # fmt: skip
    assert found["sb3-curve.png"] == ["uniform", "ocsampler", "a2c", "dqn", "maskable-ppo", "ppo", "oracle"]
    own = [ours("own", "mine"), ours("own-patches", "mine", patches=True)]
    with_own = pictures(pd.concat([everything, *own]), patches | {"own-patches"})
    assert "own" in with_own["curve.png"]
    assert "own" not in with_own["patch-curve.png"]
    assert "own-patches" in with_own["patch-curve.png"]
    assert "own-patches" not in with_own["curve.png"]
    for name in ("curve.png", "patch-curve.png"):
        assert len(with_own[name]) == 8
    every = pictures(everything, patches, all_lines=True)
    assert {*every["curve.png"], *every["patch-curve.png"]} == set(everything["method"])
    # Where there is room, all are shown; and one kind needs one picture.
    assert pictures(pd.concat(of_frames[:5]), set()) == {
        "curve.png": ["uniform", "random", "centre", "motion", "early-exit"]
    }


def test_an_empty_difference_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_summary(curves(), tmp_path)
    assert (
        "\nto uniform: empty where a method costs more than the 3 GFLOPs up to which uniform was tested\n"
        in capsys.readouterr().out
    )
    all_frames = points(("all-frames", 0.9, 70, 12))
    write_summary(pd.concat([curves(), all_frames]), tmp_path)
    assert "to uniform: empty" not in capsys.readouterr().out
    write_summary(points(("mine", 0.8, 2, 2)), tmp_path)
    assert "empty, because uniform is not among the methods" in capsys.readouterr().out
    other = points(("mine", 0.8, 2, 2)).assign(seed=5)
    write_summary(pd.concat([points(("uniform", 0.5, 1, 1), ("uniform", 0.7, 3, 3)), other]), tmp_path)
    assert "empty where a method has no seed in common with uniform" in capsys.readouterr().out


def test_methods_of_one_title_are_told_apart_and_bounds_are_dashed(tmp_path: Path) -> None:
    found = summarise(
        pd.concat([table("a", {}, 0.5, 1, title="x"), table("b", {}, 0.6, 1, title="x", family="bound")])
    )
    figure = plot_curve(found, tmp_path / "curve.png")
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["x (a)", "x (b)"]
    assert [line[0].get_linestyle() for line in figure.axes[0].containers] == ["-", "--"]
    assert "x (b)" in format_summary(found)


def test_selections_carry_ids_and_settings(tmp_path: Path) -> None:
    cache = Cache(PACKAGED_CACHE)
    tables = [evaluate(entry(name, cache, "test", 2), cache, "test") for name in ("uniform", "random-patch")]
    results = join_results(tables)
    write_selections(cache, results, tmp_path / "chosen.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "chosen.jsonl").read_text().splitlines()]
    assert len(lines) == len(results) == 2 * len(cache.rows("test"))
    first, last = lines[0], lines[-1]
    assert {name: first[name] for name in ("video", "method", "title", "setting", "seed")} == {
        "video": results["video"].iloc[0], "method": "uniform", "title": "uniform",
        "setting": {"num_frames": 2}, "seed": 0,
    }  # fmt: skip
    assert "2.0" not in json.dumps(first["setting"])
    assert last["method"] == "random-patch"
    assert last["setting"] == {"patch_size": 36}
    assert np.shape(last["patches"]) == (len(last["frame_indices"]), 2)


def test_seeds_are_averaged() -> None:
    both = pd.concat([points(("mine", 0.8, 2, 2)), points(("mine", 0.6, 2, 2)).assign(seed=1)])
    row = summarise(both).iloc[0]
    assert (row["seeds"], row["top1"]) == (2, pytest.approx(0.7))


def test_tables_on_disk_give_the_summary(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("uniform", "oracle"):
        for count in (1, 3):
            found = evaluate(entry(name, cache, "test", count), cache, "test")
            write_results(found, tmp_path / "results" / f"{name}-{count}.parquet")
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
    write_results(points(("a", 0.5, 1, 1)), tmp_path / "a.parquet")
    write_results(points(("b", 0.5, 1, 1)).assign(split="train"), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"different split .* test in .*a\.parquet; train in .*b\.parquet"):
        read_results(tmp_path)
    write_results(points(("a", 0.5, 1, 1)), tmp_path / "twice" / "1.parquet")
    write_results(points(("a", 0.6, 1, 1)), tmp_path / "twice" / "2.parquet")
    with pytest.raises(InputError, match=r"a, num_frames 1, seed 0 is in .*1\.parquet and .*2\.parquet"):
        read_results(tmp_path / "twice")
    earlier = points(("a", 0.5, 1, 1)).drop(columns=["recognizer", "all_frames_gflops"])
    write_results(earlier, tmp_path / "earlier.parquet")
    with pytest.raises(InputError, match=r"no column recognizer, all_frames_gflops; .*earlier version"):
        read_results(tmp_path / "earlier.parquet")
    (tmp_path / "c.parquet").write_bytes(b"half a table")
    with pytest.raises(InputError, match=r"c\.parquet: cannot be read"):
        read_results(tmp_path / "c.parquet")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"d\.parquet: no column"):
        read_results(tmp_path / "d.parquet")


def test_tables_of_one_seed_share_a_recognizer() -> None:
    """In a study every seed has its own; within a seed a better one would pass for a better choice."""
    of_study = [
        table(method, {}, 0.5, 1, seeds=1, recognizer=f"r{seed}").assign(seed=seed)
        for method in ("a", "b")
        for seed in (0, 1)
    ]
    assert len(join_results(of_study)) == 4 * 400
    other = table("c", {}, 0.5, 1, seeds=1, recognizer="r0").assign(seed=1)
    with pytest.raises(InputError, match=r"of seed 1: .* r1 of a in table 1; r0 of c in table 4"):
        join_results([*of_study, other])


class Lookup:
    """Takes the first frame of these videos and no frame of all others; remembers whom it was asked about."""

    gflops, looks_at = 0.0, "nothing"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.asked = rows, []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        self.asked.append(observation["video"][:, 0])
        known = np.isin(observation["video"], self.rows)
        return known & (np.arange(12) == 0), state


@pytest.mark.parametrize("most", [400, 10])
def test_a_learned_method_is_tested_on_training_videos_too(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Counted by the cache's table of verdicts; a video of which no frame is taken is wrong."""
    monkeypatch.setattr("video_env.evaluation.evaluate.TRAINING_VIDEOS", most)
    cache = Cache(PACKAGED_CACHE)
    train = cache.rows("train")
    policy = Lookup(train[::2])
    learned = Entry(
        "lookup", "lookup", "mine", {}, 0, "FrameSelectOneStep-v0", policy, {"observation": "index"},
        Training(seconds=1.0, stages=1),
    )  # fmt: skip
    found = evaluate(learned, cache, "test")
    asked = np.concatenate(policy.asked)
    trained = np.intersect1d(asked, train)
    assert len(trained) == min(most, len(train))
    assert len(asked) == len(trained) + len(cache.rows("test"))
    right = (cache["subset_prediction"][trained][:, 1] == cache.labels[trained]) & np.isin(
        trained, train[::2]
    )
    assert found["top1_train"].unique() == pytest.approx([right.mean()])
    assert right.any()
    assert not found["correct"].any()
    summary = summarise(found).iloc[0]
    assert summary["train_test_gap"] == found["top1_train"].iloc[0]
    without = evaluate(replace(learned, training=NO_TRAINING), cache, "test")
    assert without["top1_train"].isna().all()
    assert np.isnan(summarise(without)["train_test_gap"].iloc[0])
    # The recognizer's own gap, on all frames.
    everything = cache["subset_prediction"][:][:, -1] == cache.labels
    own = everything[trained].mean() - everything[cache.rows("test")].mean()
    assert found["recognizer_gap"].unique() == pytest.approx([own])
    # What all tables say of the comparison: the recognizer on one candidate, and on all twelve.
    costs = {name: evaluate(entry("uniform", cache, "test", n), cache, "test")["gflops"].iloc[0]
             for name, n in (("one_frame_gflops", 1), ("all_frames_gflops", 12))}  # fmt: skip
    assert found[list(costs)].iloc[0].to_dict() == pytest.approx(costs)
    assert not set(setting_columns(found))


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
    found = evaluate(
        Entry("stubborn", "stubborn", "mine", {}, 0, "FrameSelect-v0", Stubborn(), options), cache, "test"
    )
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
    found = evaluate(entry("uniform", cache, "test", 3), cache, "test")
    assert found["frames"].eq(3).all()
