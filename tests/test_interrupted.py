"""Trainings, comparisons and reports that are killed at any file they touch, or run twice at once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.conftest import write_known_cache, write_known_patch_cache
from tests.killed import Commands, Outcome
from video_env.cache.derive import derive
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.evaluation import throughput
from video_env.files import alone

SAMPLE = 2
"""Places at which a command is killed in every run of the tests; all of them in the slow ones."""

# Of these the times in them are not the same twice, or nobody reads them.
_LOGS = (
    "progress.csv",
    "caching-seconds.json",
    "learning.png",
    "learning.csv",
    "training.csv",
    "report.html",
)
_TIMES = {"training_seconds", "seconds", "history", "sha256", "machine", *throughput.COLUMNS}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    server = Commands(tmp_path_factory.mktemp("printed"))
    yield server
    server.end()


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    derive(Cache(PACKAGED_CACHE), folder / "pixels", ["frames"])
    return write_known_cache(folder / "cache", videos=24).path


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_patch_cache(tmp_path_factory.mktemp("patches") / "cache", videos=24).path


def ocsampler(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["train", "ocsampler", frames, "--out", out / "agent.pt", "--length.epochs", 2, "--cost-per-gflop", 1,
            "--budget-length.epochs", 1, "--hidden", 4]  # fmt: skip


def sb3(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["train", "sb3", frames, "--out", out / "agent.zip", "--steps", 16, "--num-envs", 4,
            "--hyperparameters", "n_steps", 2, "batch_size", 8]  # fmt: skip


def adafocus(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["train", "adafocus", patches, "--out", out / "agent", "--policy.length.epochs", 1, "--policy.hidden", 8,
            "--fine-tuning.length.epochs", 1]  # fmt: skip


def adafocus_from_frames(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["train", "adafocus", frames.parent / "pixels", "--out", out / "agent", "--patch-size", 12, "--hidden", 4,
            "--networks.length.epochs", 1, "--random-patches.length.epochs", 1, "--policy.length.epochs", 1, "--policy.hidden", 4,
            "--fine-tuning.length.epochs", 1, "--focus-weights", "random", "--networks.method", "classify"]  # fmt: skip


def adafocus_v2(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["train", "adafocus-v2", PACKAGED_CACHE, "--out", out / "agent", "--length.epochs", 1, "--patch-size", 12,
            "--hidden", 4, "--focus-weights", "random", "--glance-weights", "random"]  # fmt: skip


def comparison(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["compare", frames, "--methods", "uniform", "ocsampler", "--out", out / "run", "--jobs", 1,
            "--uniform.num-frames", 1, 2, "--ocsampler.num-frames", 1, "--ocsampler.training.length.epochs", 1,
            "--ocsampler.training.hidden", 4, "--report"]  # fmt: skip


def report(out: Path, frames: Path, patches: Path) -> list[Any]:
    return ["report", out / "run"]


Command = Callable[[Path, Path, Path], list[Any]]
COMMANDS: list[Command] = [ocsampler, sb3, adafocus, adafocus_v2, comparison, report]


def holdings(folder: Path, without: tuple[str, ...] = _LOGS) -> dict[str, Any]:
    """What is in a folder, but for times, logs and locks."""
    return {
        str(path.relative_to(folder)): content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock") and "tfevents" not in path.name
        and path.name not in without and path.parent.name != "logs"
    }  # fmt: skip


def content(path: Path) -> Any:
    if path.suffix == ".pt":
        return plain(torch.load(path, weights_only=True))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return plain(torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True))
    if path.suffix == ".json":
        return plain(json.loads(path.read_text()))
    if path.suffix in (".parquet", ".csv"):
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        return table.drop(columns=list(_TIMES & set(table))).to_csv()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain(value: Any) -> Any:
    """Comparable, without times."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items() if key not in _TIMES}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def begin(command: Command, folder: Path, commands: Commands, frames: Path, patches: Path) -> Path:
    """A folder for the command to work in; a report needs a comparison."""
    folder.mkdir()
    if command is report:
        untrained = ["compare", frames, "--methods", "uniform", "--out", folder / "run"]
        end_well(*commands.run([*untrained, "--uniform.num-frames", 1, 2], below=folder))
    return folder


