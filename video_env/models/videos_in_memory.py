"""Decoded videos as a cache in memory, seen through the networks of a finished cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from video_env.cache.in_memory import ArrayOnDemand, CacheInMemory, Compute
from video_env.cache.store import Cache
from video_env.data.decode import DecodedVideo
from video_env.models.encoders import CacheEncoder, GlanceEncoder, PatchEncoder
from video_env.models.patch_arrays import GLANCE, PATCHES
from video_env.models.redraw import ENCODED, encoder_of

_KINDS: dict[str, type[CacheEncoder]] = {GLANCE: GlanceEncoder, PATCHES: PatchEncoder}


class NetworksOf:
    """A cache's networks, each built when it is first needed.

    Args:
        cache: holds them.
        device: where they run.
    """

    def __init__(self, cache: Cache, device: str = "auto") -> None:
        self.cache, self._device = cache, device
        self._built: dict[str, CacheEncoder] = {}

    def __getitem__(self, array: str) -> CacheEncoder:
        """What computes this array.

        Raises:
            InputError: the cache does not hold the network, or it is not known.
        """
        if array not in self._built:
            kind = _KINDS.get(array, CacheEncoder)
            self._built[array] = encoder_of(self.cache, array, device=self._device, kind=kind)
        return self._built[array]

    def looking_at(self, videos: dict[str, DecodedVideo]) -> CacheInMemory:
        """These videos as a cache: frames, and the arrays that the networks make of them where asked.

        Args:
            videos: by id, read as the cache's own were.
        """
        source, decoded = self.cache, list(videos.values())
        frames = np.stack([video.frames for video in decoded])
        held = {
            "frames": frames,
            "frame_index": np.stack([video.frame_indices for video in decoded]),
            "timestamp_seconds": np.stack([video.timestamps_seconds for video in decoded]),
        }
        found: dict[str, tuple[Compute, int]] = {
            name: ((lambda rows, values=values: values[rows]), 1) for name, values in held.items()
        }
        found |= {name: self._frames_of(name, frames) for name in (*ENCODED, GLANCE)}
        found[PATCHES] = (self._patches_of(frames), 3)
        arrays = {
            name: ArrayOnDemand(
                name, source[name].dtype.str, source[name].row_shape, len(decoded), compute, depth
            )
            for name, (compute, depth) in found.items()
            if name in source
        }
        return CacheInMemory(source, list(videos), arrays)

    def _frames_of(self, name: str, frames: np.ndarray) -> tuple[Compute, int]:
        """Single frames of the embedding; whole videos of what is looked at in every frame, and of networks
        in which frames see their neighbours."""
        source: dict[str, Any] = self.cache.meta["arrays"].get(name, {}).get("source", {})
        if name != "embedding" or source.get("temporal_shift"):
            return (lambda rows: self[name](frames[rows])), 1
        return (lambda rows, frame: self[name](frames[rows, frame][None])[0]), 2

    def _patches_of(self, frames: np.ndarray) -> Callable[..., np.ndarray]:
        def compute(rows: np.ndarray, frame: np.ndarray, position: np.ndarray) -> np.ndarray:
            encoder = self[PATCHES]
            assert isinstance(encoder, PatchEncoder)
            return encoder.at(frames[rows, frame], position)

        return compute
