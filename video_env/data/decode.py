"""Frames from video files: the only place that knows a video decoder.

decord is the default; torchcodec is the drop-in choice where it is installed and the platform has no
decord. Both are imported when the first file is opened. A decoder can hang or end its process on a
damaged file, so whoever reads many files does it in processes that can be ended
(``video_env.cache.build``); what reaches the caller of this module is a whole answer or an error,
never a substitute frame.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from video_env.data.sampling import candidate_indices
from video_env.errors import InputError

Decoder = Literal["auto", "decord", "torchcodec"]


class VideoError(InputError):
    """A video file that cannot be decoded; the message names it and says why."""


@dataclass(frozen=True)
class DecodedVideo:
    """The candidate frames of one video.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        frame_indices: int64 [T], positions in the file, from 0.
        timestamps_seconds: float64 [T], when each frame is shown.
        num_frames: frames in the file.
        frames_per_second: mean rate of the file.
    """

    frames: np.ndarray
    frame_indices: np.ndarray
    timestamps_seconds: np.ndarray
    num_frames: int
    frames_per_second: float


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
        path: the video file.
        indices: int [T], frame positions from 0, in any order.
        size: height and width of the result in pixels.
        shorter_side: each frame is scaled (bilinear, antialiased) until its shorter side has this
            many pixels, at least ``size``, and its centre is cut out; by default ``size``, which
            loses least. The published recipes scale to 256 and cut 224.
        decoder: ``decord``, ``torchcodec``, or ``auto`` for the first of them that is installed.

    Returns:
        uint8 [T, size, size, 3], RGB.

    Raises:
        VideoError: the file is missing, is no video, or does not hold all these frames.
    """
    return _fit(_open(path, decoder).frames(np.asarray(indices)), size, shorter_side or size)


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
) -> DecodedVideo:
    """Decode a video's candidate frames: one from each of T uniform segments.

    Args:
        start_seconds, end_seconds: the part of the file that counts; all of it by default.
        generator: draws a random frame in each segment; without it the centres are taken.

    The other arguments and the errors are those of ``read_frames``; a part without any frame is an
    error too.
    """
    video = _open(path, decoder)
    first, end = 0, video.num_frames
    if start_seconds is not None:
        first = round(start_seconds * video.frames_per_second)
    if end_seconds is not None:
        end = min(end, round(end_seconds * video.frames_per_second))
    if first >= end:
        raise VideoError(
            f"{path}: no frame between {start_seconds} and {end_seconds} seconds; the file holds "
            f"{video.num_frames} frames at {video.frames_per_second:.3g} per second"
        )
    indices = candidate_indices(end - first, num_candidates, first=first, generator=generator)
    frames = _fit(video.frames(indices), size, shorter_side or size)
    return DecodedVideo(frames, indices, video.timestamps(indices), video.num_frames, video.frames_per_second)


class _Video(Protocol):
    num_frames: int
    frames_per_second: float

    def frames(self, indices: np.ndarray) -> np.ndarray: ...

    def timestamps(self, indices: np.ndarray) -> np.ndarray: ...


class _DecordVideo:
    def __init__(self, path: Path) -> None:
        import decord

        self._path = path
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
            self.num_frames = len(self._reader)
            self.frames_per_second = float(self._reader.get_avg_fps())
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoError(f"{path}: decord cannot open it ({_last_line(error)})") from error
        if self.num_frames == 0:
            raise VideoError(f"{path}: the file holds no frame, expected at least one")

    def frames(self, indices: np.ndarray) -> np.ndarray:
        import decord

        self._check(indices)
        try:
            frames = self._reader.get_batch(indices).asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            raise VideoError(
                f"{self._path}: the file states {self.num_frames} frames, but not all of frames "
                f"{indices.min()} to {indices.max()} decode ({_last_line(error)})"
            ) from error
        return frames

    def timestamps(self, indices: np.ndarray) -> np.ndarray:
        return self._reader.get_frame_timestamp(indices)[:, 0].astype(np.float64)

    def _check(self, indices: np.ndarray) -> None:
        if indices.size == 0 or indices.min() < 0 or indices.max() >= self.num_frames:
            raise VideoError(
                f"{self._path}: frames {indices.tolist()} asked for, but it holds frames 0 to "
                f"{self.num_frames - 1}"
            )


class _TorchcodecVideo(_DecordVideo):
    def __init__(self, path: Path) -> None:
        from torchcodec.decoders import VideoDecoder

        self._path = path
        try:
            self._decoder = VideoDecoder(
                str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
        except (ValueError, RuntimeError) as error:
            raise VideoError(f"{path}: torchcodec cannot open it ({_last_line(error)})") from error
        self.num_frames = int(self._decoder.metadata.num_frames or 0)
        self.frames_per_second = float(self._decoder.metadata.average_fps or 0)
        if self.num_frames == 0:
            raise VideoError(f"{path}: the file holds no frame, expected at least one")

    def frames(self, indices: np.ndarray) -> np.ndarray:
        self._check(indices)
        try:
            return self._decoder.get_frames_at(indices.tolist()).data.numpy()
        except (ValueError, RuntimeError, IndexError) as error:
            raise VideoError(
                f"{self._path}: not all of frames {indices.min()} to {indices.max()} decode "
                f"({_last_line(error)})"
            ) from error

    def timestamps(self, indices: np.ndarray) -> np.ndarray:
        return self._decoder.get_frames_at(indices.tolist()).pts_seconds.numpy()


_DECODERS = {"decord": _DecordVideo, "torchcodec": _TorchcodecVideo}


def _open(path: str | Path, decoder: Decoder) -> _Video:
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes)")
    return _DECODERS[resolve_decoder(decoder)](path)


def resolve_decoder(decoder: Decoder) -> str:
    """The decoder that will be used, by name.

    Raises:
        InputError: it is unknown or not installed, or ``auto`` finds none.
    """
    if decoder != "auto" and decoder not in _DECODERS:
        raise InputError(f"decoder {decoder!r}: expected auto, {', '.join(_DECODERS)}")
    for name in _DECODERS if decoder == "auto" else [decoder]:
        if importlib.util.find_spec(name):
            return name
    raise InputError(
        f"decoder {decoder!r} is not installed; pip install decord (x86-64) or torchcodec (elsewhere)"
    )


def _fit(frames: np.ndarray, size: int, shorter_side: int) -> np.ndarray:
    """Scale to the shorter side and cut the centre: uint8 [T, h, w, 3] to [T, size, size, 3]."""
    if shorter_side < size:
        raise InputError(f"shorter_side {shorter_side}: expected at least size, {size}")
    height, width = frames.shape[1:3]
    scale = shorter_side / min(height, width)
    if scale != 1:
        height, width = (max(size, round(side * scale)) for side in (height, width))
        frames = np.stack([_resize(frame, height, width) for frame in frames])
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(frames[:, top : top + size, left : left + size])


def _resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def _last_line(error: Exception) -> str:
    """A decoder's own words, without the time and the source line that decord puts before them: the
    same file gives the same reason every time."""
    text = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-200:] if lines else type(error).__name__