def end_well(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.printed
    assert "Traceback" not in outcome.printed


def kill_and_run_again(
    command: Command, places: int | None, tmp_path: Path, commands: Commands, frames: Path, patches: Path
) -> None:
    first = begin(command, tmp_path / "first", commands, frames, patches)
    # What a command writes names no folder above its own, so that all can be compared.
    work = tmp_path / "work"
    shutil.copytree(first, work)
    (whole,) = commands.run(command(work, frames, patches), below=work)
    end_well(whole)
    same = _LOGS if command is not report else ()
    expected = holdings(work, same)
    assert len(whole.touched) >= 4
    numbers = range(len(whole.touched))
    seed = int.from_bytes(command.__name__.encode(), "little")
    chosen = numbers if places is None else sorted(random.Random(seed).sample(numbers, places))
    for number in chosen:
        where = f"killed before {number}: {whole.touched[number]}"
        shutil.rmtree(work)
        shutil.copytree(first, work)
        (killed,) = commands.run(command(work, frames, patches), below=work, at=number)
        assert killed.status == -9, (where, killed.printed)
        assert killed.touched == whole.touched[:number] or "partial" in str(killed.touched), where
        (again,) = commands.run(command(work, frames, patches), below=work)
        assert again.status == 0, (where, again.printed)
        assert "Traceback" not in again.printed
        assert holdings(work, same) == expected, where
        assert not list(work.rglob("*.partial")), where


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_some_files_and_run_again(
    tmp_path: Path, commands: Commands, frames: Path, patches: Path, command: Command
) -> None:
    kill_and_run_again(command, SAMPLE, tmp_path, commands, frames, patches)


@pytest.mark.slow
@pytest.mark.parametrize("command", [*COMMANDS, adafocus_from_frames])
def test_killed_at_every_file_and_run_again(
    tmp_path: Path, commands: Commands, frames: Path, patches: Path, command: Command
) -> None:
    kill_and_run_again(command, None, tmp_path, commands, frames, patches)


OTHER: dict[Command, list[Any]] = {
    ocsampler: ["--seed", 1],
    sb3: ["--seed", 1],
    adafocus: ["--seed", 1],
    adafocus_v2: ["--seed", 1],
    comparison: ["--ocsampler.training.draws", 2],
    report: ["--videos", 1],
}


def run_two_at_once(
    command: Command, other: list[Any], tmp_path: Path, commands: Commands, frames: Path, patches: Path
) -> None:
    """One after the other: with the same settings both find the same; with others the second is told."""
    first, work = tmp_path / "first", tmp_path / "work"
    if not first.exists():
        begin(command, first, commands, frames, patches)
    same = _LOGS if command is not report else ()
    expected = []
    for more in ([], other):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(first, work)
        end_well(*commands.run([*command(work, frames, patches), *more], below=work))
        expected.append(holdings(work, same))
    shutil.rmtree(work)
    shutil.copytree(first, work)
    arguments = command(work, frames, patches)
    one, two = commands.run(arguments, [*arguments, *other], below=work)
    for outcome in (one, two):
        assert "Traceback" not in outcome.printed
    if command is report or not other:
        end_well(one)
        end_well(two)
    else:
        assert sorted((one.status, two.status)) == [0, 2], (one.printed, two.printed)
        refused = (one if one.status else two).printed
        assert re.search("trained otherwise|made with other settings|with other settings", refused), refused
    found = holdings(work, same)
    if command is comparison and other:  # whose command came first is in the record
        for each in (found, *expected):
            each.pop("run/run.json")
    assert found in expected
    assert not list(work.rglob("*.partial"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("others", [False, True])
def test_two_at_once(
    tmp_path: Path, commands: Commands, frames: Path, patches: Path, command: Command, others: bool
) -> None:
    if (command in (ocsampler, sb3, report)) == others:
        pytest.skip("the other kind is in the sample; both are in the slow tests")
    run_two_at_once(command, OTHER[command] if others else [], tmp_path, commands, frames, patches)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_two_at_once_twenty_times(
    tmp_path: Path, commands: Commands, frames: Path, patches: Path, command: Command
) -> None:
    for number in range(20):
        other = OTHER[command] if number % 2 else []
        run_two_at_once(command, other, tmp_path, commands, frames, patches)


@pytest.mark.parametrize(
    ("command", "thing"), [(ocsampler, "agent.pt"), (sb3, "agent.zip"), (comparison, "run")]
)
def test_who_waits_says_for_whom(
    tmp_path: Path, commands: Commands, frames: Path, patches: Path, command: Command, thing: str
) -> None:
    outcomes: list[Outcome] = []
    arguments = command(tmp_path, frames, patches)
    second = threading.Thread(target=lambda: outcomes.extend(commands.run(arguments, below=tmp_path)))
    with alone(tmp_path / thing):
        second.start()
        said = f"waiting for {tmp_path / thing}, which process {os.getpid()} on "
        end = time.monotonic() + 60
        while said not in commands.printed():
            assert time.monotonic() < end, commands.printed()
            time.sleep(0.05)
        assert not (tmp_path / thing).exists() or not any((tmp_path / thing).iterdir())
    second.join()
    end_well(*outcomes)


@pytest.mark.parametrize(
    ("command", "file", "largest"),
    [(ocsampler, "agent.checkpoint", 6000), (sb3, "agent.zip", 20_000), (adafocus, "stage-2.pt", 6000),
     (comparison, "results/uniform.parquet", 6000)],
)  # fmt: skip
def test_a_full_disk_is_one_line_that_names_the_file(
    tmp_path: Path, commands: Commands, frames: Path, patches: Path, command: Command, file: str, largest: int
) -> None:
    (outcome,) = commands.run(command(tmp_path, frames, patches), below=tmp_path, largest=largest)
    assert outcome.status == 2, outcome.printed
    last = outcome.printed.rstrip().splitlines()[-1]
    assert re.search(f"video-env: .*{file}: cannot be written: File too large$", last)
    assert "Traceback" not in outcome.printed
    (again,) = commands.run(command(tmp_path, frames, patches), below=tmp_path)
    end_well(again)
    assert not list(tmp_path.rglob("*.partial"))
