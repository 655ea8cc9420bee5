"""Settings of AdaFocus: one dataclass per stage, and one for the whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from agents.adafocus.patch_ppo import PPOCoefficients
from agents.adafocus.policies import WIDTHS, PolicyName
from video_env.envs.patch_select import REWARDS
from video_env.errors import InputError, require_choice, require_positive, require_seed
from video_env.models.backbones import find_backbone
from video_env.models.classifiers import CLASSIFIERS, ClassifierName
from video_env.models.optimise import OptimiserName
from video_env.models.stopping import Length

NETWORKS, RANDOM_PATCHES, POLICY, CLASSIFIER = range(4)
"""The stages' numbers."""

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class NetworkTraining:
    """Stage 0: the glance and the focus network learn the videos.

    Attributes:
        method: classify (both networks learn the video's label from single frames, as published), or
            distil (the cache's ``embedding`` of each frame is distilled into the glance network, and the
            focus network is left as it is: for focus weights that know the videos already, where no single
            frame decides the label).
        length: of the stage, watched by the loss on the validation split's frames.
        batch_size: videos per step.
        frames_per_video: frames drawn from each video in a step.
        optimiser: adamw or sgd (momentum 0.9).
        learning_rate: at first.
        weight_decay: the optimiser's.
    """

    method: Literal["classify", "distil"] = "distil"
    length: Length = field(default_factory=lambda: Length(updates=600, round=50, patience=2, falls=1))
    batch_size: int = 32
    frames_per_video: int = 12
    optimiser: OptimiserName = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "frames_per_video", "learning_rate")
        require_choice("method", self.method, ("classify", "distil"))
        require_choice("optimiser", self.optimiser, ("adamw", "sgd"))


@dataclass(frozen=True)
class RandomPatchTraining:
    """Stage 1: focus network and classifier learn from random patches; the glance network is frozen.

    Attributes:
        length: of the stage, watched by the classifier on random patches of the validation split, the same
            ones in every round.
        batch_size: videos per step.
        optimiser: adamw or sgd (momentum 0.9).
        focus_learning_rate: of the focus network, at first.
        learning_rate: of the classifier, likewise.
        weight_decay: the optimiser's.
        colour: largest random gain and offset of a colour channel of a video's patches, as shares of 1 and
            of white.
    """

    length: Length = field(default_factory=lambda: Length(updates=1200, round=50, patience=2, falls=1))
    batch_size: int = 32
    optimiser: OptimiserName = "adamw"
    focus_learning_rate: float = 1e-3
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    colour: tuple[float, float] = (0.2, 0.075)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "learning_rate", "focus_learning_rate")
        require_choice("optimiser", self.optimiser, ("adamw", "sgd"))


@dataclass(frozen=True)
class PolicyTraining:
    """Stage 2: the patch policy learns by PPO on PatchSelect-v0; everything else is frozen.

    Attributes:
        length: of the stage, watched by the classifier on the most probable patches of the validation split.
            A pass over the training videos is one episode on each.
        batch_size: videos per rollout.
        inner_steps: gradient steps on each rollout, 1 as published.
        learning_rate: Adam's, at first.
        reward: by name (see PatchSelect-v0).
        network: shared (positions share weights; better from a few hundred videos on) or fully_connected (as
            published).
        hidden: width of the policy: features of a position, 16 by default; of fully_connected everything
            after its convolution, 128 by default, 1024 as published.
        coefficients: of PPO.
        precision: of the rollouts' networks and of the glance maps that this stage reads: float32, bfloat16,
            or auto, which is bfloat16 for policies of 512 and more. Log-probabilities are recorded as they
            were computed, so PPO stays exact.
    """

    length: Length = field(default_factory=lambda: Length(updates=2000, round=40, patience=4, falls=1))
    batch_size: int = 32
    inner_steps: int = 2
    learning_rate: float = 3e-3
    reward: str = "contrast"
    network: PolicyName = "shared"
    hidden: int | None = None
    coefficients: PPOCoefficients = field(default_factory=PPOCoefficients)
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "inner_steps", "learning_rate")
        if self.length.round % self.inner_steps or self.length.updates % self.inner_steps:
            raise InputError(
                f"inner_steps: found {self.inner_steps}, expected a divisor of the length's "
                f"{self.length.updates} updates and of the {self.length.round} of a round"
            )
        if self.hidden is not None:
            require_positive(self, "hidden")
        require_choice("reward", self.reward, REWARDS)
        require_choice("network", self.network, tuple(WIDTHS))
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16"))

    @property
    def rollouts(self) -> Length:
        """``length`` in rollouts."""
        updates, round = self.length.updates // self.inner_steps, self.length.round // self.inner_steps
        return replace(self.length, updates=updates, round=round)

    @property
    def width(self) -> int:
        """``hidden`` with None resolved."""
        return WIDTHS[self.network] if self.hidden is None else self.hidden

    @property
    def rollout_precision(self) -> Literal["float32", "bfloat16"]:
        """``precision`` with auto resolved."""
        if self.precision == "auto":
            return "bfloat16" if self.width >= 512 else "float32"
        return self.precision


