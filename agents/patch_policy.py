"""AdaFocus's patch policy: an actor-critic that reads glance maps and is recurrent over the frames."""

from __future__ import annotations

import torch
from torch import nn

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
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, REDUCED_CHANNELS, 1, bias=False), nn.ReLU(), nn.Flatten(),
            nn.Linear(REDUCED_CHANNELS * map_size, hidden), nn.ReLU(),
        )  # fmt: skip
        self.gru = nn.GRU(hidden, hidden)
        self.actor = nn.Linear(hidden, num_positions)
        self.critic = nn.Linear(hidden, 1)

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
        encoded = self.encoder(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        features, last = self.gru(encoded, None if state is None else state[None])
        return self.actor(features).log_softmax(dim=-1), self.critic(features)[..., 0], last[0]
