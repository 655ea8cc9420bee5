"""Pictures of episodes, as arrays."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = 96
GAP = 6
CHOSEN = (38, 166, 91)
PLAIN = (190, 190, 190)
PAPER = (250, 250, 250)
INK = (30, 30, 30)


def filmstrip(frames: np.ndarray | None, chosen: np.ndarray, lines: list[str]) -> np.ndarray:
    """The candidates in time order, the chosen ones framed and bright, under lines of text.

    Args:
        frames: uint8 [T, H, W, 3]; without them each candidate is a grey tile with its number.
        chosen: bool [T].
        lines: what stands above.

    Returns:
        uint8 [height, width, 3].
    """
    count = len(chosen)
    head = 8 + 18 * len(lines)
    strip = Image.new("RGB", (GAP + count * (TILE + GAP), head + TILE + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(14)
    for number, line in enumerate(lines):
        draw.text((GAP, 4 + 18 * number), line, INK, font=font)
    for index in range(count):
        left, top = GAP + index * (TILE + GAP), head + GAP
        tile = _tile(frames, index, bright=bool(chosen[index]) or not chosen.any())
        border = CHOSEN if chosen[index] else PLAIN
        draw.rectangle((left - 3, top - 3, left + TILE + 2, top + TILE + 2), fill=border)
        strip.paste(tile, (left, top))
        if frames is None:
            draw.text((left + TILE // 2 - 6, top + TILE // 2 - 9), str(index), INK, font=font)
    return np.asarray(strip)


def _tile(frames: np.ndarray | None, index: int, *, bright: bool) -> Image.Image:
    if frames is None:
        return Image.new("RGB", (TILE, TILE), (225, 225, 225) if bright else (160, 160, 160))
    tile = Image.fromarray(frames[index]).resize((TILE, TILE), Image.Resampling.BILINEAR)
    return tile if bright else Image.blend(tile, Image.new("RGB", tile.size, PAPER), 0.55)
