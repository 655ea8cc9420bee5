"""The batched environments with a policy on a GPU and on the CPU, and the exact probability of sets.

The environments are NumPy on the CPU; only their classifier over patches, and what acts in them, runs on the
device. Observations are row numbers, so that features stay in one table there. Published sizes: 6 of 10
frames with 1280 skim features, or 49 patches in each of 16 frames; features are random, which changes no
time.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gpu_timing import Bench, Limits, median_seconds
from random_caches import CLASSES, random_cache, random_patch_cache
from torch import nn

import video_env  # noqa: F401  (registers the environments)
from agents.adafocus.patch_policy import PatchPolicy
from agents.adafocus.patch_ppo import roll_out
from agents.ocsampler.agent import OCSampler
from agents.ocsampler.set_probability import draw_sets, log_probability_of_all_sets, log_set_probability
from agents.ocsampler.settings import OCSamplerSettings
from baselines.features import CandidateFeatures, GlanceFeatures
from video_env.cache.store import Cache
from video_env.envs.patch_select import GridPatchSelect
from video_env.models.recognizers import Recognizer, store_recognizer
from video_env.models.stopping import Length
from video_env.models.train_recognizer import add_subset_tables

CANDIDATES, CHOSEN = 10, 6


def measure(
    bench: Bench, folder: Path, *, num_envs: int = 1024, videos: int = 512, episodes: int = 64
) -> None:
    """Every part, with its caches in the folder.

    Args:
        bench: collects the figures.
        folder: for caches.
        num_envs: environments of frame selection that run side by side; of patch selection a quarter.
        videos: of the cache for frame selection.
        episodes: of a rollout of AdaFocus.
    """
    frames = _frame_cache(folder / "frame-selection", videos)
    patches = random_patch_cache(folder / "patch-selection", episodes)
    bench.part("FrameSelect-v0", lambda: _frame_selection(bench, frames, num_envs))
    bench.part("FrameSelectOneStep-v0", lambda: _one_step(bench, frames, num_envs))
    bench.part("PatchSelect-v0", lambda: _patch_selection(bench, patches, num_envs // 4))
    bench.part("AdaFocus's rollouts", lambda: _rollouts(bench, patches, episodes))
    bench.part("OCSampler on cached features", lambda: _cached_features(bench, frames))
    bench.part("probability of sets", lambda: _set_probability(bench))


class Actor(nn.Module):
    """A feature extractor of Stable-Baselines3 with a linear layer: observations to a score per action."""

    def __init__(self, extractor: CandidateFeatures | GlanceFeatures, actions: int) -> None:
        super().__init__()
        self.extractor, self.actions = extractor, nn.Linear(extractor.features_dim, actions)

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.actions(self.extractor(observation))

    @torch.inference_mode()
    def act(
        self, observation: dict[str, np.ndarray], device: torch.device, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Drawn actions, int64 [B]."""
        scores = self({key: torch.as_tensor(value).to(device) for key, value in observation.items()})
        if mask is not None:
            scores = scores.masked_fill(~torch.as_tensor(mask).bool().to(device), -torch.inf)
        return torch.multinomial(scores.softmax(dim=-1), 1)[:, 0].cpu().numpy()


def _steps_per_second(
    env: gym.vector.VectorEnv, actor: Actor, device: torch.device, limits: Limits, steps: int
) -> float:
    actor.to(device).eval()
    observation, info = env.reset(seed=0)

    def run() -> None:
        nonlocal observation, info
        for _ in range(steps):
            action = actor.act(observation, device, info.get("action_mask"))
            observation, _, _, _, info = env.step(action)

    return steps * env.num_envs / median_seconds(run, device, limits)


def _frame_selection(bench: Bench, cache: Cache, num_envs: int) -> None:
    def rate(device: torch.device, limits: Limits) -> float:
        env = gym.make_vec(
            "FrameSelect-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", cache=cache,
            observation="index",
        )  # fmt: skip
        extractor = CandidateFeatures(env.single_observation_space, cache=str(cache.path))
        return _steps_per_second(env, Actor(extractor, CANDIDATES + 1), device, limits, steps=20)

    bench.compare(f"FrameSelect-v0, {num_envs} side by side, policy on the device", "env steps/s", rate)


def _one_step(bench: Bench, cache: Cache, num_envs: int) -> None:
    """OCSampler chooses for as many videos at once; the environment hands the features out."""

    def rate(device: torch.device, limits: Limits) -> float:
        env = gym.make_vec(
            "FrameSelectOneStep-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", cache=cache,
            num_frames=CHOSEN,
        )  # fmt: skip
        agent = OCSampler(cache, OCSamplerSettings(num_frames=CHOSEN), device=str(device))
        observation, _ = env.reset(seed=0)

        def run() -> None:
            nonlocal observation
            for _ in range(5):
                observation = env.step(agent.predict(observation)[0])[0]

        return 5 * num_envs / median_seconds(run, device, limits)

    bench.compare(f"FrameSelectOneStep-v0, {num_envs} side by side, OCSampler acting", "episodes/s", rate)


