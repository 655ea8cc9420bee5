"""What of the GFLOPs that the three systems save becomes time saved, on one thread of a processor.

python benchmarks/time_saved.py

Each system against the recognizer's network on all candidate frames, from decoded frames to class scores, in
processor time, alternately. On both sides all networks are as they are run (BatchNorm folded, channels last);
their weights are random, which changes no time. *Share* is the speed over that of all frames, divided by the
GFLOPs of all frames over the system's own.

- The small networks of the built-in data: 12 frames of 96², batch 32; OCSampler chooses 2, patches have 36².
- The published networks: 10 frames for OCSampler, which chooses 6, 16 for both AdaFocus; 224², batch 2.

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
from report import alternating_seconds, median_ratio, write_report
from torch import nn

from agents.adafocus.patch_policy import PatchPolicy
from agents.adafocus.released import ReleasedAdaFocus
from agents.adafocus_v2.network import AdaFocusV2Network, build_network, gflops_per_frame
from agents.adafocus_v2.recognition import RecognisingNetwork
from agents.adafocus_v2.released import build_released
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.networks import build_policy, ranked
from agents.ocsampler.released import ReleasedOCSampler
from video_env.data.patches import GRID, grid_corners
from video_env.data.sampling import coarse_to_fine
from video_env.models.backbones import FrameNetwork
from video_env.models.classifiers import RunningMaxClassifier
from video_env.models.cost import count_gflops, counted_gflops
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

    def __init__(self, every: AllFrames, num_frames: int) -> None:
        super().__init__()
        self.every, self.num_frames = every, num_frames
        self.skim = FrameNetwork("small_skim")
        self.policy = build_policy("convolution", self.skim.features, 32)

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


class Recognising(nn.Module):
    """AdaFocusV2 from uint8 frames in time order, as its agent runs it."""

    def __init__(self, network: AdaFocusV2Network) -> None:
        super().__init__()
        self.network = network
        self.recognising = RecognisingNetwork(network)
        self.order = torch.from_numpy(coarse_to_fine(network.num_frames))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.recognising.last(frames, self.order)[0]


@dataclass
class System:
    """A system against all frames.

    Attributes:
        own, every: the system and all frames, without arguments.
        gflops: of both, on a batch.
        videos: of a batch.
        networks: what of the system is networks on images alone.
    """

    own: Callable[[], object]
    every: Callable[[], object]
    gflops: tuple[float, float]
    videos: int
    networks: Callable[[], object]


def passes(*parts: tuple[nn.Module, int, int]) -> Callable[[], None]:
    """Networks on prepared random images: each with their number and side."""
    images = [torch.randn(count, side, side, 3).permute(0, 3, 1, 2) for _, count, side in parts]

    def run() -> None:
        for (network, count, side), own in zip(parts, images, strict=True):
            for chunk in chunks_of(count, side, own.device):
                network(own[chunk])

    return run


def small() -> dict[str, System]:
    side, size, count, videos, chosen = 96, 36, 12, 32, 2
    frames = torch.randint(0, 256, (videos, count, side, side, 3), dtype=torch.uint8)
    every = for_inference(AllFrames(FrameNetwork("small"), Recognizer(64, FEW_CLASSES, hidden=128)))
    ocsampler = for_inference(SmallOCSampler(every, chosen))
    adafocus = for_inference(SmallAdaFocus(side, size))
    network = build_network(
        AdaFocusV2Settings(patch_size=size), frame_size=side, num_frames=count, classes=FEW_CLASSES
    )
    v2 = Recognising(network)
    everything, cost = partial(every, frames), count_gflops(every, frames)
    images, backbone = videos * count, every.network.backbone
    looks = passes((adafocus.glance.backbone, images, 16), (backbone, images, size))
    skims = passes((ocsampler.skim.backbone, images, 16), (backbone, videos * chosen, side))
    costs = {system: (count_gflops(system, frames), cost) for system in (ocsampler, adafocus)}
    costs[v2] = images * gflops_per_frame(network), cost
    return {
        "OCSampler": System(partial(ocsampler, frames), everything, costs[ocsampler], videos, skims),
        "AdaFocus": System(partial(adafocus, frames), everything, costs[adafocus], videos, looks),
        "AdaFocusV2": System(partial(v2, frames), everything, costs[v2], videos, looks),
    }


def published() -> dict[str, System]:
    side, videos = 224, 2
    resnet = for_inference(FrameNetwork("resnet50"))
    ocsampler = for_inference(ReleasedOCSampler(CLASSES, num_frames=6))
    ten, clips = torch.randn(videos, 10, 3, side, side), torch.randn(videos, 10, 3, 128, 128)
    everything = partial(ocsampler.recognise, ten, torch.arange(10).expand(videos, -1))
    chosen = passes((resnet.backbone, videos * 6, side))
    costs = count_gflops(ocsampler, ten), counted(everything)
    systems = {
        "OCSampler, 6 of 10": System(
            partial(ocsampler, ten), everything, costs, videos, lambda: (ocsampler.skim.look(clips), chosen())
        )
    }
    frames = torch.randint(0, 256, (videos, 16, side, side, 3), dtype=torch.uint8)
    images = torch.randn(videos, 16, 3, side, side)
    every = for_inference(AllFrames(FrameNetwork("resnet50"), Recognizer(2048, CLASSES)))
    cost = count_gflops(every, frames)
    for size in (96, 128):
        adafocus = for_inference(ReleasedAdaFocus(CLASSES, patch_size=size))
        network = build_released(patch_size=size, num_classes=CLASSES)
        networks = passes((adafocus.glance.backbone, videos * 16, side), (resnet.backbone, videos * 16, size))
        systems[f"AdaFocus, {size}²"] = System(
            partial(adafocus, images), partial(every, frames), (count_gflops(adafocus, images), cost), videos,
            networks,
        )  # fmt: skip
        systems[f"AdaFocusV2, {size}²"] = System(
            partial(Recognising(network), frames), partial(every, frames),
            (videos * 16 * gflops_per_frame(network), cost), videos, networks,
        )  # fmt: skip
    return systems


def counted(run: Callable[[], object]) -> float:
    with counted_gflops() as gflops:
        run()
    return gflops()


def compared(systems: dict[str, System], size: str, aim: float, rounds: int) -> dict[str, float]:
    results = {}
    for name, system in systems.items():
        tasks = {"own": system.own, "every": system.every, "networks": system.networks}
        seconds = alternating_seconds(tasks, rounds=rounds, clock=time.process_time)
        own, every = system.gflops
        speed = median_ratio(seconds["every"], seconds["own"])
        alone = median_ratio(seconds["every"], seconds["networks"])
        what = f"{size}, {name}"
        results |= {
            f"{what}: GFLOPs of all frames over its own": every / own,
            f"{what}: speed over all frames": speed,
            f"{what}: share of the GFLOPs saved (aim {aim})": speed / (every / own),
            f"{what}: that share of its networks alone": alone / (every / counted(system.networks)),
            f"{what}: videos per second": system.videos / float(np.median(seconds["own"])),
            f"{what}: all frames: 10^9 multiply-adds per second": every / float(np.median(seconds["every"])),
        }
    return results


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
