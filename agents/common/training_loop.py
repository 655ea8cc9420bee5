"""One stage of a training: epochs that go on where they were interrupted, to the same result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from agents.common import processes
from agents.common.agent_files import naming_logs, start_logging, write_agent
from video_env.errors import InputError
from video_env.models.tensors import read_tensors

_ENTRIES = {"record", "epoch", "seconds", "finished", "modules", "optimiser", "schedule", "history"}


@dataclass
class Stage:
    """What a stage trains, and with what.

    Attributes:
        number: of the stage, which its random draws depend on.
        name: for the progress bar.
        modules: what is trained; restored and saved together.
        optimiser: over their parameters.
        epochs: how many.
        epoch: does one; gets the epoch's generator and returns what to log.
        record: all settings that the result depends on.
        seed: of the draws.
        cosine: let the learning rates fall to 0 along a cosine.
        validate: measures something after an epoch, which does not count as training time.
        history: of every epoch what was logged, and the ``seconds`` of training so far.
    """

    number: int
    name: str
    modules: nn.ModuleDict
    optimiser: torch.optim.Optimizer
    epochs: int
    epoch: Callable[[np.random.Generator], dict[str, float]]
    record: dict[str, Any]
    seed: int
    cosine: bool = True
    validate: Callable[[], dict[str, float]] | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def run(self, file: Path | None, log_folder: Path | None = None) -> float:
        """Do the epochs that are not done yet, saving after each; returns the seconds of all of them.

        Args:
            file: checkpoint and, in the end, result; none is kept without it.
            log_folder: for ``progress.csv`` and TensorBoard.

        Raises:
            InputError: the file is of other settings.
        """
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._share_of_learning_rate)
        done, seconds = self._restore(file, schedule)
        processes.require_same(done, what=f"epochs done according to {file}")
        logs = log_folder is not None and done < self.epochs and processes.is_first()
        logger = start_logging(log_folder if logs else None)
        self.modules.train()
        # Said only where it is true: a False would overrule the user's TQDM_DISABLE.
        silent = {"disable": True} if done == self.epochs or not processes.is_first() else {}
        with tqdm(
            range(done, self.epochs), initial=done, total=self.epochs, desc=self.name, unit="epoch", **silent
        ) as progress:
            for epoch in progress:
                begun = time.perf_counter()
                # Seeded by the epoch, so that a resumed training draws what an uninterrupted one draws.
                report = self.epoch(np.random.default_rng([self.seed, self.number, epoch]))
                schedule.step()
                seconds += time.perf_counter() - begun
                if self.validate is not None:
                    report = {**report, **self.validate()}
                    self.modules.train()
                self.history.append({"seconds": seconds, **report})
                for key, value in report.items():
                    logger.record(f"stage-{self.number}/{key}", value)
                progress.set_postfix({key: f"{value:.3f}" for key, value in report.items()}, refresh=False)
                with naming_logs(log_folder):
                    logger.dump(epoch + 1)
                self._save(file, schedule, epoch + 1, seconds)
        self.modules.eval()
        return seconds

    def _share_of_learning_rate(self, epoch: int) -> float:
        return 0.5 * (1 + float(np.cos(np.pi * epoch / self.epochs))) if self.cosine else 1.0

    def _save(self, file: Path | None, schedule: Any, epoch: int, seconds: float) -> None:
        if file is None or not processes.is_first():
            return
        saved = {
            "stage": self.number, "record": self.record, "epoch": epoch, "seconds": seconds,
            "finished": epoch == self.epochs,
            "modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict(),
            "schedule": schedule.state_dict(), "history": self.history,
        }  # fmt: skip
        write_agent(file, saved)

    def _restore(self, file: Path | None, schedule: Any) -> tuple[int, float]:
        """Epochs done and their seconds."""
        if file is None or not file.is_file():
            return 0, 0.0
        saved = _read(file)
        found = saved["record"]
        if found != self.record:
            different = [key for key in self.record if found.get(key) != self.record[key]]
            raise InputError(
                f"{file}: made with other settings: "
                + "; ".join(f"{key} {found.get(key)!r}, now {self.record[key]!r}" for key in different)
                + ". Choose another folder or delete it"
            )
        try:
            self.modules.load_state_dict(saved["modules"])
            self.optimiser.load_state_dict(saved["optimiser"])
            # The schedule's own function is not part of its state; its counters are.
            schedule.load_state_dict(saved["schedule"])
            self.history = list(saved["history"])
            return int(saved["epoch"]), float(saved["seconds"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{file}: not a readable checkpoint of a stage ({error}); delete it") from error


def is_finished(file: Path) -> bool:
    """Whether a stage's file holds its result, not the state of an interrupted training.

    Raises:
        InputError: it is no such file.
    """
    return bool(_read(file)["finished"])


def _read(file: Path) -> dict[str, Any]:
    saved = read_tensors(file, what=f"{file}: not a readable checkpoint of a stage")
    if not isinstance(saved, dict) or not isinstance(saved.get("record", {}), dict):
        raise InputError(f"{file}: not a readable checkpoint of a stage: found {type(saved).__name__}")
    if missing := _ENTRIES - set(saved):
        raise InputError(
            f"{file}: not a readable checkpoint of a stage: no entry {', '.join(sorted(missing))}"
        )
    return saved


def descend(optimiser: torch.optim.Optimizer, losses: Iterable[torch.Tensor]) -> float:
    """One gradient step for each loss; returns their mean."""
    values = []
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    return float(np.mean(values))


def loss_at_every_step(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of scores [B, T, C] after every frame with targets [B, C]."""
    repeated = targets[:, None].expand(-1, scores.shape[1], -1)
    return F.cross_entropy(scores.flatten(0, 1).float(), repeated.flatten(0, 1))


def build_optimiser(
    name: Literal["adamw", "sgd"],
    groups: list[tuple[nn.Module, float]],
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9, over modules with their learning rates."""
    parameters = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
    if name == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay)
    return torch.optim.SGD(parameters, momentum=0.9, weight_decay=weight_decay)
