"""OCSampler (Lin et al. 2022, arXiv 2201.04388): all N frames of a video chosen in one step.

A policy scores the T candidates from their skim features; N are drawn without replacement, and the
policy gradient uses the exact probability of the set drawn. The reward is the recognizer's score on
the drawn frames less its score on a baseline: one random frame in each of N uniform segments.

This file trains the policy on cached skim features, the recognizer's verdicts coming from the cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger, configure
from torch import nn
from tqdm import tqdm

from agents.set_probability import draw_sets, log_set_probability
from video_env.cache.store import Cache, open_cache
from video_env.data.sampling import segment_edges
from video_env.envs.rewards import Choice, Verdicts, quality, subset_bits
from video_env.errors import InputError, require_positive, require_seed
from video_env.evaluation.evaluate import LooksAt
from video_env.models.cost import count_gflops
from video_env.models.device import resolve_device
from video_env.models.optimise import seeded


@dataclass(frozen=True)
class OCSamplerSettings:
    """Settings of the agent and its training.

    Attributes:
        num_frames: N, frames chosen per video.
        reward: quality whose gain over the baseline is rewarded, by name (see FrameSelect-v0).
        epochs: passes over the training videos.
        batch_size: videos per step.
        learning_rate: Adam's, falling to 0 along a cosine.
        entropy: weight of the bonus on the entropy of the distribution over candidates.
        draws: sets drawn per video in a step.
        gradient_norm: largest norm of the gradient.
        hidden: channels of the policy's temporal convolutions.
        seed: decides the initial weights and every draw.
    """

    num_frames: int = 2
    reward: str = "confidence"
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 2e-3
    entropy: float = 0.02
    draws: int = 4
    gradient_norm: float = 40.0
    hidden: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "num_frames", "epochs", "batch_size", "learning_rate", "draws", "hidden")
        require_seed(self.seed)
        if self.entropy < 0:
            raise InputError(f"entropy: found {self.entropy}, expected at least 0")
        quality(self.reward)


class CandidatePolicy(nn.Module):
    """A score per candidate, each in view of its neighbours in time.

    Three 1-D convolutions over time (kernels 3, 5 and 5). A frame scored by itself leads to several
    frames of one event; a fully connected layer over all frames falls into the uniform subset.

    Args:
        features: D of the skim features.
        hidden: channels.
    """

    def __init__(self, features: int, hidden: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.layers = nn.Sequential(
            nn.Conv1d(features, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 5, padding=2), nn.ReLU(),
            nn.Conv1d(hidden, 1, 5, padding=2),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Skim features [B, T, D] to log-probabilities [B, T]."""
        return self.layers(self.norm(features).mT)[:, 0].log_softmax(dim=-1)


