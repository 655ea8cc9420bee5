"""The tuned settings of Stable-Baselines3's algorithms: RL Zoo's files in ``hyperparameters/``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from baselines import policies
from video_env.errors import InputError, require_choice

FOLDER = Path(__file__).parent / "hyperparameters"


@dataclass(frozen=True)
class Tuned:
    """What an algorithm is trained with in an environment.

    Attributes:
        num_envs: environments that run side by side.
        steps: environment steps in all.
        policy: class of ``baselines.policies``.
        policy_options: its keyword arguments.
        arguments: the algorithm's own; ``noise_type`` (normal) and ``noise_std`` stand for its action noise.
    """

    num_envs: int
    steps: int
    policy: type
    policy_options: dict[str, Any]
    arguments: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The same as plain data that json can hold."""
        return {**asdict(self), "policy": self.policy.__name__}


def read_tuned(name: str, environment: str) -> Tuned:
    """The settings of an algorithm, by its file's name, in an environment, by its id.

    Raises:
        InputError: there are none.
    """
    file = FOLDER / f"{name}.yml"
    of_environments = yaml.safe_load(file.read_text())
    if environment not in of_environments:
        raise InputError(f"environment {environment!r}: {file} has {', '.join(of_environments)}")
    settings = dict(of_environments[environment])
    num_envs, steps = settings.pop("n_envs"), settings.pop("n_timesteps")
    policy = policies.BY_NAME[settings.pop("policy").removeprefix("baselines.policies.")]
    return Tuned(num_envs, steps, policy, settings.pop("policy_kwargs"), settings)


def tuned_from(record: dict[str, Any]) -> Tuned:
    """From what ``Tuned.record`` gave.

    Raises:
        InputError: the policy is none of ``baselines.policies``.
        TypeError: an entry is missing, or there is another one.
    """
    require_choice("policy", record["policy"], tuple(policies.BY_NAME))
    return Tuned(**{**record, "policy": policies.BY_NAME[record["policy"]]})
