"""What the classifier over time gets to see, for the videos of one split: glances and patches, by index.

Both parts of the classifier's input layer are linear, so they are computed once for every frame and every
patch position where the result fits in memory, and from the memory-mapped cache when asked where not.
Both ways round to 16 bits and agree to float noise.
"""

from __future__ import annotations

import numpy as np
import torch

from video_env.cache.store import Cache
from video_env.data.patches import grid_side
from video_env.models.classifiers import Classifier, check_fits

LARGEST_IN_MEMORY = 1 << 30  # bytes of a table that is computed in advance
_ROWS_TOGETHER = 4096


class PatchInputs:
    """The classifier's inputs by video (number within the split), frame and patch position.

    Args:
        cache: has ``glance`` and ``patches``.
        rows: of the split's videos.
        classifier: whose inputs they are; in evaluation mode, on the device where the tables are.
        largest_in_memory: bytes that a table may take; 0 reads everything when it is asked for.

    Raises:
        CacheError: the cache lacks an array; the message says how to make it.
        InputError: the classifier takes other features.
    """

    def __init__(
        self,
        cache: Cache,
        rows: np.ndarray,
        classifier: Classifier,
        *,
        largest_in_memory: int = LARGEST_IN_MEMORY,
    ) -> None:
        self._glance, self._patches = cache["glance"], cache["patches"]
        check_fits(classifier, cache)
        self._rows, self.classifier = rows, classifier
        self.num_frames, self.num_positions = self._patches.row_shape[:2]
        grid_side(self.num_positions)
        parameter = next(classifier.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        # Tables are half as large as float32, and in the precision of the classifier if it is as small.
        self._kept = torch.bfloat16 if self._dtype == torch.bfloat16 else torch.half
        with torch.inference_mode():
            width = classifier.glance_input(self._features(np.zeros((1, classifier.glance)))).shape[1]
            frames = len(rows) * self.num_frames
            if self._patches.on_demand:
                largest_in_memory = 0
            fits = frames * width * 2 <= largest_in_memory
            self._glance_table = self._all_glances(width) if fits else None
            fits = frames * self.num_positions * width * 2 <= largest_in_memory
            self._patch_table = self._all_patches(width) if fits else None

    def glance(self, video: np.ndarray, frame: np.ndarray) -> torch.Tensor:
        """The glance's part of the input, [B, I], for int64 [B] each."""
        if self._glance_table is not None:
            return self._taken(self._glance_table, video * self.num_frames + frame)
        return self._of_glances(self._glance.entries(self._rows[video], frame)).to(self._dtype)

    def patch(self, video: np.ndarray, frame: np.ndarray, position: np.ndarray) -> torch.Tensor:
        """The patches' part of the input, [B, K, I], for int64 [B], [B] and [B, K]."""
        batch, count = position.shape
        if self._patch_table is not None:
            first = (video * self.num_frames + frame) * self.num_positions
            return self._taken(self._patch_table, (first[:, None] + position).ravel()).unflatten(
                0, (batch, count)
            )
        rows, frames = np.repeat(self._rows[video], count), np.repeat(frame, count)
        features = self._patches.entries(rows, frames, position.ravel())
        return self._of_patches(features).to(self._dtype).unflatten(0, (batch, count))

    def _taken(self, table: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        return table.index_select(0, torch.from_numpy(index).to(self._device)).to(self._dtype)

    def _features(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device).to(self._dtype)

    def _of_glances(self, maps: np.ndarray) -> torch.Tensor:
        return self.classifier.glance_input(self.classifier.pool(self._features(maps))).to(self._kept)

    def _of_patches(self, features: np.ndarray) -> torch.Tensor:
        return self.classifier.patch_input(self._features(features)).to(self._kept)

    def _all_glances(self, width: int) -> torch.Tensor:
        table = torch.empty(len(self._rows) * self.num_frames, width, dtype=self._kept, device=self._device)
        step = max(1, _ROWS_TOGETHER // self.num_frames)
        for start in range(0, len(self._rows), step):
            maps = self._glance[self._rows[start : start + step]]
            first = start * self.num_frames
            table[first : first + maps.shape[0] * self.num_frames] = self._of_glances(
                maps.reshape(-1, *maps.shape[2:])
            )
        return table

    def _all_patches(self, width: int) -> torch.Tensor:
        per_video = self.num_frames * self.num_positions
        table = torch.empty(len(self._rows) * per_video, width, dtype=self._kept, device=self._device)
        step = max(1, _ROWS_TOGETHER // per_video)
        for start in range(0, len(self._rows), step):
            features = self._patches[self._rows[start : start + step]]
            first = start * per_video
            table[first : first + features.shape[0] * per_video] = self._of_patches(
                features.reshape(-1, features.shape[-1])
            )
        return table
