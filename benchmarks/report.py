"""What every benchmark here shares: facts about the machine, and the JSON that it writes."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import numpy
import torch

from video_env.models.device import processor_name


def write_report(name: str, results: dict[str, Any], folder: Path = Path("runs/benchmarks")) -> None:
    """Write ``NAME.json`` with the results, the command and the machine's facts, and print the results."""
    report = {
        "results": results,
        "command": " ".join(["python", *sys.argv]),
        "machine": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "torch": torch.__version__,
            "gymnasium": gymnasium.__version__,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    for key, value in results.items():
        print(f"{key:60} {value:.3f}" if isinstance(value, float) else f"{key:60} {value}")
    print(f"written: {folder / f'{name}.json'}")


Key = TypeVar("Key", bound=Hashable)


def alternating_seconds(
    tasks: dict[Key, Callable[[], object]], *, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Key, list[float]]:
    """Seconds of each task in each round; the tasks take turns, so that a noisy moment hits them all."""
    seconds: dict[Key, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            begun = clock()
            task()
            seconds[name].append(clock() - begun)
    return seconds


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return float(numpy.median(numpy.array(numerator) / numpy.array(denominator)))
