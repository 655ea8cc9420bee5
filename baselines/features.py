"""Stable-Baselines3 feature extractors for frame and patch selection."""

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


class GlanceFeatures(BaseFeaturesExtractor):
    """The current glance map, the classifier's state and the progress, for patch selection.

    As AdaFocus's policy reads glances: a 1x1 convolution to 32 channels, ReLU, a linear layer, ReLU. With
    index observations the glance maps of all the cache's videos stay in one table on the policy's device,
    and rollout and replay buffers hold indices only; with feature observations no cache is needed.

    Args:
        observation_space: of PatchSelect-v0 or PatchSelectContinuous-v0.
        cache: path of the environment's cache, for index observations.
        hidden: width of the linear layer; the output has hidden + R + 1 features.
    """

    def __init__(
        self, observation_space: gym.spaces.Dict, cache: str | None = None, hidden: int = 128
    ) -> None:
        width = int(np.prod(observation_space["state"].shape or ()))
        super().__init__(observation_space, hidden + width + 1)
        self.table: torch.Tensor | None
        if "glance" in observation_space.spaces:
            shape = tuple(observation_space["glance"].shape or ())
            self.table = None
        else:
            if cache is None:
                raise ValueError("index observations need the path of the environment's cache")
            maps = torch.from_numpy(Cache(cache)["glance"][:])
            # A last row of zeros: the glance where no frame is left.
            table = torch.cat([maps.flatten(0, 1), torch.zeros_like(maps[:1, 0])])
            self.num_frames, shape = maps.shape[1], tuple(maps.shape[2:])
            # Not part of the saved policy: it is the cache's, and may be large.
            self.register_buffer("table", table, persistent=False)
        self.encoder = nn.Sequential(
            nn.Conv2d(shape[0], 32, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * shape[1] * shape[2], hidden), nn.ReLU(),
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, hidden + R + 1]."""
        if self.table is None:
            glance, progress = observations["glance"], observations["progress"]
        else:
            video, frame = observations["video"].long(), observations["frame"].long()
            place = (video * self.num_frames + frame).where(frame < self.num_frames, len(self.table) - 1)
            glance, progress = self.table[place[:, 0]].float(), frame / self.num_frames
        return torch.cat([self.encoder(glance), self.norm(observations["state"]), progress], dim=1)
