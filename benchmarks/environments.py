"""Steps per second of native vector FrameSelect-v0 beside Gymnasium's CartPole-v1, and full resets.

python benchmarks/environments.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from report import alternating_seconds, median_ratio, write_report

import video_env  # noqa: F401

NUM_ENVS = 1024
STEPS = 200


def stepper(environment: str, **options: Any) -> Callable[[], None]:
    env = gym.make_vec(environment, num_envs=NUM_ENVS, vectorization_mode="vector_entry_point", **options)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(50)]

    def run() -> None:
        for step in range(STEPS):
            env.step(actions[step % len(actions)])

    return run


def repeated(task: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(300):
            task()

    return run


def main() -> None:
    steps = alternating_seconds(
        {
            "CartPole-v1": stepper("CartPole-v1"),
            "FrameSelect-v0, index": stepper("FrameSelect-v0", observation="index"),
            "FrameSelect-v0, features": stepper("FrameSelect-v0", observation="features"),
        },
        rounds=15,
    )
    env = gym.make_vec("FrameSelect-v0", num_envs=NUM_ENVS, vectorization_mode="vector_entry_point")
    features = env.unwrapped.task.features
    drawn = np.random.default_rng(0).integers(len(features), size=NUM_ENVS)
    resets = alternating_seconds(
        {
            "reset": repeated(env.reset),
            "numpy.take": repeated(lambda: features.take(drawn, axis=0)),
        },
        rounds=15,
    )
    results: dict[str, Any] = {
        f"{name}: million steps per second": NUM_ENVS * STEPS / float(np.median(seconds)) / 1e6
        for name, seconds in steps.items()
    }
    for kind, aim in (("index", 1.0), ("features", 0.2)):
        ratio = median_ratio(steps["CartPole-v1"], steps[f"FrameSelect-v0, {kind}"])
        results[f"speed over CartPole-v1, {kind} observations (aim {aim})"] = ratio
    results["full reset over numpy.take of the same bytes (aim 0.5)"] = median_ratio(
        resets["numpy.take"], resets["reset"]
    )
    write_report("environments", results)


if __name__ == "__main__":
    main()
