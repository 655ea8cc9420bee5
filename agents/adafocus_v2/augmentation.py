"""Random crop, scale, flip and colour of training videos, all frames of a video alike."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from video_env.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """How a training video is changed, all its frames alike.

    Attributes:
        scales: sides of the square that is cut out and scaled to the frame, as shares of the frame; one is
            drawn for every video.
        flip: mirror every second video, at random.
        colour: largest random gain and offset of a colour channel, as shares of 1 and of white.
    """

    scales: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85)
    flip: bool = False
    colour: tuple[float, float] = (0.2, 0.075)

    def __post_init__(self) -> None:
        if not self.scales or not all(0.1 <= scale <= 1 for scale in self.scales):
            raise InputError(f"scales: found {self.scales}, expected shares from 0.1 to 1")
        if not all(0 <= most < 1 for most in self.colour):
            raise InputError(f"colour: found {self.colour}, expected shares of 0 or more, below 1")


@dataclass(frozen=True)
class Draws:
    """How each video of a batch is augmented; see ``Augmentation``."""

    scales: np.ndarray
    corners: np.ndarray
    flips: np.ndarray
    gains: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, count: int, augmentation: Augmentation, generator: np.random.Generator) -> Draws:
        gain, offset = augmentation.colour
        return cls(
            generator.choice(augmentation.scales, count),
            generator.random((count, 2)),
            (generator.random(count) < 0.5) & augmentation.flip,
            generator.uniform(1 - gain, 1 + gain, (count, 3)),
            generator.uniform(-offset, offset, (count, 3)),
        )

    def __getitem__(self, chosen: np.ndarray) -> Draws:
        return Draws(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def places(self, size: int) -> list[tuple[int, int, int, bool]]:
        """Side, top and left of every video's square, in pixels, and whether it is mirrored."""
        sides = np.rint(self.scales * size).astype(int)
        corners = np.floor(self.corners * (size - sides + 1)[:, None]).astype(int)
        return [
            (int(side), int(top), int(left), bool(flip))
            for side, (top, left), flip in zip(sides, corners, self.flips, strict=True)
        ]
