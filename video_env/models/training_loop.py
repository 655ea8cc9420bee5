"""The one training loop: rounds that go on where they were interrupted, to the same result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from video_env.errors import InputError
from video_env.models import processes
from video_env.models.backbones import load_state
from video_env.models.stopping import Ended, Watch, at_chance
from video_env.models.tensors import read_tensors, write_tensors
from video_env.settings import difference

Report = dict[str, float]
"""What is measured in a round, by name."""

State = dict[str, Any]

_ENTRIES = {
    "record", "rounds", "seconds", "finished", "modules", "best", "optimiser", "watch", "history"
}  # fmt: skip


@dataclass
class TrainingLoop:
    """What is trained, and with what.

    Attributes:
        name: for the progress bar.
        modules: what is trained; saved and restored together.
        optimiser: over their parameters.
        rounds: how many at most.
        do_round: does one, with all its gradient steps; gets its number, from 0, and returns its report.
            Where there are checkpoints its random draws must depend on nothing but that number, so that a
            resumed training draws what an uninterrupted one draws.
        record: all settings that the result depends on: what a checkpoint is told apart by.
        watch: sees to the learning rates and ends the training (see ``models.stopping``); in the end the
            modules are those of the best round. None: all rounds are done, the last one's modules stay, and
            ``do_round`` sees to the rates.
        per_epoch: gradient steps of a pass over the training videos, for lengths in epochs.
        validate: measures something after a round, which does not count as training time. Where there is a
            watch, its report has a ``score``, the higher the better, and may have ``validation``, the top-1
            on the validation split.
        guess: the accuracy of a guess on that split.
        finish: trains what comes after the rounds, and returns its report; the modules are in evaluation
            mode then.
        history: the report of every round, with the ``seconds`` of training and the ``updates`` so far.
    """

    name: str
    modules: nn.Module
    optimiser: torch.optim.Optimizer
    rounds: int
    do_round: Callable[[int], Report]
    record: dict[str, Any] = field(default_factory=dict)
    watch: Watch | None = None
    per_epoch: int = 0
    validate: Callable[[], Report] | None = None
    guess: float = 0.0
    finish: Callable[[], Report] | None = None
    history: list[Report] = field(default_factory=list)
    _best: State = field(default_factory=dict, init=False)

    @property
    def ended(self) -> Ended:
        """Why the training ended; empty while it goes on."""
        if self.watch is not None:
            return self.watch.ended
        return "fixed" if len(self.history) == self.rounds else ""

    def run(
        self, file: Path | None = None, log: Callable[[int, Mapping[str, float]], None] | None = None
    ) -> float:
        """Do what is not done yet, and save it after every round.

        Args:
            file: the checkpoint, and in the end the result; without it nothing is saved.
            log: gets the number of rounds done and a report, in the first of several processes.

        Returns:
            The seconds that the whole training took.

        Raises:
            InputError: the file holds a training with other settings, or cannot be read or written.
        """
        done, seconds, finished = self._restore(file)
        processes.require_same(done, what=f"rounds done according to {file}")
        log = log if log is not None and processes.is_first() else _nowhere
        self.modules.train()
        over = bool(self.ended)
        # Said only where it is true: a False would overrule the user's TQDM_DISABLE.
        silent = {"disable": True} if over or not processes.is_first() else {}
        with tqdm(initial=done, total=self.rounds, desc=self.name, unit="round", **silent) as progress:
            while not over:
                begun = time.perf_counter()
                report = self.do_round(done)
                seconds += time.perf_counter() - begun
                report = {**report, **self._looked_at(seconds)}
                done, over = done + 1, bool(self.ended) or done + 1 == self.rounds
                self.history.append({"seconds": seconds, **self._updates(done), **report})
                if over and self._best:
                    load_state(self.modules, self._best, where="the best round")
                    self._best = {}
                progress.update()
                progress.set_postfix({key: f"{value:.3f}" for key, value in report.items()}, refresh=False)
                log(done, report)
                self._save(file, done, seconds, finished=over and self.finish is None)
        self.modules.eval()
        if self.finish is not None and not finished:
            begun = time.perf_counter()
            report = self.finish()
            seconds += time.perf_counter() - begun
            log(done, report)
            self._save(file, done, seconds, finished=True)
        return seconds

    def _looked_at(self, seconds: float) -> Report:
        """After a round: what is measured on the validation split, and what the watch makes of it."""
        report = {} if self.validate is None else self.validate()
        self.modules.train()
        if self.watch is not None:
            score = processes.from_first(report["score"]) if "score" in report else None
            chance = at_chance(report.get("validation", 1.0), self.guess)
            if self.watch.saw(score, processes.from_first(seconds), chance=chance):
                self._best = {name: value.clone() for name, value in self.modules.state_dict().items()}
        return report

    def _updates(self, rounds: int) -> Report:
        if self.watch is None:
            return {}
        length = self.watch.length
        return {"updates": sum(length.updates_of(number, self.per_epoch) for number in range(rounds))}

    def _save(self, file: Path | None, rounds: int, seconds: float, *, finished: bool) -> None:
        if file is None or not processes.is_first():
            return
        saved = {
            "record": self.record, "rounds": rounds, "seconds": seconds, "finished": finished,
            "modules": self.modules.state_dict(), "best": self._best,
            "optimiser": self.optimiser.state_dict(),
            "watch": {} if self.watch is None else self.watch.state(), "history": self.history,
        }  # fmt: skip
        write_tensors(file, saved)

    def _restore(self, file: Path | None) -> tuple[int, float, bool]:
        """How many rounds are done, the seconds they took, and whether the training is finished."""
        if file is None or not file.is_file():
            return 0, 0.0, False
        saved = _read(file)
        if different := difference(saved["record"], self.record):
            raise InputError(
                f"{file}: made with other settings: {different}. Choose another folder or delete it"
            )
        try:
            load_state(self.modules, saved["modules"], where=f"{file}")
            self.optimiser.load_state_dict(saved["optimiser"])
            if self.watch is not None:
                self.watch.restore(saved["watch"])
            self.history, self._best = list(saved["history"]), dict(saved["best"])
            return int(saved["rounds"]), float(saved["seconds"]), bool(saved["finished"])
        except InputError:
            raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{file}: not a readable checkpoint of a training ({error}); delete it"
            ) from error


def is_finished(file: Path) -> bool:
    """Whether a training's file holds its result, not the state of an interrupted training.

    Raises:
        InputError: it is no such file.
    """
    return bool(_read(file)["finished"])


def _read(file: Path) -> dict[str, Any]:
    what = f"{file}: not a readable checkpoint of a training"
    saved = read_tensors(file, what=what)
    if not isinstance(saved, dict) or not isinstance(saved.get("record", {}), dict):
        raise InputError(f"{what}: found {type(saved).__name__}")
    if missing := _ENTRIES - set(saved):
        raise InputError(
            f"{what}: no entry {', '.join(sorted(missing))}; of another version, or damaged. Delete it to "
            "train anew"
        )
    return saved


def _nowhere(done: int, report: Mapping[str, float]) -> None:
    """The log where there is none."""
