"""From frames as they are stored to images as networks want them: scaled and normalised."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F

VALUES_TOGETHER = 1_000_000
"""Of frames that are scaled together on a processor: whole batches as floats do not fit into its cache."""
SMALLER = 3
"""Frames that become so many times smaller are scaled by matrix products."""


def in_parts(scale: Callable[[torch.Tensor], torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
    """A function of frames float [B, H, W, 3], from uint8 ones, on a processor of a few at a time."""
    if frames.device.type != "cpu" or frames.numel() <= VALUES_TOGETHER:
        return scale(frames.float())
    together = max(1, VALUES_TOGETHER // frames[0].numel())
    # One piece of memory for all: to get and to clear a new one takes as long as the work in it.
    floats = torch.empty(together, *frames.shape[1:])
    return torch.cat([scale(floats[: len(part)].copy_(part)) for part in frames.split(together)])


def much_smaller(frames: torch.Tensor, size: int) -> torch.Tensor:
    """What ``F.interpolate`` makes of frames with bilinear weights and antialiasing, in a fraction of its
    time: a matrix product over the rows, and one over the columns.

    Args:
        frames: float [B, H, W, 3].
        size: S.

    Returns:
        float32 [B, S, S, 3].
    """
    count, height, width, _ = frames.shape
    rows, columns = (_weights(side, size, frames.device) for side in (height, width))
    scaled = torch.matmul(rows[0], frames.reshape(count, height, width * 3))
    return torch.matmul(scaled, columns[1]).view(count, size, size, 3)


@lru_cache(maxsize=16)
def _weights(side: int, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What each of ``side`` pixels weighs in each of ``size``: [size, side]; and for a row of pixels as one
    vector of values, where each channel has the weights of its column: [side·3, size·3]."""
    pixels = torch.eye(side, device=device)[None, None]
    weights = F.interpolate(pixels, (size, side), mode="bilinear", antialias=True)[0, 0].contiguous()
    return weights, torch.kron(weights.T.contiguous(), torch.eye(3, device=device))


def normalised(images: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """(images / 255 − mean) / deviation, in place.

    Args:
        images: float [B, H, W, 3], from 0 to 255.
        mean, deviation: float [3, 1, 1], of values from 0 to 1.

    Returns:
        The same as [B, 3, H, W], channels last.
    """
    # As rows of pixels: over three channels at a time it takes as long as a small network.
    rows, width = images.flatten(2), images.shape[2]
    gain, shift = (part.flatten().repeat(width) for part in (1 / (255 * deviation), -mean / deviation))
    return rows.mul_(gain).add_(shift).view(images.shape).permute(0, 3, 1, 2)
