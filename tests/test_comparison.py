"""Comparisons: the registry of methods, what is kept and what is done again, and what is refused."""

import inspect
import json
import shutil
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest

import baselines.methods
import compare.run_folder
from agents.adafocus.methods import AdaFocusSizes
from agents.adafocus.settings import AdaFocusSettings
from agents.ocsampler.methods import BudgetCurve, OCSamplerCurve
from agents.ocsampler.settings import OCSamplerSettings
from baselines.methods import SB3Costs
from baselines.sb3 import SB3Settings
from compare.command_line.main import main
from compare.run import Machine, sum_up
from compare.run import compare as compare_methods
from compare.run_folder import Run
from tests.conftest import write_cache
from tests.entries import saved
from video_env.cache.store import Cache, read_meta, write_meta
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.protocols import Entry
from video_env.evaluation.results import point_columns, read_results, write_results
from video_env.models.stopping import Length

registry.load()
QUICK = ["--ocsampler.num-frames", "1", "2", "--ocsampler.training.length.epochs", "1"]
FEW = ["--uniform.num-frames", "1", "2", "3"]


def call(*arguments: object) -> None:
    assert main(["compare", *map(str, arguments)]) == 0


def files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def test_methods_are_added_to_a_run_and_nothing_is_done_twice(tmp_path: Path, cache: Cache) -> None:
    out = tmp_path / "run"
    common = [cache.path, "--out", out, "--jobs", 1]
    call(*common, "--methods", "uniform", "all-frames", *FEW)
    first = files(out)
    call(*common, "--methods", "ocsampler", "uniform", "--seeds", 2, *FEW, *QUICK)
    kept = {name for name, moment in files(out).items() if first.get(name) == moment}
    assert {"seed-0/results/uniform.parquet", "seed-0/results/all-frames.parquet"} <= kept
    run = Run(out)
    assert set(run.methods) == {"uniform", "all-frames", "ocsampler"}
    assert run.methods["ocsampler"]["training"]["length"]["epochs"] == 1
    assert run.seeds == [0, 1]
    assert run.record["commands"][0].startswith(f"video-env compare {cache.path} --out")
    assert len(run.record["commands"]) == 2
    summary = run.table("summary")
    assert summary is not None
    assert summary.set_index("method")["seeds"].to_dict() == {"uniform": 2, "ocsampler": 2, "all-frames": 1}
    training = run.table("training")
    assert training is not None
    assert len(training) == 4
    assert len(run.results) == 8 * (2 * 3 + 2 * 2 + 1)


def test_several_at_once_give_what_one_after_another_gives(tmp_path: Path, cache: Cache) -> None:
    names = ["uniform", "ocsampler", "ocsampler-budget"]
    settings = registry.settings_type(registry.find(names))()
    short = replace(settings.ocsampler.training, length=Length(epochs=2))
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
        table = read_results(out / "results.parquet")
        table = table.drop(columns=["training_seconds", *table.filter(regex="^(videos_per_second|speed)")])
        tables.append(
            table.sort_values([*point_columns(table), "video"], ignore_index=True).astype({"scores": str})
        )
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert "OCSampler" in (tmp_path / "2" / "seed-0" / "logs" / "ocsampler.txt").read_text()


