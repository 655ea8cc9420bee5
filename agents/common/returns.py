"""Returns of episodes, as the released code standardises them."""

from __future__ import annotations

import torch


def standardised_returns(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    """Discounted returns of rewards [T, B], standardised over the whole batch (unbiased deviation plus
    1e-5), as released."""
    returns = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[0])
    for step in reversed(range(len(rewards))):
        following = rewards[step] + gamma * following
        returns[step] = following
    deviation = returns.std(correction=min(1, returns.numel() - 1))  # of a single return: 0
    return (returns - returns.mean()) / (deviation + 1e-5)
