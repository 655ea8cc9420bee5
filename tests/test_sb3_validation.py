"""Stable-Baselines3's algorithms on the validation split: what stays, and when they end."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from baselines.sb3 import ALGORITHMS, SB3Settings
from baselines.sb3_files import train_to_file
from baselines.sb3_training import train_sb3
from baselines.sb3_validation import Patience
from tests.entries import saved
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate

OFF_POLICY: dict[str, Any] = {"learning_starts": 32, "batch_size": 16}
SHORT = {
    **{name: {"n_steps": 4, "batch_size": 32} for name in ("ppo", "maskable-ppo", "recurrent-ppo", "trpo")},
    "a2c": {"n_steps": 4},
    **dict.fromkeys(("dqn", "qr-dqn", "sac", "td3"), OFF_POLICY),
}
PPO = SB3Settings("ppo", steps=512, num_envs=16, evaluate_every=64, hyperparameters=SHORT["ppo"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_model_with_the_best_mean_return_stays(tmp_path: Path, algorithm: str) -> None:
    """By our own evaluation of the saved file on the validation split."""
    cache, file = Cache(PACKAGED_CACHE), tmp_path / "agent.zip"
    settings = SB3Settings(
        algorithm,  # type: ignore[arg-type]
        steps=256, num_envs=16, evaluate_every=64, hyperparameters=SHORT[algorithm],
    )  # fmt: skip
    train_to_file(cache, settings, file, device="cpu")
    entry = saved(file, cache)
    history = entry.training.history
    assert [row["steps"] for row in history] == [0, 64, 128, 192, 256]
    assert entry.training.ended == "limit"
    best = max(history, key=lambda row: row["score"])
    table = evaluate(entry, cache, "validation")
    assert best["validation"] == table["correct"].mean()
    # A return is the gain in confidence over the uniform prediction, with λ = 0.
    nothing = float(np.float16(1 / len(cache.classes)))  # as the subset table holds it
    assert best["score"] == pytest.approx((table["confidence"] - nothing).mean(), abs=1e-6)
    # And what Stable-Baselines3's own callback has written.
    written = np.load(tmp_path / "agent" / "evaluations.npz")
    assert written["results"].mean(axis=1).tolist() == pytest.approx([row["score"] for row in history])
    assert written["successes"].mean(axis=1).tolist() == [row["validation"] for row in history]
    progress = pd.read_csv(tmp_path / "agent" / "progress.csv")
    assert progress["eval/success_rate"].count() == len(history)


def test_it_ends_where_the_return_does_not_become_better() -> None:
    """A policy that does not learn has the same return at every evaluation; six frames are better than a
    guess."""
    still = replace(
        PPO,
        num_frames=6,
        hyperparameters={**SHORT["ppo"], "learning_rate": 1e-12},
        patience=3,
        min_evaluations=2,
    )
    training = train_sb3(Cache(PACKAGED_CACHE), still, device="cpu")
    assert training.ended == "patience"
    assert len(training.history) == 2 + 3
    assert len({row["score"] for row in training.history}) == 1


def test_no_patience_is_lost_at_chance() -> None:
    patience = Patience(evaluations=2, min_evaluations=0, guess=0.5)
    patience.parent = SimpleNamespace(best_mean_reward=0.1, _is_success_buffer=[True, False])  # type: ignore[assignment]
    assert [patience._on_step() for _ in range(5)] == [True] * 5
    patience.parent._is_success_buffer = [True, True]
    patience.n_calls = 6
    assert [patience._on_step() for _ in range(2)] == [True, False]


def test_a_limit_in_seconds_ends_it() -> None:
    training = train_sb3(Cache(PACKAGED_CACHE), replace(PPO, seconds=1e-9), device="cpu")
    assert training.ended == "limit"
    assert [row["steps"] for row in training.history] == [0, 16]


def test_without_a_validation_split_the_length_is_fixed(
    known_cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    training = train_sb3(known_cache, PPO, device="cpu")
    assert (training.ended, training.history, training.model.num_timesteps) == ("fixed", [], 512)
    assert capsys.readouterr().out.count("has no validation split: 512 steps, and the last model stays") == 1
    assert train_sb3(Cache(PACKAGED_CACHE), replace(PPO, evaluate_every=0), device="cpu").ended == "fixed"


def test_evaluations_change_nothing_of_the_training(tmp_path: Path) -> None:
    """The same episodes with and without them, and of two trainings with one seed."""
    returns = []
    for number, every in enumerate((0, 64, 64)):
        folder = tmp_path / str(number)
        train_sb3(
            Cache(PACKAGED_CACHE),
            replace(PPO, evaluate_every=every, steps=256), device="cpu", log_folder=folder,
        )  # fmt: skip
        logged = pd.read_csv(folder / "progress.csv")["rollout/ep_rew_mean"].dropna()
        returns.append(logged.unique().tolist())
    assert len(returns[0]) == 4
    assert returns[0] == returns[1] == returns[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": -1}, "patience: found -1, expected 0 or more"),
        ({"seconds": float("inf")}, "seconds: found inf"),
        ({"evaluate_every": 0, "patience": 3}, "patience: found 3; it means nothing with evaluate_every 0"),
    ],
)
def test_lengths_explain_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SB3Settings(**options)
