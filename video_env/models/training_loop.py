"""The one training loop: epochs that go on where they were interrupted, to the same result."""

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
from video_env.models.tensors import read_tensors, write_tensors
from video_env.settings import difference

Report = dict[str, float]
"""What is measured in an epoch, by name."""

_ENTRIES = {"record", "epoch", "seconds", "finished", "modules", "optimiser", "schedule", "history"}


@dataclass
class TrainingLoop:
    """What is trained, and with what.

    Attributes:
        name: for the progress bar.
        modules: what is trained; saved and restored together.
        optimiser: over their parameters.
        epochs: how many.
        epoch: does one, with all its gradient steps; gets its number, from 0, and returns its report. Where
            there are checkpoints its random draws must depend on nothing but that number, so that a resumed
            training draws what an uninterrupted one draws.
        schedule: of the learning rates, from epoch to epoch; None where ``epoch`` sees to them.
        record: all settings that the result depends on: what a checkpoint is told apart by.
        validate: measures something after an epoch, which does not count as training time.
        finish: trains what comes after the epochs, and returns its report; the modules are in evaluation
            mode then.
        history: the report of every epoch, with the ``seconds`` of training so far.
    """

    name: str
    modules: nn.Module
    optimiser: torch.optim.Optimizer
    epochs: int
    epoch: Callable[[int], Report]
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    record: dict[str, Any] = field(default_factory=dict)
    validate: Callable[[], Report] | None = None
    finish: Callable[[], Report] | None = None
    history: list[Report] = field(default_factory=list)

    def run(
        self, file: Path | None = None, log: Callable[[int, Mapping[str, float]], None] | None = None
    ) -> float:
        """Do what is not done yet, and save it after every epoch.

        Args:
            file: the checkpoint, and in the end the result; without it nothing is saved.
            log: gets the number of epochs done and a report, in the first of several processes.

        Returns:
            The seconds that the whole training took.

        Raises:
            InputError: the file holds a training with other settings, or cannot be read or written.
        """
        done, seconds, finished = self._restore(file)
        processes.require_same(done, what=f"epochs done according to {file}")
        log = log if log is not None and processes.is_first() else _nowhere
        self.modules.train()
        # Said only where it is true: a False would overrule the user's TQDM_DISABLE.
        silent = {"disable": True} if done == self.epochs or not processes.is_first() else {}
        with tqdm(
            range(done, self.epochs), initial=done, total=self.epochs, desc=self.name, unit="epoch", **silent
        ) as progress:
            for epoch in progress:
                begun = time.perf_counter()
                report = self.epoch(epoch)
                if self.schedule is not None:
                    self.schedule.step()
                seconds += time.perf_counter() - begun
                if self.validate is not None:
                    report = {**report, **self.validate()}
                    self.modules.train()
                self.history.append({"seconds": seconds, **report})
                progress.set_postfix({key: f"{value:.3f}" for key, value in report.items()}, refresh=False)
                log(epoch + 1, report)
                self._save(
                    file, epoch + 1, seconds, finished=epoch + 1 == self.epochs and self.finish is None
                )
        self.modules.eval()
        if self.finish is not None and not finished:
            begun = time.perf_counter()
            report = self.finish()
            seconds += time.perf_counter() - begun
            log(self.epochs, report)
            self._save(file, self.epochs, seconds, finished=True)
        return seconds

    def _save(self, file: Path | None, epoch: int, seconds: float, *, finished: bool) -> None:
        if file is None or not processes.is_first():
            return
        saved = {
            "record": self.record, "epoch": epoch, "seconds": seconds, "finished": finished,
            "modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict(),
            "schedule": {} if self.schedule is None else self.schedule.state_dict(),
            "history": self.history,
        }  # fmt: skip
        write_tensors(file, saved)

    def _restore(self, file: Path | None) -> tuple[int, float, bool]:
        """How many epochs are done, the seconds they took, and whether the training is finished."""
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
            if self.schedule is not None:
                # A function of the user's is not part of its state; its counters are.
                self.schedule.load_state_dict(saved["schedule"])
            self.history = list(saved["history"])
            return int(saved["epoch"]), float(saved["seconds"]), bool(saved["finished"])
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