@dataclass(frozen=True)
class ClassifierTraining:
    """Stage 3: the classifier is fine-tuned on the patches that the policy chooses.

    Attributes:
        length: of the stage, watched by the geometric mean of the true class's probability, with the policy's
            patches.
        batch_size: videos per step.
        optimiser: adamw or sgd (momentum 0.9).
        learning_rate: at first.
        weight_decay: the optimiser's.
        drawn: positions are drawn from the policy anew in every round, instead of the most probable ones.
    """

    length: Length = field(default_factory=lambda: Length(updates=1000, round=20, patience=4, falls=1))
    batch_size: int = 64
    optimiser: OptimiserName = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    drawn: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "learning_rate")
        require_choice("optimiser", self.optimiser, ("adamw", "sgd"))


@dataclass(frozen=True)
class AdaFocusSettings:
    """Settings of the agent and its four stages; see ``PUBLISHED`` for the released ones.

    Attributes:
        patch_size: side of a patch in pixels of the cache's frames; of a cache that has patches, theirs.
        glance: network that looks at whole frames.
        glance_size: pixels that frames are scaled to for it; its own by default.
        glance_weights: what it starts from: cache (the network that the cache's ``skim`` was computed with,
            where that has the same layers), torchvision, timm, random, package:NAME, or a file of weights.
        focus: network that looks at patches.
        focus_weights: what it starts from: cache (the network that the cache's ``embedding`` was computed
            with), torchvision, timm, random, package:NAME, or a file of weights.
        classifier: gru (as published) or running_max (better on small data).
        hidden: width of the classifier's state.
        networks: stage 0.
        random_patches: stage 1.
        policy: stage 2.
        fine_tuning: stage 3.
        seed: decides the initial weights and every draw.
    """

    patch_size: int = 36
    glance: str = "small_glance"
    glance_size: int | None = None
    glance_weights: str = "random"
    focus: str = "small"
    focus_weights: str = "cache"
    classifier: ClassifierName = "running_max"
    hidden: int = 64
    networks: NetworkTraining = field(default_factory=NetworkTraining)
    random_patches: RandomPatchTraining = field(default_factory=RandomPatchTraining)
    policy: PolicyTraining = field(default_factory=PolicyTraining)
    fine_tuning: ClassifierTraining = field(default_factory=ClassifierTraining)
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "patch_size", "hidden")
        require_seed(self.seed)
        for network in (self.glance, self.focus):
            find_backbone(network)
        require_choice("classifier", self.classifier, tuple(CLASSIFIERS))


PUBLISHED = AdaFocusSettings(
    patch_size=128, glance="mobilenet_v2", glance_size=224, glance_weights="torchvision", focus="resnet50",
    focus_weights="torchvision", classifier="gru", hidden=1024,
    networks=NetworkTraining(
        "classify", Length(epochs=15), batch_size=64, frames_per_video=16, optimiser="sgd", learning_rate=0.01
    ),
    random_patches=RandomPatchTraining(
        Length(epochs=50), batch_size=64, optimiser="sgd", focus_learning_rate=5e-4, learning_rate=0.05,
        colour=(0.0, 0.0),
    ),
    policy=PolicyTraining(
        Length(epochs=50), batch_size=64, inner_steps=1, learning_rate=3e-4, network="fully_connected",
        hidden=1024,
    ),
    fine_tuning=ClassifierTraining(Length(epochs=10), batch_size=64, optimiser="sgd", learning_rate=0.005),
)  # fmt: skip
"""The released settings for ActivityNet, on a cache of T = 16 candidates at 224x224."""


_OF_STAGES = (
    ("glance", "glance_size", "glance_weights", "focus", "focus_weights", "networks"),
    ("patch_size", "classifier", "hidden", "random_patches"),
    ("policy",),
    ("fine_tuning",),
)
"""By stage, which settings its result depends on, beside those of the stages before it."""


def settings_of_stages(
    settings: AdaFocusSettings, weights: dict[str, str], first: int, last: int
) -> dict[str, Any]:
    """What the result of a stage depends on: the settings of all stages up to it.

    Args:
        settings: of the agent.
        weights: what its networks start from, told apart by content, in place of the settings' words.
        first: the first stage that is trained.
        last: the stage.
    """
    known = asdict(settings) | weights
    names = [name for stage in range(first, last + 1) for name in _OF_STAGES[stage]]
    return {"seed": known["seed"], **{name: known[name] for name in names}}


def read_settings(record: dict[str, Any], *, where: str) -> AdaFocusSettings:
    """Settings from ``asdict`` of them, read back from a file.

    Args:
        record: the settings.
        where: the file, for errors.

    Raises:
        InputError: they are of another version: some have no value, or are unknown.
    """
    parts = dict(record)
    parts["policy"] = {**record["policy"]}
    parts["policy"]["coefficients"] = _read(PPOCoefficients, record["policy"]["coefficients"], where)
    for name, kind in (
        ("networks", NetworkTraining), ("random_patches", RandomPatchTraining), ("policy", PolicyTraining),
        ("fine_tuning", ClassifierTraining),
    ):  # fmt: skip
        stage = dict(parts[name])
        stage["length"] = _read(Length, stage["length"], where) if "length" in stage else None
        parts[name] = _read(kind, stage, where)
    return _read(AdaFocusSettings, parts, where)


def _read(kind: type[Any], record: dict[str, Any], where: str) -> Any:
    """An old file's settings must not be filled up with today's defaults: it was trained otherwise."""
    expected = {entry.name for entry in fields(kind)}
    if different := expected ^ set(record):
        raise InputError(
            f"{where}: settings of another version: {kind.__name__} there "
            + "; ".join(f"has {'no ' if name in expected else ''}{name}" for name in sorted(different))
        )
    return kind(**record)
