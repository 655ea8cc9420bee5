"""What becomes of damaged files: refused, read right, or read wrong without a word from the decoder.

python benchmarks/damage.py
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import numpy as np
from report import write_report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.video_files import DAMAGES, damaged, ffmpeg
from video_env.data.decode import VideoError, read_candidates

FILES = {
    "H.264 .mp4": ("mp4", "-c:v", "libx264", "-movflags", "+faststart"),
    "H.264 .mkv": ("mkv", "-c:v", "libx264"),
    "H.264 .ts": ("ts", "-c:v", "libx264"),
    "MPEG-4 .avi": ("avi", "-c:v", "mpeg4", "-q:v", "4"),
    "VP9 .webm": ("webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "AV1 .webm": ("webm", "-c:v", "libsvtav1", "-preset", "12"),
    "VP8 .webm": ("webm", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "HEVC .mp4": ("mp4", "-c:v", "libx265", "-x265-params", "log-level=none"),
}
EACH = 200


def main() -> None:
    results: dict[str, float] = {}
    source = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=160x120:d=4:r=25",
        "-vf",
        "noise=alls=12:all_seed=1",
        "-g",
        "25",
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, (container, *encoder) in FILES.items():
            good, bad = Path(folder, f"good.{container}"), Path(folder, f"bad.{container}")
            ffmpeg(*source, *encoder, "-pix_fmt", "yuv420p", good)
            whole = read_candidates(good, 100, 120).frames
            refused = wrong = 0
            for number in range(EACH):
                damage = DAMAGES[number % len(DAMAGES)]
                bad.write_bytes(damaged(good.read_bytes(), damage, random.Random(f"{kind} {number}")))
                try:
                    video = read_candidates(bad, 8, 120)
                except VideoError:
                    refused += 1
                    continue
                indices = video.frame_indices
                wrong += indices.max() > 99 or not np.array_equal(video.frames, whole[indices])
            results[f"{kind}: refused"] = refused / EACH
            results[f"{kind}: read with a wrong frame"] = wrong / EACH
    write_report("damage", results)


if __name__ == "__main__":
    main()
