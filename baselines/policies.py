"""Stable-Baselines3's policies for frame and patch selection: every choice is scored by the same weights.

Extractor and heads follow from the spaces, so that one name serves all environments, also where a policy is
named in a file (``policy: baselines.policies.SelectionActorCriticPolicy``, RL Zoo's form). The algorithms are
not touched: where their policies have a linear layer, ours have a head (``baselines.heads``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import isqrt
from typing import Any

import gymnasium as gym
import torch
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentMultiInputActorCriticPolicy
from sb3_contrib.qrdqn.policies import MultiInputPolicy as QRDQNMultiInputPolicy
from sb3_contrib.qrdqn.policies import QuantileNetwork
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ContinuousCritic, MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import MultiInputPolicy as DQNMultiInputPolicy
from stable_baselines3.dqn.policies import QNetwork
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import MultiInputPolicy as SACMultiInputPolicy
from stable_baselines3.td3.policies import Actor as TD3Actor
from stable_baselines3.td3.policies import MultiInputPolicy as TD3MultiInputPolicy
from torch import nn

from baselines.features import CandidateFeatures, Layout, features_of
from baselines.heads import Context, Point, PointCritic, Scores, ScoresCritic
from video_env.errors import InputError


class _Selection:
    """Before a policy of Stable-Baselines3: our extractor for its observations and actions.

    Args:
        observation_space, action_space: of the environment.
        network: how candidate frames are seen beside each other (see ``CandidateFeatures``).
        hidden: features of each choice.
        net_arch: none: the network is set by the two above.

    Raises:
        InputError: the spaces are not those of frame or patch selection, or ``net_arch`` is given.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        *arguments: Any,
        network: str | None = None,
        hidden: int | None = None,
        net_arch: Any = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if net_arch:
            raise InputError(f"net_arch: found {net_arch}, expected none; network and hidden set the network")
        own: dict[str, Any] = {"network": network, "hidden": hidden}
        kind = features_of(observation_space)
        if kind is not CandidateFeatures and isinstance(action_space, gym.spaces.Discrete):
            own["grid"] = (isqrt(int(action_space.n)),) * 2  # P is a square number; P + 1 is none
        given = {name: value for name, value in own.items() if value is not None}
        super().__init__(
            observation_space, action_space, *arguments, net_arch=[],
            features_extractor_kwargs=given | (features_extractor_kwargs or {}),
            **{"features_extractor_class": kind} | options,
        )  # type: ignore[call-arg]  # fmt: skip


def _layout(extractor: BaseFeaturesExtractor | nn.Module) -> Layout:
    """How the extractor's output is laid out.

    Raises:
        InputError: it is none of ours.
    """
    layout = getattr(extractor, "layout", None)
    if not isinstance(layout, Layout):
        raise InputError(
            f"features_extractor_class: found {type(extractor).__name__}, expected one with a layout"
        )
    return layout


def _is_point(layout: Layout, space: gym.Space) -> bool:
    """Whether an action is a point in a frame, rather than one of the choices or a score of each."""
    return layout.grid is not None and isinstance(space, gym.spaces.Box)


def _action_head(
    layout: Layout, space: gym.Space, *, squashed: bool = False, joined: bool = False
) -> nn.Module:
    """What gives the scores of actions, or the mean of a continuous action."""
    if _is_point(layout, space):
        return Point(layout, get_action_dim(space) - 2, squashed=squashed, joined=joined)
    return Scores(layout, _further(layout, space), joined=joined)


def _further(layout: Layout, space: gym.Space) -> int:
    """Actions beside the choices: 1 where there is *stop*, else 0."""
    number = int(space.n) if isinstance(space, gym.spaces.Discrete) else get_action_dim(space)
    return number - layout.choices


class _ActorCritic(_Selection):
    """Heads in the place of the linear layers ``action_net`` and ``value_net``."""

    def _build(self: Any, lr_schedule: Any) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        layout, remembered = _layout(self.features_extractor), self._remembered()
        if remembered:
            layout = replace(layout, context=remembered)
        self.action_net = _action_head(layout, self.action_space, joined=bool(remembered))
        self.value_net: Any = Context(layout)
        if isinstance(self.action_dist, StateDependentNoiseDistribution):
            _, self.log_std = self.action_dist.proba_distribution_net(
                layout.size, self.log_std_init, layout.size
            )
        if self.ortho_init:  # with the gains of Stable-Baselines3
            self.action_net.apply(partial(self.init_weights, gain=0.01))
            self.value_net.apply(partial(self.init_weights, gain=1))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _remembered(self) -> int:
        """Features that an LSTM makes of the context; 0 without one."""
        return 0


