"""AdaFocusV2's speed at the published size (MobileNetV2 glance, ResNet-50 on 96x96 patches, T = 16).

python benchmarks/adafocus_v2.py

- Patches: ours and affine_grid + grid_sample, forward and backward to the position.
- Training step, batch 2, float32, the same numbers: ours, and a straightforward one with grid_sample and the
  contiguous layout that passes each branch through the network by itself; the glance is computed once for
  both, as released, or in each pass. And ours in bfloat16, and with torch.compile.
- Conditional exit, batch 1: videos per second at half the average GFLOPs, and without exit.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from report import alternating_seconds, median_ratio, write_report
from torch import nn

from agents.adafocus_v2.loss import training_loss
from agents.adafocus_v2.network import AdaFocusV2Network, Progress
from agents.adafocus_v2.released import build_released
from agents.adafocus_v2.settings import Ingredients
from video_env.models.cut_patches import cut_patches
from video_env.models.device import resolve_device

DEVICE = resolve_device("auto")
FRAMES = 16


def sampled(images: torch.Tensor, points: torch.Tensor, size: int) -> torch.Tensor:
    """Patches by affine_grid and grid_sample."""
    side = images.shape[-1]
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size / side
    theta[:, :, 2] = ((2 * points * (side - size) + size) / side - 1).flip(-1)
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


class Straightforward(nn.Module):
    """The loss with grid_sample, the contiguous layout, and one pass for each branch.

    Args:
        network: whose weights it takes.
        glance_once: for both branches.
    """

    def __init__(self, network: AdaFocusV2Network, *, glance_once: bool) -> None:
        super().__init__()
        self.network, self.glance_once = network, glance_once

    def forward(self, frames: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        network, losses, glances = self.network, [], None
        flat = frames.flatten(0, 1)
        for branch in range(2):
            if glances is None or not self.glance_once:
                maps = network.glance.maps(flat)
                glances = (
                    maps.unflatten(0, frames.shape[:2]),
                    maps.mean(dim=(-2, -1)).unflatten(0, frames.shape[:2]),
                )
            points = drawn if branch else network.policy(glances[0].detach())[0]
            patches = sampled(flat, points.flatten(0, 1), network.patch_size)
            features = network.focus.backbone(patches).unflatten(0, frames.shape[:2])
            logits = network.classifier(torch.cat([glances[1], features], dim=-1))
            scores = (logits, network.glance_head(glances[1]), network.focus_head(features))
            repeated = targets[:, None].expand(-1, FRAMES, -1).flatten(0, 1)
            losses.append(sum(F.cross_entropy(one.flatten(0, 1), repeated) for one in scores))
        return (losses[0] + losses[1]) / 2


def patches(rounds: int) -> dict[str, float]:
    results = {}
    for count, side, size in ((32, 224, 96), (384, 96, 36)):
        for name, kind in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
            images = torch.randn(count, 3, side, side, device=DEVICE).contiguous(memory_format=kind)
            weights = torch.randn(count, 3, size, size, device=DEVICE).contiguous(memory_format=kind)

            def run(
                cut: Callable[..., torch.Tensor], images: torch.Tensor = images,
                weights: torch.Tensor = weights, size: int = size,
            ) -> None:  # fmt: skip
                points = torch.rand(len(images), 2, device=DEVICE, requires_grad=True)
                cut(images, points, size).backward(weights)
                _wait()

            seconds = alternating_seconds(
                {"ours": lambda run=run: run(cut_patches), "sampled": lambda run=run: run(sampled)},
                rounds=20 * rounds,
            )
            ratio = median_ratio(seconds["ours"], seconds["sampled"])
            results[f"patches {size}² of {side}², {name}: time over grid_sample's"] = ratio
    return results


def training(rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    network = build_released(patch_size=96).train().to(DEVICE)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # so that all compute the same
    plain = copy.deepcopy(network)
    network.focus.to(memory_format=torch.channels_last)
    frames = torch.randn(2, FRAMES, 3, 224, 224, device=DEVICE)
    targets = F.one_hot(torch.tensor([3, 7], device=DEVICE), 200).float()
    drawn = torch.rand(2, FRAMES, 2, device=DEVICE)
    compiled = copy.deepcopy(network)
    compiled.focus.backbone.compile()
    compiled.glance.backbone.compile()

    def step(loss: Callable[..., torch.Tensor], own: nn.Module, low: bool = False) -> float:
        own.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=low):
            value = loss(frames, targets, drawn)
        value.backward()
        return value.item()

    def ours(own: AdaFocusV2Network, low: bool = False) -> Callable[[], float]:
        return lambda: step(lambda *inputs: training_loss(own, *inputs, Ingredients()), own, low)

    def theirs(glance_once: bool) -> Callable[[], float]:
        loss = Straightforward(plain, glance_once=glance_once)
        return lambda: step(loss, plain)

    tasks = {
        "ours": ours(network), "glance once": theirs(True), "glance twice": theirs(False),
        "bfloat16": ours(network, low=True), "compiled": ours(compiled),
    }  # fmt: skip
    losses = [tasks[name]() for name in ("ours", "glance once")]
    seconds = alternating_seconds(tasks, rounds=rounds)
    return {
        "training step: seconds": float(np.median(seconds["ours"])),
        "training step: relative difference of the losses": abs(losses[0] / losses[1] - 1),
        "training step: time over the straightforward one's (aim 0.85)": median_ratio(
            seconds["ours"], seconds["glance once"]
        ),
        "training step: time over that with a glance in each pass": median_ratio(
            seconds["ours"], seconds["glance twice"]
        ),
        "training step in bfloat16: time over float32's": median_ratio(seconds["bfloat16"], seconds["ours"]),
        "training step with torch.compile: time over that without": median_ratio(
            seconds["compiled"], seconds["ours"]
        ),
    }


def early_exit(rounds: int) -> dict[str, float]:
    network = build_released(patch_size=96).eval().to(DEVICE)
    network.focus.to(memory_format=torch.channels_last)
    frames = torch.randn(1, FRAMES, 3, 224, 224, device=DEVICE)

    def stepwise(count: int, every: int) -> None:
        carried: Progress | None = None
        for number in range(0, count, every):
            logits, _, carried = network.step(frames[:, number : number + every], carried, number)
            logits.max().item()  # the decision to leave waits for the scores

    def whole() -> None:
        network(frames).logits.max().item()

    with torch.inference_mode():
        # Half the videos leave after 4 frames and half after 12: half the GFLOPs on average.
        tasks: dict[str, Callable[[], object]] = {"whole": lambda: (whole(), whole())}
        for every in (1, 2, 4):
            tasks[f"every {every}"] = lambda every=every: (stepwise(4, every), stepwise(12, every))
        seconds = alternating_seconds(tasks, rounds=4 * rounds)
    results = {"no exit, batch 1: videos per second": 2 / float(np.median(seconds["whole"]))}
    for every in (1, 2, 4):
        ratio = median_ratio(seconds["whole"], seconds[f"every {every}"])
        results[f"exit at half the GFLOPs, batch 1, every {every}: speed over that (aim 1.5)"] = ratio
    return results


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results: dict[str, float] = {}
    begun = time.perf_counter()
    for part in (patches, training, early_exit):
        results |= part(options.rounds)
    results["seconds of this benchmark"] = time.perf_counter() - begun
    write_report("adafocus_v2", results)


if __name__ == "__main__":
    main()
