"""AdaFocus's second stage: rollouts over cached patches against rollouts that run the focus network.

python benchmarks/patch_rollout.py

Published sizes: glance maps 1280x7x7, patch features 2048, GRU and policy 1024, T = 16, the reward
``contrast``. In both rollouts the policy draws a position in every frame and the environment tells its
reward; in the second one the chosen patch and the reference patch of every frame are cut out of the frame and
go through ResNet-50 at 96x96 first. Weights and features are random, which does not change the time. One
thread, so that a figure is of one CPU core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from random_caches import random_patch_cache
from report import write_report

from agents.adafocus.patch_policy import PatchPolicy
from agents.adafocus.patch_ppo import roll_out
from video_env.data.patches import grid_corners
from video_env.envs.patch_inputs import PatchInputs
from video_env.envs.patch_select import GridPatchSelect
from video_env.models.backbones import FrameNetwork

FRAMES, PATCH, SIZE = 16, 96, 224


class FocusNetworkInputs(PatchInputs):
    """Inputs whose patches go through the focus network whenever they are asked for; in evaluation mode."""

    def __init__(self, cached: PatchInputs, frames: np.ndarray, precision: torch.dtype) -> None:
        self.__dict__.update(cached.__dict__)
        self._frames, self._precision = frames, precision
        self._network = (
            FrameNetwork("resnet50", input_size=PATCH).eval().to(memory_format=torch.channels_last)
        )
        self._corners = grid_corners(PATCH, SIZE)

    def patch(self, video: np.ndarray, frame: np.ndarray, position: np.ndarray) -> torch.Tensor:
        along, each = np.arange(PATCH), position.shape[1]
        top, left = self._corners[position.ravel()].T
        rows, columns = (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]
        video, frame = np.repeat(video, each), np.repeat(frame, each)
        pixels = self._frames[video[:, None, None], frame[:, None, None], rows, columns]
        with torch.autocast("cpu", self._precision, enabled=self._precision != torch.float32):
            features = self._network(torch.from_numpy(pixels))
        return self.classifier.patch_input(features.to(self._dtype)).unflatten(0, position.shape)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=64, help="in the cache, and in a rollout at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = random_patch_cache(Path(folder) / "cache", options.videos)
        frames = np.random.default_rng(1).integers(0, 256, (options.videos, FRAMES, SIZE, SIZE, 3), np.uint8)
        # As the agent keeps them: the channels last, in the precision of the rollouts.
        glance = torch.from_numpy(cache["glance"][:]).movedim(2, -1).contiguous()
        tables = {"float32": glance, "bfloat16": glance.to(torch.bfloat16)}
        policy = PatchPolicy(1280, 49)
        seconds: dict[str, float] = {}

        def rollout(task: GridPatchSelect, videos: int, precision: str) -> Callable[[], None]:
            generator, draws = np.random.default_rng(0), torch.Generator().manual_seed(0)

            def run() -> None:
                chosen = generator.permutation(options.videos)[:videos]
                low = precision == "bfloat16"
                with torch.autocast("cpu", torch.bfloat16, enabled=low), torch.no_grad():
                    reduced = []
                    for part in np.array_split(chosen, -(-len(chosen) // 4)):
                        maps = tables[precision].index_select(0, torch.from_numpy(part))
                        maps = maps.movedim(-1, -3).transpose(0, 1)
                        reduced.append(policy.reduced(maps if low else maps.float()))
                    roll_out(policy, torch.cat(reduced), task, chosen, generator, draws)

            return run

        for precision in ("float32", "bfloat16"):
            shared = {"reward": "contrast", "observation": "index", "precision": precision}
            task = GridPatchSelect(cache, "train", **shared)  # type: ignore[arg-type]
            asked, focus = (
                GridPatchSelect(cache, "train", **shared, largest_in_memory=0)  # type: ignore[arg-type]
                for _ in range(2)
            )
            focus.inputs = FocusNetworkInputs(task.inputs, frames, getattr(torch, precision))
            runs = {
                f"{precision}, inputs in memory": rollout(task, options.videos, precision),
                f"{precision}, inputs computed when asked for": rollout(asked, options.videos, precision),
            }
            for name, run in runs.items():
                run()
                times = []
                for _ in range(options.rounds):
                    begun = time.perf_counter()
                    run()
                    times.append(time.perf_counter() - begun)
                seconds[name] = float(np.median(times)) / options.videos
            begun = time.perf_counter()
            rollout(focus, options.videos, precision)()
            seconds[f"{precision}, focus network"] = (time.perf_counter() - begun) / options.videos
        for name, value in seconds.items():
            results[f"{name}: episodes per second"] = 1 / value
        base = seconds["float32, focus network"]
        for name in seconds:
            if "inputs" in name:
                results[f"{name}: times the rollout with the focus network in float32"] = base / seconds[name]
        for name in seconds:
            if name.startswith("bfloat16, inputs"):
                results[f"{name}: times the one with it in bfloat16"] = (
                    seconds["bfloat16, focus network"] / seconds[name]
                )
    results["threads"] = options.threads
    write_report("patch_rollout", results)


if __name__ == "__main__":
    main()
