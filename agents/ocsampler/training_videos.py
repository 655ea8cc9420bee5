"""What OCSampler is trained on: how each video of a split looks, and what chosen frames of it are worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from agents.common.batches import LARGEST_IN_MEMORY, LOOKED_AT_TOGETHER, in_parts
from agents.ocsampler.set_probability import all_sets
from video_env.cache.store import Cache
from video_env.data.sampling import segment_edges
from video_env.envs.rewards import Choice, quality
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork
from video_env.models.verdicts import Verdicts, subset_bits


class SplitVideos:
    """The videos of a split of a cache: their skim features or frames, and their rewards.

    Args:
        cache: has ``skim``, or ``frames`` where a skim network is trained.
        split: by name.
        reward: quality by name.
        skim: the network that looks at the frames; None for the cached features.
        device: where features go.

    Raises:
        CacheError: the cache lacks what is needed; the message says how to make it.
    """

    def __init__(
        self, cache: Cache, split: str, reward: str, skim: FrameNetwork | None, device: torch.device
    ) -> None:
        self.cache = cache
        self.rows = cache.rows(split)
        self.verdicts = Verdicts(cache, self.rows)
        self._quality = quality(reward)
        self._bits = subset_bits(cache.num_candidates)
        self._skim, self._device = skim, device
        self._features = torch.from_numpy(cache["skim"][self.rows]) if skim is None else None
        self._frames = None if skim is None else cache["frames"]
        self._images: torch.Tensor | None = None
        if skim is not None:
            first = self._prepared(np.arange(1))
            if first.numel() * first.element_size() * len(self) <= LARGEST_IN_MEMORY:
                self._images = torch.cat([self._prepared(part) for part in self._parts()])

    def __len__(self) -> int:
        return len(self.rows)

    def features(self, videos: np.ndarray, flips: np.random.Generator | None = None) -> torch.Tensor:
        """Skim features float32 [B, T, D], with gradients to the skim network if it is being trained.

        Args:
            videos: int64 [B], numbers within the split.
            flips: draws which videos are mirrored, all frames of a video alike; none without it.
        """
        if self._features is not None:
            return self._features[videos].float().to(self._device)
        assert self._skim is not None
        images = self._prepared(videos) if self._images is None else self._images[videos].to(self._device)
        if flips is not None:
            mirrored = torch.from_numpy(flips.random(len(videos)) < 0.5).to(self._device)
            images = images.where(~mirrored[:, None, None, None, None], images.flip(-1))
        return self._skim.look(images)

    def all_features(self) -> torch.Tensor:
        """Skim features of all videos, float32 [V, T, D]; to be called without gradients."""
        return torch.cat([self.features(part) for part in self._parts()])

    def gain(self, videos: np.ndarray, chosen: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The reward of drawn frames: their quality less that of a baseline, one random frame in each of
        N uniform segments. float64 [B], for videos [B] and frames [B, N]."""
        baseline = random_in_segments(len(videos), self.cache.num_candidates, chosen.shape[1], generator)
        return self._value(videos, chosen) - self._value(videos, baseline)

    def verdict(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The true class's probability, float64 [V], and whether the recognizer is right, bool [V], on chosen
        frames of all videos, int64 [V, N]."""
        videos, mask = np.arange(len(self)), self._mask(chosen)
        number = mask @ self._bits
        right = self.verdicts.prediction(videos, mask, number) == self.verdicts.labels
        return self.verdicts.confidence(videos, mask, number), right

    def quality_of_all_sets(self, videos: np.ndarray, num_frames: int) -> np.ndarray:
        """float64 [B, C(T, N)], in the order of ``set_probability.all_sets``."""
        sets = all_sets(self.cache.num_candidates, num_frames).numpy()
        frames = np.tile(sets, (len(videos), 1))
        return self._value(np.repeat(videos, len(sets)), frames).reshape(len(videos), len(sets))

    def _prepared(self, videos: np.ndarray) -> torch.Tensor:
        """The frames as the skim network takes them, float32 [B, T, 3, S, S]."""
        assert self._skim is not None
        assert self._frames is not None
        frames = torch.from_numpy(self._frames[self.rows[videos]]).to(self._device)
        return self._skim.prepare(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _parts(self) -> Iterator[np.ndarray]:
        return in_parts(len(self), LOOKED_AT_TOGETHER)

    def _value(self, videos: np.ndarray, frames: np.ndarray) -> np.ndarray:
        mask = self._mask(frames)
        return self._quality(Choice(self.verdicts, videos, mask, mask @ self._bits))

    def _mask(self, frames: np.ndarray) -> np.ndarray:
        mask = np.zeros((len(frames), self.cache.num_candidates), np.int8)
        np.put_along_axis(mask, frames, 1, axis=1)
        return mask


def random_in_segments(
    count: int, num_candidates: int, num_frames: int, generator: np.random.Generator
) -> np.ndarray:
    """int64 [count, N]: one random candidate in each of N uniform segments, the published baseline."""
    edges = segment_edges(num_candidates, num_frames)
    return generator.integers(edges[:-1], edges[1:], (count, num_frames))


def same_videos(drawn: Cache, cache: Cache, sees: dict[str, dict[str, Any]]) -> Cache:
    """The drawn cache, if it has training videos of the cache, its recognizer, and what the agent sees.

    Raises:
        InputError: it has others.
    """
    facts = [
        (one.num_candidates, one.classes, one.meta["networks"].get("recognizer.safetensors"))
        for one in (drawn, cache)
    ]
    strange = set(drawn.index["video"][drawn.rows("train")]) - set(cache.index["video"][cache.rows("train")])
    if facts[0] != facts[1] or strange or drawn.sources(*sees) != sees:
        raise InputError(
            f"cache {drawn.path}: expected another draw of the training videos of {cache.path} with the same "
            "number of candidates, classes, recognizer and skim network",
            needs="redrawn-cache",
        )
    return drawn
