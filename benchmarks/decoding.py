"""Time to read 16 candidate frames of a file: beside decord for H.264 in MP4, beside one sequential PyAV
decode for other kinds of files.

python benchmarks/decoding.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import av
import decord
import imageio_ffmpeg  # noqa: F401  (tests.video_files needs it)
from report import alternating_seconds, median_ratio, write_report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.video_files import ffmpeg
from video_env.data.decode import read_candidates
from video_env.data.sampling import candidate_indices

SOURCE = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=30", "-vf", "noise=alls=10:all_seed=1")
OTHERS = {
    "H.264 .mkv": ("mkv", "-c:v", "libx264"),
    "H.264 .ts": ("ts", "-c:v", "libx264"),
    "H.264 .avi": ("avi", "-c:v", "libx264"),
    "HEVC .mp4": ("mp4", "-c:v", "libx265", "-x265-params", "log-level=none"),
    "HEVC .ts, open GOPs": ("ts", "-c:v", "libx265", "-x265-params", "keyint=30:log-level=none"),
    "MPEG-4 .avi, B-frames": ("avi", "-c:v", "mpeg4", "-bf", "2"),
    "MPEG-2 .mpg": ("mpg", "-c:v", "mpeg2video", "-bf", "2"),
    "VP8 .webm": ("webm", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"),
    "VP9 .webm": ("webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"),
    "AV1 .mp4": ("mp4", "-c:v", "libsvtav1", "-preset", "10"),
}
ROUNDS = 7


def ours(path: Path) -> None:
    read_candidates(path, 16, 360)


def by_decord(path: Path) -> None:
    reader = decord.VideoReader(str(path), num_threads=1)
    reader.get_batch(candidate_indices(len(reader), 16)).asnumpy()


def sequential(path: Path) -> None:
    """Every frame decoded, in one thread, 16 of them turned into RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for number, frame in enumerate(container.decode(stream)):
            if number % 25 == 0:
                frame.to_ndarray(format="rgb24")


def main() -> None:
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for frames in (300, 400, 500):
            path = folder / f"{frames}.mp4"
            ffmpeg(*SOURCE, "-frames:v", frames, "-c:v", "libx264", "-pix_fmt", "yuv420p", path)
            seconds = alternating_seconds(
                {"ours": lambda p=path: ours(p), "decord": lambda p=path: by_decord(p)}, rounds=ROUNDS
            )
            ratio = median_ratio(seconds["ours"], seconds["decord"])
            results[f"H.264 .mp4, {frames} frames: time over decord's (aim at most 1.15)"] = ratio
        for kind, (extension, *encoder) in OTHERS.items():
            path = folder / f"{kind.replace(' ', '-')}.{extension}"
            ffmpeg(*SOURCE, "-frames:v", 400, *encoder, "-pix_fmt", "yuv420p", path)
            seconds = alternating_seconds(
                {"ours": lambda p=path: ours(p), "sequential": lambda p=path: sequential(p)}, rounds=ROUNDS
            )
            ratio = median_ratio(seconds["ours"], seconds["sequential"])
            results[f"{kind}: time over one sequential decode (aim at most 1.3)"] = ratio
    write_report("decoding", results)


if __name__ == "__main__":
    main()
