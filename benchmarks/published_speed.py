"""OCSampler's actual speed beside its counted cost, with the published networks on frames in memory.

python benchmarks/published_speed.py

Both sides take normalised frames [32, 10, 3, 224, 224]: OCSampler skims all ten at 128x128 and
recognises six, the other one recognises all ten. Weights do not change the time: they are random.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from report import alternating_seconds, median_ratio, write_report

from agents.ocsampler.released import ReleasedOCSampler
from video_env.models.cost import count_gflops
from video_env.models.device import resolve_device


class AllFrames(torch.nn.Module):
    """The same recognizer on every candidate."""

    def __init__(self, network: ReleasedOCSampler) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        everything = torch.arange(frames.shape[1], device=frames.device).expand(len(frames), -1)
        return self.network.recognise(frames, everything)


def _scores_of(network: torch.nn.Module, frames: torch.Tensor) -> float:
    """Their sum, which waits for a GPU to finish."""
    output = network(frames)
    return float(getattr(output, "scores", output).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = resolve_device("auto")
    results: dict[str, float] = {}
    for num_frames in (6, 5):
        chooser = ReleasedOCSampler(200, num_frames=num_frames).eval().to(device)
        chooser = chooser.to(memory_format=torch.channels_last)
        everything = AllFrames(chooser).eval()
        one = torch.empty(1, 10, 3, 224, 224)
        cost = count_gflops(everything, one) / count_gflops(chooser, one)
        frames = torch.randn(options.batch, 10, 3, 224, 224, device=device)
        with torch.inference_mode():
            seconds = alternating_seconds(
                {
                    "chosen": partial(_scores_of, chooser, frames),
                    "all": partial(_scores_of, everything, frames),
                },
                rounds=options.rounds,
            )
        speed = median_ratio(seconds["all"], seconds["chosen"])
        name = f"{num_frames} of 10, batch {options.batch}"
        results[f"{name}: videos per second"] = options.batch / float(np.median(seconds["chosen"]))
        results[f"{name}: speed over all frames"] = speed
        results[f"{name}: GFLOPs of all frames over its own"] = cost
        results[f"{name}: speed gained over cost saved (aim 0.8)"] = speed / cost
    write_report("published_speed", results)


if __name__ == "__main__":
    main()
