"""The benchmark for GPUs, with the CPU in a GPU's place."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True)


def test_every_figure_is_of_both_devices(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run("--device", "cpu", "--quick", "--only", "environments", "--out", str(out))
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["errors"] == {}
    assert len(report["figures"]) >= 10
    for figure in report["figures"]:
        assert min(figure["gpu"], figure["cpu"]) > 0, figure
        assert figure["ratio"] == figure["gpu"] / figure["cpu"], figure


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run("--out", str(out))
    assert done.returncode == 2
    assert not out.exists()
    assert "no GPU here; --device cpu --quick" in done.stderr
