"""A Stable-Baselines3 feature extractor for frame selection."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from video_env.cache.store import Cache


class CandidateFeatures(BaseFeaturesExtractor):
    """Skim features and the frames chosen so far, through two convolutions over time.

    With index observations the features of all the cache's videos stay in one table on the policy's
    device, and rollout and replay buffers hold indices only; with feature observations no cache is
    needed.

    Args:
        observation_space: of FrameSelect-v0 or FrameSelectOneStep-v0.
        cache: path of the environment's cache, for index observations.
        hidden: channels of the convolutions; the output has T · hidden features.
    """

    def __init__(
        self, observation_space: gym.spaces.Dict, cache: str | None = None, hidden: int = 32
    ) -> None:
        num_candidates = int(np.prod(observation_space["selected"].shape or ()))
        super().__init__(observation_space, num_candidates * hidden)
        self.table: torch.Tensor | None
        if "features" in observation_space.spaces:
            width = int((observation_space["features"].shape or (0,))[-1])
            self.table = None
        else:
            if cache is None:
                raise ValueError("index observations need the path of the environment's cache")
            table = torch.from_numpy(Cache(cache)["skim"][:])
            width = table.shape[-1]
            # Not part of the saved policy: it is the cache's, and may be large.
            self.register_buffer("table", table, persistent=False)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Conv1d(width + 1, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 5, padding=2), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, T · hidden]."""
        if self.table is None:
            features = observations["features"]
        else:
            features = self.table[observations["video"][:, 0].long()].float()
        chosen = observations["selected"].float().unsqueeze(1)
        return self.layers(torch.cat([self.norm(features).mT, chosen], dim=1))
