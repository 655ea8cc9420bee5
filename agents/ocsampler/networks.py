"""The networks of OCSampler: what scores the candidate frames, from features of each."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from video_env.errors import InputError

PolicyName = Literal["convolution", "linear"]


class CandidatePolicy(nn.Module):
    """A score per candidate, each in view of its neighbours in time.

    Three 1-D convolutions over time (kernels 3, 5 and 5). A frame scored by itself leads to several
    frames of one event; a fully connected layer over all frames falls into the uniform subset.

    Args:
        features: D of the skim features.
        hidden: channels.
    """

    def __init__(self, features: int, hidden: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.layers = nn.Sequential(
            nn.Conv1d(features, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 5, padding=2), nn.ReLU(),
            nn.Conv1d(hidden, 1, 5, padding=2),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Skim features [B, T, D] to log-probabilities [B, T]."""
        return self.layers(self.norm(features).mT)[:, 0].log_softmax(dim=-1)


class LinearPolicy(nn.Module):
    """A score per candidate by one linear layer, as released: its skim network's temporal shift has
    shown each frame its neighbours already.

    Args:
        features: D of the skim features.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Skim features [B, T, D] to log-probabilities [B, T]."""
        return self.score(features)[..., 0].log_softmax(dim=-1)


def build_policy(name: PolicyName, features: int, hidden: int) -> nn.Module:
    """A policy by name.

    Raises:
        InputError: there is none of this name.
    """
    if name == "convolution":
        return CandidatePolicy(features, hidden)
    if name == "linear":
        return LinearPolicy(features)
    raise InputError(f"policy {name!r}: expected convolution or linear")


def ranked(log_probabilities: torch.Tensor) -> torch.Tensor:
    """int64 [..., T]: the candidates from the most to the least probable, of equal ones the earlier."""
    return log_probabilities.sort(dim=-1, descending=True, stable=True).indices
