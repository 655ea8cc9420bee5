"""Video files whose frames carry their number, in many containers and codecs, and damaged copies of files."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

SIZE, BITS = 112, 10


def numbered(number: int) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3]: a stripe for each bit."""
    frame = np.full((SIZE, SIZE, 3), 16, np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            frame[:, 6 + bit * 10 : 16 + bit * 10] = 235
    return frame


def number_in(frame: np.ndarray) -> int:
    """What ``numbered`` wrote; stripes are read from the upper half, as they stand upright."""
    stripes = (frame[20:50, 9 + bit * 10 : 13 + bit * 10].mean() for bit in range(BITS))
    return sum(int(stripe > 128) << bit for bit, stripe in enumerate(stripes))


def write(
    path: Path,
    codec: str,
    *,
    frames: int = 90,
    rate: int = 30,
    times: list[int] | None = None,
    **options: str,
) -> None:
    """Encode numbered frames; ``times`` in milliseconds, else at the rate."""
    pixels = {"mjpeg": "yuvj420p", "gif": "rgb8", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width = stream.height = SIZE
        stream.pix_fmt = pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def ffmpeg(*arguments: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


def varying(frames: int = 90) -> list[int]:
    """Milliseconds: a third at 30 frames per second, a third at 5, a third at 30."""
    gaps = np.repeat([1000 / 30, 200, 1000 / 30], frames // 3)
    return [round(time) for time in np.cumsum(gaps) - gaps[0]]


def _from_other(*arguments: object, codec: str, name: str, **options: str) -> Callable[[Path], None]:
    """A file that ffmpeg makes of one that is written first; ``IN`` and ``OUT`` stand for both."""

    def make(path: Path) -> None:
        source = path.with_name(f"source-of-{path.stem}-{name}")
        write(source, codec, **options)  # type: ignore[arg-type]
        ffmpeg(*({"IN": source, "OUT": path}.get(str(one), one) for one in arguments))
        source.unlink()

    return make


def _cut(codec: str, name: str, **options: str) -> Callable[[Path], None]:
    """Trimmed by stream copy, between keyframes."""
    return _from_other(
        "-ss", "0.7", "-i", "IN", "-t", "1.6", "-c", "copy", "OUT", codec=codec, name=name, **options
    )


def _turned(degrees: int) -> Callable[[Path], None]:
    return _from_other(
        "-display_rotation",
        degrees,
        "-i",
        "IN",
        "-c",
        "copy",
        "OUT",
        codec="libx264",
        name="source.mp4",
        g="24",
    )


def _joined(path: Path) -> None:
    write(path, "libx264", bf="0", g="12")
    first = path.read_bytes()
    write(path, "libx264", g="24")
    path.write_bytes(first + path.read_bytes())


def _between_keyframes(path: Path) -> None:
    write(path, "libx264", g="24")
    packets = len(path.read_bytes()) // 188
    path.write_bytes(path.read_bytes()[188 * (packets // 10) :])


_QUIET = "log-level=none"
_FAST = {"deadline": "realtime", "cpu-used": "8"}
FILES: dict[str, Callable[[Path], None]] = {
    **{f"h264-b.{ext}": partial(write, codec="libx264", g="24") for ext in ("mp4", "mkv", "mov", "avi", "ts", "flv")},
    **{f"h264-no-b.{ext}": partial(write, codec="libx264", bf="0", g="12") for ext in ("mp4", "mkv", "avi", "ts")},
    **{
        f"h264-open-gop.{ext}": partial(write, codec="libx264", **{"x264-params": "open-gop=1:keyint=24:bframes=3"})
        for ext in ("mp4", "mkv", "avi", "ts")
    },
    **{
        f"h264-intra-refresh.{ext}": partial(write, codec="libx264", **{"x264-params": "intra-refresh=1:keyint=24"})
        for ext in ("mp4", "mkv")
    },
    **{f"h264-varying-rate.{ext}": partial(write, codec="libx264", times=varying(), g="24") for ext in ("mp4", "mkv")},
    **{
        f"h264-at-{rate}.mp4": partial(write, codec="libx264", rate=rate, g="24") for rate in (1, 12, 60)
    },
    **{
        f"hevc-open-gop.{ext}": partial(write, codec="libx265", **{"x265-params": f"keyint=24:open-gop=1:{_QUIET}"})
        for ext in ("mp4", "mkv", "ts")
    },
    "hevc-closed-gop.mp4": partial(write, codec="libx265", **{"x265-params": f"keyint=24:open-gop=0:{_QUIET}"}),
    **{f"mpeg4-b.{ext}": partial(write, codec="mpeg4", bf="2") for ext in ("avi", "mp4", "mkv", "ts")},
    "mpeg4-no-b.avi": partial(write, codec="mpeg4"),
    **{f"vp9.{ext}": partial(write, codec="libvpx-vp9", g="24", **_FAST) for ext in ("webm", "mkv")},
    "vp9-10-bit.webm": _from_other(
        "-i", "IN", "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p10le", "-profile:v", "2", "-deadline", "realtime",
        "-cpu-used", "8", "OUT", codec="libx264", name="source.mp4",
    ),
    "vp9-hidden-frames.webm": partial(
        write, codec="libvpx-vp9", deadline="good", **{"cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1"}
    ),
    "vp8.webm": partial(write, codec="libvpx", g="24", **_FAST),
    "vp8-hidden-frames.webm": partial(
        write, codec="libvpx", deadline="good", **{"cpu-used": "5", "lag-in-frames": "16", "auto-alt-ref": "1"}
    ),
    **{f"av1.{ext}": partial(write, codec="libsvtav1", preset="12", g="24") for ext in ("mp4", "webm")},
    "mpeg1.mpg": partial(write, codec="mpeg1video"),
    **{f"mpeg2-b.{ext}": partial(write, codec="mpeg2video", bf="2") for ext in ("mpg", "ts")},
    "wmv2.wmv": partial(write, codec="wmv2"),
    "mjpeg.avi": partial(write, codec="mjpeg"),
    "prores.mov": partial(write, codec="prores_ks"),
    "animated.gif": partial(write, codec="gif"),
    "stream.h264": partial(write, codec="libx264", g="24"),
    "trimmed.mp4": _cut("libx264", "source.mp4", g="24"),
    "trimmed.mkv": _cut("libx264", "source.mkv", g="24"),
    "trimmed.webm": _cut("libvpx-vp9", "source.webm", g="24", **_FAST),
    "trimmed-hevc.mp4": _cut("libx265", "source.mp4", **{"x265-params": f"keyint=24:{_QUIET}"}),
    "trimmed-mpeg2.ts": _cut("mpeg2video", "source.ts", bf="2"),
    "trimmed-open-gop.ts": _cut("libx264", "source.ts", **{"x264-params": "open-gop=1:keyint=24:bframes=3"}),
    "fragmented.mp4": _from_other(
        "-i", "IN", "-c", "copy", "-movflags", "frag_keyframe+empty_moov", "OUT",
        codec="libx264", name="source.mp4", g="24",
    ),
    **{
        f"longer-sound.{ext}": _from_other(
            "-i", "IN", "-f", "lavfi", "-i", "sine=d=5", "-c:v", "copy", "-c:a", "aac", "OUT",
            codec="libx264", name=f"source.{ext}", g="24",
        )
        for ext in ("mp4", "mkv")
    },
    "late-picture.mp4": _from_other(
        "-itsoffset", "1.5", "-i", "IN", "-f", "lavfi", "-i", "sine=d=5", "-map", "0:v", "-map", "1:a",
        "-c:v", "copy", "-c:a", "aac", "OUT", codec="libx264", name="source.mp4", g="24",
    ),
    **{f"turned-{degrees}.mp4": _turned(degrees) for degrees in (90, 180, 270)},
    "turned-90.webm.mp4": _from_other(
        "-display_rotation", 90, "-i", "IN", "-c", "copy", "OUT",
        codec="libvpx-vp9", name="source.mp4", g="24", **_FAST,
    ),
    "sparse.avi": _from_other("-i", "IN", "-c", "copy", "OUT", codec="libx264", name="source.mp4", g="24"),
    "times-in-decoding-order.mkv": _from_other(
        "-i", "IN", "-c", "copy", "-bsf:v", "setts=ts=DTS", "OUT", codec="libx264", name="source.mp4", g="24",
    ),
    "joined.ts": _joined,
    "from-between-keyframes.ts": _between_keyframes,
    "name:with colon %d.mp4": partial(write, codec="libx264", g="24"),
}  # fmt: skip


def decoded_from_start(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The reference: all frames as PyAV decodes them, uint8 [F, H, W, 3], turned upright, and their seconds."""
    with av.open(f"file:{path}") as container:
        frames = list(container.decode(video=0))
    pixels = np.stack(
        [np.rot90(one.to_ndarray(format="rgb24"), round(one.rotation / 90) % 4) for one in frames]
    )
    times = [one.time for one in frames]
    return pixels, None if None in times else np.array(times)


DAMAGES = ("bits", "zeros", "cut", "header", "swapped")


def damaged(data: bytes, kind: str, generator: random.Random) -> bytes:
    """A copy with some bits flipped, a block zeroed, its end cut off, its header hit, or two blocks swapped."""
    copy, length = bytearray(data), len(data)
    if kind == "bits":
        for _ in range(6):
            copy[generator.randrange(length)] ^= 1 << generator.randrange(8)
    elif kind == "zeros":
        at = generator.randrange(length - 512)
        copy[at : at + 512] = bytes(512)
    elif kind == "cut":
        del copy[generator.randrange(length // 10, length * 9 // 10) :]
    elif kind == "header":
        for _ in range(3):
            copy[generator.randrange(2000)] ^= 1 << generator.randrange(8)
    else:
        one, other = (generator.randrange(length - 300) for _ in range(2))
        copy[one : one + 300], copy[other : other + 300] = copy[other : other + 300], copy[one : one + 300]
    return bytes(copy)
