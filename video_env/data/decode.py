"""Frames from video files: what the rest of the package asks for.

Every frame is the one that its index names among those that decoding the file from its start gives, or there
is an error, never a substitute (``video_env.data.video_file``). A decoder can hang or end its process on a
damaged file, so whoever reads many files does it in processes that can be ended
(``video_env.cache.decoding``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from video_env.data.frames_folder import ASSUMED_RATE, FramesFolder
from video_env.data.other_decoders import Decoder, frames_by, resolve_decoder
from video_env.data.sampling import candidate_indices
from video_env.data.video_file import Choose, DamagedError, VideoError, VideoFile
from video_env.errors import InputError
from video_env.files import sha256_of

__all__ = [
    "DamagedError", "DecodedVideo", "Decoder", "VideoError", "read_candidates", "read_frames",
    "resolve_decoder",
]  # fmt: skip


@dataclass(frozen=True)
class DecodedVideo:
    """The candidate frames of one video.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        frame_indices: int64 [T], of the frames in the file, from 0.
        timestamps_seconds: float64 [T], when each frame is shown, from the file's start; finite, never
            falling.
        num_frames: frames in the file.
        frames_per_second: mean rate of the file, positive and finite.
        damage: what is wrong with the file, where damage is kept; empty for a whole one.
    """

    frames: np.ndarray
    frame_indices: np.ndarray
    timestamps_seconds: np.ndarray
    num_frames: int
    frames_per_second: float
    damage: str = ""


def read_frames(
    path: str | Path,
    indices: np.ndarray,
    size: int,
    *,
    shorter_side: int | None = None,
    decoder: Decoder = "auto",
) -> np.ndarray:
    """Decode chosen frames of a file.

    Args:
        path: the video file, or a folder of frames.
        indices: int [N], from 0, among the frames that decoding from the start gives, in any order.
        size: height and width of the result in pixels.
        shorter_side: each frame is scaled (bilinear, antialiased) until its shorter side has this
            many pixels, at least ``size``, and its centre is cut out; by default ``size``, which
            loses least. The published recipes scale to 256 and cut 224.
        decoder: ``auto`` (PyAV), ``decord`` or ``torchcodec``. Those two decode the kinds of files that they
            are known to decode right, and PyAV the others; damage is noticed by PyAV alone.

    Returns:
        uint8 [N, size, size, 3], RGB, upright.

    Raises:
        VideoError: the file is missing, is no video, is damaged, or does not hold all these frames.
        InputError: the decoder is unknown or not installed, or ``shorter_side`` too small.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise InputError(f"indices: found {indices.dtype} {indices.shape}, expected integers [N]")
    indices = indices.astype(np.int64)

    def choose(times: np.ndarray) -> np.ndarray:
        if indices.size == 0 or indices.min() < 0 or indices.max() >= len(times):
            raise VideoError(
                f"{path}: frames {indices.tolist()} asked for, but it holds frames 0 to {len(times) - 1}"
            )
        return indices

    fit = _fit(size, shorter_side)
    return np.stack(_read(_opened(_checked(path)), choose, fit, decoder)[1])


def read_candidates(
    path: str | Path,
    num_candidates: int,
    size: int,
    *,
    shorter_side: int | None = None,
    decoder: Decoder = "auto",
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    generator: np.random.Generator | None = None,
    keep_damaged: bool = False,
    sha256: str | None = None,
    frames_rate: float = ASSUMED_RATE,
    listed_frames: int = 0,
) -> DecodedVideo:
    """Decode a video's candidate frames: one from each of T uniform segments.

    Args:
        start_seconds, end_seconds: the part of the file that counts, all of it by default: the frames that
            are shown at ``start_seconds`` or later and before ``end_seconds``.
        generator: draws a random frame in each segment; without it the centres are taken.
        keep_damaged: read a damaged file as far as the decoder can, with ``damage`` saying what is wrong.
        sha256: of the file as it should be. It finds the damage that a decoder cannot see.
        frames_rate: frames per second of a folder of frames.
        listed_frames: how many frames such a folder should hold at least.

    The other arguments and the errors are those of ``read_frames``; a part without any frame is an
    error too.
    """
    fit = _fit(size, shorter_side)
    file = _checked(path, sha256)

    def choose(times: np.ndarray) -> np.ndarray:
        first = 0 if start_seconds is None else int(np.searchsorted(times, start_seconds))
        end = len(times) if end_seconds is None else int(np.searchsorted(times, end_seconds))
        if first >= end:
            raise VideoError(
                f"{path}: no frame between {start_seconds} and {end_seconds} seconds; the file holds "
                f"{len(times)} frames, shown from {times[0]:.3f} to {times[-1]:.3f} seconds"
            )
        # A copy, since frames are chosen again where a file holds others than its packets promise.
        return candidate_indices(end - first, num_candidates, first=first, generator=copy.deepcopy(generator))

    damage = ""
    video: VideoFile | FramesFolder
    try:
        video = _opened(file, frames_rate)
        if isinstance(video, FramesFolder) and len(video.times) < listed_frames:
            raise VideoError(f"{path}: holds {len(video.times)} frames, expected {listed_frames} as listed")
        indices, frames = _read(video, choose, fit, decoder)
    except DamagedError as error:
        if not keep_damaged:
            raise
        damage = str(error).removeprefix(f"{file}: ")
        video = VideoFile(file, strict=False)
        indices, frames = video.read(choose, fit)
    return DecodedVideo(
        np.stack(frames), indices, video.times[indices], len(video.times), video.frames_per_second, damage
    )


def _opened(path: Path, frames_rate: float = ASSUMED_RATE) -> VideoFile | FramesFolder:
    return FramesFolder(path, frames_per_second=frames_rate) if path.is_dir() else VideoFile(path)


def _read(
    video: VideoFile | FramesFolder, choose: Choose, fit: Callable[[np.ndarray], np.ndarray], decoder: Decoder
) -> tuple[np.ndarray, list[np.ndarray]]:
    name = resolve_decoder(decoder)
    if name == "pyav" or isinstance(video, FramesFolder):
        return video.read(choose, fit)
    found = frames_by(name, video, choose)
    return video.read(choose, fit) if found is None else (found[0], [fit(frame) for frame in found[1]])


def _checked(path: str | Path, sha256: str | None = None) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        if sha256:
            raise VideoError(f"{path}: a folder of frames, which has no SHA-256")
        return path
    if not path.is_file():
        raise VideoError(f"{path}: " + ("no regular file" if path.exists() else "no such file"))
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes)")
    if sha256:
        found = sha256_of(path)
        if found != sha256.lower():
            raise VideoError(
                f"{path}: its SHA-256 is {found[:12]}…, expected {sha256[:12]}…: damaged or another file"
            )
    return path


def _fit(size: int, shorter_side: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """Scales to the shorter side and cuts the centre: uint8 [H, W, 3] to [size, size, 3]."""
    shorter = size if shorter_side is None else shorter_side
    if shorter < size:
        raise InputError(f"shorter_side {shorter}: expected at least size, {size}")

    def fit(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        scale = shorter / min(height, width)
        if scale != 1:
            height, width = (max(size, round(side * scale)) for side in (height, width))
            frame = np.stack([_resized(frame[..., channel], height, width) for channel in range(3)], axis=-1)
        top, left = (height - size) // 2, (width - size) // 2
        return frame[top : top + size, left : left + size].copy()

    return fit


def _resized(channel: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [h, w] to [height, width]. One channel at a time: of a whole frame Pillow makes a copy with four
    bytes per pixel, which 8K feels."""
    image = Image.fromarray(np.ascontiguousarray(channel))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
