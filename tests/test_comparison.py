"""Comparisons: the table of methods, what is kept and what is done again, differences and claims by hand."""

import inspect
import json
import shutil
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import compare.methods
import numpy as np
import pandas as pd
import pytest
from compare.entries import saved_entry
from compare.methods import AdaFocusSizes, OCSamplerCurve, SB3Costs

import compare.run_folder
from agents.adafocus.settings import AdaFocusSettings
from agents.ocsampler.settings import OCSamplerSettings
from baselines.sb3 import SB3Settings
from compare.claims import claims_page, measure_claims
from compare.command_line.main import main
from compare.published_figures import reported_figures
from compare.run import Machine, sum_up
from compare.run import compare as compare_methods
from compare.run_folder import Run
from tests.conftest import write_cache
from video_env.cache.store import Cache, read_meta, write_meta
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.differences import (
    difference_at_equal_cost,
    difference_to_dearer,
    paired_curves,
    saving_at_equal_accuracy,
)
from video_env.evaluation.protocols import Entry
from video_env.evaluation.results import read_results, write_results

registry.load()
QUICK = ["--ocsampler.num-frames", "1", "2", "--ocsampler.training.epochs", "1"]
FEW = ["--uniform.num-frames", "1", "2", "3"]


def call(*arguments: object) -> None:
    assert main(["compare", *map(str, arguments)]) == 0


def files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def test_methods_are_added_to_a_run_and_nothing_is_done_twice(tmp_path: Path, cache: Cache) -> None:
    out = tmp_path / "run"
    common = ["--path", cache.path, "--out", out, "--jobs", 1]
    call("uniform", "all-frames", *common, *FEW)
    first = files(out)
    call("ocsampler", "uniform", *common, "--seeds", 2, *FEW, *QUICK)
    kept = {name for name, moment in files(out).items() if first.get(name) == moment}
    assert {"seed-0/results/uniform.parquet", "seed-0/results/all-frames.parquet"} <= kept
    run = Run(out)
    assert set(run.methods) == {"uniform", "all-frames", "ocsampler"}
    assert run.methods["ocsampler"]["training"]["epochs"] == 1
    assert run.seeds == [0, 1]
    assert run.record["commands"][0].startswith("video-env compare uniform all-frames --path")
    assert len(run.record["commands"]) == 2
    summary = run.table("summary")
    assert summary is not None
    assert summary.set_index("method")["seeds"].to_dict() == {"uniform": 2, "OCSampler": 2, "all frames": 1}
    training = run.table("training")
    assert training is not None
    assert len(training) == 4
    assert len(run.results) == 8 * (2 * 3 + 2 * 2 + 1)


def test_several_at_once_give_what_one_after_another_gives(tmp_path: Path, cache: Cache) -> None:
    names = ["uniform", "ocsampler", "ocsampler-budget"]
    settings = registry.settings_type(registry.find(names))()
    short = replace(settings.ocsampler.training, epochs=2)
    settings = replace(
        settings,
        uniform=replace(settings.uniform, num_frames=(1, 2)),
        ocsampler=replace(settings.ocsampler, num_frames=(2,), training=short),
        ocsampler_budget=replace(settings.ocsampler_budget, training=short),
    )
    tables = []
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}"
        compare_methods(names, [cache], out, settings=settings, machine=Machine(jobs=jobs))
        table = read_results(out / "results.parquet").drop(columns=["videos_per_second", "training_seconds"])
        tables.append(
            table.sort_values(["method", "setting", "video"], ignore_index=True).astype({"scores": str})
        )
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert "OCSampler" in (tmp_path / "2" / "seed-0" / "logs" / "ocsampler.txt").read_text()


