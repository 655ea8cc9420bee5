"""Networks as the cache builder wants them: uint8 videos in, float16 features out."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from video_env.data.patches import GRID, check_patch_size, grid_corners
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork
from video_env.models.device import resolve_device


class CacheEncoder:
    """Every frame's pooled features, float16 [B, T, D].

    Args:
        network: in evaluation mode from now on.
        weights: where its weights came from, for the cache's records.
        frame_size: pixels of the cache's frames.
        device: where it runs.
        batch: frames that go through the network together (rounded to whole videos where frames see
            their neighbours); a number, not a matter of memory at hand, because the last bits of
            features depend on it.

    Attributes:
        gflops: counted cost of one frame (of one patch, for ``PatchEncoder``) in 10^9 multiply-adds.
        source: what the features were made from.
    """

    def __init__(
        self, network: FrameNetwork, *, weights: str, frame_size: int, device: str = "auto", batch: int = 64
    ) -> None:
        self.device = resolve_device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self._frame_size = frame_size
        self.source = {
            "network": network.name,
            "input_size": network.input_size,
            "frame_size": frame_size,
            "weights": weights,
        }
        if network.temporal_shift:
            self.source["temporal_shift"] = network.temporal_shift
        if network.interpolation != "bilinear":
            self.source["interpolation"] = network.interpolation
        self._batch = batch

    @cached_property
    def gflops(self) -> float:
        # When it is asked for: counting takes a pass of the network.
        return self._count_gflops(self._frame_size)

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        frames = torch.from_numpy(clips)
        if self.network.temporal_shift:
            batches = frames.split(max(1, self._batch // clips.shape[1]))
        else:
            batches = frames.flatten(0, 1).split(self._batch)
        parts = [self._encode(batch.to(self.device)).half().cpu().contiguous() for batch in batches]
        features = torch.cat(parts)
        if not self.network.temporal_shift:
            features = features.unflatten(0, clips.shape[:2])
        if not features.isfinite().all():
            raise InputError(
                f"network {self.network.name}: its features are not finite in float16 (largest 65504); "
                "are these its weights?"
            )
        return features.numpy()

    def _count_gflops(self, frame_size: int) -> float:
        return self.network.gflops(frame_size)

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.network(frames)


class GlanceEncoder(CacheEncoder):
    """Every whole frame's feature map before pooling, float16 [B, T, D, h, w]; see ``CacheEncoder``."""

    def __init__(self, network: FrameNetwork, **options: Any) -> None:
        super().__init__(network, **options)
        self.source["pooling"] = network.pooling

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.network.maps(self.network.prepare(frames))


class PatchEncoder(CacheEncoder):
    """The pooled features of the patches at all P = 49 grid positions of every frame, float16
    [B, T, P, D]; see ``CacheEncoder``.

    The patches of a few frames go through the network as one batch: caching costs what that many
    patch inferences cost, and no more.

    Args:
        network: looks at patches, which it takes as large as they are.
        patch_size: side of a patch in pixels of the cache's frames.
        options: ``weights``, ``frame_size``, ``device``, as of ``CacheEncoder``.

    Raises:
        InputError: the patch is larger than the frame, or the network would scale it.
    """

    def __init__(self, network: FrameNetwork, *, patch_size: int, frame_size: int, **options: Any) -> None:
        self.patch_size = check_patch_size(patch_size, frame_size)
        if network.input_size not in (None, patch_size):
            raise InputError(
                f"network {network.name}: its input size is {network.input_size}, expected {patch_size}, the "
                "patches' size"
            )
        self._corners = grid_corners(patch_size, frame_size, GRID * GRID)
        super().__init__(network, frame_size=frame_size, batch=4, **options)
        self.source["patch_size"] = patch_size

    def _count_gflops(self, frame_size: int) -> float:
        return self.network.gflops(self.patch_size)

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        # Normalised once per frame, not once per patch; with the channels last, as the network runs fastest.
        pixels = self.network.prepare(frames, frames.shape[1]).permute(0, 2, 3, 1).contiguous()
        size = self.patch_size
        patches = torch.stack(
            [pixels[:, row : row + size, column : column + size] for row, column in self._corners.tolist()],
            dim=1,
        )
        return self.network.look(patches.movedim(-1, -3))

    @torch.inference_mode()
    def at(self, frames: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The features of one patch of each frame.

        Args:
            frames: uint8 [n, H, W, 3].
            positions: int64 [n].

        Returns:
            float16 [n, D].
        """
        size, parts = self.patch_size, []
        corners = self._corners[positions].tolist()
        patches = np.stack(
            [
                frame[row : row + size, column : column + size]
                for frame, (row, column) in zip(frames, corners, strict=True)
            ]
        )
        for part in torch.from_numpy(patches).split(self._batch * GRID * GRID):
            pixels = self.network.prepare(part.to(self.device), size)
            parts.append(self.network.look(pixels).half().cpu())
        return torch.cat(parts).numpy()
