"""AdaFocus's patch policy with weights that positions share, and a memory of where something was found."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from video_env.data.patches import grid_points, grid_side


class SharedPatchPolicy(nn.Module):
    """Where to look next, by one network that scores every position.

    A 1x1 convolution of the glance map and ReLU; the features at the centre of each position's patch, by
    bilinear interpolation; a linear layer, ReLU, and a linear layer to the score. The critic is linear in
    the mean and the maximum of those features over the positions.

    The memory is that of AdaFocusV2's ``SoftArgmaxPolicy``: what was found in earlier frames lowers the
    scores where it was found, by as much as it scored there. So of two objects that are there together one
    is looked at, and then the other, while a place where nothing was stays open. It has one weight, how much
    it counts, so that a policy that should look at the same thing again can learn to. Like the published
    policy it sees nothing but glances: the decisions on all frames of a video are made in one pass.

    Args:
        channels: D of the glance maps.
        height: h of the glance maps.
        width: w of the glance maps.
        num_positions: P, a square number.
        hidden: features of a position.
        patch_share: side of a patch as a share of the frame's; where it is unknown (None), patches are taken
            to lie side by side.
    """

    def __init__(
        self, channels: int, height: int, width: int, num_positions: int = 49, *, hidden: int = 16,
        patch_share: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_positions = num_positions
        self.side = grid_side(num_positions)
        share = 1 / self.side if patch_share is None else patch_share
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.encode = nn.Linear(hidden, hidden)
        self.actor = nn.Linear(hidden, 1)
        self.critic = nn.Linear(2 * hidden, 1)
        self.memory = nn.Parameter(torch.ones(()))
        with torch.no_grad():
            # Almost uniform at first, and no value: a constant score moves nothing.
            self.actor.weight.mul_(0.1)
            self.critic.weight.zero_()
        for name, cells in (("rows", height), ("columns", width)):
            self.register_buffer(name, _at_centres(self.side, cells, share), persistent=False)
        self.register_buffer("overlap", _overlap(num_positions, share), persistent=False)
        self.rows: torch.Tensor
        self.columns: torch.Tensor
        self.overlap: torch.Tensor

    @property
    def state_size(self) -> int:
        """Width of the recurrent state: for every position, how high a score was found there."""
        return self.num_positions

    def forward(
        self, maps: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As of ``PatchPolicy``; the state is [B, P]."""
        return self.decide(self.reduced(maps), state)

    def reduced(self, maps: torch.Tensor) -> torch.Tensor:
        """The part that sees the maps, [T, B, D, h, w] to the positions' features [B, T, P, hidden]."""
        last = maps.transpose(0, 1).movedim(-3, -1)  # as they lie in memory: nothing is copied
        cells = F.linear(last, self.reduce.weight[:, :, 0, 0], self.reduce.bias).relu()
        # First the rows of cells, then the columns.
        rows = torch.matmul(self.rows, cells.flatten(-2)).unflatten(-1, cells.shape[-2:])
        return torch.matmul(self.columns, rows).flatten(-3, -2)

    def decide(
        self, reduced: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The rest, from [B, T, P, hidden]; returns what ``forward`` returns."""
        features = reduced.transpose(0, 1)
        scores = self.actor(self.encode(features).relu())[..., 0].float()
        scores = scores - scores.mean(dim=-1, keepdim=True)
        values = self.critic(torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=-1))[..., 0]
        found = torch.zeros_like(scores[0]) if state is None else state
        log_probabilities = []
        for frame in scores:
            log_probabilities.append((frame - self.memory * found).log_softmax(dim=-1))
            shares = log_probabilities[-1].detach().exp()
            # At a position counts the share of its patch that was seen.
            height = (shares * frame.detach()).sum(dim=-1, keepdim=True)
            found = torch.maximum(found, F.linear(shares, self.overlap) * height)
        return torch.stack(log_probabilities), values, found


def _at_centres(side: int, cells: int, patch_share: float) -> torch.Tensor:
    """float32 [side, cells]: the weights of a line of cells in the linear interpolation at the centres of a
    line of patches."""
    room = np.arange(side) / max(side - 1, 1) * (1 - patch_share)
    centre = np.clip((room + patch_share / 2) * cells - 0.5, 0, cells - 1)
    weights = np.clip(1 - np.abs(centre[:, None] - np.arange(cells)), 0, None)
    return torch.from_numpy(weights.astype(np.float32))


def _overlap(num_positions: int, patch_share: float) -> torch.Tensor:
    """float32 [P, P]: the share of one position's patch that another one's covers."""
    corners = torch.from_numpy(grid_points(num_positions)) * (1 - patch_share)
    apart = (corners[:, None] - corners).abs()
    return (1 - apart / patch_share).clamp(min=0).prod(dim=-1)
