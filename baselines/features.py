"""Stable-Baselines3 feature extractors for frame and patch selection.

With index observations the features of all the cache's videos stay in one table on the policy's device, and
rollout and replay buffers hold indices only; with feature observations no cache is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn import functional as F

from video_env.cache.store import Cache, open_cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.models.candidate_networks import NetworkName, build_candidate_network


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
    cache: str | Cache | None, array: str, prepare: Callable[[torch.Tensor], torch.Tensor], num_videos: int
) -> FeatureTable:
    """The table of a cache's array; the same object as long as somebody holds it.

    Raises:
        InputError: the cache has another number of videos than the observations' indices.
    """
    opened = open_cache(PACKAGED_CACHE if cache is None else cache)
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


@dataclass(frozen=True)
class Layout:
    """How an extractor's output [B, P · H + C] is laid out: features of each choice, then of the context.

    Attributes:
        choices: what may be chosen, P: candidate frames, or positions of a grid.
        width: H, features of each.
        context: C, features of all there is to see.
        grid: rows and columns of the positions; None for candidate frames.
    """

    choices: int
    width: int
    context: int
    grid: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        return self.choices * self.width + self.context

    def split(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of each choice [B, P, H], and of the context [B, C], of an output [B, P · H + C]."""
        context = features[:, self.choices * self.width :]
        return features[:, : -self.context].unflatten(1, (self.choices, self.width)), context


class CandidateFeatures(BaseFeaturesExtractor):
    """Features of each candidate frame in view of the others, and their mean, for frame selection.

    A network with weights shared over candidates reads the skim features of all, each frame's normalised over
    its D dimensions, and which frames were chosen so far.

    Args:
        observation_space: of FrameSelect-v0 or FrameSelectOneStep-v0.
        cache: the environment's cache or its path, for index observations; as in the environments, the
            packaged one by default.
        network: by name, see ``video_env.models.candidate_networks``.
        hidden: features of each candidate, H.

    Attributes:
        layout: of the output; the context is the candidates' mean.
    """

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        cache: str | Cache | None = None,
        network: NetworkName = "convolution",
        hidden: int = 32,
    ) -> None:
        num_candidates = (observation_space["selected"].shape or (0,))[0]
        table: FeatureTable | None = None
        if "features" in observation_space.spaces:
            width = (observation_space["features"].shape or (0,))[-1] + 1
        else:
            table = _shared_table(cache, "skim", _normalised, _num_videos(observation_space))
            width = table.shape[-1]
        built = build_candidate_network(network, width, num_candidates, hidden)
        self.layout = Layout(num_candidates, built.width, built.width)
        super().__init__(observation_space, self.layout.size)
        self.network = built
        self.table = table

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, T · H + H]."""
        if self.table is None:
            candidates = _normalised(observations["features"])
        else:
            candidates = self.table.rows(observations["video"][:, 0].long())
        candidates[..., -1] = observations["selected"]
        each = self.network(candidates)
        return torch.cat([each.flatten(1), each.mean(dim=1)], dim=1)


class GlanceFeatures(BaseFeaturesExtractor):
    """Features of each patch position, and of the whole frame, for patch selection.

    One linear layer reads the current glance map at every place, as AdaFocus's 1x1 convolution does; its
    output is resampled to the grid of positions. The mean of the map, the classifier's state and the progress
    are the context, which every position sees.

    Args:
        observation_space: of PatchSelect-v0 or PatchSelectContinuous-v0.
        cache: the environment's cache or its path, for index observations; as in the environments, the
            packaged one by default.
        hidden: features of each position, and of the context, H.
        grid: rows and columns of the positions; by default the glance map's own.

    Attributes:
        layout: of the output.
    """

    resample: torch.Tensor | None

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        cache: str | Cache | None = None,
        hidden: int = 32,
        grid: tuple[int, int] | None = None,
    ) -> None:
        table: FeatureTable | None = None
        if "glance" in observation_space.spaces:
            channels, *size = observation_space["glance"].shape or ()
        else:
            table = _shared_table(cache, "glance", _by_frame, _num_videos(observation_space))
            *size, channels = table.shape[1:]
        rows, columns = grid or size
        self.layout = Layout(rows * columns, hidden, hidden, (rows, columns))
        super().__init__(observation_space, self.layout.size)
        self.table = table
        if table is not None:
            self.num_frames = int(observation_space["frame"].high[0])  # type: ignore[attr-defined]
        state = (observation_space["state"].shape or (0,))[0]
        self.norm = nn.LayerNorm(state)
        self.look = nn.Linear(channels, hidden)
        self.whole = nn.Linear(hidden + state + 1, hidden)
        self.beside = nn.Linear(hidden, hidden)
        same = (rows, columns) == tuple(size)
        self.register_buffer(
            "resample", None if same else _resampling(size, (rows, columns)), persistent=False
        )

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, P · H + H]."""
        if self.table is None:
            glance, progress = observations["glance"].movedim(1, -1), observations["progress"]
        else:
            video, frame = observations["video"].long(), observations["frame"].long()
            place = (video * self.num_frames + frame).where(frame < self.num_frames, self.table.shape[0] - 1)
            glance, progress = self.table.rows(place[:, 0]), frame / self.num_frames
        seen = self.look(glance).flatten(1, 2)
        pooled = torch.relu(seen).mean(dim=1)
        context = torch.relu(
            self.whole(torch.cat([pooled, self.norm(observations["state"]), progress], dim=1))
        )
        # Resampling and a linear layer may change places: here few features are resampled.
        seen = seen if self.resample is None else self.resample @ seen
        each = torch.relu(seen + self.beside(context)[:, None])
        return torch.cat([each.flatten(1), context], dim=1)


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
    """float32 [B, T, D + 1] of [B, T, D]: every frame's features with mean 0 and variance 1, and a place for
    the mark of those chosen."""
    return F.pad(F.layer_norm(features.float(), features.shape[-1:]), (0, 1))


def _by_frame(maps: torch.Tensor) -> torch.Tensor:
    """Glance maps [V · T + 1, h, w, D] of [V, T, D, h, w]; the last is the zeros where no frame is left."""
    frames = maps.flatten(0, 1).movedim(1, -1)
    return torch.cat([frames, torch.zeros_like(frames[:1])]).contiguous()


def _resampling(size: Sequence[int], grid: tuple[int, int]) -> torch.Tensor:
    """float32 [P, h · w]: what resamples a map of this size to the grid, bilinearly, corners on corners."""
    cells = torch.eye(size[0] * size[1]).unflatten(1, tuple(size))[:, None]
    return F.interpolate(cells, grid, mode="bilinear", align_corners=True).flatten(1).T.contiguous()
