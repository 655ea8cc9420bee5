"""Runs that somebody else made, or left: names in them, links, and processes that outlive a comparison."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from compare.command_line.main import main
from compare.run_folder import Run
from tests.conftest import write_known_cache
from video_env.cache.store import Cache
from video_env.errors import InputError

SLEEPY = """
import time
from pathlib import Path

from video_env.evaluation.registry import method

def train(job, settings):
    job.folder.mkdir(parents=True, exist_ok=True)
    job.file("sleepy-asleep").touch()
    time.sleep(600)

@method("sleepy", about="sleeps", train=train)
def sleepy(job, settings):
    return []
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_known_cache(tmp_path_factory.mktemp("known") / "cache", videos=24)


def uniform(cache: Cache, out: Path, *more: str) -> int:
    return main(["compare", str(cache.path), "--methods", "uniform", "--out", str(out), "--uniform.num-frames", "1", *more])  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_comparison(tmp_path: Path, known: Cache, how: signal.Signals) -> None:
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    comparison = subprocess.Popen(
        [sys.executable, "-m", "compare", "compare", known.path, "--methods", "sleepy", "--out", "run",
         "--seeds", "2", "--jobs", "2", "--modules", "sleepy"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    asleep = [tmp_path / "run" / f"seed-{seed}" / "agents" / "sleepy-asleep" for seed in (0, 1)]
    try:
        until(lambda: all(file.exists() for file in asleep), seconds=120)
        tree = descendants(comparison.pid)
        assert len(tree) >= 2
    finally:
        comparison.send_signal(how)
        comparison.wait()
    until(lambda: not any(map(alive, tree)), seconds=20)


def until(condition: Any, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def descendants(process: int) -> list[int]:
    try:
        own = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, own) for one in (child, *descendants(child))]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"../../uniform": {}}}, "run.json: methods: found '../../uniform', expected a plain name"),
        ({"methods": {"/tmp/uniform": {}}}, "expected a plain name"),
        ({"methods": {"": {}}}, "expected a plain name"),
        ({"caches": {"../0": "cache"}}, "run.json: caches: found '../0'"),
        ({"caches": {"0": ["cache"]}}, "run.json: caches: found '0'"),
        ({"caches": {"0": "cache", "1": "cache"}}, "expected the same seeds in both"),
        ({"identities": {"0": "mine"}}, "run.json: identities: found '0'"),
        ({"machines": ["mine"]}, "machines: found 'mine' as number 0"),
        ({"methods": None}, "methods: expected dict, found None"),
    ],
)  # fmt: skip
def test_names_in_a_record_are_checked(
    tmp_path: Path, known: Cache, change: dict[str, Any], message: str
) -> None:
    assert uniform(known, tmp_path / "run") == 0
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        Run(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert uniform(known, tmp_path / "run") != 0
    assert main(["report", str(tmp_path / "run")]) != 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix != ".lock"}
    assert {path for path in after if before.get(path) != after[path] and path.is_file()} == set()


def test_a_cache_elsewhere_is_only_read(tmp_path: Path, known: Cache) -> None:
    assert uniform(known, tmp_path / "run") == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in known.path.rglob("*") if path.is_file()}  # fmt: skip
    assert main(["report", str(tmp_path / "run")]) == 0
    assert uniform(known, tmp_path / "run", "--report") == 0
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in known.path.rglob("*") if path.is_file()}  # fmt: skip


@pytest.mark.parametrize(
    "link",
    ["seed-0", "seed-0/results", "seed-0/agents", "seed-0/logs", "seed-0/agents/ocsampler-1",
     "seed-0/logs/ocsampler.txt", "seed-0/results/uniform.parquet"],
)  # fmt: skip
def test_nothing_is_written_through_a_link(
    tmp_path: Path, known: Cache, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "run" / link
    place.parent.mkdir(parents=True)
    if "." in link:
        elsewhere.write_text("mine")
    else:
        elsewhere.mkdir()
        (elsewhere / "agents").mkdir()
    place.symlink_to(elsewhere)
    assert uniform(known, tmp_path / "run") != 0
    assert f"{place}: is a link, and nothing is written through it" in capsys.readouterr().err
    assert elsewhere.is_dir() or elsewhere.read_text() == "mine"
    assert elsewhere.is_file() or list(elsewhere.rglob("*")) == [elsewhere / "agents"]


def test_a_picture_that_is_a_link_is_replaced(tmp_path: Path, known: Cache) -> None:
    assert uniform(known, tmp_path / "run", "--report") == 0
    (tmp_path / "mine").write_text("mine")
    names = ["curve.png", "summary.csv", "claims.md", "results.parquet", "report.html", "training.csv"]
    for name in names:
        file = tmp_path / "run" / name
        file.unlink()
        file.symlink_to(tmp_path / "mine")
    assert uniform(known, tmp_path / "run") == 0
    assert (tmp_path / "mine").read_text() == "mine"
    for name in names:
        assert not (tmp_path / "run" / name).is_symlink()


def test_logs_are_not_written_through_a_link(tmp_path: Path, known: Cache) -> None:
    (tmp_path / "mine").write_text("mine")
    names = {"a.pt": ["progress.csv"], "b.zip": ["progress.csv", "evaluations.npz"]}
    for agent, logs in names.items():
        (tmp_path / agent).with_suffix("").mkdir()
        for log in logs:
            (tmp_path / agent).with_suffix("").joinpath(log).symlink_to(tmp_path / "mine")
    (tmp_path / "a.pt.partial").symlink_to(tmp_path / "mine")
    (tmp_path / "b.json").symlink_to(tmp_path / "mine")
    cache = str(known.path)
    assert main(["train", "ocsampler", cache, "--out", str(tmp_path / "a.pt"), "--length.epochs", "1"]) == 0
    short = ["--steps", "16", "--num-envs", "4", "--hyperparameters", "n_steps", "2", "batch_size", "8"]
    assert main(["train", "sb3", cache, "--out", str(tmp_path / "b.zip"), *short]) == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert "time/total_timesteps" in (tmp_path / "b" / "progress.csv").read_text()
