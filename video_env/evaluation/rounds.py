"""Tasks timed in turns, round after round, and what is said of their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

ROUNDS = 7
APART = 0.2
"""Rounds disagree where the middle half of them spans more than this share of their median."""
COMPUTING = 0.8
"""The machine was busy where a task had a processor for less than this share of its time."""
DISAGREE, BUSY = "rounds disagree", "busy machine"


class Stopwatch:
    """Adds up the time inside its ``with`` blocks.

    Attributes:
        elapsed: seconds that passed.
        computed: seconds that this process had a processor.
    """

    def __init__(self) -> None:
        self.elapsed = self.computed = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.elapsed += time.perf_counter() - self._begun[0]
        self.computed += time.process_time() - self._begun[1]


class Times(NamedTuple):
    """Seconds of one task, each [rounds]; see ``Stopwatch``."""

    elapsed: np.ndarray
    computed: np.ndarray


class Speed(NamedTuple):
    """How fast something is.

    Attributes:
        per_second: 1 over the median of the rounds' seconds.
        low, high: of the middle half of the rounds.
        note: why it is to be taken with care; empty where nothing speaks against it.
    """

    per_second: float
    low: float
    high: float
    note: str


Key = TypeVar("Key", bound=Hashable)
Task = Callable[[Stopwatch], Any]
"""Does its work once; what counts of it is inside the stopwatch's ``with`` blocks."""


def time_in_turns(tasks: Mapping[Key, Task], rounds: int = ROUNDS) -> dict[Key, Times]:
    """Time every task once in every round, so that a busy moment hits all of them and no median.

    Before the first round each runs once for nothing: a first call loads what later ones find.

    Args:
        tasks: by any key.
        rounds: how many.
    """
    watches: dict[Key, list[Stopwatch]] = {key: [] for key in tasks}
    for number in range(rounds + 1):
        for key, task in tasks.items():
            task(watch := Stopwatch())
            if number:
                watches[key].append(watch)
    return {
        key: Times(np.array([one.elapsed for one in own]), np.array([one.computed for one in own]))
        for key, own in watches.items()
    }


def total(parts: Mapping[Any, float], times: Mapping[Any, Times]) -> Times:
    """Of work that is made of tasks.

    Args:
        parts: how many times each task counts, by its key.
        times: of the tasks.
    """
    elapsed, computed = (
        np.sum([share * times[key][kind] for key, share in parts.items()], axis=0) for kind in (0, 1)
    )
    return Times(elapsed, computed)


def speed_of(times: Times, *, computed: bool) -> Speed:
    """What the rounds say of a task.

    Args:
        times: its own.
        computed: whether its time is that of the processor (where all of it runs there), or all that passed
            (where a GPU works meanwhile).
    """
    low, median, high = np.quantile(times.computed if computed else times.elapsed, (0.25, 0.5, 0.75))
    notes = [DISAGREE] if high - low > APART * median else []
    if computed and times.computed.sum() < COMPUTING * times.elapsed.sum():
        notes.append(BUSY)
    return Speed(float(1 / median), float(1 / high), float(1 / low), ", ".join(notes))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread inside: with several, time would depend on who else has the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
