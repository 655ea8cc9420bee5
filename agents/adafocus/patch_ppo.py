"""PPO as AdaFocus's second stage runs it: rollouts of whole videos, and the update on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from agents.adafocus.policies import AnyPatchPolicy
from agents.common.returns import standardised_returns
from video_env.envs.patch_select import PatchSelect
from video_env.errors import InputError


@dataclass(frozen=True)
class PPOCoefficients:
    """PPO's coefficients, as published.

    Attributes:
        gamma: discount of a reward per step.
        clip: of the probability ratio.
        value: weight of the critic's loss.
        entropy: weight of the bonus on the entropy of the positions.
    """

    gamma: float = 0.7
    clip: float = 0.2
    value: float = 0.5
    entropy: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise InputError(f"gamma: found {self.gamma}, expected 0 to 1")
        for name in ("clip", "value", "entropy"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}: found {getattr(self, name)}, expected a number of at least 0")


@dataclass
class Rollout:
    """What was done on a batch of videos, time first.

    Attributes:
        actions: int64 [T, B].
        log_probabilities: float32 [T, B], of the actions when they were taken.
        rewards: float32 [T, B].
        confidence: mean over the videos of the true class's probability in the end.
    """

    actions: torch.Tensor
    log_probabilities: torch.Tensor
    rewards: torch.Tensor
    confidence: float


@torch.no_grad()
def roll_out(
    policy: AnyPatchPolicy,
    reduced: torch.Tensor,
    task: PatchSelect,
    videos: np.ndarray,
    generator: np.random.Generator,
    draws: torch.Generator,
) -> Rollout:
    """One episode of PatchSelect-v0's dynamics on each video, with positions drawn from the policy.

    The policy sees glances only, so it decides on all frames in one pass; the rewards come from the
    environment, frame by frame.

    Args:
        policy: acts; mixed precision as the caller has set it.
        reduced: what the policy makes of the videos' glance maps, videos first.
        task: the dynamics, without stops.
        videos: their numbers within the task's split, int64 [B].
        generator: of the episodes' references.
        draws: of the actions, on the policy's device.
    """
    log_probabilities = policy.decide(reduced)[0].float()
    probabilities = log_probabilities.exp()
    actions = torch.multinomial(probabilities.flatten(0, 1), 1, generator=draws).view(probabilities.shape[:2])
    state, rewards = task.begin(videos, generator), []
    for action in actions.cpu().numpy():
        state, reward, _ = task.step(state, action)
        rewards.append(reward)
    confidence = task.describe(state)["confidence"].mean()
    taken = log_probabilities.gather(-1, actions[..., None])[..., 0]
    return Rollout(actions, taken, torch.from_numpy(np.stack(rewards)).to(taken), float(confidence))


def ppo_loss(
    policy: AnyPatchPolicy,
    maps: torch.Tensor,
    rollout: Rollout,
    coefficients: PPOCoefficients,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped loss (Schulman et al. 2017, equation 9) with the advantage return − value, and the mean
    entropy of the positions.

    Args:
        policy: with gradients.
        maps: glance maps [T, B, D, h, w].
        rollout: what was done on them.
        coefficients: weights and clip.
    """
    log_probabilities, values, _ = policy(maps)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1).mean()
    taken = log_probabilities.gather(-1, rollout.actions[..., None])[..., 0]
    returns = standardised_returns(rollout.rewards, coefficients.gamma)
    advantages = returns - values.detach()
    ratio = (taken - rollout.log_probabilities).exp()
    clipped = ratio.clamp(1 - coefficients.clip, 1 + coefficients.clip)
    gain = torch.minimum(ratio * advantages, clipped * advantages).mean()
    loss = -gain + coefficients.value * F.mse_loss(values, returns) - coefficients.entropy * entropy
    return loss, entropy
