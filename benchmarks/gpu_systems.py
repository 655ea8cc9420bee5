"""The three systems at their published sizes: training steps and recognition, on a GPU and on the CPU.

Weights and frames are random, which changes no time. Training is the agents' own, reading from a cache; a
step is one update on one batch. Recognition is of normalised frames that are on the device already, to scores
back in the host's memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from gpu_timing import Bench, Figure, Limits, median_seconds, median_step
from random_caches import CLASSES, random_cache, random_patch_cache
from torch import nn

from agents.adafocus import settings as adafocus_settings
from agents.adafocus.agent import AdaFocus
from agents.adafocus.network_training import NetworkStages
from agents.adafocus.released import ReleasedAdaFocus
from agents.adafocus_v2 import settings as adafocus_v2_settings
from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.released import build_released
from agents.ocsampler import settings as ocsampler_settings
from agents.ocsampler.agent import OCSampler
from agents.ocsampler.released import ReleasedOCSampler
from video_env.cache.store import Cache
from video_env.models.recognizers import Recognizer, store_recognizer
from video_env.models.stopping import Length


@dataclass(frozen=True)
class Sizes:
    """What is measured; by default as published.

    Attributes:
        frame: pixels of a frame's side for OCSampler.
        patch: pixels of a patch's side in AdaFocus and AdaFocusV2.
        ocsampler, adafocus, adafocus_v2: videos per training step.
        parts: of AdaFocusV2's step, one after the other, so that it fits one GPU's memory.
        few: videos per training step that are no trouble for a CPU.
        policy: videos per step of AdaFocus's stage 2.
        recognised: batches of recognition.
    """

    frame: int = 224
    patch: int = 128
    ocsampler: int = 40
    adafocus: int = 64
    adafocus_v2: int = 32
    parts: int = 4
    few: int = 4
    policy: int = 64
    recognised: tuple[int, ...] = (1, 32)

    @property
    def label(self) -> str:
        """What a figure says of its batch."""
        return " (published)" if self == Sizes() else ""


SMALL = Sizes(
    frame=64, patch=32, ocsampler=4, adafocus=2, adafocus_v2=2, parts=2, few=1, policy=8, recognised=(1, 2)
)


def measure(bench: Bench, sizes: Sizes, folder: Path) -> None:
    """Every system, each a part of the benchmark, with its caches in the folder."""
    bench.part("OCSampler, training", lambda: _ocsampler_training(bench, sizes, folder))
    bench.part("AdaFocus, training, stage 1", lambda: _adafocus_patches(bench, sizes, folder))
    bench.part("AdaFocus, training, stage 2", lambda: _adafocus_policy(bench, sizes, folder))
    bench.part("AdaFocusV2, training", lambda: _adafocus_v2_training(bench, sizes, folder))
    systems: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
        "OCSampler, 6 of 10 frames": (lambda: ReleasedOCSampler(CLASSES), 10, sizes.frame),
        f"AdaFocus, {sizes.patch}² patches": (
            lambda: ReleasedAdaFocus(CLASSES, patch_size=sizes.patch), 16, 224
        ),
        f"AdaFocusV2, {sizes.patch}² patches": (lambda: build_released(patch_size=sizes.patch), 16, 224),
    }  # fmt: skip
    for name, (build, *shape) in systems.items():
        bench.part(
            f"{name}, recognition",
            lambda name=name, build=build, shape=shape: _recognition(
                bench, sizes, name, build().eval(), *shape
            ),
        )


def _recognition(
    bench: Bench, sizes: Sizes, name: str, network: nn.Module, num_frames: int, size: int
) -> None:
    # As the agents run them: see AdaFocusV2Network.look for its glance network.
    for part in ("skim", "embedding", "glance", "focus"):
        if hasattr(network, part) and not (part == "glance" and hasattr(network, "glance_head")):
            getattr(network, part).to(memory_format=torch.channels_last)
    for precision in (getattr(torch, name) for name in bench.precisions):
        known: Figure | None = None
        for batch in sizes.recognised:

            def rate(
                device: torch.device, limits: Limits, batch: int = batch, precision: torch.dtype = precision
            ) -> float:
                network.to(device)
                frames = torch.randn(batch, num_frames, 3, size, size, device=device)

                def run() -> None:
                    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                        output = network(frames)
                    scores = output.scores if hasattr(output, "scores") else output.logits[:, -1]
                    scores.float().cpu()

                with torch.inference_mode():
                    return batch / median_seconds(run, device, limits)

            kind = str(precision).removeprefix("torch.") + (
                " (autocast)" if precision == torch.bfloat16 else ""
            )
            fits, why_not = _fits(bench, known, batch)
            known = bench.compare(
                f"{name}: recognition, batch {batch}, {kind}", "videos/s", rate, cpu=fits, why_not=why_not
            )


def _fits(bench: Bench, known: Figure | None, videos: int, calls: int = 2) -> tuple[bool, str]:
    """Whether so many calls of this batch are within the CPU's time, by the rate of a smaller one; and why
    not."""
    if known is None:
        return True, ""
    if known.cpu is None:
        return False, "the smaller batch was not measured on the CPU"
    expected = calls * videos / known.cpu
    return expected < bench.limits.seconds, f"about {expected:.0f} s on the CPU"


def _two_batches(
    bench: Bench, sizes: Sizes, name: str, all_of_it: int, rate: Callable[[int], Callable[..., float]]
) -> None:
    """A training's videos per second with a small batch on both devices, and with the published one on the
    GPU, and on the CPU where it takes it in time."""
    known = bench.compare(f"{name}, batch {sizes.few}", "videos/s", rate(sizes.few))
    fits, why_not = _fits(bench, known, all_of_it)
    figure = bench.compare(
        f"{name}, batch {all_of_it}{sizes.label}", "videos/s", rate(all_of_it), cpu=fits, why_not=why_not
    )
    steps = Figure(
        f"{name}, batch {all_of_it}{sizes.label}: steps", "steps/s",
        *(None if value is None else value / all_of_it for value in (figure.cpu, figure.gpu)),
        note=figure.note,
    )  # fmt: skip
    bench.figures.append(steps)


def _ocsampler_training(bench: Bench, sizes: Sizes, folder: Path) -> None:
    """End to end: MobileNetV2 with temporal shift over 10 frames, sets of 6, the recognizer's verdicts."""
    cache = _frames_cache(folder / "ocsampler", 2 * sizes.ocsampler, 10, sizes.frame, embedding=True)

    def rate(device: torch.device, limits: Limits) -> float:
        begun, done = time.perf_counter(), list[float]()

        def enough(_: OCSampler) -> None:
            done.append(time.perf_counter())
            if len(done) > limits.rounds or (len(done) > 1 and done[-1] - begun > limits.seconds):
                raise _Enough

        settings = replace(
            ocsampler_settings.PUBLISHED,
            skim_weights="random",
            batch_size=sizes.ocsampler,
            epochs=limits.rounds + 1,
        )
        with contextlib.suppress(_Enough):
            OCSampler(cache, settings, device=str(device)).learn(callback=enough)
        return 1 / median_step((np.array(done) - begun).tolist())

    bench.compare(f"OCSampler: training end to end, batch {sizes.ocsampler}{sizes.label}", "steps/s", rate)


