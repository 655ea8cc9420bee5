"""A folder of images as a video: the form in which the published code reads data (``img_00001.jpg``, …)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from video_env.data.video_file import Choose, VideoError

ASSUMED_RATE = 25.0
"""Frames per second of a folder whose rate nobody has said."""

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_NUMBERED = re.compile(r"(.*?)(\d+)")
_USUAL = ("img_", "image_", "frame_", "frame", "")
"""What images are called before their number, where a folder holds others too, such as optical flow."""


class FramesFolder:
    """A folder of frames to read from; its frames are its images in the order of their numbers.

    Args:
        path: the folder.
        frames_per_second: its rate.

    Attributes:
        times: float64 [F], seconds at which each frame is shown: its place over the rate.

    Raises:
        VideoError: there is no image, or numbers are missing or there twice; the message names them.
    """

    def __init__(self, path: Path, *, frames_per_second: float = ASSUMED_RATE) -> None:
        self.path, self.frames_per_second = path, frames_per_second
        self._files = _in_order(path)
        self.times = np.arange(len(self._files)) / frames_per_second

    def read(
        self, choose: Choose, convert: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Chosen frames: their indices, int64 [N], and what ``convert`` made of each.

        Raises:
            VideoError: an image cannot be read.
        """
        indices = choose(self.times)
        return indices, [convert(_image(self._files[index])) for index in indices]


def is_image(name: str) -> bool:
    """Whether a file is an image, by its name."""
    return Path(name).suffix.lower() in _ENDINGS


def _in_order(folder: Path) -> list[Path]:
    by_prefix: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        if is_image(file.name) and (found := _NUMBERED.fullmatch(file.stem)):
            numbered = by_prefix.setdefault(found[1], {})
            if other := numbered.get(int(found[2])):
                raise VideoError(
                    f"{folder}: found {other.name} and {file.name}, expected one frame per number"
                )
            numbered[int(found[2])] = file
    if not by_prefix:
        raise VideoError(f"{folder}: no numbered images in this folder, such as img_00001.jpg")
    usual = [prefix for prefix in _USUAL if prefix in by_prefix]
    if len(by_prefix) > 1 and len(usual) != 1:
        names = [next(iter(numbered.values())).name for numbered in by_prefix.values()]
        raise VideoError(
            f"{folder}: found images of several kinds, {', '.join(names)}; expected one sequence"
        )
    numbered = by_prefix[usual[0] if len(by_prefix) > 1 else next(iter(by_prefix))]
    missing = sorted(set(range(min(numbered), max(numbered) + 1)) - set(numbered))
    if missing:
        raise VideoError(f"{folder}: {len(missing)} frames are missing: {_named(missing)}")
    return [numbered[number] for number in sorted(numbered)]


def _named(numbers: Iterable[int]) -> str:
    first = [str(number) for number in numbers]
    return ", ".join(first[:5]) + (", …" if len(first) > 5 else "")


def _image(file: Path) -> np.ndarray:
    """uint8 [H, W, 3], upright."""
    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file}: no readable image ({error})") from error
