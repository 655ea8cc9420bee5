"""Stable-Baselines3 feature extractors for frame and patch selection.

With index observations the features of all the cache's videos stay in one table on the policy's device, and
rollout and replay buffers hold indices only; with feature observations no cache is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn import functional as F

from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError


class FeatureTable:
    """Features by row: one copy on each device, whoever asks for it.

    It is no module: a policy has several extractors (actor, critic, their targets), which share it, and
    neither a saved model nor a copied one holds it.

    Args:
        features: [rows, ...].
    """

    def __init__(self, features: torch.Tensor) -> None:
        self._copies = {features.device: features}
        self.shape = features.shape

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """float32 [B, ...] for int64 [B], on the index's device."""
        if index.device not in self._copies:
            self._copies[index.device] = next(iter(self._copies.values())).to(index.device)
        return self._copies[index.device].index_select(0, index).float()

    def __deepcopy__(self, memo: Any) -> FeatureTable:
        return self


_TABLES: WeakValueDictionary[tuple[str, ...], FeatureTable] = WeakValueDictionary()


def _shared_table(
    cache: str | None, array: str, prepare: Callable[[torch.Tensor], torch.Tensor], num_videos: int
) -> FeatureTable:
    """The table of a cache's array; the same object as long as somebody holds it.

    Raises:
        InputError: the cache has another number of videos than the observations' indices.
    """
    opened = Cache(PACKAGED_CACHE if cache is None else cache)
    if len(opened) != num_videos:
        raise InputError(
            f"cache {opened.path}: has {len(opened)} videos, and the observations index {num_videos}; "
            "expected the environment's own cache"
        )
    # Stable-Baselines3 hands observations over in float32, which counts so far.
    if len(opened) > 2**24:
        raise InputError(
            f"cache {opened.path}: {len(opened)} videos, expected at most 2^24 of index observations"
        )
    key = (str(opened.path.resolve()), array, opened.fingerprint(array))
    table = _TABLES.get(key)
    if table is None:
        table = _TABLES[key] = FeatureTable(prepare(torch.from_numpy(opened[array][:])))
    return table


class CandidateFeatures(BaseFeaturesExtractor):
    """Skim features and the frames chosen so far, for frame selection.

    The features of all frames side by side, each frame's normalised over its D dimensions, and the frames
    chosen pass one linear layer and a ReLU: every frame is seen beside all others, in one matrix product.

    Args:
        observation_space: of FrameSelect-v0 or FrameSelectOneStep-v0.
        cache: path of the environment's cache, for index observations; as in the environments, the packaged
            one by default.
        hidden: width of the linear layer.
    """

    def __init__(
        self, observation_space: gym.spaces.Dict, cache: str | None = None, hidden: int = 64
    ) -> None:
        super().__init__(observation_space, hidden)
        num_candidates = (observation_space["selected"].shape or (0,))[0]
        self.table: FeatureTable | None = None
        if "features" in observation_space.spaces:
            width = (observation_space["features"].shape or (0,))[-1]
        else:
            self.table = _shared_table(cache, "skim", _normalised, _num_videos(observation_space))
            width = self.table.shape[-1] // num_candidates
        self.seen = nn.Linear(num_candidates * width, hidden)
        self.chosen = nn.Linear(num_candidates, hidden, bias=False)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, hidden]."""
        if self.table is None:
            features = _normalised(observations["features"])
        else:
            features = self.table.rows(observations["video"][:, 0].long())
        return torch.relu(self.seen(features) + self.chosen(observations["selected"].float()))


class GlanceFeatures(BaseFeaturesExtractor):
    """The current glance map, the classifier's state and the progress, for patch selection.

    As AdaFocus's policy reads glances: a 1x1 convolution to 32 channels, ReLU, a linear layer, ReLU.

    Args:
        observation_space: of PatchSelect-v0 or PatchSelectContinuous-v0.
        cache: path of the environment's cache, for index observations; as in the environments, the packaged
            one by default.
        hidden: width of the linear layer; the output has hidden + R + 1 features.
    """

    def __init__(
        self, observation_space: gym.spaces.Dict, cache: str | None = None, hidden: int = 128
    ) -> None:
        width = (observation_space["state"].shape or (0,))[0]
        super().__init__(observation_space, hidden + width + 1)
        self.table: FeatureTable | None = None
        if "glance" in observation_space.spaces:
            shape = tuple(observation_space["glance"].shape or ())
        else:
            self.table = _shared_table(cache, "glance", _by_frame, _num_videos(observation_space))
            self.num_frames = int(observation_space["frame"].high[0])  # type: ignore[attr-defined]
            shape = tuple(self.table.shape[1:])
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
            place = (video * self.num_frames + frame).where(frame < self.num_frames, self.table.shape[0] - 1)
            glance, progress = self.table.rows(place[:, 0]), frame / self.num_frames
        return torch.cat([self.encoder(glance), self.norm(observations["state"]), progress], dim=1)


def features_of(observation_space: gym.spaces.Space) -> type[BaseFeaturesExtractor]:
    """The extractor for an environment's observations.

    Raises:
        InputError: they are not those of frame or patch selection.
    """
    keys = set(observation_space.spaces) if isinstance(observation_space, gym.spaces.Dict) else set()
    if "selected" in keys:
        return CandidateFeatures
    if "state" in keys:
        return GlanceFeatures
    raise InputError(f"observation space {observation_space}: expected that of frame or patch selection")


def _num_videos(observation_space: gym.spaces.Dict) -> int:
    return int(observation_space["video"].high[0]) + 1  # type: ignore[attr-defined]


def _normalised(features: torch.Tensor) -> torch.Tensor:
    """float32 [B, T · D] of [B, T, D]: every frame's features with mean 0 and variance 1, side by side."""
    return F.layer_norm(features.float(), features.shape[-1:]).flatten(1)


def _by_frame(maps: torch.Tensor) -> torch.Tensor:
    """Glance maps [V · T + 1, D, h, w] of [V, T, D, h, w]; the last is the zeros where no frame is left."""
    return torch.cat([maps.flatten(0, 1), torch.zeros_like(maps[:1, 0])])
