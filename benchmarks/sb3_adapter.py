"""Frames per second of PPO on FrameSelect-v0 over PPO on native vector CartPole-v1, through one adapter.

Both train with Stable-Baselines3's PPO on one thread, the same number of environments, steps, batch size and
epochs; CartPole with the default policy (two layers of 64, for actor and critic each), FrameSelect-v0 with
ours on index observations and its tuned settings' network, which scores each candidate by shared weights:
many times the operations, hence the aim. The settings: those tuned for FrameSelect-v0, and RL Zoo's for
CartPole-v1 (8 environments).

python benchmarks/sb3_adapter.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch
from cart_pole import NativeCartPoles
from report import alternating_seconds, median_ratio, write_report
from stable_baselines3 import PPO

import video_env  # noqa: F401
from baselines.tuned import read_tuned
from baselines.vec_env import StableBaselinesVecEnv

ROUNDS = 5
TUNED = read_tuned("ppo", "FrameSelect-v0")
SETTINGS: dict[str, dict[str, int]] = {
    "tuned for FrameSelect-v0": {
        "num_envs": TUNED.num_envs,
        **{name: TUNED.arguments[name] for name in ("n_steps", "batch_size", "n_epochs")},
    },
    "RL Zoo's for CartPole-v1": {"num_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20},
}


def frame_select(num_envs: int, **settings: int) -> PPO:
    env = gym.make_vec(
        "FrameSelect-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", observation="index"
    )
    options = TUNED.policy_options
    return PPO(
        TUNED.policy, StableBaselinesVecEnv(env), policy_kwargs=options, device="cpu", seed=0, **settings
    )


def cart_pole(num_envs: int, **settings: int) -> PPO:
    env = StableBaselinesVecEnv(NativeCartPoles(num_envs=num_envs))
    return PPO("MlpPolicy", env, device="cpu", seed=0, **settings)


def trainer(model: PPO, steps: int) -> Callable[[], object]:
    return lambda: model.learn(steps)


def main() -> None:
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name, settings in SETTINGS.items():
        rollout = settings["num_envs"] * settings["n_steps"]
        steps = rollout * max(1, 8_192 // rollout)
        tasks = {
            "FrameSelect-v0": trainer(frame_select(**settings), steps),
            "CartPole-v1": trainer(cart_pole(**settings), steps),
        }
        # The process's own time: other work on the machine shall not count.
        seconds = alternating_seconds(tasks, rounds=ROUNDS, clock=time.process_time)
        for task, taken in seconds.items():
            results[f"{name}: {task}, frames per second"] = steps / sorted(taken)[ROUNDS // 2]
        ratio = median_ratio(seconds["CartPole-v1"], seconds["FrameSelect-v0"])
        results[f"{name}: ratio (aim 0.5)"] = ratio
        results[f"{name}: settings"] = str(settings)
    write_report("sb3_adapter", results)


if __name__ == "__main__":
    main()
