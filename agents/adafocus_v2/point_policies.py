"""Where AdaFocusV2 looks next: policies that give a point for every frame, from its glances."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

PolicyName = Literal["fully_connected", "soft_argmax"]
POLICIES: tuple[PolicyName, ...] = ("fully_connected", "soft_argmax")


class FullyConnectedPolicy(nn.Module):
    """The published policy (section 4.1 and released code): a 1x1 convolution, BatchNorm, Tanh; a linear
    layer, BatchNorm, Tanh; a GRU over the frames; a linear layer and a sigmoid.

    Args:
        channels: D of the glance maps.
        side: h = w of the glance maps.
        hidden: width after the convolution, 2048 as published.
        reduced: channels after the convolution.
    """

    def __init__(self, channels: int, side: int, *, hidden: int = 2048, reduced: int = 64) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced), nn.Tanh(), nn.Flatten(),
            nn.Linear(reduced * side * side, hidden), nn.BatchNorm1d(hidden), nn.Tanh(),
        )  # fmt: skip
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.point = nn.Linear(hidden, 2)

    def forward(
        self, maps: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Glance maps [B, T, D, h, w] and the recurrent state [B, hidden] before them (zero by default) to
        points [B, T, 2] in [0, 1] and the state after them."""
        encoded = self.encoder(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        features, after = self.gru(encoded, None if state is None else state[None])
        return self.point(features).sigmoid(), after[0]


class SoftArgmaxPolicy(nn.Module):
    """A policy for small data: a score for every cell of the glance map by 1x1 convolutions, a softmax over
    the cells, and the expected point (Finn et al. 2016, Deep Spatial Autoencoders, section IV-A).

    A cell stands for the patch that is centred on it, as near as the frame's edge allows. What it found in
    earlier frames lowers the scores where it found it, by as much as it scored there: so of two objects that
    are there together it looks at one, and then at the other, while a place where nothing was stays open.
    This memory has no weights and passes no gradient: with one it may learn to scan the frame instead.

    Args:
        channels: D of the glance maps.
        side: h = w of the glance maps.
        patch_share: side of a patch as a share of the frame's.
        hidden: channels between the two convolutions.
    """

    def __init__(self, channels: int, side: int, *, patch_share: float, hidden: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
        )
        self.score = nn.Conv2d(hidden, 1, 1)
        # A patch also shows the cells around its centre.
        self.reach = 2 * int(patch_share * side / 2) + 1
        centre = (torch.arange(side) + 0.5) / side
        along = ((centre - patch_share / 2) / max(1 - patch_share, 1e-6)).clamp(0, 1)
        rows, columns = torch.meshgrid(along, along, indexing="ij")
        self.register_buffer("cells", torch.stack([rows, columns], dim=-1).flatten(0, 1), persistent=False)
        self.cells: torch.Tensor

    def forward(
        self, maps: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As of ``FullyConnectedPolicy``; the state [B, h, w] is how high a score was found at each cell."""
        scores = self.score(self.encoder(maps.flatten(0, 1)))[:, 0]
        scores = (scores - scores.mean(dim=(-2, -1), keepdim=True)).unflatten(0, maps.shape[:2])
        found = torch.zeros_like(scores[:, 0]) if state is None else state
        every = []
        for of_frame in scores.unbind(1):
            shares = (of_frame - found).flatten(1).softmax(dim=-1).view_as(found)
            every.append(shares)
            seen = F.avg_pool2d(shares[:, None], self.reach, 1, self.reach // 2, divisor_override=1)[:, 0]
            height = (shares * of_frame).sum(dim=(-2, -1), keepdim=True)
            found = torch.maximum(found, seen * height).detach()
        # All expected points in one go.
        return torch.stack(every, dim=1).flatten(-2) @ self.cells, found
