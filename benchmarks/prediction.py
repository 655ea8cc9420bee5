"""Predicting video files against decoding them, and loading the networks and running them on what is looked
at, in turns.

    python benchmarks/prediction.py

An OCSampler of the published networks (MobileNetV2 skims 10 candidates, ResNet-50 looks at 6) on videos of
320x240 pixels, many and one. Networks run in one thread, whose time depends less on who else has the cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video_env.cache.store import Cache
    from video_env.data.annotations import Annotations

# Decoding processes import this file, so it imports the heavy packages where it uses them.
SIZE, CANDIDATES, CHOSEN = 224, 10, 6


def cache_of(annotations: Annotations, folder: Path) -> Cache:
    """A cache of these videos with networks and a recognizer of random weights, which change no time."""
    import safetensors.torch

    from video_env.cache.build import build_cache
    from video_env.cache.changes import add_network
    from video_env.cache.decoding import BuildSettings
    from video_env.models.backbones import FrameNetwork, load_weights
    from video_env.models.encoders import CacheEncoder
    from video_env.models.recognizers import Recognizer, store_recognizer

    encoders, files = {}, {}
    names: dict[str, Any] = {"skim": "mobilenet_v2", "embedding": "resnet50"}
    for array, name in names.items():
        network = FrameNetwork(name)
        files[array] = folder / f"{array}.safetensors"
        safetensors.torch.save_file(network.backbone.state_dict(), files[array])
        record = load_weights(network, str(files[array]))
        encoders[array] = CacheEncoder(network, weights=record, frame_size=SIZE)
    settings = BuildSettings(num_candidates=CANDIDATES, frame_size=SIZE)
    cache = build_cache(annotations, folder / "cache", settings, encoders)
    for array, file in files.items():
        cache = add_network(cache, array, file.read_bytes())
    recognizer = Recognizer(2048, len(cache.classes), hidden=512)
    return store_recognizer(cache, recognizer, recognizer.gflops())


def compare(cache: Cache, annotations: Annotations, agent: Path, rounds: int) -> dict[str, float]:
    """Predictions of these videos, and their two parts, in turns."""
    import numpy as np
    from report import alternating_seconds, median_ratio

    from video_env.cache.decoding import decode_all
    from video_env.evaluation.prediction import agent_from, predict, reading_of
    from video_env.models.redraw import encoders_of

    settings = reading_of(cache)
    videos = [str(annotations.videos / path) for path in annotations.table["path"]]
    shape = (len(videos), CANDIDATES, SIZE, SIZE, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def networks() -> None:
        encoders = encoders_of(cache)
        encoders["skim"](frames)
        encoders["embedding"](frames[:, :CHOSEN])

    seconds = alternating_seconds(
        {
            "prediction": lambda: list(predict(videos, cache, agent_from(agent))),
            "decoding": lambda: list(decode_all(annotations, settings)),
            "networks": networks,
        },
        rounds=rounds,
    )
    parts = np.add(seconds["decoding"], seconds["networks"]).tolist()
    return {
        **{f"{name}: seconds": float(np.median(values)) for name, values in seconds.items()},
        "prediction over decoding + networks (aim at most 1.2)": median_ratio(seconds["prediction"], parts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=8)
    arguments = parser.parse_args()
    from dataclasses import replace

    from cache_building import large_videos
    from report import write_report

    from agents.ocsampler import OCSampler, OCSamplerSettings
    from video_env.evaluation import registry
    from video_env.evaluation.rounds import one_thread

    registry.load()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, one_thread():
        folder = Path(name)
        many = large_videos(folder, arguments.videos)
        cache = cache_of(many, folder)
        OCSampler(cache, OCSamplerSettings(num_frames=CHOSEN)).save(folder / "agent.pt")
        one = replace(many, table=many.table.head(1))
        for title, some in ((f"{arguments.videos} videos", many), ("one video", one)):
            for key, value in compare(cache, some, folder / "agent.pt", arguments.rounds).items():
                results[f"{title}: {key}"] = value
    write_report("prediction", results)


if __name__ == "__main__":
    main()
