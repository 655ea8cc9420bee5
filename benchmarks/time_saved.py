"""What of the GFLOPs that the three systems save becomes time saved, on one thread of a processor.

python benchmarks/time_saved.py

Each system against the recognizer's network on all candidate frames, from decoded frames to class scores, in
processor time, alternately. On both sides all networks are as they are run (BatchNorm folded, channels last);
their weights are random, which changes no time. *Share* is the speed over that of all frames, divided by the
GFLOPs of all frames over the system's own.

- The small networks of the built-in data: 12 frames of 96², batch 32; OCSampler chooses 2, patches have 36².
- The published networks: 10 frames for OCSampler, which chooses 6, 16 for both AdaFocus; 224², batch 1.

The share of the networks alone, on prepared images without policy and classifier, is what a machine allows:
small images and thin layers make fewer multiply-adds per second than whole frames in a thick network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from published_speed import AllFrames as AllCandidates
from report import alternating_seconds, median_ratio, write_report
from torch import nn

from agents.adafocus.patch_policy import PatchPolicy
from agents.adafocus.released import ReleasedAdaFocus
from agents.adafocus_v2.network import AdaFocusV2Network, build_network, gflops_per_frame
from agents.adafocus_v2.recognition import RecognisingNetwork
from agents.adafocus_v2.released import build_released
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.networks import CandidatePolicy, ranked
from agents.ocsampler.released import ReleasedOCSampler
from agents.ocsampler.settings import OCSamplerSettings
from video_env.data.patches import GRID, grid_corners
from video_env.data.sampling import coarse_to_fine
from video_env.models.backbones import FrameNetwork
from video_env.models.classifiers import RunningMaxClassifier
from video_env.models.cost import count_gflops
from video_env.models.inference import chunks_of, for_inference
from video_env.models.recognizers import Recognizer

CLASSES, FEW_CLASSES = 200, 10


class AllFrames(nn.Module):
    """The recognizer on every candidate, uint8 [B, T, S, S, 3]."""

    def __init__(self, network: FrameNetwork, recognizer: Recognizer) -> None:
        super().__init__()
        self.network, self.recognizer = network, recognizer

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        flat = frames.flatten(0, 1)
        features = torch.cat([self.network(part) for part in flat.split(32)])
        chosen = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        return self.recognizer(features.unflatten(0, frames.shape[:2]), chosen)


class SmallOCSampler(nn.Module):
    """The small networks: skim all candidates, and recognise N of them."""

    def __init__(self, every: AllFrames, num_candidates: int, num_frames: int) -> None:
        super().__init__()
        self.every, self.num_frames = every, num_frames
        self.skim = FrameNetwork("small_skim")
        default = OCSamplerSettings()
        self.policy = CandidatePolicy(default.policy, self.skim.features, num_candidates, default.hidden)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        features = self.skim(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        chosen = ranked(self.policy(features))[:, : self.num_frames].sort(dim=-1).values
        return self.every(frames[torch.arange(len(frames))[:, None], chosen])


class SmallAdaFocus(nn.Module):
    """The small networks: a patch of the grid in every frame."""

    def __init__(self, frame_size: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.glance = FrameNetwork("small_glance")
        self.focus = FrameNetwork("small", input_size=patch_size)
        self.policy = PatchPolicy(self.glance.features, 8 * 8, GRID * GRID, hidden=128)
        self.classifier = RunningMaxClassifier(
            self.glance.features, self.focus.features, FEW_CLASSES, hidden=128, pooling="max"
        )
        self.register_buffer("corners", torch.from_numpy(grid_corners(patch_size, frame_size)))
        self.corners: torch.Tensor

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        flat, size = frames.flatten(0, 1), self.patch_size
        maps = self.glance.maps(self.glance.prepare(flat)).unflatten(0, frames.shape[:2])
        chosen = self.policy(maps.transpose(0, 1))[0].argmax(dim=-1).T.flatten()
        top, left = self.corners[chosen].unbind(1)
        patches = flat.unfold(1, size, 1).unfold(2, size, 1)[torch.arange(len(flat)), top, left]
        pixels = patches.permute(0, 2, 3, 1)
        chunks = chunks_of(len(flat), size, flat.device)
        features = torch.cat([self.focus(pixels[chunk]) for chunk in chunks])
        return self.classifier(self.classifier.pool(maps), features.unflatten(0, frames.shape[:2]))


@dataclass(frozen=True)
class Work:
    """Something to time, without arguments, and its GFLOPs."""

    run: Callable[[], object]
    gflops: float


@dataclass(frozen=True)
class System:
    """A system against all frames, on the same batch; and its networks on prepared images alone."""

    own: Work
    every: Work
    networks: Work


def on(module: nn.Module, frames: torch.Tensor) -> Work:
    """A module at work on frames, its cost counted."""
    return Work(partial(module, frames), count_gflops(module, frames))


def passes(*parts: tuple[nn.Module, int, int]) -> Work:
    """Networks on random images: each with their number and side."""
    images = [torch.randn(count, side, side, 3).permute(0, 3, 1, 2) for _, count, side in parts]
    gflops = [
        count * count_gflops(network, own[:1]) for (network, count, _), own in zip(parts, images, strict=True)
    ]

    def run() -> None:
        for (network, count, side), own in zip(parts, images, strict=True):
            for chunk in chunks_of(count, side, own.device):
                network(own[chunk])

    return Work(run, sum(gflops))


def recognising(network: AdaFocusV2Network, frames: torch.Tensor) -> Work:
    """AdaFocusV2 from uint8 frames in time order, as its agent runs it."""
    own, order = RecognisingNetwork(network), torch.from_numpy(coarse_to_fine(network.num_frames))
    cost = len(frames) * network.num_frames * gflops_per_frame(network)
    return Work(lambda: own.last(frames, order), cost)


def small() -> dict[str, System]:
    side, size, count, videos, chosen = 96, 36, 12, 32, 2
    frames = torch.randint(0, 256, (videos, count, side, side, 3), dtype=torch.uint8)
    recognizer = for_inference(AllFrames(FrameNetwork("small"), Recognizer(64, FEW_CLASSES, hidden=128)))
    ocsampler = for_inference(SmallOCSampler(recognizer, count, chosen))
    adafocus = for_inference(SmallAdaFocus(side, size))
    settings = AdaFocusV2Settings(patch_size=size)
    network = build_network(settings, frame_size=side, num_frames=count, classes=FEW_CLASSES)
    every, images, backbone = on(recognizer, frames), videos * count, recognizer.network.backbone
    looks = passes((adafocus.glance.backbone, images, 16), (backbone, images, size))
    skims = passes((ocsampler.skim.backbone, images, 16), (backbone, videos * chosen, side))
    return {
        "OCSampler": System(on(ocsampler, frames), every, skims),
        "AdaFocus": System(on(adafocus, frames), every, looks),
        "AdaFocusV2": System(recognising(network, frames), every, looks),
    }


def published() -> dict[str, System]:
    side, count = 224, 16
    ocsampler = for_inference(ReleasedOCSampler(CLASSES, num_frames=6))
    skim, embedding = ocsampler.skim.backbone, ocsampler.embedding.backbone
    ten, clip = torch.randn(1, 10, 3, side, side), torch.randn(1, 10, 3, 128, 128)
    chosen, skimmed = passes((embedding, 6, side)), on(skim, clip)
    networks = Work(lambda: (skimmed.run(), chosen.run()), skimmed.gflops + chosen.gflops)
    systems = {"OCSampler, 6 of 10": System(on(ocsampler, ten), on(AllCandidates(ocsampler), ten), networks)}
    frames = torch.randint(0, 256, (1, count, side, side, 3), dtype=torch.uint8)
    images = torch.randn(1, count, 3, side, side)
    every = on(for_inference(AllFrames(FrameNetwork("resnet50"), Recognizer(2048, CLASSES))), frames)
    for size in (96, 128):
        adafocus = for_inference(ReleasedAdaFocus(CLASSES, patch_size=size))
        network = build_released(patch_size=size, num_classes=CLASSES)
        looks = passes((adafocus.glance.backbone, count, side), (embedding, count, size))
        systems[f"AdaFocus, {size}²"] = System(on(adafocus, images), every, looks)
        systems[f"AdaFocusV2, {size}²"] = System(recognising(network, frames), every, looks)
    return systems


def compared(systems: dict[str, System], size: str, aim: float, rounds: int) -> dict[str, float]:
    """All in turns; what several systems share is timed once a round."""
    works = {work: work.run for one in systems.values() for work in (one.own, one.every, one.networks)}
    seconds = alternating_seconds(works, rounds=rounds, clock=time.process_time)
    results = {}
    for name, one in systems.items():
        what = f"{size}, {name}"
        saved, alone = (one.every.gflops / work.gflops for work in (one.own, one.networks))
        speed, of_networks = (
            median_ratio(seconds[one.every], seconds[work]) for work in (one.own, one.networks)
        )
        results |= {
            f"{what}: GFLOPs of all frames over its own": saved,
            f"{what}: speed over all frames": speed,
            f"{what}: share of the GFLOPs saved (aim {aim})": speed / saved,
            f"{what}: that share of its networks alone": of_networks / alone,
        }
    every = {f"{size}, {name}": one.every for name, one in systems.items()}
    return results | {
        f"{what}: all frames: 10^9 multiply-adds per second": work.gflops / float(np.median(seconds[work]))
        for what, work in every.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--published-rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        results = compared(small(), "small", 0.6, options.rounds)
        results |= compared(published(), "published", 0.8, options.published_rounds)
    write_report("time_saved", results)


if __name__ == "__main__":
    main()