class SelectionActorCriticPolicy(_ActorCritic, MultiInputActorCriticPolicy):
    """Of PPO, A2C and TRPO."""


class SelectionMaskablePolicy(_ActorCritic, MaskableMultiInputActorCriticPolicy):
    """Of MaskablePPO."""


class SelectionRecurrentPolicy(_ActorCritic, RecurrentMultiInputActorCriticPolicy):
    """Of RecurrentPPO: the LSTM remembers the context, and what it remembers joins each choice."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.critic is not None:  # instead of an LSTM for the critic
            head = Context(self._layout, self.lstm_output_dim)
            head.linear, self.critic = self.critic, head  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self._layout = _layout(self.features_extractor)
        self.features_dim = self._layout.context  # what the LSTMs, which are made next, see

    def _remembered(self) -> int:
        return self.lstm_output_dim

    def _process_sequence(  # type: ignore[override]
        self, features: torch.Tensor, lstm_states: Any, episode_starts: torch.Tensor, lstm: nn.LSTM
    ) -> tuple[torch.Tensor, Any]:
        choices = self._layout.choices * self._layout.width
        context, states = super()._process_sequence(features[:, choices:], lstm_states, episode_starts, lstm)
        return torch.cat([features[:, :choices], context], dim=1), states


class SelectionDQNPolicy(_Selection, DQNMultiInputPolicy):
    """Of DQN."""

    def make_q_net(self) -> QNetwork:
        network = super().make_q_net()
        layout = _layout(network.features_extractor)
        head: Any = Scores(layout, _further(layout, self.action_space))
        network.q_net = head
        return network.to(self.device)


class SelectionQRDQNPolicy(_Selection, QRDQNMultiInputPolicy):
    """Of QR-DQN."""

    def make_quantile_net(self) -> QuantileNetwork:
        network = super().make_quantile_net()
        layout = _layout(network.features_extractor)
        further = _further(layout, self.action_space)
        head: Any = Scores(layout, further, outputs=self.n_quantiles)
        network.quantile_net = head
        return network.to(self.device)


class _ScoringCritic(_Selection):
    """Critics to which an action's numbers are joined where they belong."""

    def make_critic(self: Any, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        critic = super().make_critic(features_extractor)  # type: ignore[misc]
        layout = _layout(critic.features_extractor)
        for number in range(critic.n_critics):
            if _is_point(layout, self.action_space):
                network: nn.Module = PointCritic(layout, get_action_dim(self.action_space))
            else:
                network = ScoresCritic(layout)
            setattr(critic, f"qf{number}", network)
            critic.q_networks[number] = network
        return critic.to(self.device)


class SelectionSACPolicy(_ScoringCritic, SACMultiInputPolicy):
    """Of SAC."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> SACActor:
        actor = super().make_actor(features_extractor)
        layout = _layout(actor.features_extractor)
        mean: Any = _action_head(layout, self.action_space, squashed=True)
        if actor.use_sde:  # its noise is made of the features; Stable-Baselines3 limits its mean
            actor.mu = nn.Sequential(mean, *actor.mu[1:]) if isinstance(actor.mu, nn.Sequential) else mean
        else:
            actor.mu, actor.log_std = mean, self._spreads(layout)
        return actor.to(self.device)

    def _spreads(self, layout: Layout) -> Any:
        """What gives the logarithms of an action's standard deviations."""
        if _is_point(layout, self.action_space):
            return Context(layout, get_action_dim(self.action_space))
        return Scores(layout)


class SelectionTD3Policy(_ScoringCritic, TD3MultiInputPolicy):
    """Of TD3."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> TD3Actor:
        actor = super().make_actor(features_extractor)
        head = _action_head(_layout(actor.features_extractor), self.action_space, squashed=True)
        actor.mu = nn.Sequential(head, nn.Tanh())
        return actor.to(self.device)


BY_NAME: dict[str, type] = {
    policy.__name__: policy
    for policy in (
        SelectionActorCriticPolicy, SelectionMaskablePolicy, SelectionRecurrentPolicy, SelectionDQNPolicy,
        SelectionQRDQNPolicy, SelectionSACPolicy, SelectionTD3Policy,
    )
}  # fmt: skip
"""A policy that a file names is one of these."""
