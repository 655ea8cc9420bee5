"""Training Stable-Baselines3's algorithms: as long as it helps on the validation split."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import Logger, configure
from tqdm import tqdm

from baselines.sb3 import SB3Settings, build, make_environments
from baselines.sb3_validation import Patience, Validation
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.labels import point_label
from video_env.files import delete
from video_env.models.stopping import Ended

_EVALUATED_VIDEOS = 1000
_EVALUATIONS = 50


@dataclass(frozen=True)
class SB3Training:
    """A training that is done.

    Attributes:
        model: with its best weights on the validation split; with the last ones where there is none.
        seconds: of training, the evaluations aside.
        history: see ``Validation``; empty without evaluations.
        ended: why it ended.
    """

    model: BaseAlgorithm
    seconds: float
    history: list[dict[str, float]]
    ended: Ended


def train_sb3(
    cache: Cache, settings: SB3Settings, *, device: str = "auto", log_folder: Path | None = None
) -> SB3Training:
    """Train an algorithm on the cache's training videos as long as it helps on its validation videos.

    Args:
        cache: the videos.
        settings: of the algorithm and its training.
        device: auto, cpu, cuda:0, ...
        log_folder: for progress.csv, TensorBoard's events, and evaluations.npz.

    Raises:
        InputError: a hyperparameter's value is refused.
    """
    begun = time.perf_counter()
    tuned = settings.tuned()
    model = build(cache, settings, tuned, device, make_environments(cache, settings, "train", tuned.num_envs))
    label = point_label(settings.title(), settings.setting(cache))
    callbacks: list[BaseCallback] = [_Progress(tuned.steps, label)]
    if log_folder is None:
        model.set_logger(Logger(folder=None, output_formats=[]))  # SB3's own leaves a temporary folder
    else:
        for name in ("progress.csv", "evaluations.npz"):
            delete(log_folder / name)  # of an earlier training; or a link, which would be written through
        model.set_logger(configure(str(log_folder), ["csv", "tensorboard"]))
    validation = _validation(cache, settings, tuned.steps, log_folder)
    if validation is not None:
        callbacks.append(validation)
    try:
        model.learn(tuned.steps, callback=callbacks)
    except OSError as error:
        if error.filename is not None:
            raise
        raise InputError(f"{log_folder}: logs cannot be written: {error.strerror or error}") from error
    seconds = time.perf_counter() - begun
    if validation is None:
        return SB3Training(model, seconds, [], "fixed")
    return SB3Training(model, seconds - validation.evaluating, validation.history, validation.ended)


def _validation(cache: Cache, settings: SB3Settings, steps: int, folder: Path | None) -> Validation | None:
    """With one deterministic episode on each video of the validation split, or on 1000 of them, side by side;
    None where there is none."""
    if settings.evaluate_every == 0:
        return None
    if "validation" not in cache.splits:
        tqdm.write(f"{cache.path} has no validation split: {steps:,} steps, and the last model stays")
        return None
    rows = cache.rows("validation")
    rows = rows[:: -(-len(rows) // _EVALUATED_VIDEOS)]
    env = make_environments(cache, settings, "validation", len(rows), list(cache.index["video"].iloc[rows]))
    env.seed(settings.seed)
    guess = cache.guess("validation")
    patience = Patience(settings.patience, settings.min_evaluations, guess) if settings.patience else None
    kind = MaskableEvalCallback if settings.algorithm == "maskable-ppo" else EvalCallback
    evaluation = kind(
        env, n_eval_episodes=len(rows), eval_freq=1, log_path=None if folder is None else str(folder),
        deterministic=True, callback_after_eval=patience, verbose=0,
    )  # fmt: skip
    every = settings.evaluate_every or -(-steps // _EVALUATIONS)
    return Validation(
        evaluation, every=every, seconds=settings.seconds, fixed=not (settings.patience or settings.seconds)
    )


class _Progress(BaseCallback):
    """A progress bar in environment steps, with the mean return."""

    def __init__(self, steps: int, name: str) -> None:
        super().__init__()
        self._bar = tqdm(total=steps, desc=name, unit="step", mininterval=1)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bar.n = min(self.num_timesteps, self._bar.total)
        if self.model.ep_info_buffer:
            mean = np.mean([episode["r"] for episode in self.model.ep_info_buffer])
            self._bar.set_postfix({"return": f"{mean:.3f}"}, refresh=False)
        self._bar.update(0)

    def _on_training_end(self) -> None:
        self._bar.close()