def _adafocus_patches(bench: Bench, sizes: Sizes, folder: Path) -> None:
    """Stage 1: ResNet-50 on a random patch of each of 16 frames, and the GRU over glances and patches."""

    def of_batch(videos: int) -> Callable[[torch.device, Limits], float]:
        cache = _frames_cache(folder / f"frames-{videos}", videos, 16, 224)

        def rate(device: torch.device, limits: Limits) -> float:
            training = replace(
                adafocus_settings.PUBLISHED.random_patches, batch_size=videos,
                epochs=_epochs(device, limits, videos, sizes.few),
            )  # fmt: skip
            settings = replace(
                adafocus_settings.PUBLISHED, patch_size=sizes.patch, glance_weights="random",
                focus_weights="random", random_patches=training,
            )  # fmt: skip
            # By itself: without stage 0 before it, and the caching of all patches after it.
            stage = NetworkStages(cache, settings, device).random_patch_stage({})
            stage.run(None)
            return videos / median_step([epoch["seconds"] for epoch in stage.history])

        return rate

    _two_batches(bench, sizes, f"AdaFocus: stage 1, {sizes.patch}² patches", sizes.adafocus, of_batch)


def _adafocus_policy(bench: Bench, sizes: Sizes, folder: Path) -> None:
    """Stage 2: rollouts on PatchSelect-v0's dynamics over cached patches, and PPO's update on each."""
    cache = random_patch_cache(folder / "policy", 2 * sizes.policy)
    for precision in bench.precisions:

        def rate(device: torch.device, limits: Limits, precision: str = precision) -> float:
            training = replace(
                adafocus_settings.PUBLISHED.policy, batch_size=sizes.policy, epochs=limits.rounds + 1,
                precision=precision,  # type: ignore[arg-type]
            )  # fmt: skip
            agent = AdaFocus(cache, replace(adafocus_settings.PUBLISHED, policy=training), device=str(device))
            agent.train_policy()
            return 2 / median_step([epoch["seconds"] for epoch in agent.stage_history[2]])

        bench.compare(
            f"AdaFocus: stage 2, rollout and PPO update, batch {sizes.policy}{sizes.label}, rollouts in "
            f"{precision}",
            "steps/s",
            rate,
        )


