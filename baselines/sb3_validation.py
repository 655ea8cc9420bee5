"""How long an algorithm of Stable-Baselines3 is trained: as long as it helps on the validation split."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnNoModelImprovement

from video_env.models.stopping import Ended, at_chance


class Patience(StopTrainingOnNoModelImprovement):
    """Stable-Baselines3's rule, which does not count an evaluation while the policy is no better than a
    guess: some trainings begin with a plateau.

    Args:
        evaluations: without a better mean return, one after another, that end the training.
        min_evaluations: that count in no case.
        guess: the accuracy of a guess on the split.
    """

    def __init__(self, evaluations: int, min_evaluations: int, guess: float) -> None:
        super().__init__(evaluations - 1, min_evaluations)  # it goes on up to and including its maximum
        self._guess = guess

    def _on_step(self) -> bool:
        if at_chance(success_rate(self.parent), self._guess):
            self.last_best_mean_reward = self.parent.best_mean_reward
            return True
        return super()._on_step()


class BestWeights(BaseCallback):
    """Keeps the policy's weights whenever Stable-Baselines3's evaluation calls it: at a new best mean return.

    Attributes:
        weights: None before that.
    """

    weights: dict[str, torch.Tensor] | None = None

    def _on_step(self) -> bool:
        self.weights = {name: value.clone() for name, value in self.model.policy.state_dict().items()}
        return True


class Validation(BaseCallback):
    """Evaluates before the training, between its updates at intervals, and after it; ends it; and leaves the
    model with its best weights.

    Stable-Baselines3's own callback evaluates at environment steps; here it is called when an update is done,
    so that what is evaluated is the policy that the next steps are taken with.

    Args:
        evaluation: does it whenever it is called (``eval_freq`` 1), and says by its own callbacks whether the
            training goes on; those of a new best model are set here.
        every: environment steps between two evaluations.
        seconds: most seconds of training; 0 for no limit.
        fixed: whether its length is fixed, so that it ends when all steps are taken.

    Attributes:
        history: of each evaluation the ``seconds`` of training and environment ``steps`` before it, the
            share of videos that were recognised (``validation``), and the mean return (``score``).
        ended: why the training ended; empty while it goes on.
        evaluating: seconds that the evaluations took.
    """

    def __init__(self, evaluation: EvalCallback, *, every: int, seconds: float, fixed: bool) -> None:
        super().__init__()
        self._evaluation, self._every, self._limit, self._fixed = evaluation, every, seconds, fixed
        self._best = evaluation.callback_on_new_best = BestWeights()
        self.history: list[dict[str, float]] = []
        self.ended: Ended = ""
        self.evaluating, self._begun, self._next = 0.0, 0.0, 0

    def _init_callback(self) -> None:
        self._evaluation.init_callback(self.model)

    def _on_training_start(self) -> None:
        self._begun = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self._every
            if not self._evaluate():
                self.ended = "patience"

    def _on_step(self) -> bool:
        if not self.ended and self._limit and self._trained() >= self._limit:
            self.ended = "limit"
        return not self.ended

    def _on_training_end(self) -> None:
        if self.ended != "patience":
            self.ended = "fixed" if self._fixed else "limit"
            self._evaluate()
        assert self._best.weights is not None
        self.model.policy.load_state_dict(self._best.weights)

    def _trained(self) -> float:
        return time.perf_counter() - self._begun - self.evaluating

    def _evaluate(self) -> bool:
        """Whether the training shall go on."""
        trained, begun = self._trained(), time.perf_counter()
        goes_on = self._evaluation.on_step()
        self.history.append(
            {
                "seconds": trained, "steps": self.model.num_timesteps,
                "validation": success_rate(self._evaluation), "score": self._evaluation.last_mean_reward,
            }
        )  # fmt: skip
        self.evaluating += time.perf_counter() - begun
        return goes_on


def success_rate(evaluation: EvalCallback) -> float:
    """The share of episodes that ended in success (``is_success``) in the last evaluation; Stable-Baselines3
    logs it, and shows it nowhere else."""
    successes: list[Any] = evaluation._is_success_buffer
    return float(np.mean(successes))
