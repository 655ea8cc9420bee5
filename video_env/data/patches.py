"""Where patches lie in a frame: positions, corners and crops, as pure functions.

A *position* is one of the P = 7·7 points of a grid, numbered row by row; a *point* is (row, column) in
[0, 1]², where 0 puts the patch at the frame's upper or left edge and 1 at its lower or right edge.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from video_env.errors import InputError

GRID = 7


def check_patch_size(patch_size: int, frame_size: int) -> int:
    """Raise InputError unless a patch of this size lies in the frame."""
    if not 1 <= patch_size <= frame_size:
        raise InputError(
            f"patch_size: found {patch_size}, expected 1 to {frame_size}, the side of the frames in pixels"
        )
    return patch_size


def grid_side(num_positions: int) -> int:
    """Points along one side of the grid.

    Raises:
        InputError: the number is no square.
    """
    side = isqrt(num_positions)
    if side < 1 or side * side != num_positions:
        raise InputError(f"patch positions: found {num_positions}, expected a square number, as 49")
    return side


def grid_points(num_positions: int = GRID * GRID) -> np.ndarray:
    """float32 [P, 2]: the point of every position; position (i, j) of a 7x7 grid is (i / 6, j / 6)."""
    side = grid_side(num_positions)
    along = np.arange(side, dtype=np.float32) / np.float32(max(side - 1, 1))
    return np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)


def grid_corners(patch_size: int, frame_size: int, num_positions: int = GRID * GRID) -> np.ndarray:
    """int64 [P, 2]: row and column of each position's top-left pixel, floor(i / 6 · (S − P)) and
    floor(j / 6 · (S − P)) as released (Wang et al. 2021, AdaFocus).

    Raises:
        InputError: the patch is larger than the frame.
    """
    side, room = grid_side(num_positions), frame_size - check_patch_size(patch_size, frame_size)
    # Integers: no rounding decides a pixel.
    along = np.arange(side, dtype=np.int64) * room // max(side - 1, 1)
    return np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)


def check_positions(positions: np.ndarray, num_positions: int = GRID * GRID) -> None:
    """Raise InputError unless all are integers from 0 to P − 1."""
    values = np.asarray(positions)
    if values.dtype.kind not in "iu" or (
        values.size and not 0 <= values.min() <= values.max() < num_positions
    ):
        found = f"{values.min()} to {values.max()}" if values.size else "none"
        raise InputError(
            f"patch positions: found {values.dtype} {found}, expected integers from 0 to {num_positions - 1}"
        )


def surrounding(points: np.ndarray, num_positions: int = GRID * GRID) -> tuple[np.ndarray, np.ndarray]:
    """The four grid positions around each point, and their bilinear weights.

    Args:
        points: float [..., 2], (row, column) in [0, 1].
        num_positions: P.

    Returns:
        Positions int64 [..., 4] and weights float32 [..., 4], which sum to 1.

    Raises:
        InputError: a point lies outside.
    """
    points = np.asarray(points)
    if not ((points >= 0) & (points <= 1)).all():
        raise InputError(f"patch points: found {points.min()} to {points.max()}, expected 0 to 1")
    side = grid_side(num_positions)
    place = points * (side - 1)
    before = np.clip(np.floor(place), 0, max(side - 2, 0)).astype(np.int64)
    share = (place - before).astype(np.float32)
    after = np.minimum(before + 1, side - 1)
    rows = np.stack([before[..., 0], after[..., 0]], axis=-1)
    columns = np.stack([before[..., 1], after[..., 1]], axis=-1)
    positions = rows[..., :, None] * side + columns[..., None, :]
    row_weight = np.stack([1 - share[..., 0], share[..., 0]], axis=-1)
    column_weight = np.stack([1 - share[..., 1], share[..., 1]], axis=-1)
    weights = row_weight[..., :, None] * column_weight[..., None, :]
    return positions.reshape(*points.shape[:-1], 4), weights.reshape(*points.shape[:-1], 4)
