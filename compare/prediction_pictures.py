"""Pictures of predictions: a filmstrip of the candidates, with what was looked at."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from video_env.envs.rendering import CHOSEN, filmstrip
from video_env.evaluation.prediction import Prediction


def picture_of(said: Prediction) -> bytes:
    """The candidates in time order as a PNG file: those that were looked at bright, with their patches.

    Args:
        said: what to show.
    """
    frames = said.frames
    if said.patches is not None and said.patch_share is not None:
        frames = frames.copy()
        for number, point in zip(np.flatnonzero(said.chosen), said.patches, strict=True):
            frames[number] = _outlined(frames[number], point, said.patch_share)
    likely = said.probabilities[said.label] if said.label >= 0 else 1 / len(said.probabilities)
    shown = ", ".join(f"{seconds:.2f}" for seconds in said.timestamps_seconds)
    lines = [
        f"{said.video}: {said.name} ({likely:.2f})",
        f"looked at {shown or 'no'} s, {said.gflops:.3g} GFLOPs",
    ]
    file = io.BytesIO()
    Image.fromarray(filmstrip(frames, said.chosen, lines)).save(file, "PNG")
    return file.getvalue()


def _outlined(frame: np.ndarray, point: np.ndarray, share: float) -> np.ndarray:
    """uint8 [H, W, 3] with the patch at a point in [0, 1]², whose side is a share of the frame's."""
    image, side = Image.fromarray(frame), len(frame)
    top, left = point * (side - share * side)
    box = (left, top, left + share * side - 1, top + share * side - 1)
    ImageDraw.Draw(image).rectangle(box, outline=CHOSEN, width=max(1, side // 48))
    return np.asarray(image)