class OCSampler:
    """The agent; it acts in FrameSelectOneStep-v0 with ``num_frames`` given and feature observations.

    Args:
        cache: path of a cache, or a ``Cache``.
        settings: see ``OCSamplerSettings``.
        device: where the policy runs.

    Attributes:
        gflops: counted cost of one decision in 10^9 multiply-adds, skimming not included.
        looks_at: what the agent needs to have seen before it decides.

    Raises:
        InputError: N is larger than T, or the cache lacks what training needs.
    """

    looks_at: LooksAt = "skim"

    def __init__(
        self, cache: str | Path | Cache, settings: OCSamplerSettings | None = None, *, device: str = "auto"
    ) -> None:
        cache = open_cache(cache)
        self.settings = settings or OCSamplerSettings()
        if self.settings.num_frames > cache.num_candidates:
            raise InputError(
                f"num_frames: found {self.settings.num_frames}, expected at most {cache.num_candidates}, "
                f"the candidate frames of cache {cache.path}"
            )
        self._cache: Cache | None = cache
        self.trained_on = cache.identity
        self._start(cache.num_candidates, cache["skim"].row_shape[-1], device)

    def _start(self, num_candidates: int, features: int, device: str) -> None:
        self.num_candidates, self.features = num_candidates, features
        self.device = resolve_device(device)
        with seeded(self.settings.seed):
            self.policy = CandidatePolicy(features, self.settings.hidden).to(self.device)
        self.gflops = count_gflops(self.policy, torch.empty(1, num_candidates, features))
        self.epoch = 0
        self.training_seconds = 0.0
        self._draws = torch.Generator(self.device).manual_seed(self.settings.seed)

    def learn(self, *, log_folder: Path | None = None, checkpoint: Path | None = None) -> OCSampler:
        """Train for the settings' epochs.

        Args:
            log_folder: for ``progress.csv`` and TensorBoard.
            checkpoint: a file written after every epoch; if it exists, training goes on from it, to
                the same result as without the interruption.

        Raises:
            InputError: the checkpoint belongs to other settings.
        """
        cache, settings = self._cache, self.settings
        if cache is None:
            raise InputError("this OCSampler was loaded without a cache; load it with cache=... to train it")
        rows = cache.rows("train")
        rewards = _Rewards(cache, rows, settings)
        features = torch.from_numpy(cache["skim"][rows])
        optimiser = torch.optim.Adam(self.policy.parameters(), lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
        training = {"optimiser": optimiser, "schedule": schedule}
        if checkpoint is not None and checkpoint.is_file():
            self._resume(checkpoint, training)
        logger = configure(str(log_folder), ["csv", "tensorboard"]) if log_folder else Logger(None, [])
        self.policy.train()
        for epoch in tqdm(range(self.epoch, settings.epochs), desc=f"OCSampler, N = {settings.num_frames}",
                          initial=self.epoch, total=settings.epochs, unit="epoch"):  # fmt: skip
            begun = time.perf_counter()
            # Seeded by the epoch, so that a resumed training draws what an uninterrupted one draws.
            generator = np.random.default_rng([settings.seed, epoch])
            draws = torch.Generator(self.device).manual_seed(int(generator.integers(2**31)))
            for name, value in self._epoch(features, rewards, optimiser, generator, draws).items():
                logger.record(f"train/{name}", value)
            schedule.step()
            self.epoch = epoch + 1
            self.training_seconds += time.perf_counter() - begun
            logger.dump(self.epoch)
            if checkpoint is not None:
                self.save(checkpoint, training)
        self.policy.eval()
        return self

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Scores for FrameSelectOneStep-v0.

        Args:
            observation: with ``features`` [T, D], or [B, T, D] of a vector environment.
            state, episode_start: not used; there as in Stable-Baselines3.
            deterministic: rank the candidates by probability (the N most probable are taken), or in
                the order in which a draw without replacement gave them.

        Returns:
            Scores float32 [T] or [B, T], evenly spaced from 1 (taken first) to −1, and ``state``.
        """
        features = torch.as_tensor(np.asarray(observation["features"]), dtype=torch.float32)
        expected = (self.num_candidates, self.features)
        if features.shape[-2:] != expected:
            raise InputError(
                f"features: found shape {tuple(features.shape)}, expected [..., {expected[0]}, {expected[1]}]"
            )
        with torch.inference_mode():
            scores = self.policy(features.reshape(-1, *expected).to(self.device))
            if not deterministic:
                scores = scores - torch.empty_like(scores).exponential_(generator=self._draws).log()
        order = np.argsort(-scores.cpu().numpy(), axis=1, kind="stable")
        action = np.empty(order.shape, np.float32)
        np.put_along_axis(
            action, order, np.linspace(1, -1, self.num_candidates, dtype=np.float32)[None], axis=1
        )
        return action.reshape(features.shape[:-1]), state

    def save(self, path: str | Path, training: dict[str, Any] | None = None) -> None:
        """Write the agent (and, for a checkpoint, its training's state) to a file, in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        torch.save(
            {
                "agent": "OCSampler",
                "settings": asdict(self.settings),
                "trained_on": self.trained_on,
                "num_candidates": self.num_candidates,
                "features": self.features,
                "epoch": self.epoch,
                "training_seconds": self.training_seconds,
                "policy": self.policy.state_dict(),
                **{name: part.state_dict() for name, part in (training or {}).items()},
            },
            partial,
        )
        partial.replace(path)

    @classmethod
    def load(
        cls, path: str | Path, *, cache: str | Path | Cache | None = None, device: str = "auto"
    ) -> OCSampler:
        """Read an agent from a file; a cache is needed only to train it further.

        Raises:
            InputError: the file is missing or holds no OCSampler.
        """
        saved = _read(Path(path))
        agent = cls.__new__(cls)
        agent.settings = OCSamplerSettings(**saved["settings"])
        agent._cache = None if cache is None else open_cache(cache)
        agent.trained_on = saved["trained_on"]
        agent._start(saved["num_candidates"], saved["features"], device)
        agent.policy.load_state_dict(saved["policy"])
        agent.policy.eval()
        agent.epoch, agent.training_seconds = saved["epoch"], saved["training_seconds"]
        return agent

    def _epoch(
        self,
        features: torch.Tensor,
        rewards: _Rewards,
        optimiser: torch.optim.Optimizer,
        generator: np.random.Generator,
        draws: torch.Generator,
    ) -> dict[str, float]:
        settings, totals = self.settings, np.zeros(3)
        batches = list(_batches(len(features), settings.batch_size, generator))
        for videos in batches:
            log_probabilities = self.policy(features[videos].float().to(self.device))
            repeated = log_probabilities.repeat(settings.draws, 1)
            chosen = draw_sets(repeated.detach(), settings.num_frames, draws)
            gain = rewards.gain(np.tile(videos, settings.draws), chosen.cpu().numpy(), generator)
            gain_tensor = torch.from_numpy(gain).to(repeated)
            entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1).mean()
            reinforce = -(gain_tensor * log_set_probability(repeated, chosen)).mean()
            optimiser.zero_grad()
            (reinforce - settings.entropy * entropy).backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), settings.gradient_norm)
            optimiser.step()
            totals += gain.mean(), float(entropy.detach()), float(reinforce.detach())
        gain_mean, entropy_mean, loss_mean = (totals / len(batches)).tolist()
        return {"gain_over_baseline": gain_mean, "entropy": entropy_mean, "loss": loss_mean}

    def _resume(self, checkpoint: Path, training: dict[str, Any]) -> None:
        saved = _read(checkpoint)
        found = OCSamplerSettings(**saved["settings"])
        if found != self.settings or saved["trained_on"] != self.trained_on:
            raise InputError(
                f"checkpoint {checkpoint}: made with {found} on {saved['trained_on']}, expected "
                f"{self.settings} on {self.trained_on}"
            )
        self.policy.load_state_dict(saved["policy"])
        for name, part in training.items():
            part.load_state_dict(saved[name])
        self.epoch, self.training_seconds = saved["epoch"], saved["training_seconds"]


