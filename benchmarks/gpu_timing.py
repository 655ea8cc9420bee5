"""Timing on two devices: synchronised rounds within a time limit, and the figures that come of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Limits:
    """How long a figure of one device may take.

    Attributes:
        rounds: that are timed at most; their median counts.
        seconds: after which no further round begins.
        total: seconds after the benchmark's start from which no figure begins any more.
    """

    rounds: int
    seconds: float
    total: float


@dataclass
class Figure:
    """One comparison; ``ratio`` is GPU over CPU.

    Attributes:
        what: is measured.
        unit: of the values, more being better.
        cpu, gpu: rates; None where there is none.
        gpu_memory_gib: peak of what torch had allocated while the GPU's was measured.
        note: why a value is missing.
    """

    what: str
    unit: str
    cpu: float | None = None
    gpu: float | None = None
    gpu_memory_gib: float | None = None
    note: str = ""

    def record(self) -> dict[str, Any]:
        ratio = self.gpu / self.cpu if self.gpu and self.cpu else None
        return {**asdict(self), "ratio": ratio}


@dataclass
class Bench:
    """Two devices, and all that was found out about them.

    Attributes:
        gpu: the one that is compared with the CPU; the CPU itself to try the benchmark out.
        limits: of every figure.
        figures: so far.
        errors: what failed, by name.
    """

    gpu: torch.device
    limits: Limits
    figures: list[Figure] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    @property
    def precisions(self) -> tuple[str, ...]:
        """float32 and bfloat16; in the GPU's place a CPU would only emulate the latter, ten times slower."""
        return ("float32", "bfloat16") if self.gpu.type == "cuda" else ("float32",)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.begun

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Run a part; where it fails, note why and go on."""
        print(f"[{self.seconds:4.0f} s] {name}", flush=True)
        try:
            run()
        except Exception as error:
            self._failed(name, error)

    def compare(
        self,
        what: str,
        unit: str,
        rate: Callable[[torch.device, Limits], float],
        *,
        cpu: bool = True,
        why_not: str = "",
    ) -> Figure:
        """A figure of both devices; one that fails on a device does not lose the other's.

        Args:
            what: see ``Figure``.
            unit: see ``Figure``.
            rate: measures it on a device.
            cpu: whether to measure it there too.
            why_not: the note where not.
        """
        figure = Figure(what, unit, note="" if cpu else why_not)
        self.figures.append(figure)
        if self.seconds > self.limits.total:
            figure.note = f"left out: {self.limits.total:.0f} s were over"
            print(f"[{self.seconds:4.0f} s]   {what}: {figure.note}", flush=True)
            return figure
        if self.gpu.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.gpu)
        figure.gpu = self._measured(f"{what}, GPU", rate, self.gpu)
        if self.gpu.type == "cuda":
            figure.gpu_memory_gib = torch.cuda.max_memory_allocated(self.gpu) / 2**30
        if cpu:
            figure.cpu = self._measured(f"{what}, CPU", rate, torch.device("cpu"))
        ratio = figure.record()["ratio"]
        said = f"{what}: {_shown(figure.gpu)}, on the CPU {_shown(figure.cpu)} {unit}"
        said += f", {ratio:.1f} times" if ratio else ""
        said += f" ({figure.note})" if figure.note else ""
        print(f"[{self.seconds:4.0f} s]   {said}", flush=True)
        return figure

    def _measured(
        self, name: str, rate: Callable[[torch.device, Limits], float], device: torch.device
    ) -> float | None:
        try:
            return rate(device, self.limits)
        except Exception as error:
            self._failed(name, error)
            return None

    def _failed(self, name: str, error: Exception) -> None:
        traceback.print_exc()
        self.errors[name] = f"{type(error).__name__}: {error}"


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(task: Callable[[], object], device: torch.device, limits: Limits) -> float:
    """Median seconds of a call, after one that does not count; synchronised before and after each."""
    begun, times = time.perf_counter(), list[float]()
    task()
    synchronise(device)
    while len(times) < limits.rounds and (not times or time.perf_counter() - begun < limits.seconds):
        start = time.perf_counter()
        task()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def median_step(seconds: list[float]) -> float:
    """Median of the differences between times at which steps were done; the first step does not count,
    where there is another."""
    steps = np.diff(seconds, prepend=0.0)
    return float(np.median(steps[1:] if len(steps) > 1 else steps))


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
