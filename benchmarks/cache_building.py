"""Cache building against its two parts, each alone with all cores, on the same videos; and its memory.

    python benchmarks/cache_building.py

The built-in data set's small networks make decoding and networks weigh about the same, which is the
hardest case to overlap; the published networks are run on larger videos.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video_env.cache.decoding import BuildSettings
    from video_env.data.annotations import Annotations
    from video_env.models.encoders import CacheEncoder

# Decoding processes import this file, so it imports the heavy packages where it uses them.


def encoders(skim: str, embedding: str, size: int) -> dict[str, CacheEncoder]:
    from video_env.models.backbones import FrameNetwork
    from video_env.models.encoders import CacheEncoder

    names = {"skim": skim, "embedding": embedding}
    return {
        array: CacheEncoder(FrameNetwork(name), weights="random", frame_size=size)  # type: ignore[arg-type]
        for array, name in names.items()
    }


def compare(
    annotations: Annotations, settings: BuildSettings, skim: str, embedding: str, rounds: int
) -> dict[str, Any]:
    """Seconds of decoding alone, networks alone, and the build, taken in turns."""
    import numpy as np

    from video_env.cache.build import build_cache
    from video_env.cache.changes import VIDEOS_PER_BATCH
    from video_env.cache.decoding import decode_all

    networks = encoders(skim, embedding, settings.frame_size)
    shape = (VIDEOS_PER_BATCH * settings.num_candidates, settings.frame_size, settings.frame_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    count = len(annotations.table)
    seconds: dict[str, list[float]] = {"decoding": [], "networks": [], "build": []}
    for _ in range(rounds):
        begun = time.perf_counter()
        assert sum(1 for _ in decode_all(annotations, settings)) == count
        decoded = time.perf_counter()
        for _ in range(count // VIDEOS_PER_BATCH):
            for network in networks.values():
                network(batch)
        encoded = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            build_cache(annotations, Path(folder) / "cache", settings, networks)
        built = time.perf_counter()
        seconds["decoding"].append(decoded - begun)
        seconds["networks"].append(encoded - decoded)
        seconds["build"].append(built - encoded)
    ratio = np.array(seconds["build"]) / (np.array(seconds["decoding"]) + np.array(seconds["networks"]))
    return {
        **{f"{name}: seconds": float(np.median(values)) for name, values in seconds.items()},
        "build over decoding + networks (aim at most 1.15)": float(np.median(ratio)),
    }


def large_videos(folder: Path, count: int) -> Annotations:
    """Videos of 320x240 pixels and 150 frames, panned noise."""
    import numpy as np
    import pandas as pd

    from video_env.data import demo
    from video_env.data.annotations import Annotations

    (folder / "videos").mkdir()
    generator = np.random.default_rng(0)
    canvas = np.kron(generator.integers(0, 256, (40, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for number in range(count):
        start = generator.integers(0, 60, 2)
        frames = [canvas[start[0] % 80 :][:240, (start[1] + 4 * t) % 150 :][:, :320] for t in range(150)]
        demo.write_video(folder / "videos" / f"{number}.mp4", np.stack(frames))
    names = [str(number) for number in range(count)]
    table = pd.DataFrame({"video": names, "label": 0, "split": "train"})
    return Annotations(table.assign(path=table["video"] + ".mp4"), ("one",), folder / "videos")


def peak_memory(folder: Path, videos: int) -> float:
    """MiB at the peak of a process that builds a cache of so many videos, its workers not included."""
    command = [sys.executable, __file__, "--build", str(folder), str(videos)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def build_some(folder: Path, videos: int) -> None:
    import pandas as pd

    from video_env.cache.build import build_cache
    from video_env.cache.decoding import BuildSettings
    from video_env.data.annotations import read_csv

    annotations = read_csv(folder / "annotations.csv", folder / "videos")
    table = pd.concat([annotations.table] * -(-videos // len(annotations.table))).head(videos)
    table = table.assign(video=[str(number) for number in range(videos)]).reset_index(drop=True)
    settings = BuildSettings(num_candidates=12, frame_size=96)
    networks = encoders("small_skim", "small", 96)
    with tempfile.TemporaryDirectory() as out:
        build_cache(replace(annotations, table=table), Path(out) / "cache", settings, networks)
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", nargs=2, metavar=("FOLDER", "VIDEOS"), help="used by the benchmark itself")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.build:
        build_some(Path(arguments.build[0]), int(arguments.build[1]))
        return
    from report import write_report

    from video_env.cache.decoding import BuildSettings
    from video_env.data import demo
    from video_env.data.annotations import read_csv

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").mkdir()
        (folder / "large").mkdir()
        for _ in demo.write_demo_data(demo.DemoData(train=512, validation=0, test=0), folder / "small"):
            pass
        small = read_csv(folder / "small" / "annotations.csv", folder / "small" / "videos")
        settings = BuildSettings(num_candidates=12, frame_size=96)
        for key, value in compare(small, settings, "small_skim", "small", arguments.rounds).items():
            results[f"small networks, 512 videos: {key}"] = value
        large = large_videos(folder / "large", 32)
        settings = BuildSettings(num_candidates=10, frame_size=224)
        for key, value in compare(large, settings, "mobilenet_v2", "resnet50", arguments.rounds).items():
            results[f"published networks, 32 videos: {key}"] = value
        for videos in (500, 2000):
            results[f"peak memory of a build of {videos} videos: MiB"] = peak_memory(folder / "small", videos)
    write_report("cache_building", results)


if __name__ == "__main__":
    main()
