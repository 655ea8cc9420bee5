"""What caching every patch costs: the encoder's time over that of as many bare patch inferences.

python benchmarks/patch_caching.py

The bare side runs the focus network on patches that are cut and normalised already, in batches of the same
size; the encoder cuts them out of uint8 frames, normalises them, rounds the features and copies them.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from report import alternating_seconds, median_ratio, write_report

from video_env.models.backbones import FrameNetwork
from video_env.models.encoders import PatchEncoder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results: dict[str, float] = {}
    cases: tuple[tuple[str, int, int, int], ...] = (("small", 96, 36, 96), ("resnet50", 224, 96, 8))
    for name, frame_size, patch_size, frames in cases:
        network = FrameNetwork(name, input_size=patch_size)
        encoder = PatchEncoder(network, patch_size=patch_size, frame_size=frame_size, weights="random")
        generator = np.random.default_rng(0)
        clips = generator.integers(0, 256, (1, frames, frame_size, frame_size, 3), dtype=np.uint8)
        patches = torch.rand(4 * 49, 3, patch_size, patch_size, device=encoder.device)
        patches = patches.to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def bare(network: FrameNetwork, patches: torch.Tensor, batches: int) -> float:
            return float(sum(network.backbone(patches).sum() for _ in range(batches)))

        seconds = alternating_seconds(
            {"encoder": partial(encoder, clips), "bare": partial(bare, network, patches, frames // 4)},
            rounds=options.rounds,
        )
        ratio = median_ratio(seconds["encoder"], seconds["bare"])
        results[f"{name}, {patch_size}²: time over that of 49 patch inferences a frame"] = ratio
        results[f"{name}, {patch_size}²: patches per second"] = (
            frames * 49 / float(np.median(seconds["encoder"]))
        )
    write_report("patch_caching", results)


if __name__ == "__main__":
    main()
