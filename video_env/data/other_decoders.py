"""decord and torchcodec, for the files that they decode right.

Both find frames by tables of their own, and for many kinds of files these name other frames than the file's
times do. So each is asked only for the kinds that ``tests/test_decoding.py`` proves it right for, and only
where it counts the same frames at the same times.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np

from video_env.data.video_file import Choose, VideoFile
from video_env.errors import InputError

Decoder = Literal["auto", "pyav", "decord", "torchcodec"]

_PROVED = {
    "decord": {("mov,mp4,m4a,3gp,3g2,mj2", "h264"), ("matroska,webm", "h264")},
    "torchcodec": {("mov,mp4,m4a,3gp,3g2,mj2", "h264"), ("matroska,webm", "h264")},
}
_MODULES = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}
_INSTALL = {"decord": "pip install decord2", "torchcodec": "pip install torchcodec"}


def resolve_decoder(decoder: Decoder) -> str:
    """The decoder that will be used, by name.

    Raises:
        InputError: it is unknown or not installed.
    """
    name = "pyav" if decoder == "auto" else decoder
    if name not in _MODULES:
        raise InputError(f"decoder {decoder!r}: expected auto, {', '.join(_MODULES)}")
    if importlib.util.find_spec(_MODULES[name]) is None:
        raise InputError(f"decoder {decoder!r} is not installed; {_INSTALL[name]}")
    return name


def frames_by(name: str, video: VideoFile, choose: Choose) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices, int64 [N], and frames, uint8 [N, H, W, 3], by another decoder; None where it is not to be
    trusted with this file, or refuses it."""
    if video.kind not in _PROVED[name] or not video.is_plain:
        return None
    indices = choose(video.times)
    try:
        times, frames = {"decord": _decord, "torchcodec": _torchcodec}[name](str(video.path), indices)
    except Exception:  # of many kinds; PyAV then says what is wrong, if anything is
        return None
    same = len(times) == len(video.times) and np.allclose(
        times - times[0], video.times - video.times[0], atol=1e-3
    )
    return (indices, frames) if same else None


def _decord(path: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of all frames, float64 [F], and the chosen frames."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    reader = decord.VideoReader(path, num_threads=1)
    times = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
    return times, reader.get_batch(indices).asnumpy()


def _torchcodec(path: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of all frames, float64 [F], and the chosen frames."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    count = int(decoder.metadata.num_frames or 0)
    chosen = decoder.get_frames_at(indices.tolist())
    times = np.array([decoder.get_frame_at(at).pts_seconds for at in range(count)])
    return times, chosen.data.numpy()