def _patch_selection(bench: Bench, cache: Cache, num_envs: int) -> None:
    def rate(device: torch.device, limits: Limits) -> float:
        env = gym.make_vec(
            "PatchSelect-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", cache=cache,
            observation="index", device=str(device),
        )  # fmt: skip
        extractor = GlanceFeatures(env.single_observation_space, cache=str(cache.path))
        return _steps_per_second(env, Actor(extractor, 49), device, limits, steps=16)

    bench.compare(
        f"PatchSelect-v0, {num_envs} side by side, classifier and policy on the device", "env steps/s", rate
    )


def _rollouts(bench: Bench, cache: Cache, episodes: int) -> None:
    """As the agent does them, glance maps being on the device."""
    for precision in bench.precisions:

        def rate(device: torch.device, limits: Limits, precision: str = precision) -> float:
            kind = getattr(torch, precision)
            task = GridPatchSelect(
                cache, "train", observation="index", device=str(device), precision=precision  # type: ignore[arg-type]
            )  # fmt: skip
            policy = PatchPolicy(1280, 49).to(device)
            maps = torch.from_numpy(cache["glance"][:]).to(device, kind)
            maps = maps.movedim(2, -1).contiguous().movedim(-1, 2).transpose(0, 1)
            generator = np.random.default_rng(0)
            draws, videos = torch.Generator(device).manual_seed(0), np.arange(episodes)

            def run() -> None:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    with torch.no_grad():
                        reduced = policy.reduced(maps)
                    roll_out(policy, reduced, task, videos, generator, draws)

            return episodes / median_seconds(run, device, limits)

        bench.compare(f"AdaFocus: rollouts of {episodes} episodes, {precision}", "episodes/s", rate)


def _cached_features(bench: Bench, cache: Cache) -> None:
    for estimator in ("sampled", "exact"):

        def rate(device: torch.device, limits: Limits, estimator: str = estimator) -> float:
            begun, done = time.perf_counter(), list[float]()

            def enough(_: OCSampler) -> None:
                done.append(time.perf_counter())
                if len(done) > 20 * limits.rounds or done[-1] - begun > limits.seconds:
                    raise _Enough

            settings = OCSamplerSettings(
                num_frames=CHOSEN, estimator=estimator, length=Length(epochs=1000)  # type: ignore[arg-type]
            )  # fmt: skip
            with contextlib.suppress(_Enough):
                OCSampler(cache, settings, device=str(device)).learn(callback=enough)
            return 1 / float(np.median(np.diff(done)))

        bench.compare(f"OCSampler: training on cached features, batch 64, {estimator}", "steps/s", rate)


def _set_probability(bench: Bench) -> None:
    for batch in (64, 4096):
        for name in ("drawn", "all"):

            def rate(device: torch.device, limits: Limits, batch: int = batch, name: str = name) -> float:
                generator = torch.Generator(device).manual_seed(0)
                scores = torch.randn(
                    batch, CANDIDATES, generator=generator, device=device, requires_grad=True
                )
                chosen = draw_sets(scores.detach().log_softmax(-1), CHOSEN, generator)

                def run() -> None:
                    for _ in range(10):
                        scores.grad = None
                        log_p = scores.log_softmax(-1)
                        value = (
                            log_set_probability(log_p, chosen)
                            if name == "drawn"
                            else log_probability_of_all_sets(log_p, CHOSEN)
                        )
                        value.sum().backward()

                return 10 * batch / median_seconds(run, device, limits)

            sets = "of the drawn set" if name == "drawn" else "of all 210 sets"
            bench.compare(
                f"probability {sets} of {CHOSEN} of {CANDIDATES}, forward and backward, batch {batch}",
                "videos/s",
                rate,
            )


def _frame_cache(folder: Path, videos: int) -> Cache:
    """Random skim features of the published size, and the verdicts of a small recognizer on every subset."""
    arrays = {"skim": (CANDIDATES, 1280), "embedding": (CANDIDATES, 16)}
    cache = random_cache(folder, videos, arrays, {"skim": 0.1, "embedding": 4.1})
    recognizer = Recognizer(16, CLASSES, hidden=0)
    return add_subset_tables(store_recognizer(cache, recognizer, recognizer.gflops()), "cpu")


class _Enough(Exception):
    """Enough steps were timed."""
