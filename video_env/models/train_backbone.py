"""Training small backbones from scratch, for whoever has no pretrained weights.

Three steps that play the parts of the published systems' ImageNet weights and fine-tuning: a backbone
learns still images (if there are any), then the videos' labels from cached frames; the features of that
backbone are then distilled into the skim network, whose input is much smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from video_env.cache.store import Cache
from video_env.errors import InputError, require_positive, require_seed
from video_env.models.backbones import FrameNetwork
from video_env.models.device import resolve_device
from video_env.models.optimise import passes, seeded, train_in_one_cycle


@dataclass(frozen=True)
class BackboneTraining:
    """Settings of training a backbone from cached frames.

    Attributes:
        epochs: passes over the training videos; more where they would be fewer steps than these:
        least_steps: gradient steps that a small data set needs too.
        batch_size: videos per step; all of them where there are fewer.
        frames_per_video: candidates drawn from each video in a step, max-pooled to one prediction.
        learning_rate: AdamW's, of a backbone that starts from random weights, and of its head.
        fine_tuning_rates: of a pretrained backbone, and of its head. At the rate of a new one a pretrained
            backbone forgets what it knows before the head has learned to use it, and then learns a few
            hundred videos by heart.
        weight_decay: AdamW's.
        crop: side of the random crop, as a share of the frame; the same for all frames of a video.
        colour: largest random gain and offset of a colour channel, as shares of 1 and of white.
        seed: decides the initial weights and every draw.
    """

    epochs: int = 12
    least_steps: int = 600
    batch_size: int = 32
    frames_per_video: int = 8
    learning_rate: float = 3e-3
    fine_tuning_rates: tuple[float, float] = (3e-4, 1e-2)
    weight_decay: float = 1e-4
    crop: float = 0.875
    colour: tuple[float, float] = (0.2, 0.075)
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(
            self, "epochs", "least_steps", "batch_size", "frames_per_video", "learning_rate", "crop"
        )
        if not all(0 < rate < float("inf") for rate in self.fine_tuning_rates):
            raise InputError(f"fine_tuning_rates: found {self.fine_tuning_rates}, expected numbers above 0")
        require_seed(self.seed)

    def rates(self, pretrained: bool) -> tuple[float, float]:
        """Learning rates of a backbone and of its head."""
        return self.fine_tuning_rates if pretrained else (self.learning_rate, self.learning_rate)


@dataclass(frozen=True)
class ImageTraining:
    """Settings of training a backbone on still images.

    Attributes:
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        seed: decides every draw.
    """

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate")
        require_seed(self.seed)


@dataclass(frozen=True)
class SkimTraining:
    """Settings of distilling the embedding's backbone into a skim network.

    Attributes:
        epochs: passes over the training videos; more where they would be fewer steps than these:
        least_steps: gradient steps that a small data set needs too.
        batch_size: videos per step.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        seed: decides the initial weights and every draw.
    """

    epochs: int = 6
    least_steps: int = 300
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "least_steps", "batch_size", "learning_rate")
        require_seed(self.seed)


def train_on_images(
    network: FrameNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    settings: ImageTraining,
    device: str = "auto",
) -> None:
    """Train a network, in place, to classify still images: uint8 [M, H, W, 3] and int [M]."""
    place = resolve_device(device)
    generator = np.random.default_rng(settings.seed)
    with seeded(settings.seed):
        head = nn.Linear(network.features, int(labels.max()) + 1).to(place)
    network.to(place).to(memory_format=torch.channels_last)
    size = min(settings.batch_size, len(images))
    per_epoch = len(images) // size

    def losses() -> Iterator[torch.Tensor]:
        order = generator.permutation(len(images))
        for batch in np.array_split(order[: per_epoch * size], per_epoch):
            scores = head(network(torch.from_numpy(images[batch]).to(place)))
            yield F.cross_entropy(scores, torch.from_numpy(labels[batch]).to(place))

    train_in_one_cycle(
        "still images", [(network, settings.learning_rate), (head, settings.learning_rate)], losses,
        epochs=settings.epochs, steps=per_epoch, weight_decay=settings.weight_decay,
    )  # fmt: skip


def train_on_videos(
    network: FrameNetwork,
    cache: Cache,
    settings: BackboneTraining,
    device: str = "auto",
    *,
    pretrained: bool,
) -> None:
    """Train a network, in place, on the labels of the cache's training videos.

    The features of a few random candidates are max-pooled and classified by one linear layer, which
    is then dropped: the recognizer proper is trained on the cached features.

    Args:
        network: what is trained.
        cache: whose frames and labels it learns.
        settings: of the training.
        device: auto, cpu, cuda:0, ...
        pretrained: whether the network has weights that are to be kept in the main.

    Raises:
        CacheError: the cache has no frames or no training videos.
    """
    frames, rows = cache["frames"], cache.rows("train")
    targets = torch.from_numpy(cache.label_shares())
    place = resolve_device(device)
    generator = np.random.default_rng(settings.seed)
    with seeded(settings.seed):
        head = nn.Linear(network.features, len(cache.classes)).to(place)
    network.to(place).to(memory_format=torch.channels_last)
    size = min(settings.batch_size, len(rows))
    per_epoch = len(rows) // size
    count = min(settings.frames_per_video, cache.num_candidates)

    def losses() -> Iterator[torch.Tensor]:
        order = generator.permutation(rows)[: per_epoch * size]
        for batch in np.array_split(order, per_epoch):
            batch = np.sort(batch)
            drawn = generator.permuted(np.tile(np.arange(cache.num_candidates), (len(batch), 1)), axis=1)
            clips = frames[batch][np.arange(len(batch))[:, None], drawn[:, :count]]
            images = _augmented(torch.from_numpy(clips).to(place), network, settings, generator)
            features = network.backbone(images).unflatten(0, (len(batch), count))
            yield F.cross_entropy(head(features.amax(dim=1)), targets[batch].to(place))

    train_in_one_cycle(
        f"{network.name} on videos", list(zip((network, head), settings.rates(pretrained), strict=True)),
        losses, epochs=passes(settings.epochs, settings.least_steps, per_epoch), steps=per_epoch,
        weight_decay=settings.weight_decay,
    )  # fmt: skip


def train_skim(network: FrameNetwork, cache: Cache, settings: SkimTraining, device: str = "auto") -> None:
    """Distil the cached ``embedding`` of each frame into a skim network, in place.

    One linear layer on the network's features regresses the standardised embedding (knowledge distillation
    by features, Romero et al. 2015, FitNets, equation 3). No label is used.

    Raises:
        CacheError: the cache lacks frames, embeddings or training videos.
    """
    frames, rows = cache["frames"], cache.rows("train")
    embedding = torch.from_numpy(cache["embedding"][rows]).float()
    embedding = standardised(embedding)
    place = resolve_device(device)
    generator = np.random.default_rng(settings.seed)
    with seeded(settings.seed):
        head = nn.Linear(network.features, embedding.shape[-1]).to(place)
    network.to(place)
    # Scaled to the skim network's input once, since every epoch sees the same small images.
    with torch.inference_mode():
        images = torch.cat([network.prepare(torch.from_numpy(frames[[row]][0]).to(place)) for row in rows])
    images = images.clone().unflatten(0, (len(rows), cache.num_candidates))
    network.to(memory_format=torch.channels_last)
    batches = -(-len(rows) // settings.batch_size)

    def losses() -> Iterator[torch.Tensor]:
        for batch in np.array_split(generator.permutation(len(rows)), batches):
            features = network.backbone(images[batch].flatten(0, 1))
            yield F.mse_loss(head(features), embedding[batch].flatten(0, 1).to(place))

    train_in_one_cycle(
        f"{network.name}, distilled", [(network, settings.learning_rate), (head, settings.learning_rate)],
        losses, epochs=passes(settings.epochs, settings.least_steps, batches), steps=batches,
        weight_decay=settings.weight_decay,
    )  # fmt: skip


def standardised(features: torch.Tensor) -> torch.Tensor:
    """Features [V, T, D] with mean 0 and deviation 1 over all frames; a single frame's are 0."""
    deviation = features.std(dim=(0, 1), correction=min(1, features.shape[0] * features.shape[1] - 1))
    return (features - features.mean(dim=(0, 1))) / (deviation + 1e-6)


