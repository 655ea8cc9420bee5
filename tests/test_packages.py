"""A user's own file of the name of one of our packages is named as the cause; and ``~`` on the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compare.command_line.main import main
from tests.conftest import write_cache
from video_env_packages import HERE, PACKAGES, require_own

COMMAND = "import sys; from video_env_packages import main; sys.argv = ['video-env']; sys.exit(main())"


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a folder whose files Python finds before ours."""
    paths = os.pathsep.join([str(folder), str(HERE)])
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("file", ["{}.py", "{}/__init__.py"])
def test_the_command_names_what_hides_a_package(tmp_path: Path, name: str, file: str) -> None:
    own = tmp_path / file.format(name)
    own.parent.mkdir(exist_ok=True)
    own.write_text("print('never run')\n")
    run = python(COMMAND, tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith(f"video-env: {own} hides the package {name} of video-env: rename it")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("hidden", "imported"),
    [
        ("video_env", "baselines.vec_env"),
        ("video_env", "agents.ocsampler.agent"),
        ("video_env", "compare.run_folder"),
        ("agents", "compare.run_folder"),
        ("baselines", "compare.run_folder"),
    ],
)
def test_an_import_names_what_hides_a_package(tmp_path: Path, hidden: str, imported: str) -> None:
    (tmp_path / f"{hidden}.py").write_text("")
    run = python(f"import {imported}", tmp_path)
    last = run.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {tmp_path / hidden}.py hides the package {hidden} of video-env")


def test_nothing_is_hidden_by_a_folder_of_agents(tmp_path: Path) -> None:
    """The README's commands write agents/ocsampler-2.pt."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "ocsampler-2.pt").write_bytes(b"")
    run = python(COMMAND, tmp_path)
    assert run.returncode == 0, run.stderr
    assert "\n  train " in run.stdout
    require_own(*PACKAGES)


def test_home_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cache(tmp_path / "large", videos=6)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    splits = [f"--{split}={count}" for split, count in (("train", 2), ("validation", 0), ("test", 2))]
    assert main(["cache", "extract", "~/large", "--out=~/small", *splits]) == 0
    assert (
        main(["evaluate", "uniform", "~/small", "--num-frames", "2", "--out", "~/results/a~b.parquet"]) == 0
    )
    assert main(["curve", "~/results", "--out", "~/curve"]) == 0
    assert main(["cache", "verify", "~/missing"]) == 2
    assert f"cache {tmp_path / 'missing'}: no such folder" in capsys.readouterr().err
    assert {"curve", "large", "results", "small", "work"} <= {file.name for file in tmp_path.iterdir()}
    assert not list(folder.iterdir())
    assert (tmp_path / "results" / "a~b.parquet").is_file()
