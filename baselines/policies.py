"""Stable-Baselines3's policies with the feature extractors of frame and patch selection.

The extractor follows from the observation space, so that one name serves all environments, also where a
policy is named in a file (``policy: baselines.policies.SelectionActorCriticPolicy``, RL Zoo's form).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentMultiInputActorCriticPolicy
from sb3_contrib.qrdqn.policies import MultiInputPolicy as QRDQNMultiInputPolicy
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.dqn.policies import MultiInputPolicy as DQNMultiInputPolicy
from stable_baselines3.sac.policies import MultiInputPolicy as SACMultiInputPolicy
from stable_baselines3.td3.policies import MultiInputPolicy as TD3MultiInputPolicy
from torch import nn

from baselines.features import features_of


class _Selection:
    """Before a policy of Stable-Baselines3: our extractor for its observations, and ReLU throughout."""

    def __init__(self, observation_space: gym.Space, *arguments: Any, **options: Any) -> None:
        own = {"features_extractor_class": features_of(observation_space), "activation_fn": nn.ReLU}
        super().__init__(observation_space, *arguments, **own | options)  # type: ignore[call-arg]


class SelectionActorCriticPolicy(_Selection, MultiInputActorCriticPolicy):
    """Of PPO, A2C and TRPO."""


class SelectionMaskablePolicy(_Selection, MaskableMultiInputActorCriticPolicy):
    """Of MaskablePPO."""


class SelectionRecurrentPolicy(_Selection, RecurrentMultiInputActorCriticPolicy):
    """Of RecurrentPPO."""


class SelectionDQNPolicy(_Selection, DQNMultiInputPolicy):
    """Of DQN."""


class SelectionQRDQNPolicy(_Selection, QRDQNMultiInputPolicy):
    """Of QR-DQN."""


class SelectionSACPolicy(_Selection, SACMultiInputPolicy):
    """Of SAC."""


class SelectionTD3Policy(_Selection, TD3MultiInputPolicy):
    """Of TD3."""


BY_NAME: dict[str, type] = {
    policy.__name__: policy
    for policy in (
        SelectionActorCriticPolicy, SelectionMaskablePolicy, SelectionRecurrentPolicy, SelectionDQNPolicy,
        SelectionQRDQNPolicy, SelectionSACPolicy, SelectionTD3Policy,
    )
}  # fmt: skip
"""A policy that a file names is one of these."""
