"""How long a training goes on: as long as it helps on the validation split, within limits.

In every round there are so many gradient steps, then comes a look at the validation split. Where its
score has not become better for some rounds, the learning rates fall; where they have fallen often
enough, the training ends, and the weights of the best round stay. Before a method is better than a guess,
no patience is lost: some trainings begin with a plateau.

A cache without a validation split has a fixed length: all updates, with rates that fall along a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from video_env.errors import InputError, require_positive

Ended = Literal["", "patience", "limit", "fixed"]
"""Why a training ended: it had stopped to help, updates or seconds ran out, or its length was fixed. Empty:
there was none, or it goes on."""

FALL = 0.3
"""What the learning rates are multiplied by when they fall."""

WORTHWHILE = 0.001
"""A score must be better by so much to count."""

LEFT_CHANCE = 0.1
"""Of the way from a guess's accuracy to 1."""


@dataclass(frozen=True)
class Length:
    """How long a network is trained (see the module).

    Attributes:
        updates: most gradient steps.
        round: gradient steps between two looks at the validation split.
        patience: rounds without a better score until the rates fall, or the training ends; 0 for a fixed
            length.
        falls: how often the rates fall.
        seconds: most seconds of training, after which the round ends it; 0 for no limit. With one the result
            depends on the machine.
        epochs: passes over the training videos instead of updates, a fixed length as the papers have it; 0
            for updates.
    """

    updates: int = 2000
    round: int = 50
    patience: int = 5
    falls: int = 2
    seconds: float = 0.0
    epochs: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "updates", "round")
        for name in ("patience", "falls", "seconds", "epochs"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}: found {getattr(self, name)}, expected 0 or more")

    def rounds(self) -> int:
        """Most rounds; of a length in epochs each pass is one."""
        return self.epochs or -(-self.updates // self.round)

    def updates_of(self, round: int, per_epoch: int) -> int:
        """Gradient steps in a round, by its number from 0; of a pass there are ``per_epoch``."""
        return per_epoch if self.epochs else min(self.round, self.updates - round * self.round)


class Watch:
    """Looks at the scores of a training and ends it.

    Args:
        length: its length.
        optimiser: whose learning rates fall; they fall along a cosine where the length is fixed.
        validated: whether there will be scores; without them the length is fixed.

    Attributes:
        ended: why; empty while it goes on.
        best: the number of the best round, from 0; −1 before one was scored.
    """

    def __init__(self, length: Length, optimiser: torch.optim.Optimizer, *, validated: bool) -> None:
        self.length, self._optimiser = length, optimiser
        self._patient = validated and length.patience > 0 and not length.epochs
        self.ended: Ended = ""
        self.best, self._best_score, self._falls, self._rounds = -1, -float("inf"), 0, 0
        self._schedule: torch.optim.lr_scheduler.LRScheduler
        if self._patient:
            # It counts the rounds that were not better, and lowers the rates after ``patience`` of them.
            self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, "max", factor=FALL, patience=length.patience - 1, threshold=WORTHWHILE,
                threshold_mode="abs", eps=0.0,
            )  # fmt: skip
        else:
            self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, length.rounds())

    def saw(self, score: float | None, seconds: float, *, chance: bool = False) -> bool:
        """After a round.

        Args:
            score: on the validation split, the higher the better; None where there is none.
            seconds: of training so far.
            chance: whether the method is no better than a guess so far.

        Returns:
            Whether the round was the best one so far.
        """
        number, self._rounds = self._rounds, self._rounds + 1
        better = score is not None and score > self._best_score
        if better:
            assert score is not None
            self.best, self._best_score = number, score
        if isinstance(self._schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            assert score is not None
            if not chance:
                self._wait(score)
        else:
            self._schedule.step()
        if not self.ended and self._rounds == self.length.rounds():
            self.ended = "limit" if self._patient else "fixed"
        if not self.ended and self.length.seconds and seconds >= self.length.seconds:
            self.ended = "limit"
        return better

    def _wait(self, score: float) -> None:
        before = self._optimiser.param_groups[0]["lr"]
        self._schedule.step(score)  # type: ignore[arg-type]  # of this kind, a score
        if self._optimiser.param_groups[0]["lr"] < before:
            self._falls += 1
            if self._falls > self.length.falls:
                self.ended = "patience"

    def state(self) -> dict[str, Any]:
        """What a training needs to go on with it."""
        return {
            "ended": self.ended, "best": self.best, "best_score": self._best_score, "falls": self._falls,
            "rounds": self._rounds, "schedule": self._schedule.state_dict(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.ended, self.best, self._best_score = state["ended"], state["best"], state["best_score"]
        self._falls, self._rounds = state["falls"], state["rounds"]
        self._schedule.load_state_dict(state["schedule"])


def at_chance(accuracy: float, guess: float) -> bool:
    """Whether a method's accuracy is no better than a guess's, or hardly."""
    return accuracy < guess + LEFT_CHANCE * (1 - guess)
