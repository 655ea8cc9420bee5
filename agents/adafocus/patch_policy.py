"""AdaFocus's published patch policy: an actor-critic that reads glance maps and is recurrent over the frames;
and how policies read observations."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.models.patch_arrays import GLANCE

REDUCED_CHANNELS = 32


class PatchPolicy(nn.Module):
    """Where to look next, from the glances so far (Wang et al. 2021, AdaFocus, section 3.1 and appendix).

    A 1x1 convolution to 32 channels, ReLU, a linear layer, ReLU, a GRU over the frames; then a linear
    actor over the patch positions and a linear critic. What it has looked at does not come back to it: its
    input is the glances alone, so the decisions on all frames of a video can be made in one pass.

    Args:
        channels: D of the glance maps.
        map_size: h · w of the glance maps.
        num_positions: P.
        hidden: width of everything after the convolution, 1024 as published.
    """

    def __init__(self, channels: int, map_size: int, num_positions: int = 49, *, hidden: int = 1024) -> None:
        super().__init__()
        self.hidden = hidden
        self.reduce = nn.Conv2d(channels, REDUCED_CHANNELS, 1, bias=False)
        self.encode = nn.Linear(REDUCED_CHANNELS * map_size, hidden)
        self.gru = nn.GRU(hidden, hidden)
        self.actor = nn.Linear(hidden, num_positions)
        self.critic = nn.Linear(hidden, 1)

    @property
    def state_size(self) -> int:
        """Width of the recurrent state."""
        return self.hidden

    def forward(
        self, maps: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Frames in order, whole videos or some next frames of them.

        Args:
            maps: glance maps [T, B, D, h, w], time first.
            state: recurrent state [B, hidden] before the first of them; zero by default.

        Returns:
            Log-probabilities of the positions [T, B, P], values [T, B], and the state [B, hidden] after
            the last frame.
        """
        return self.decide(self.reduced(maps), state)

    def reduced(self, maps: torch.Tensor) -> torch.Tensor:
        """The part that sees the maps, [T, B, D, h, w] to [B, T, 32·h·w].

        As a matrix product with the channels last, videos first: maps are kept that way in memory, so
        nothing is copied, and it takes a fraction of the convolution's time.
        """
        last = maps.transpose(0, 1).movedim(-3, -1)
        return F.linear(last, self.reduce.weight[:, :, 0, 0]).relu().movedim(-1, -3).flatten(-3)

    def decide(
        self, reduced: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The rest, from [B, T, 32·h·w]; returns what ``forward`` returns."""
        encoded = self.encode(reduced).relu().transpose(0, 1)
        features, after = self.gru(encoded, None if state is None else state[None])
        return self.actor(features).log_softmax(dim=-1), self.critic(features)[..., 0], after[0]


def glance_maps(observation: dict[str, np.ndarray], cache: Cache) -> tuple[torch.Tensor, bool]:
    """What the policy sees of PatchSelect-v0's observations of either kind.

    Args:
        observation: with ``glance``, [D, h, w] or [B, D, h, w]; or with ``video`` and ``frame`` of the
            cache.
        cache: with ``glance``.

    Returns:
        Maps float32 [B, D, h, w], and whether it is a single one that came without a batch.

    Raises:
        InputError: the observation is of another kind or shape.
    """
    array = cache[GLANCE]
    last, expected = array.row_shape[0] - 1, array.row_shape[1:]
    if "glance" in observation:
        maps = np.asarray(observation["glance"])
        if maps.shape[-3:] != expected or maps.ndim not in (3, 4):
            raise InputError(f"glance: found shape {maps.shape}, expected [..., {expected}]")
        return torch.from_numpy(maps.reshape(-1, *expected)).float(), maps.ndim == 3
    if not {"video", "frame"} <= set(observation):
        raise InputError(f"observation: found {', '.join(observation)}, expected glance, or video and frame")
    video, frame = (np.asarray(observation[name]) for name in ("video", "frame"))
    maps = array.entries(video.reshape(-1), np.minimum(frame.reshape(-1), last))
    maps[frame.reshape(-1) > last] = 0  # as the environment shows it where no frame is left
    return torch.from_numpy(maps).float(), video.ndim == 1
