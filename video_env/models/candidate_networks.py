"""Networks that see a video's candidates beside each other: from features of each to features of each.

Agents and the policies of Stable-Baselines3 are built on the same ones, so that a comparison can hold the
network fixed and vary the algorithm, or the other way round.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from video_env.errors import require_choice

NetworkName = Literal["attention", "convolution", "flat", "linear"]
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)


class CandidateNetwork(nn.Module):
    """From features of each candidate, [B, T, D], to features of each, [B, T, ``width``].

    Attributes:
        width: H.
    """

    width: int


class AttentionNetwork(CandidateNetwork):
    """A linear layer that all candidates share, and one head of self-attention, by which each sees all others
    (Vaswani et al. 2017, section 3.2.1). There is no encoding of time: permuting the candidates permutes what
    comes out.

    Args:
        features: D.
        hidden: H.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.width = hidden
        self.each = nn.Linear(features, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.project = nn.Linear(hidden, 3 * hidden)  # queries, keys and values
        self.join = nn.Linear(2 * hidden, hidden)

    def forward(self, candidates: torch.Tensor) -> torch.Tensor:
        """[B, T, D] to [B, T, H]."""
        each = torch.relu(self.each(candidates))
        query, key, value = self.project(self.norm(each)).chunk(3, dim=-1)
        # Matrix products, not the fused operator, which torch's counter of operations does not know on a CPU.
        weight = (query @ key.mT * self.width**-0.5).softmax(dim=-1)
        return torch.relu(self.join(torch.cat([each, weight @ value], dim=-1)))


class ConvolutionNetwork(CandidateNetwork):
    """Three convolutions over time (kernels 3, 5 and 5): each candidate in view of its neighbours.

    Args:
        features: D.
        hidden: H.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.width = hidden
        self.layers = nn.Sequential(
            nn.Conv1d(features, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 5, padding=2), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 5, padding=2), nn.ReLU(),
        )  # fmt: skip

    def forward(self, candidates: torch.Tensor) -> torch.Tensor:
        """[B, T, D] to [B, T, H]."""
        return self.layers(candidates.mT).mT


class FlatNetwork(CandidateNetwork):
    """All candidates side by side through one linear layer, and from its output each candidate's features by
    a layer of its own. Nothing is shared: what is learned of one candidate must be learned again of the next.

    Args:
        features: D.
        num_candidates: T.
        hidden: H.
    """

    def __init__(self, features: int, num_candidates: int, hidden: int) -> None:
        super().__init__()
        self.width, self.num_candidates = hidden, num_candidates
        self.together = nn.Linear(num_candidates * features, hidden)
        self.apart = nn.Linear(hidden, num_candidates * hidden)

    def forward(self, candidates: torch.Tensor) -> torch.Tensor:
        """[B, T, D] to [B, T, H]."""
        together = torch.relu(self.together(candidates.flatten(1)))
        return torch.relu(self.apart(together)).unflatten(1, (self.num_candidates, self.width))


class LinearNetwork(CandidateNetwork):
    """The features as they are, so that a score of each is one linear layer, as in the released OCSampler.

    Args:
        features: D, which is also H.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.width = features

    def forward(self, candidates: torch.Tensor) -> torch.Tensor:
        """[B, T, D] to the same."""
        return candidates


def build_candidate_network(
    name: NetworkName, features: int, num_candidates: int, hidden: int
) -> CandidateNetwork:
    """A network by name, with fresh weights.

    Args:
        name: attention, convolution, flat or linear.
        features: D.
        num_candidates: T; only ``flat`` is bound to it.
        hidden: H; ``linear`` keeps D.

    Raises:
        InputError: there is none of this name.
    """
    require_choice("network", name, NETWORKS)
    if name == "attention":
        return AttentionNetwork(features, hidden)
    if name == "convolution":
        return ConvolutionNetwork(features, hidden)
    if name == "flat":
        return FlatNetwork(features, num_candidates, hidden)
    return LinearNetwork(features)
