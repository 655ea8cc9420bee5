"""Settings of OCSampler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from video_env.envs.rewards import quality
from video_env.errors import InputError, require_choice, require_positive, require_seed, require_unused
from video_env.models.backbones import Interpolation, find_backbone
from video_env.models.candidate_networks import NETWORKS, NetworkName
from video_env.models.stopping import Length


@dataclass(frozen=True)
class OCSamplerSettings:
    """Settings of the agent and its training; see ``PUBLISHED`` for the released ones.

    Attributes:
        num_frames: N, frames drawn per video in training, and chosen in testing without a budget.
        cost_per_gflop: λ, in quality per GFLOP. With it a frame-number budget is learned too, and each
            video gets as many frames as are worth their cost (the number drawn in a training step is then
            itself drawn from 1 to N, so that the ranking serves every number up to N; what follows goes on in
            its order); without it, always N.
        cost_of_all_frames: λ in the other form: the share of quality that all candidates together may cost.
        skim: cached (the policy is trained on the cache's skim features), or the network that is
            trained with it, end to end from the cached frames.
        skim_weights: what that network starts from: cache (the network that the cache's skim features
            were computed with), torchvision, timm, random, package:NAME, or a file of weights.
        temporal_shift: shift_div of mobilenet_v2's temporal shift; 0 for none.
        interpolation: how frames are scaled for the network: bilinear, or nearest as released.
        policy: network that scores the candidates: convolution (over time), attention (of each to all), flat
            (one layer over all, nothing shared), or linear (one layer per frame, as released).
        hidden: features of each candidate inside that network.
        reward: quality whose gain over the baseline is rewarded, by name (see FrameSelect-v0).
        estimator: of the policy gradient: sampled (as published), or exact (the expected reward over
            all sets of N frames, beyond the paper; where the cache has the subset table).
        draws: sets drawn per video in a step, for the sampled estimator.
        entropy: weight of the bonus on the entropy of the distribution over candidates.
        flips: mirror half of the videos, in training from frames.
        length: of the policy's training.
        budget_length: of the budget's training, after the policy's.
        batch_size: videos per step.
        optimiser: adam or sgd.
        learning_rate: the optimiser's, at first.
        momentum: of sgd.
        weight_decay: the optimiser's.
        gradient_norm: largest norm of the gradient.
        seed: decides the initial weights and every draw.
    """

    num_frames: int = 2
    cost_per_gflop: float | None = None
    cost_of_all_frames: float | None = None
    skim: str = "cached"
    skim_weights: str = "cache"
    temporal_shift: int = 0
    interpolation: Interpolation = "bilinear"
    policy: NetworkName = "convolution"
    hidden: int = 32
    reward: str = "confidence"
    estimator: Literal["sampled", "exact"] = "sampled"
    draws: int = 4
    entropy: float = 0.02
    flips: bool = True
    length: Length = field(default_factory=lambda: Length(updates=3000, round=25, patience=6))
    budget_length: Length = field(default_factory=lambda: Length(updates=1500, round=25, patience=5))
    batch_size: int = 64
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    gradient_norm: float = 40.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(
            self, "num_frames", "batch_size", "learning_rate", "draws", "hidden",
            "gradient_norm",
        )  # fmt: skip
        require_seed(self.seed)
        for name in (
            "entropy", "weight_decay", "momentum", "temporal_shift", "cost_per_gflop", "cost_of_all_frames",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name}: found {value}, expected a number of at least 0")
        for name, allowed in (
            ("estimator", ("sampled", "exact")),
            ("optimiser", ("adam", "sgd")), ("policy", NETWORKS),
            ("interpolation", ("bilinear", "nearest")),
        ):  # fmt: skip
            require_choice(name, getattr(self, name), allowed)
        if self.cost_per_gflop is not None:
            require_unused(self, "cost_of_all_frames", because="cost_per_gflop, which is λ too")
        if self.skim != "cached":
            find_backbone(self.skim)
        if self.temporal_shift and self.skim != "mobilenet_v2":
            raise InputError(f"temporal_shift {self.temporal_shift}: expected 0 with skim {self.skim}")
        if self.skim == "cached":
            require_unused(self, "skim_weights", "interpolation", because="skim cached")
        if self.estimator == "exact":
            require_unused(self, "draws", because="estimator exact")
        if self.optimiser == "adam":
            require_unused(self, "momentum", because="optimiser adam")
        quality(self.reward)

    @property
    def has_budget(self) -> bool:
        """Whether a frame-number budget is learned."""
        return self.cost_per_gflop is not None or self.cost_of_all_frames is not None


PUBLISHED = OCSamplerSettings(
    num_frames=6, skim="mobilenet_v2", skim_weights="torchvision", temporal_shift=10, interpolation="nearest",
    policy="linear", reward="largest_probability", draws=1, entropy=0.1, length=Length(epochs=50),
    batch_size=40, optimiser="sgd", learning_rate=0.005, momentum=0.9, weight_decay=1e-4, gradient_norm=40.0,
)  # fmt: skip
"""The released settings for ActivityNet, on a cache of T = 10 candidates at 224x224."""


def read_settings(record: dict[str, Any]) -> OCSamplerSettings:
    """Settings from ``asdict`` of them, read back from a file."""
    lengths = {name: Length(**record[name]) for name in ("length", "budget_length")}
    return OCSamplerSettings(**{**record, **lengths})