def _augmented(
    clips: torch.Tensor, network: FrameNetwork, settings: BackboneTraining, generator: np.random.Generator
) -> torch.Tensor:
    """Crop and colour each video's frames alike: uint8 [B, K, H, W, 3] to images [B·K, 3, S, S]."""
    batch, count, height, width = clips.shape[:4]
    side_h, side_w = round(height * settings.crop), round(width * settings.crop)
    top = generator.integers(0, height - side_h + 1)
    left = generator.integers(0, width - side_w + 1)
    cut = clips[:, :, top : top + side_h, left : left + side_w]
    images = network.prepare(cut.flatten(0, 1)).unflatten(0, (batch, count))
    return recoloured(images, network, settings.colour, generator)


def recoloured(
    images: torch.Tensor,
    network: FrameNetwork,
    colour: tuple[float, float],
    generator: np.random.Generator,
) -> torch.Tensor:
    """A random gain and offset of each colour channel, the same for all images of a video.

    Args:
        images: prepared for the network, [B, K, 3, S, S].
        network: says how white was scaled.
        colour: largest gain and offset, as shares of 1 and of white.
        generator: draws them.

    Returns:
        [B·K, 3, S, S].
    """
    gain, offset = colour
    gains = generator.uniform(1 - gain, 1 + gain, (len(images), 1, 3, 1, 1))
    offsets = generator.uniform(-offset, offset, (len(images), 1, 3, 1, 1))
    scale = network.deviation[None, None]
    images = images * torch.from_numpy(gains).to(images) + torch.from_numpy(offsets).to(images) / scale
    return images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