def _adafocus_v2_training(bench: Bench, sizes: Sizes, folder: Path) -> None:
    """End to end: MobileNetV2 on 16 frames, the policy, ResNet-50 on two branches of patches."""
    for precision in bench.precisions:

        def of_batch(videos: int, precision: str = precision) -> Callable[[torch.device, Limits], float]:
            cache = _frames_cache(folder / f"frames-{videos}", videos, 16, 224)
            parts = sizes.parts if videos == sizes.adafocus_v2 else 1

            def rate(device: torch.device, limits: Limits) -> float:
                settings = replace(
                    adafocus_v2_settings.PUBLISHED, patch_size=sizes.patch, glance_weights="random",
                    focus_weights="random", batch_size=videos, parts=parts, precision=precision,  # type: ignore[arg-type]
                    length=Length(epochs=_epochs(device, limits, videos, sizes.few)),
                )  # fmt: skip
                agent = AdaFocusV2(cache, settings, device=str(device)).learn()
                return videos / median_step([epoch["seconds"] for epoch in agent.history])

            return rate

        name = f"AdaFocusV2: training end to end, {sizes.patch}² patches, {precision}"
        _two_batches(bench, sizes, name, sizes.adafocus_v2, of_batch)


def _epochs(device: torch.device, limits: Limits, videos: int, few: int) -> int:
    """Of a training whose epoch is one step; the first does not count. A large batch takes a CPU long."""
    if device.type == "cpu":
        return 3 if videos <= few else 2
    return limits.rounds + 1


def _frames_cache(folder: Path, videos: int, num_frames: int, size: int, *, embedding: bool = False) -> Cache:
    """Random frames of training videos, made once; for OCSampler also ResNet-50's features and the published
    recognizer."""
    if (folder / "meta.json").is_file():
        return Cache(folder)
    arrays: dict[str, tuple[int, ...]] = {"frames": (num_frames, size, size, 3)}
    if embedding:
        arrays["embedding"] = (num_frames, 2048)
    cache = random_cache(folder, videos, arrays, {"embedding": 4.1} if embedding else {})
    if not embedding:
        return cache
    recognizer = Recognizer(2048, CLASSES)
    return store_recognizer(cache, recognizer, recognizer.gflops())


class _Enough(Exception):
    """Enough steps were timed."""