def test_results_that_are_not_whole_are_made_anew(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["uniform", "random", "oracle", "--path", cache.path, "--out", out, *FEW]
    call(*arguments)
    before = Run(out).results
    results = out / "seed-0" / "results"
    half = (results / "uniform.parquet").read_bytes()
    (results / "uniform.parquet").write_bytes(half[: len(half) // 2])
    with pytest.raises(InputError, match=r"uniform\.parquet: cannot be read .*; compare uniform again"):
        sum_up(Run(out))
    write_results(pd.read_parquet(results / "random.parquet").iloc[3:], results / "random.parquet")
    untouched = (results / "oracle.parquet").stat().st_mtime_ns
    capsys.readouterr()
    call(*arguments)
    printed = capsys.readouterr()
    assert "uniform, seed 0: its results are not whole" in printed.out + printed.err
    assert "random, seed 0: its results are not whole" in printed.out + printed.err
    assert (results / "oracle.parquet").stat().st_mtime_ns == untouched
    assert (
        Run(out)
        .results.drop(columns="videos_per_second")
        .astype({"scores": str})
        .equals(before.drop(columns="videos_per_second").astype({"scores": str}))
    )


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failed_training_keeps_the_others(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    arguments = ["compare", "ocsampler-budget", "ocsampler", "--path", str(cache.path), "--out", str(tmp_path / "run"),
                 *QUICK, "--ocsampler-budget.training.num-frames", "99", "--jobs", jobs]  # fmt: skip
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "ocsampler-budget, seed 0" in error
    assert "num_frames: found 99" in error
    assert (tmp_path / "run" / "seed-0" / "results" / "ocsampler.parquet").is_file()
    # The failed one's settings bind nobody.
    assert main([*arguments[:-3], "2", "--ocsampler-budget.training.epochs", "1", "--jobs", jobs]) == 0


def test_a_method_of_ones_own(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of its own, with settings on the command line, beside ours, in processes of its own too."""
    (tmp_path / "last_frames.py").write_text(
        """
from dataclasses import dataclass
import numpy as np
from baselines.heuristics import FixedSubsets
from video_env.evaluation.registry import Job, method
from video_env.evaluation.protocols import Entry

@dataclass(frozen=True)
class Settings:
    num_frames: tuple[int, ...] = (1, 2)

@method("last-frames", about="the last N frames", settings=Settings())
def last_frames(job: Job, settings: Settings) -> list[Entry]:
    (job.folder / "seen").parent.mkdir(parents=True, exist_ok=True)
    with (job.folder / "seen").open("a") as file:
        file.write("x")
    def subset(count):
        chosen = np.zeros((len(job.cache), job.cache.num_candidates), bool)
        chosen[:, -count:] = True
        return chosen
    return [
        Entry("last frames", f"N = {n}", job.seed, "FrameSelectOneStep-v0", FixedSubsets(subset(n), "nothing"),
              {"num_frames": n, "observation": "index"})
        for n in settings.num_frames
    ]
"""
    )
    monkeypatch.chdir(tmp_path)
    call("uniform", "last-frames", "--path", cache.path, "--out", "run", "--modules", "last_frames", *FEW,
         "--last-frames.num-frames", 3, "--seeds", 2, "--jobs", 2)  # fmt: skip
    results = Run("run").results
    chosen = results[results["method"] == "last frames"]["selected"]
    assert chosen.map(list).map(tuple).unique().tolist() == [(3, 4, 5)]
    assert Run("run").methods["last-frames"] == {"num_frames": [3]}
    with pytest.raises(InputError, match="'last-frames': is in the table already, from last_frames"):
        registry.method("last-frames", about="")(lambda job, settings: [])
    del registry._TABLE["last-frames"], sys.modules["last_frames"]


def test_what_builds_on_a_training_waits_for_it_and_failures_are_named(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    @registry.method("reads-agent", about="", trains=False, builds_on=("ocsampler",))
    def reads_agent(job: registry.Job, settings: object) -> list[Entry]:
        return [replace(saved_entry(job.folder / "ocsampler-1.pt", job.cache), method="read")]

    @registry.method("breaks", about="")
    @registry.method("breaks-untrained", about="", trains=False)
    def breaks(job: registry.Job, settings: object) -> list[Entry]:
        raise RuntimeError("out of memory")

    common = ["--path", cache.path, "--out", tmp_path / "run", "--jobs", 1]
    try:
        call("reads-agent", "ocsampler", *common, *QUICK)
        assert {"read", "OCSampler"} == set(Run(tmp_path / "run").results["method"])
        capsys.readouterr()
        for name in ("breaks", "breaks-untrained"):
            with pytest.raises(RuntimeError, match="out of memory"):
                call(name, *common)
            assert capsys.readouterr().out.count(f"failed: {name}, seed 0: out of memory") == 1
    finally:
        for name in ("reads-agent", "breaks", "breaks-untrained"):
            del registry._TABLE[name]


def test_modules_that_cannot_be_used_say_why(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_method.py").write_text("1 / 0")
    (tmp_path / "needing_method.py").write_text("import a_package_that_is_not_there")
    # A function of ours, taken over as it is, is another one where it is written in another file.
    copied = inspect.getsource(compare.methods.all_frames).replace("-> list[Entry]", "")
    (tmp_path / "copied_method.py").write_text(
        "from video_env.evaluation.registry import Job, method\n"
        "from compare.entries import ALL_FRAMES, untrained_entry\n" + copied
    )
    for module, message in (
        ("broken_method", "module 'broken_method': cannot be imported (ZeroDivisionError: division by zero)"),
        ("needing_method", "cannot be imported (ModuleNotFoundError: No module named 'a_package_that_is_not_there')"),
        ("copied_method", "method 'all-frames': is in the table already, from compare.methods; now copied_method adds it"),
    ):  # fmt: skip
        for flag in ([f"--modules={module}"], ["--modules", module]):
            assert main(["compare", "uniform", "--path", str(cache.path), "--out", "run", *flag]) == 2
            assert message in capsys.readouterr().err
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [EntryPoint("theirs", "broken_method", group)]
    )
    assert main(["compare", "uniform", "--path", str(cache.path), "--out", "run"]) == 2
    assert "entry point theirs = broken_method (video_env.methods)" in capsys.readouterr().err


def test_bad_comparisons_say_why(tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    common = ["--path", str(cache.path), "--out", str(run)]
    call("uniform", *common, *FEW)
    other = write_cache(tmp_path / "other", videos=30)
    capsys.readouterr()
    for arguments, message in (
        (["unifrom", *common], "method 'unifrom': expected one of uniform, random"),
        (["uniform", "uniform", *common], "named twice"),
        (common, "methods: found none, expected some of uniform"),
        (["uniform", *common, "--seeds", "0"], "seeds: found 0"),
        (["uniform", *common, *FEW, "--split", "train"], "other split: test there, train asked for"),
        (["uniform", *common, "--uniform.num-frames", "1"], "other settings: uniform.num_frames [1, 2, 3] there, [1] asked for"),
        (["uniform", "--path", str(other.path), *common[2:], *FEW], "other caches"),
        (["uniform", "--path", str(cache.path), str(other.path), "--out", "x", "--seeds", "2"], "caches of different videos"),
        (["uniform", "--path", str(cache.path), str(cache.path), "--out", "x", "--seeds", "3"], "found 2 caches for 3 seeds"),
        (["uniform", *common, *FEW, "--overlay", "imagenet"], "overlay 'imagenet': expected one of activitynet"),
        (["uniform", *common, *FEW, "--overlay", "activitynet"], "the figures on activitynet are in mAP; add --metric mean_average_precision"),
        (["uniform", *common, *FEW, "--modules", "no_such_module"], "module 'no_such_module': not found"),
        (["uniform", *common, *FEW, "--jobs", "0"], "jobs: found 0"),
        (["uniform", *common, *FEW, "--device", "cuda:9"], "expected auto, cpu"),
        (["random", *common, "--random.num-frames", "2", "2"], "method 'random', seed 0: its settings give random, N = 2 twice"),
        (["ocsampler", "uniform", *common, "--uniform.num-frames", "1", "13"], "other settings: uniform"),
        (["ocsampler", "random", *common, "--random.num-frames", "1", "13"], "method 'random', seed 0: num_frames: found 13"),
        (["uniform", "--path", str(cache.path), "--out", str(cache.path / "index.parquet")], "is a file, expected a folder"),
        (["patch-oracle", *common], "patch_size: found 24, expected 1 to 16"),
    ):  # fmt: skip
        assert main(["compare", *arguments]) == 2, arguments
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "format": 99, "version": "9.9"}))
    assert main(["compare", "uniform", *common, *FEW]) == 2
    assert "written by video-env 9.9 in format 99" in capsys.readouterr().err
    (run / "run.json").write_text(json.dumps({**record, "methods": 3}))
    assert main(["compare", "uniform", *common, *FEW]) == 2
    assert "methods: expected dict, found 3" in capsys.readouterr().err
    (run / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: cannot be read"):
        Run(run)
    with pytest.raises(InputError, match="holds no comparison"):
        Run(tmp_path)


def test_what_a_curve_varies_is_not_given_twice() -> None:
    for make, message in (
        (lambda: OCSamplerCurve(training=OCSamplerSettings(num_frames=5)), "it is given by num_frames"),
        (lambda: AdaFocusSizes(training=AdaFocusSettings(seed=5)), "it is given by seeds of the comparison"),
        (lambda: SB3Costs(training=SB3Settings("dqn", cost_per_gflop=5)), "it is given by costs"),
    ):
        with pytest.raises(InputError, match=f"found 5; {message}"):
            make()


def test_a_run_that_is_damaged_or_moved_says_so(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["compare", "uniform", "--path", str(cache.path), "--out", str(run), *FEW]
    assert main(arguments) == 0
    for name, damage in (("summary", b""), ("claims", b"claim,measure\n1,2\n")):
        (run / f"{name}.csv").write_bytes(damage)
        assert main(["report", str(run)]) == 2
        assert f"{name}.csv: " in (error := capsys.readouterr().err)
        assert "sums it up again" in error
        assert main(arguments) == 0
        assert "all results are in" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    shutil.move(run, tmp_path / "elsewhere" / "run")
    assert main(["report", str(tmp_path / "elsewhere" / "run")]) == 2
    assert "its cache of seed 0 is not at" in capsys.readouterr().err


def test_settings_may_change_as_long_as_no_result_was_made_with_them(tmp_path: Path, cache: Cache) -> None:
    common = ["compare", "uniform", "--path", str(cache.path), "--out", str(tmp_path / "run"), "--jobs", "1"]
    assert main([*common, "--uniform.num-frames", "99"]) == 2
    assert main([*common, "--overlay", "imagenet"]) == 2
    assert not list(tmp_path.rglob("*.parquet"))
    assert main([*common, *FEW]) == 0
    assert main([*common, *FEW, "--title", "another title"]) == 0
    assert Run(tmp_path / "run").title == "another title"


def test_a_changed_cache_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = write_cache(tmp_path / "cache")
    arguments = ["compare", "uniform", "--path", str(own.path), "--out", str(tmp_path / "run"), *FEW]
    assert main(arguments) == 0
    meta = read_meta(own.path)
    meta["arrays"]["skim"]["sha256"][0] = "0" * 64  # as if the skim network had been trained anew
    write_meta(own.path, meta)
    assert main(arguments) == 2
    assert "other caches: 0.array skim" in capsys.readouterr().err
    with pytest.raises(InputError, match="has changed since the comparison .* was made: array skim"):
        Run(tmp_path / "run").cache(0)
    (tmp_path / "run" / "run.json").unlink()
    assert main(arguments) == 2
    assert "holds results, but no run.json" in capsys.readouterr().err


def test_files_of_others_are_not_overwritten(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "curve.png").write_text("mine")
    arguments = ["compare", "uniform", "--path", str(cache.path), "--out", str(tmp_path), *FEW]
    assert main(arguments) == 2
    assert "holds curve.png, which a comparison would overwrite" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_a_report_follows_its_run(tmp_path: Path, cache: Cache) -> None:
    arguments = ["--path", str(cache.path), "--out", str(tmp_path / "run"), *FEW]
    assert main(["compare", "uniform", *arguments, "--report"]) == 0
    report = tmp_path / "run" / "report.html"
    assert "single-frame confidence" not in report.read_text()
    assert main(["compare", "uniform", "single-frame-confidence", *arguments]) == 0
    assert "single-frame confidence" in report.read_text()


def test_methods_that_come_to_the_same_name_are_told_apart(tmp_path: Path, cache: Cache) -> None:
    """As when settings make one what the other is."""
    call("uniform", "random", "--path", cache.path, "--out", tmp_path, *FEW, "--random.num-frames", 2)
    for name in ("method", "setting"):
        file = tmp_path / "seed-0" / "results" / "random.parquet"
        other = pd.read_parquet(tmp_path / "seed-0" / "results" / "uniform.parquet")
        write_results(pd.read_parquet(file).assign(**{name: other[name].iloc[0]}), file)
    run = sum_up(Run(tmp_path))
    assert set(run.results["method"]) == {"uniform", "uniform (random)"}


def test_mixed_tables_are_refused_also_within_a_file(tmp_path: Path, cache: Cache) -> None:
    call("uniform", "--path", cache.path, "--out", tmp_path / "run", *FEW)
    table = pd.read_parquet(tmp_path / "run" / "results.parquet")
    table.loc[5, "data"] = "other videos"
    table.to_parquet(tmp_path / "mixed.parquet")
    with pytest.raises(InputError, match="different data cannot be compared: .*other videos in"):
        read_results(tmp_path / "mixed.parquet")


def test_reported_figures_are_those_of_the_papers() -> None:
    found = reported_figures("activitynet", "mean_average_precision").set_index("method")
    assert len(found) == 21
    assert found.loc["OCSampler"].tolist() == pytest.approx([0.769, 21.7])
    assert len(reported_figures("fcvid", "mean_average_precision")) == 15
    assert len(reported_figures("mini-kinetics", "top1")) == 16


# Differences and claims on tables whose truth is known.


def table(
    method: str, setting: str, accuracy: float, gflops: float, *, frames: float = 1, seeds: int = 3,
    seconds: float = 0.0, speed: float = 10.0, videos: int = 400, noise: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Of every seed the same share of videos is right; which ones are, the noise decides."""
    parts = []
    for seed in range(seeds):
        order = np.random.default_rng(noise).permutation(videos)
        parts.append(
            pd.DataFrame(
                {
                    "method": method, "setting": setting, "seed": seed, "split": "test", "data": "d",
                    "video": [f"v{number}" for number in range(videos)],
                    "correct": order < round(accuracy * videos), "gflops": gflops, "frames": frames,
                    "videos_per_second": speed * (1 + 0.01 * seed), "training_seconds": seconds * (1 + 0.01 * seed),
                    "machine": "a processor",
                }
            )
        )  # fmt: skip
    return pd.concat(parts)


def test_difference_at_equal_cost_by_hand() -> None:
    """At 2 GFLOPs the base is halfway between its points, at 0.7."""
    results = pd.concat([table("mine", "a", 0.8, 2), table("base", "b", 0.6, 1), table("base", "c", 0.8, 3)])
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    estimate = difference_at_equal_cost(mine, base)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.1)
    assert 0.05 < estimate.low < 0.1 < estimate.high < 0.15
    # The same videos are right: paired, the interval is far narrower than that of two accuracies.
    apart = pd.concat([table("mine", "a", 0.8, 2, noise=1), results[results["method"] == "base"]])
    loose = difference_at_equal_cost(*(paired_curves(apart, "mine", "base") or pytest.fail("no curves")))
    assert loose is not None
    assert loose.high - loose.low > 1.3 * (estimate.high - estimate.low)
    dear = pd.concat([table("mine", "a", 0.8, 4), results[results["method"] == "base"]])
    assert (
        difference_at_equal_cost(*(paired_curves(dear, "mine", "base") or pytest.fail("no curves"))) is None
    )
    cheap = pd.concat([table("mine", "a", 0.65, 0.5), results[results["method"] == "base"]])
    found = difference_at_equal_cost(*(paired_curves(cheap, "mine", "base") or pytest.fail("no curves")))
    assert found is not None
    assert found.value == pytest.approx(0.05)


def test_only_common_seeds_are_paired() -> None:
    results = pd.concat([table("mine", "a", 0.8, 2, seeds=3), table("base", "b", 0.6, 1, seeds=2)])
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    assert mine.correct.shape == (2, 400, 1) == base.correct.shape
    assert paired_curves(results, "mine", "none") is None


def test_saving_at_equal_accuracy_by_hand() -> None:
    """Within a point of the reference's best, 0.89, the curve comes at 1 + 0.09 / 0.1 = 1.9, and a mixture of
    the reference's own settings at 1 + 3 · 0.19 / 0.2 = 3.85."""
    results = pd.concat([table("fixed", "1", 0.7, 1), table("fixed", "4", 0.9, 4),
                         table("exit", "x", 0.8, 1), table("exit", "y", 0.9, 2)])  # fmt: skip
    curve, reference = paired_curves(results, "exit", "fixed") or pytest.fail("no curves")
    estimate = saving_at_equal_accuracy(curve, reference)
    assert estimate.value == pytest.approx(1 - 1.9 / 3.85)
    assert 0.4 < estimate.low <= estimate.value <= estimate.high < 0.7
    never = pd.concat([results[results["method"] == "fixed"], table("exit", "x", 0.8, 1)])
    curve, reference = paired_curves(never, "exit", "fixed") or pytest.fail("no curves")
    assert saving_at_equal_accuracy(curve, reference).value == 0


def test_difference_to_a_dearer_setting_by_hand() -> None:
    results = pd.concat([table("mine", "a", 0.8, 2), table("base", "b", 0.6, 1), table("base", "c", 0.75, 3)])
    mine, base = paired_curves(results, "mine", "base") or pytest.fail("no curves")
    setting, estimate = difference_to_dearer(mine, base) or pytest.fail("no dearer setting")
    assert setting == "c"
    assert estimate.value == pytest.approx(0.05)
    assert difference_to_dearer(base.only("c"), mine) is None


def test_a_method_without_merit_reproduces_nothing() -> None:
    """Two methods on the same bent curve, and a budget that draws the number of frames at random."""
    generator = np.random.default_rng(0)
    tables = []
    for seed in range(3):
        hardness = generator.random((2, 400))

        def add(method: str, setting: str, correct: np.ndarray, cost: np.ndarray, seed: int = seed) -> None:
            tables.append(
                table(method, setting, 0, 1, seeds=1).assign(
                    seed=seed, correct=correct, gflops=cost, frames=cost
                )
            )

        for size, cost, accuracy in ((24, 1.0, 0.5), (36, 2.0, 0.85), (48, 3.0, 0.95)):
            add("AdaFocus", f"{size}²", hardness[0] < accuracy, np.full(400, cost))
        add("AdaFocusV2", "36²", hardness[1] < 0.78, np.full(400, 1.6))
        fixed = {number: hardness[0] < share for number, share in {1: 0.56, 2: 0.967, 3: 0.975}.items()}
        for number, correct in fixed.items():
            add("OCSampler", f"N = {number}", correct, np.full(400, number))
        for number, share in ((1, 0.05), (1, 0.0), (2, 0.5)):
            fewer = generator.random(400) < share
            correct = np.where(fewer, fixed[number], fixed[number + 1])
            add("OCSampler, budget", f"λ = {number}, {share}", correct, np.where(fewer, number, number + 1))
    verdicts = measure_claims(pd.concat(tables)).groupby("claim")["claim_verdict"].first()
    assert verdicts["V2 accuracy"] != "reproduced"
    assert verdicts["frame budget"] != "reproduced"


def results_of_a_world(v2: float = 0.95, seconds: float = 50.0, noise: int = 0) -> pd.DataFrame:
    return pd.concat(
        [
            *(table(name, f"N = {n}", accuracy, n, frames=n) for name, accuracies in
              {"uniform": (0.3, 0.5, 0.7), "random": (0.2, 0.4, 0.6), "centre": (0.2, 0.3, 0.4)}.items()
              for n, accuracy in zip((1, 2, 3), accuracies, strict=True)),
            table("OCSampler", "N = 1", 0.6, 1.1, frames=1), table("OCSampler", "N = 2", 0.9, 2.1, frames=2, speed=20),
            table("OCSampler, budget", "λ = 4", 0.9, 1.6, frames=1.5),
            table("MaskablePPO", "λ = 1", 0.9, 2.2), table("MaskablePPO", "λ = 9", 0.8, 1.2),
            table("AdaFocus", "36²", 0.85, 1.2, seconds=100), table("AdaFocus", "24²", 0.5, 0.6),
            table("AdaFocus, stage 2", "36²", 0.8, 1.2),
            table("AdaFocusV2", "36²", v2, 1.0, seconds=seconds, noise=noise), table("AdaFocusV2, exit", "36², 0.5 GFLOPs", v2, 0.5),
            table("random patch", "36²", 0.4, 1.0), table("random patch", "48²", 0.5, 2.0),
            table("centre patch", "36²", 0.2, 1.0), table("centre patch", "48²", 0.3, 2.0),
        ]
    )  # fmt: skip


def test_claims_say_what_the_numbers_say() -> None:
    claims = measure_claims(results_of_a_world())
    verdicts = claims.groupby("claim", sort=False)["claim_verdict"].first().to_dict()
    assert len(verdicts) == 6
    rows = claims.set_index("measure")
    # At 2.1 GFLOPs MaskablePPO is at 0.89.
    assert rows.loc["top-1 of OCSampler minus that of MaskablePPO at equal GFLOPs", "value"] == pytest.approx(
        0.01
    )
    # Accuracy and speed beside λ = 1, the cheapest setting that costs as much.
    speed = rows.loc["videos per second of OCSampler over MaskablePPO's"]
    assert (speed["value"], speed["setting"]) == (pytest.approx(2), "N = 2 beside λ = 1")
    assert rows.loc["top-1 of OCSampler minus that of MaskablePPO", "setting"] == speed["setting"]
    assert rows.loc["frames saved within one point of a fixed number", "value"] == pytest.approx(
        1 - 1.5 / (1 + 0.29 / 0.3)
    )
    assert rows.loc["training time of AdaFocus over AdaFocusV2's", "value"] == pytest.approx(2)
    assert rows.loc["GFLOPs saved within one point of all frames", "value"] == pytest.approx(
        1 - 0.5 / (0.94 / 0.95)
    )
    assert rows.loc["top-1 of OCSampler minus that of random at equal GFLOPs", "value"] == pytest.approx(0.48)
    # Of stage 2, beside 48²: the classifier that looks at random patches too.
    assert rows.loc["top-1 of AdaFocus, stage 2 minus that of random patch", "value"] == pytest.approx(0.3)
    for name in ("frame budget", "V2 accuracy", "V2 training time", "conditional exit", "learned selection"):
        assert verdicts[name] == "reproduced", name


def test_claims_are_refuted_undecided_or_not_measured() -> None:
    worse = measure_claims(results_of_a_world(v2=0.5, seconds=200.0)).set_index("claim")["claim_verdict"]
    assert worse["V2 accuracy"].eq("not reproduced").all()
    assert worse["V2 training time"] == "not reproduced"
    # As accurate as AdaFocus at 1.2 GFLOPs, on other videos.
    even = measure_claims(results_of_a_world(v2=0.85, noise=1)).set_index("claim")["claim_verdict"]
    assert even["V2 accuracy"].eq("undecided").all()
    # One seed gives a ratio, and no interval to decide by.
    alone = results_of_a_world()
    alone = measure_claims(alone[alone["seed"] == 0]).set_index("claim").loc["V2 training time"]
    assert (alone["value"], alone["claim_verdict"]) == (pytest.approx(2), "undecided")
    some = results_of_a_world()
    some = measure_claims(some[~some["method"].isin(["MaskablePPO", "centre patch"])]).set_index("claim")[
        "claim_verdict"
    ]
    assert some["one step"].eq("not measured").all()
    assert some["learned selection"].eq("not measured").all()
    # Of three seeds one was tested on the same machine as the other method's; then none.
    moved = results_of_a_world()
    of_v2 = moved["method"] == "AdaFocusV2"
    for seeds, verdict in (([1, 2], "undecided"), ([0, 1, 2], "not measured")):
        moved.loc[of_v2 & moved["seed"].isin(seeds), "machine"] = "a GPU"
        there = measure_claims(moved).set_index("claim")["claim_verdict"]
        assert there["V2 training time"] == verdict
        assert there["V2 accuracy"].eq("reproduced").all()
    results = results_of_a_world()
    page = claims_page(measure_claims(results[results["method"] != "MaskablePPO"]))
    assert (
        "**not measured** (it takes comparable settings of ocsampler, maskable-ppo, tested on one machine)"
        in page
    )


def test_the_version_of_a_run_is_checked(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("uniform", "--path", cache.path, "--out", tmp_path, *FEW)
    monkeypatch.setattr(compare.run_folder, "FORMAT", 99)
    with pytest.raises(InputError, match="in format 4; the installed one reads 99"):
        Run(tmp_path)
