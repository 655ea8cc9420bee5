"""The policy of OCSampler: a network that scores the candidate frames, from features of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from video_env.models.candidate_networks import NetworkName, build_candidate_network


class CandidatePolicy(nn.Module):
    """A score per candidate: a network that sees them beside each other, then one linear layer for all.

    A frame scored by itself leads to several frames of one event; a fully connected layer over all frames
    falls into the uniform subset. Only ``linear``, as released, sees each frame by itself: its skim network's
    temporal shift has shown each frame its neighbours already. It takes the features as they are, the other
    networks each frame's normalised over its D dimensions.

    Args:
        network: by name, see ``video_env.models.candidate_networks``.
        features: D of the skim features.
        num_candidates: T.
        hidden: features of each candidate inside the network.
    """

    def __init__(self, network: NetworkName, features: int, num_candidates: int, hidden: int = 32) -> None:
        super().__init__()
        self.normalises = network != "linear"
        self.network = build_candidate_network(network, features, num_candidates, hidden)
        self.score = nn.Linear(self.network.width, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Skim features [B, T, D] to log-probabilities [B, T]."""
        if self.normalises:
            features = F.layer_norm(features, features.shape[-1:])
        return self.score(self.network(features))[..., 0].log_softmax(dim=-1)


def ranked(log_probabilities: torch.Tensor) -> torch.Tensor:
    """int64 [..., T]: the candidates from the most to the least probable, of equal ones the earlier."""
    return log_probabilities.sort(dim=-1, descending=True, stable=True).indices