def test_results_that_are_not_whole_are_made_anew(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = [cache.path, "--methods", "uniform", "random", "oracle", "--out", out, *FEW]
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
    arguments = ["compare", str(cache.path), "--methods", "ocsampler-budget", "ocsampler", "--out", str(tmp_path / "run"),
                 *QUICK, "--ocsampler-budget.training.num-frames", "99", "--jobs", jobs]  # fmt: skip
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "ocsampler-budget, seed 0" in error
    assert "num_frames: found 99" in error
    assert (tmp_path / "run" / "seed-0" / "results" / "ocsampler.parquet").is_file()
    # The failed one's settings bind nobody.
    assert main([*arguments[:-3], "2", "--ocsampler-budget.training.length.epochs", "1", "--jobs", jobs]) == 0


def test_a_method_of_ones_own(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of its own, with settings on the command line, beside ours, in processes of its own too."""
    (tmp_path / "last_frames.py").write_text(
        """
from dataclasses import dataclass
import numpy as np
from baselines.heuristics import FixedSubsets
from video_env.evaluation.registry import Job, method
from video_env.models.stopping import Length
from video_env.evaluation.protocols import Entry

@dataclass(frozen=True)
class Settings:
    num_frames: tuple[int, ...] = (1, 2)

@method("last-frames", about="the last N frames", settings=Settings())
def last_frames(job: Job, settings: Settings) -> list[Entry]:
    def subset(count):
        chosen = np.zeros((len(job.cache), job.cache.num_candidates), bool)
        chosen[:, -count:] = True
        return chosen
    return [
        job.entry({"num_frames": n}, "FrameSelectOneStep-v0", FixedSubsets(subset(n), "nothing"),
                  options={"num_frames": n, "observation": "index"})
        for n in settings.num_frames
    ]

def train(job: Job, settings: Settings) -> None:
    job.file("trained-last.txt").parent.mkdir(parents=True, exist_ok=True)
    with job.file("trained-last.txt").open("a") as file:
        file.write("x")

@method("trained-last", title="CNN+LSTM", about="the same, after a training", settings=Settings(), train=train)
def trained_last(job: Job, settings: Settings) -> list[Entry]:
    assert job.file("trained-last.txt").read_text() == "x"
    return last_frames(job, settings)
"""
    )
    monkeypatch.chdir(tmp_path)
    call(cache.path, "--methods", "uniform", "last-frames", "trained-last", "--out", "run", "--modules", "last_frames",
         *FEW, "--last-frames.num-frames", 3, "--trained-last.num-frames", 3, "--seeds", 2, "--jobs", 2)  # fmt: skip
    results = Run("run").results
    for name, title in (("last-frames", "last frames"), ("trained-last", "CNN+LSTM")):
        own = results[results["method"] == name]
        assert own["selected"].map(list).map(tuple).unique().tolist() == [(3, 4, 5)]
        assert own[["title", "family", "num_frames"]].drop_duplicates().to_numpy().tolist() == [
            [title, "own", 3]
        ]
    assert Run("run").table("summary").set_index("method").loc["trained-last", "difference_to_uniform"] == pytest.approx(
        own["correct"].mean() - results[(results["method"] == "uniform") & (results["num_frames"] == 3)]["correct"].mean()
    )  # fmt: skip
    assert Run("run").methods["last-frames"] == {"num_frames": [3]}
    # ``evaluate`` takes it too.
    evaluated = ["evaluate", "last-frames", str(cache.path), "--num-frames", "2", "--out", "own.parquet"]
    assert main([*evaluated, "--modules", "last_frames"]) == 0
    assert read_results(Path("own.parquet"))["selected"].map(list).tolist() == [[4, 5]] * 8
    with pytest.raises(InputError, match="'last-frames': is registered already, by last_frames"):
        registry.method("last-frames", about="")(lambda job, settings: [])
    for name in ("last-frames", "trained-last"):
        del registry._METHODS[name]
    del sys.modules["last_frames"]


def test_what_builds_on_a_training_waits_for_it_and_failures_are_named(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    @registry.method("reads-agent", about="", builds_on=("ocsampler",))
    def reads_agent(job: registry.Job, settings: object) -> list[Entry]:
        return [replace(saved(job.file("ocsampler-1.pt"), job.cache), method="read")]

    def train(job: registry.Job, settings: object) -> None:
        raise RuntimeError("out of memory")

    @registry.method("breaks", about="", train=train)
    @registry.method("breaks-untrained", about="")
    def breaks(job: registry.Job, settings: object) -> list[Entry]:
        raise RuntimeError("out of memory")

    common = [cache.path, "--out", tmp_path / "run", "--jobs", 1, "--methods"]
    try:
        call(*common, "reads-agent", "ocsampler", *QUICK)
        assert {"read", "ocsampler"} == set(Run(tmp_path / "run").results["method"])
        capsys.readouterr()
        for name in ("breaks", "breaks-untrained"):
            with pytest.raises(RuntimeError, match="out of memory"):
                call(*common, name)
            assert capsys.readouterr().out.count(f"failed: {name}, seed 0: out of memory") == 1
    finally:
        for name in ("reads-agent", "breaks", "breaks-untrained"):
            del registry._METHODS[name]


def test_modules_that_cannot_be_used_say_why(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_method.py").write_text("1 / 0")
    (tmp_path / "needing_method.py").write_text("import a_package_that_is_not_there")
    # A function of ours, taken over as it is, is another one where it is written in another file.
    copied = inspect.getsource(baselines.methods.all_frames).replace("-> list[Entry]", "")
    (tmp_path / "copied_method.py").write_text(
        "from video_env.evaluation.registry import Job, method\nBOUND = ''\n" + copied
    )
    for module, message in (
        ("broken_method", "module 'broken_method': cannot be imported (ZeroDivisionError: division by zero)"),
        ("needing_method", "cannot be imported (ModuleNotFoundError: No module named 'a_package_that_is_not_there')"),
        ("copied_method", "method 'all-frames': is registered already, by baselines.methods; now copied_method adds it"),
    ):  # fmt: skip
        for flag in ([f"--modules={module}"], ["--modules", module]):
            assert main(["compare", str(cache.path), "--methods", "uniform", "--out", "run", *flag]) == 2
            assert message in capsys.readouterr().err
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [EntryPoint("theirs", "broken_method", group)]
    )
    assert main(["compare", str(cache.path), "--methods", "uniform", "--out", "run"]) == 2
    assert "entry point theirs = broken_method (video_env.methods)" in capsys.readouterr().err


def test_bad_comparisons_say_why(tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    run, here = tmp_path / "run", str(cache.path)
    out, uniform = ["--out", str(run)], ["--methods", "uniform", *FEW]
    common = [here, *out, *uniform]
    call(*common)
    other = str(write_cache(tmp_path / "other", videos=30).path)
    capsys.readouterr()
    for arguments, message in (
        ([here, *out, "--methods", "unifrom"], "method 'unifrom': expected one of "),
        ([here, *out, "--methods", "uniform", "uniform"], "named twice"),
        ([*out, "--methods", "uniform"], "cache: found none"),
        ([*common, "--seeds", "0"], "seeds: found 0"),
        ([*common, "--split", "train"], "other split: test there, train asked for"),
        ([here, *out, "--methods", "uniform", "--uniform.num-frames", "1"], "other settings: uniform.num_frames [1, 2, 3] there, [1] asked for"),
        ([other, *out, *uniform], "other caches"),
        ([here, other, *uniform, "--out", "x", "--seeds", "2"], "caches: those of different videos"),
        ([here, here, *uniform, "--out", "x", "--seeds", "3"], "found 2 for 3 seeds"),
        ([*common, "--overlay", "imagenet"], "overlay 'imagenet': expected one of activitynet"),
        ([*common, "--overlay", "activitynet"], "the figures on activitynet are in mAP; add --metric mean_average_precision"),
        ([*common, "--modules", "no_such_module"], "module 'no_such_module': not found"),
        ([*common, "--jobs", "0"], "jobs: found 0"),
        ([*common, "--device", "cuda:9"], "expected auto, cpu"),
        ([here, *out, "--methods", "random", "--random.num-frames", "2", "2"], "method 'random', seed 0: its settings give random, N = 2 twice"),
        ([here, *out, "--methods", "ocsampler", "uniform", "--uniform.num-frames", "1", "13"], "other settings: uniform"),
        ([here, *out, "--methods", "ocsampler", "random", "--random.num-frames", "1", "13"], "method 'random', seed 0: num_frames: found 13"),
        ([here, *uniform, "--out", str(cache.path / "index.parquet")], "is a file, expected a folder"),
        ([here, *out, "--methods", "patch-oracle"], "patch_size: found 36, expected 1 to 16"),
        (["uniform", "--path", here, *out], "compare --path: is now written video-env compare CACHE --methods"),
    ):  # fmt: skip
        assert main(["compare", *arguments]) == 2, arguments
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "format": 99, "version": "9.9"}))
    assert main(["compare", *common]) == 2
    assert "written by video-env 9.9 in format 99" in capsys.readouterr().err
    (run / "run.json").write_text(json.dumps({**record, "methods": 3}))
    assert main(["compare", *common]) == 2
    assert "methods: expected dict, found 3" in capsys.readouterr().err
    (run / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: cannot be read"):
        Run(run)
    with pytest.raises(InputError, match="holds no comparison"):
        Run(tmp_path)


def test_a_curve_of_budgets_sets_how_the_budget_is_learned() -> None:
    assert (
        BudgetCurve(
            training=OCSamplerSettings(budget_length=Length(epochs=2), policy="linear", hidden=8)
        ).training.hidden
        == 8
    )


def test_what_a_curve_varies_is_not_given_twice() -> None:
    for make, message in (
        (lambda: OCSamplerCurve(training=OCSamplerSettings(num_frames=5)), "it is given by num_frames"),
        (lambda: AdaFocusSizes(training=AdaFocusSettings(seed=5)), "it is given by seeds of the comparison"),
        (
            lambda: SB3Costs(training=SB3Settings("dqn", cost_per_gflop=5)),
            "it is given by costs_of_all_frames",
        ),
    ):
        with pytest.raises(InputError, match=f"found 5; {message}"):
            make()


def test_a_run_that_is_damaged_or_moved_says_so(
    tmp_path: Path, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["compare", str(cache.path), "--methods", "uniform", "--out", str(run), *FEW]
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
    common = [
        "compare",
        str(cache.path),
        "--methods",
        "uniform",
        "--out",
        str(tmp_path / "run"),
        "--jobs",
        "1",
    ]
    assert main([*common, "--uniform.num-frames", "99"]) == 2
    assert main([*common, "--overlay", "imagenet"]) == 2
    assert not list(tmp_path.rglob("*.parquet"))
    assert main([*common, *FEW]) == 0
    assert main([*common, *FEW, "--title", "another title"]) == 0
    assert Run(tmp_path / "run").title == "another title"


def test_a_changed_cache_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = write_cache(tmp_path / "cache")
    arguments = ["compare", str(own.path), "--methods", "uniform", "--out", str(tmp_path / "run"), *FEW]
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
    arguments = ["compare", str(cache.path), "--methods", "uniform", "--out", str(tmp_path), *FEW]
    assert main(arguments) == 2
    assert "holds curve.png, which a comparison would overwrite" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_a_report_follows_its_run(tmp_path: Path, cache: Cache) -> None:
    arguments = ["compare", str(cache.path), "--out", str(tmp_path / "run"), *FEW]
    assert main([*arguments, "--methods", "uniform", "--report"]) == 0
    report = tmp_path / "run" / "report.html"
    assert "single-frame confidence" not in report.read_text()
    assert main([*arguments, "--methods", "uniform", "single-frame-confidence"]) == 0
    assert "single-frame confidence" in report.read_text()


def test_mixed_tables_are_refused_also_within_a_file(tmp_path: Path, cache: Cache) -> None:
    call(cache.path, "--methods", "uniform", "--out", tmp_path / "run", *FEW)
    table = pd.read_parquet(tmp_path / "run" / "results.parquet")
    table.loc[5, "data"] = "other videos"
    table.to_parquet(tmp_path / "mixed.parquet")
    with pytest.raises(InputError, match="different data cannot be compared: .*other videos in"):
        read_results(tmp_path / "mixed.parquet")


def test_the_version_of_a_run_is_checked(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(cache.path, "--methods", "uniform", "--out", tmp_path, *FEW)
    monkeypatch.setattr(compare.run_folder, "FORMAT", 99)
    with pytest.raises(InputError, match=r"in format \d+; the installed one reads 99"):
        Run(tmp_path)
