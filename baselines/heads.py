"""What policies make of an extractor's output: scores of actions and values, by weights shared over choices.

Every head takes the output as the extractor lays it out (``baselines.features.Layout``), in one tensor, so
that it stands where Stable-Baselines3's algorithms expect a linear layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from baselines.features import Layout


class Scores(nn.Module):
    """A score for each choice by one linear layer that they share; further ones from the context (*stop*).

    Args:
        layout: of the features.
        further: scores from the context.
        outputs: numbers per score, such as quantiles.
        joined: add the context to each choice first: for one that the choices have not seen, as what an LSTM
            remembers.
    """

    def __init__(self, layout: Layout, further: int = 0, *, outputs: int = 1, joined: bool = False) -> None:
        super().__init__()
        self.layout, self.outputs = layout, outputs
        self.join = nn.Linear(layout.context, layout.width) if joined else None
        self.each = nn.Linear(layout.width, outputs)
        self.further = nn.Linear(layout.context, further * outputs) if further else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, P · H + C] to [B, P + further]; with several outputs to [B, outputs · (P + further)]."""
        each, context = self.layout.split(features)
        if self.join is not None:
            each = torch.relu(each + self.join(context)[:, None])
        scores = self.each(each)
        if self.further is not None:
            scores = torch.cat([scores, self.further(context).unflatten(1, (-1, self.outputs))], dim=1)
        return scores[..., 0] if self.outputs == 1 else scores.mT.flatten(1)


class Point(nn.Module):
    """A point in a frame: the mean (row, column) under a softmax of the positions' scores, each from -1 to 1;
    and further numbers from the context.

    Args:
        layout: of the features, which has a grid.
        further: numbers from the context.
        squashed: whether a tanh follows: the point is given so that the tanh leaves it as it is.
        joined: see ``Scores``.
    """

    positions: torch.Tensor

    def __init__(
        self, layout: Layout, further: int = 0, *, squashed: bool = False, joined: bool = False
    ) -> None:
        super().__init__()
        assert layout.grid is not None
        along = [torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1) for count in layout.grid]
        positions = torch.cartesian_prod(*along)
        self.register_buffer("positions", positions, persistent=False)
        self.count, self.squashed = layout.choices, squashed
        self.scores = Scores(layout, further, joined=joined)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, P · H + C] to [B, 2 + further]."""
        scores = self.scores(features)
        point = scores[:, : self.count].softmax(dim=-1) @ self.positions
        if self.squashed:
            point = torch.atanh(point.clamp(-_EDGE, _EDGE))
        return torch.cat([point, scores[:, self.count :]], dim=1)


_EDGE = 0.99
"""Nearest to the edge of a frame, 1, that a tanh has to bring a point."""


class Context(nn.Module):
    """A linear layer on the context alone: a value, or the spreads of an action that no choice has.

    Args:
        layout: of the features.
        outputs: numbers.
    """

    def __init__(self, layout: Layout, outputs: int = 1) -> None:
        super().__init__()
        self.width = layout.context
        self.linear = nn.Linear(layout.context, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, ... + C] to [B, outputs]."""
        return self.linear(features[:, -self.width :])


class ScoresCritic(nn.Module):
    """The value of a score for each choice: the score joins its choice's features before they are pooled.

    Args:
        layout: of the features.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.join = nn.Linear(layout.width + 1, layout.width)
        self.value = nn.Sequential(
            nn.Linear(layout.width + layout.context, layout.width), nn.ReLU(), nn.Linear(layout.width, 1)
        )

    def forward(self, features_and_action: torch.Tensor) -> torch.Tensor:
        """Features and action side by side, [B, P · H + C + P], to [B, 1]."""
        features, action = features_and_action.tensor_split([self.layout.size], dim=1)
        each, context = self.layout.split(features)
        joined = torch.relu(self.join(torch.cat([each, action[..., None]], dim=-1)))
        return self.value(torch.cat([joined.mean(dim=1), context], dim=1))


class PointCritic(nn.Module):
    """The value of a point: from the features there (interpolated between positions), context and action.

    Args:
        layout: of the features, which has a grid.
        action: numbers in an action; the first two are the point's row and column, from -1 to 1.
    """

    def __init__(self, layout: Layout, action: int) -> None:
        super().__init__()
        self.layout = layout
        self.value = nn.Sequential(
            nn.Linear(layout.width + layout.context + action, layout.width), nn.ReLU(),
            nn.Linear(layout.width, 1),
        )  # fmt: skip

    def forward(self, features_and_action: torch.Tensor) -> torch.Tensor:
        """Features and action side by side, [B, P · H + C + action], to [B, 1]."""
        features, action = features_and_action.tensor_split([self.layout.size], dim=1)
        each, context = self.layout.split(features)
        assert self.layout.grid is not None
        maps = each.mT.unflatten(2, self.layout.grid)
        column_row = action[:, None, None, :2].flip(-1)
        there = F.grid_sample(maps, column_row, align_corners=True, padding_mode="border")
        return self.value(torch.cat([there[:, :, 0, 0], context, action], dim=1))
