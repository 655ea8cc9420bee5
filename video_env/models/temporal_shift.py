"""MobileNetV2 with temporal shift: frames see their neighbours in time at no multiply-add.

Lin et al. 2019 (TSM), section 3: before the first convolution of a residual branch, a share of the
channels is taken from the next frame and as many from the previous one; the identity beside the branch
is left as it is.
"""

from __future__ import annotations

import torch
from torch import nn


def temporal_shift(maps: torch.Tensor, num_frames: int, shift_div: int) -> torch.Tensor:
    """Move some channels by one frame.

    Args:
        maps: float [B · T, C, H, W], the frames of a video one after another.
        num_frames: T.
        shift_div: the first C // shift_div channels come from the next frame, as many after them from
            the previous one, zero where there is none; the rest stay.

    Returns:
        float [B · T, C, H, W].
    """
    share = maps.shape[1] // shift_div
    clips = maps.unflatten(0, (-1, num_frames))
    shifted = torch.empty_like(clips)
    shifted[:, :-1, :share] = clips[:, 1:, :share]
    shifted[:, -1:, :share] = 0
    shifted[:, 1:, share : 2 * share] = clips[:, :-1, share : 2 * share]
    shifted[:, :1, share : 2 * share] = 0
    shifted[:, :, 2 * share :] = clips[:, :, 2 * share :]
    return shifted.flatten(0, 1)


class TemporalShiftMobileNetV2(nn.Module):
    """torchvision's MobileNetV2 without its classifier, with temporal shift in every residual block of
    three convolutions; the entries of its state dict have torchvision's names.

    Args:
        shift_div: see ``temporal_shift``; 8 in TSM and for Mini-Kinetics, 10 for ActivityNet in
            OCSampler's released settings.
    """

    def __init__(self, shift_div: int) -> None:
        super().__init__()
        import torchvision

        self.features = torchvision.models.mobilenet_v2(weights=None).features
        self.shift_div = shift_div

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Images [B, T, 3, H, W] to features [B, T, 1280], averaged over the frame."""
        num_frames = clips.shape[1]
        maps = clips.flatten(0, 1)
        for block in self.features:
            if _has_residual_of_three(block):
                maps = maps + block.conv(temporal_shift(maps, num_frames, self.shift_div))
            else:
                maps = block(maps)
        return maps.mean(dim=(2, 3)).unflatten(0, (-1, num_frames))


def _has_residual_of_three(block: nn.Module) -> bool:
    """Three convolutions (expansion, depthwise, projection; the last has its BatchNorm beside it)."""
    return getattr(block, "use_res_connect", False) and len(block.conv) == 4  # type: ignore[arg-type]
