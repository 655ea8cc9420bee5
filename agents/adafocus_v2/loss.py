"""The loss that AdaFocusV2 is trained on."""

from __future__ import annotations

import torch

from agents.adafocus_v2.network import AdaFocusV2Network
from agents.adafocus_v2.settings import Ingredients
from agents.common.returns import standardised_returns
from video_env.models.classifiers import loss_at_every_step

EXPLORATION, DISCOUNT = 0.1, 0.7


def training_loss(
    network: AdaFocusV2Network,
    frames: torch.Tensor,
    targets: torch.Tensor,
    drawn: torch.Tensor,
    ingredients: Ingredients,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of a batch (Wang et al. 2022, AdaFocus V2, equations 5 to 7).

    Of each branch, that of the learned points and that of random ones, it is the sum of three
    cross-entropies against the video's label: on the classifier after every frame, on every glance, and on
    every patch; the branches are averaged.

    Args:
        network: in training mode.
        frames: float [B, T, 3, S, S], normalised, in reading order.
        targets: float [B, C], shares that sum to 1.
        drawn: float [B, T, 2], uniformly random points for the branch of ``diversity``.
        ingredients: which of the four there are.
        noise: standard normal [B, T, 2], for the drawn points of REINFORCE.
    """
    network.check(frames)
    glances = network.look(frames)
    maps = glances.maps.detach() if ingredients.stop_gradient else glances.maps
    with torch.autocast(
        frames.device.type, enabled=False
    ):  # a point in half precision is off by half a pixel
        points, _ = network.policy(maps.float())
    means, around = points, points
    if not ingredients.interpolation:
        assert noise is not None
        around = (points + EXPLORATION * noise).detach()
        points = around.clamp(0, 1)
    branches = [network.at(frames, glances, points)]
    if ingredients.diversity:
        branches.append(network.at(frames, glances, drawn))
    loss = torch.stack([loss_at_every_step(logits, targets) for logits, _ in branches]).mean()
    if ingredients.auxiliary:
        patches = [loss_at_every_step(network.focus_head(features), targets) for _, features in branches]
        glance = loss_at_every_step(network.glance_head(glances.pooled), targets)
        loss = loss + torch.stack(patches).mean() + glance
    if not ingredients.interpolation:
        loss = loss + _reinforce(means, around, [logits for logits, _ in branches], targets)
    return loss


def _reinforce(
    means: torch.Tensor, points: torch.Tensor, branches: list[torch.Tensor], targets: torch.Tensor
) -> torch.Tensor:
    """REINFORCE on points drawn around the means, as they were before they were clamped to the frame. The
    reward is the true class's probability with them, less that of the branch with random points (where there
    is one), discounted and standardised; the first AdaFocus takes one random patch at the same state."""
    with torch.no_grad():
        confidence = [(logits.softmax(dim=-1) * targets[:, None]).sum(dim=-1) for logits in branches]
        reward = confidence[0] - (confidence[1] if len(confidence) > 1 else 0)
        returns = standardised_returns(reward.T, DISCOUNT).T
    log_probability = -((points - means) ** 2).sum(dim=-1) / (2 * EXPLORATION**2)
    return -(returns * log_probability).mean()
