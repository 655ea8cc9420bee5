"""Opening a cache of 100,000 videos.

python benchmarks/cache_opening.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from report import write_report

from video_env.cache.derive import cache_from_arrays

VIDEOS = 100_000

OPEN = """
import sys, time
from pathlib import Path
import pandas, pyarrow.parquet  # what is imported anyway does not count
from video_env.cache.store import Cache
pandas.read_parquet(sys.argv[2])
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
before = peak()
begun = time.perf_counter()
cache = Cache(sys.argv[1])
opened = time.perf_counter() - begun
cache.rows("train"), cache["skim"][[5, 70_000]], cache.row("video-050000")
used = time.perf_counter() - begun
print(opened, used, (peak() - before) / 1024)
"""


def _open(paths: list[str]) -> list[float]:
    """Seconds and MiB of a fresh process that opens the cache."""
    command = [sys.executable, "-c", OPEN, *paths]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(value) for value in output.split()]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = [f"video-{number:06d}" for number in range(VIDEOS)]
        index = pd.DataFrame(
            {
                "video": names,
                "path": [f"some/folder/{name}.mp4" for name in names],
                "label": np.arange(VIDEOS) % 200,
                "split": np.where(np.arange(VIDEOS) % 5, "train", "test"),
                "num_frames": 300,
                "frames_per_second": 29.97,
            }
        )
        arrays = {
            "frame_index": np.zeros((VIDEOS, 10), np.int32),
            "timestamp_seconds": np.zeros((VIDEOS, 10), np.float32),
            "skim": np.zeros((VIDEOS, 10, 64), np.float16),
            "embedding": np.zeros((VIDEOS, 10, 64), np.float16),
        }
        classes = [str(number) for number in range(200)]
        cache_from_arrays(Path(folder) / "cache", index, arrays, classes, {"skim": 0.1, "embedding": 4.1})
        index.head(10).to_parquet(Path(folder) / "warm.parquet")
        paths = [str(Path(folder) / "cache"), str(Path(folder) / "warm.parquet")]
        runs = [_open(paths) for _ in range(5)]
    opened, used, memory = np.median(np.array(runs), axis=0).tolist()
    write_report(
        "cache_opening",
        {
            "opening 100,000 videos: seconds (aim under 0.5)": opened,
            "opening, reading the index and two rows: seconds": used,
            "memory added by both: MiB (aim under 100)": memory,
        },
    )


if __name__ == "__main__":
    main()