class _Rewards:
    """The gain of drawn frames over the baseline's, in the named quality."""

    def __init__(self, cache: Cache, rows: np.ndarray, settings: OCSamplerSettings) -> None:
        self._verdicts = Verdicts(cache, rows)
        self._quality = quality(settings.reward)
        self._bits = subset_bits(cache.num_candidates)
        self._num_candidates = cache.num_candidates

    def gain(self, videos: np.ndarray, chosen: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """float64 [B], for videos [B] and drawn frames [B, N]."""
        baseline = random_in_segments(len(videos), self._num_candidates, chosen.shape[1], generator)
        return self._value(videos, chosen) - self._value(videos, baseline)

    def _value(self, videos: np.ndarray, frames: np.ndarray) -> np.ndarray:
        mask = np.zeros((len(videos), self._num_candidates), np.int8)
        np.put_along_axis(mask, frames, 1, axis=1)
        return self._quality(Choice(self._verdicts, videos, mask, mask @ self._bits))


def random_in_segments(
    count: int, num_candidates: int, num_frames: int, generator: np.random.Generator
) -> np.ndarray:
    """int64 [count, N]: one random candidate in each of N uniform segments, the published baseline."""
    edges = segment_edges(num_candidates, num_frames)
    return generator.integers(edges[:-1], edges[1:], (count, num_frames))


def _batches(count: int, size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    yield from np.array_split(generator.permutation(count), -(-count // size))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"agent {path}: no such file")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise InputError(f"agent {path}: not a readable agent ({type(error).__name__})") from error
    if not isinstance(saved, dict) or saved.get("agent") != "OCSampler":
        found = saved.get("agent") if isinstance(saved, dict) else type(saved).__name__
        raise InputError(f"agent {path}: found {found!r}, expected an OCSampler")
    return saved
