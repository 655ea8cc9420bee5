"""Settings of AdaFocusV2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from agents.adafocus_v2.augmentation import Augmentation
from agents.adafocus_v2.point_policies import POLICIES, PolicyName
from video_env.errors import InputError, require_choice, require_positive, require_seed
from video_env.models.backbones import find_backbone
from video_env.models.optimise import OptimiserName
from video_env.models.stopping import Length


@dataclass(frozen=True)
class Ingredients:
    """What the paper adds, one by one, to make end-to-end training work (section 3.3 and table 6).

    Attributes:
        auxiliary: cross-entropies on the glances and on the patches of single frames, beside the
            classifier's.
        diversity: train on uniformly random patches too.
        stop_gradient: the policy's loss does not reach the glance network.
        interpolation: the loss reaches the policy through the patch; without it the policy learns by
            REINFORCE from points drawn around its own.
    """

    auxiliary: bool = True
    diversity: bool = True
    stop_gradient: bool = True
    interpolation: bool = True


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of the parts, as multiples of ``learning_rate``. By default those of the networks, which
    know the videos' frames already, are small: at the rate of the new parts they would learn a few hundred
    videos by heart before the policy has found anything.

    Attributes:
        glance: of the glance network and its auxiliary head.
        policy: of the policy.
        classifier: of the classifier.
        focus: of the focus network and its auxiliary head.
    """

    glance: float = 0.1
    policy: float = 2.0
    classifier: float = 1.0
    focus: float = 0.03

    def __post_init__(self) -> None:
        require_positive(self, "glance", "policy", "classifier", "focus")


@dataclass(frozen=True)
class AdaFocusV2Settings:
    """Settings of the agent and its one stage; see ``PUBLISHED`` for the released ones.

    Attributes:
        patch_size: side of a patch in pixels of the cache's frames.
        glance: network that looks at whole frames.
        glance_size: pixels that frames are scaled to for it; its own by default.
        glance_weights: what it starts from: cache (the network that the cache's ``skim`` was computed with,
            where that has the same layers), torchvision, timm, random, package:NAME, or a file of weights.
        focus: network that looks at patches.
        focus_weights: what it starts from: cache (the network that the cache's ``embedding`` was computed
            with), torchvision, timm, random, package:NAME, or a file of weights.
        policy: fully_connected (as published) or soft_argmax (learns faster on small data).
        policy_hidden: width of the policy.
        hidden: width of the classifier.
        dropout: before every layer of class scores.
        ingredients: which of the paper's four are there; by default all but the stop-gradient, since a small
            glance network without pretraining has the policy's loss alone to learn finding from.
        length: of the training.
        batch_size: videos per step, over all processes.
        parts: a batch is trained on in this many parts, one after the other or shared among processes, and
            BatchNorm sees one part at a time. So a result depends on the number of parts, but not on the
            number of processes, which must divide it.
        optimiser: adamw or sgd (momentum 0.9).
        betas: AdamW's memory of gradients and of their squares. The policy starts with a plateau of small
            gradients; remembered for long (0.999 is usual), they make the first large ones into leaps, and
            what was learned is lost again.
        learning_rate: at first.
        rates: the parts' multiples of it.
        weight_decay: the optimiser's.
        gradient_norm: gradients are scaled down to this norm where theirs is larger; 0 for no limit.
        augmentation: of the training videos.
        precision: of training: float32, or bfloat16 where that is exact enough.
        seed: decides the initial weights and every draw.
    """

    patch_size: int = 36
    glance: str = "small_glance"
    glance_size: int | None = None
    glance_weights: str = "cache"
    focus: str = "small"
    focus_weights: str = "cache"
    policy: PolicyName = "soft_argmax"
    policy_hidden: int = 32
    hidden: int = 128
    dropout: float = 0.0
    ingredients: Ingredients = field(default_factory=lambda: Ingredients(stop_gradient=False))
    length: Length = field(default_factory=lambda: Length(updates=2400, round=50, patience=3, falls=1))
    batch_size: int = 16
    parts: int = 1
    optimiser: OptimiserName = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    learning_rate: float = 3e-3
    rates: LearningRates = field(default_factory=LearningRates)
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(
            self, "patch_size", "policy_hidden", "hidden", "batch_size", "parts", "learning_rate"
        )
        require_seed(self.seed)
        for name in ("gradient_norm", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        for name, shares in (("dropout", (self.dropout,)), ("betas", self.betas)):
            if not all(0 <= share < 1 for share in shares):
                raise InputError(f"{name}: found {shares}, expected 0 or more, below 1")
        if self.glance_size is not None and self.glance_size < 8:
            raise InputError(f"glance_size: found {self.glance_size}, expected at least 8 pixels")
        for network in (self.glance, self.focus):
            find_backbone(network)
        require_choice("policy", self.policy, POLICIES)
        require_choice("optimiser", self.optimiser, ("adamw", "sgd"))
        require_choice("precision", self.precision, ("float32", "bfloat16"))
        if self.parts > self.batch_size:
            raise InputError(f"parts: found {self.parts}, expected at most batch_size {self.batch_size}")


PUBLISHED = AdaFocusV2Settings(
    patch_size=128, glance="mobilenet_v2", glance_size=224, glance_weights="torchvision", focus="resnet50",
    focus_weights="torchvision", policy="fully_connected", policy_hidden=2048, hidden=4096, dropout=0.2,
    ingredients=Ingredients(), length=Length(epochs=50), gradient_norm=0.0,
    batch_size=32, optimiser="sgd", learning_rate=0.002, rates=LearningRates(0.5, 0.1, 5.0, 1.0),
    augmentation=Augmentation((1.0, 0.875, 0.75, 0.66), flip=True, colour=(0.0, 0.0)),
)  # fmt: skip
"""The released settings for ActivityNet, on a cache of T = 16 candidates at 224x224."""


def read_settings(record: dict[str, Any]) -> AdaFocusV2Settings:
    """Settings from ``asdict`` of them, read back from a file."""
    parts = dict(record)
    parts["ingredients"] = Ingredients(**parts["ingredients"])
    parts["rates"] = LearningRates(**parts["rates"])
    parts["length"] = Length(**parts["length"])
    augmentation = {**parts["augmentation"]}
    augmentation["scales"] = tuple(augmentation["scales"])
    augmentation["colour"] = tuple(augmentation["colour"])
    parts["augmentation"] = Augmentation(**augmentation)
    parts["betas"] = tuple(parts["betas"])
    return AdaFocusV2Settings(**parts)
