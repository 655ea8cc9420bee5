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


def patch_view(
    frames: np.ndarray | None,
    patches: np.ndarray,
    confidence: np.ndarray,
    *,
    grid: np.ndarray,
    patch_share: float,
    lines: list[str],
) -> np.ndarray:
    """The frame decided last with the grid of positions and the chosen patch, and, beside it, the true
    class's probability after every frame so far.

    Args:
        frames: uint8 [T, H, W, 3]; without them the frame is grey.
        patches: float [T, 2], (row, column) of the patches in [0, 1], -1 where there is none.
        confidence: float [n], of the frames looked at.
        grid: float [P, 2], the positions' points.
        patch_share: side of a patch as a share of the frame's.
        lines: what stands above.

    Returns:
        uint8 [height, width, 3].
    """
    total, looked, side = len(patches), len(confidence), 3 * TILE
    head = 8 + 18 * len(lines)
    chart = GAP + side + 4 * GAP
    view = Image.new("RGB", (chart + max(total * 14, TILE) + GAP, head + side + 3 * GAP), PAPER)
    draw = ImageDraw.Draw(view)
    font = ImageFont.load_default(14)
    for number, line in enumerate(lines):
        draw.text((GAP, 4 + 18 * number), line, INK, font=font)
    top, now = head + GAP, max(looked - 1, 0)
    if frames is None:
        draw.rectangle((GAP, top, GAP + side - 1, top + side - 1), fill=(225, 225, 225))
    else:
        frame = Image.fromarray(frames[now]).resize((side, side), Image.Resampling.BILINEAR)
        view.paste(frame, (GAP, top))
    size = patch_share * side
    for row, column in grid * (side - size) + size / 2:  # the centres of the patches
        draw.rectangle((GAP + column - 1, top + row - 1, GAP + column + 1, top + row + 1), fill=PLAIN)
    if looked:
        row, column = patches[now] * (side - size)
        draw.rectangle(
            (GAP + column, top + row, GAP + column + size, top + row + size), outline=CHOSEN, width=3
        )
    draw.text(
        (chart, head - 12), f"true class, frame {looked} of {total}", INK, font=ImageFont.load_default(11)
    )
    for height in (0, side):  # probabilities 0 and 1
        draw.line((chart, top + height, chart + total * 14, top + height), fill=PLAIN)
    for index, value in enumerate(confidence):
        left = chart + index * 14
        draw.rectangle((left, top + side - round(float(value) * side), left + 10, top + side), fill=CHOSEN)
    return np.asarray(view)


def _tile(frames: np.ndarray | None, index: int, *, bright: bool) -> Image.Image:
    if frames is None:
        return Image.new("RGB", (TILE, TILE), (225, 225, 225) if bright else (160, 160, 160))
    tile = Image.fromarray(frames[index]).resize((TILE, TILE), Image.Resampling.BILINEAR)
    return tile if bright else Image.blend(tile, Image.new("RGB", tile.size, PAPER), 0.55)
