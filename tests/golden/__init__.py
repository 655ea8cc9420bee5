"""What the published systems compute, recorded once on CPU in float32, to hold ours against.

A case is ``NAME.json`` (configuration, the input's seed and shape, and every name and shape of the
released checkpoint's state dict) and ``NAME.npz`` (the recorded outputs). Neither weights nor frames are
stored: both are drawn from generators seeded by the entries' names, exactly as for the recording.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent


def read(case: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A case's description and its recorded outputs."""
    with np.load(FOLDER / f"{case}.npz", allow_pickle=False) as recorded:
        return json.loads((FOLDER / f"{case}.json").read_text()), dict(recorded)


def state_dict(case: str) -> dict[str, torch.Tensor]:
    """The state dict that a case was recorded with, under the released checkpoint's names."""
    names = json.loads((FOLDER / f"{case}.json").read_text())["state_dict"]
    return {name: torch.from_numpy(_entry(name, tuple(shape))) for name, shape in names.items()}


def video(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Normalised input frames, float32: noise on a 7x7 grid, interpolated, and a little finer noise."""
    generator = np.random.default_rng(seed)
    *lead, height, width = shape
    coarse = generator.standard_normal((*lead, 7, 7))
    row, row_share = _between(height)
    column, column_share = _between(width)
    share = row_share[:, None]

    def corner(down: int, right: int) -> np.ndarray:
        return coarse[..., row + down, :][..., column + right]

    above = (1 - column_share) * corner(0, 0) + column_share * corner(0, 1)
    below = (1 - column_share) * corner(1, 0) + column_share * corner(1, 1)
    fine = generator.standard_normal(shape)
    return torch.from_numpy(((1 - share) * above + share * below + 0.1 * fine).astype(np.float32))


def _between(size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of so many pixels, the grid line before it and its share of the way to the next."""
    position = np.linspace(0, 6, size)
    before = np.minimum(position.astype(int), 5)
    return before, position - before


def _entry(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith(("running_mean", "bias")) or "bias_" in name:
        return (0.1 * generator.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:  # the scale of a normalisation layer
        return generator.uniform(0.8, 1.2, shape).astype(np.float32)
    deviation = np.sqrt(2.0 / int(np.prod(shape[1:])))
    return (deviation * generator.standard_normal(shape)).astype(np.float32)
