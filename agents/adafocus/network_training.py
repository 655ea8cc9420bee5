"""AdaFocus's stages 0 and 1: its networks learn from frames, and then every patch's features are cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from agents.adafocus.settings import NETWORKS, RANDOM_PATCHES, AdaFocusSettings
from agents.common.batches import LARGEST_IN_MEMORY, LOOKED_AT_TOGETHER, in_parts, shuffled
from video_env.cache.changes import add_network
from video_env.cache.derive import derive
from video_env.cache.store import Cache
from video_env.data.patches import check_patch_size, grid_corners
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, embedding_weights, load_weights
from video_env.models.classifiers import build_classifier, loss_at_every_step
from video_env.models.optimise import build_optimiser, descend, seeded
from video_env.models.patch_arrays import GLANCE, PATCHES, add_patches
from video_env.models.stopping import Length, Watch
from video_env.models.train_backbone import recoloured, standardised
from video_env.models.training_loop import Report, TrainingLoop


class NetworkStages:
    """The networks, and the stages that train them.

    Args:
        cache: with ``frames``; its training videos are learned.
        settings: see ``AdaFocusSettings``.
        device: where the networks run.

    Attributes:
        glance: looks at whole frames.
        focus: looks at patches.
        classifier: over time, of both networks' features.
        weights: what glance and focus network start from, told apart by content.

    Raises:
        InputError: the frames are not square, the patch is larger than they are, or weights do not fit.
        CacheError: the cache lacks frames.
    """

    def __init__(self, cache: Cache, settings: AdaFocusSettings, device: torch.device) -> None:
        self.settings, self.device, self._cache = settings, device, cache
        frames = cache["frames"]
        if frames.row_shape[1] != frames.row_shape[2]:
            raise InputError(f"cache {cache.path}: frames {frames.row_shape[1:3]}, expected square ones")
        self._frame_size = int(frames.row_shape[1])
        check_patch_size(settings.patch_size, self._frame_size)
        with seeded(settings.seed):
            self.glance = FrameNetwork(settings.glance, input_size=settings.glance_size)
            self.focus = FrameNetwork(settings.focus, input_size=settings.patch_size)
            self.classifier = build_classifier(
                {"classifier": settings.classifier, "glance": self.glance.features,
                 "patch": self.focus.features, "classes": len(cache.classes),
                 "hidden": settings.hidden, "pooling": self.glance.pooling}
            )  # fmt: skip
        weights = settings.focus_weights
        # By content, so that a file that was replaced is another setting.
        self.weights = {
            "glance_weights": load_weights(self.glance, settings.glance_weights),
            "focus_weights": load_weights(
                self.focus, str(embedding_weights(cache, settings.focus)) if weights == "cache" else weights
            ),
        }
        for network in (self.glance, self.focus):
            network.to(device).to(memory_format=torch.channels_last)
        self.classifier.to(device)
        self._rows = cache.rows("train")
        self._targets = torch.from_numpy(cache.label_shares()[self._rows]).to(device)
        self._images: torch.Tensor | None = None

    def network_stage(self, record: dict[str, Any]) -> TrainingLoop:
        """Stage 0; see ``NetworkTraining``.

        Args:
            record: all settings that the result depends on.

        Raises:
            CacheError: the cache lacks the embedding that is to be distilled.
        """
        settings = self.settings.networks
        classify = settings.method == "classify"
        outputs = len(self._cache.classes) if classify else self._cache["embedding"].row_shape[-1]
        parts: dict[str, nn.Module] = {"glance": self.glance}
        if classify:
            parts["focus"] = self.focus
        with seeded(self.settings.seed):
            heads = {f"{name}_head": nn.Linear(network.features, outputs) for name, network in
                     (("glance", self.glance), ("focus", self.focus)) if name in parts}  # fmt: skip
        modules = nn.ModuleDict({**parts, **heads}).to(self.device)
        optimiser = build_optimiser(
            settings.optimiser, [(modules, settings.learning_rate)], settings.weight_decay
        )
        losses = self._classifying if classify else self._distilling

        def epoch(number: int) -> Report:
            generator = np.random.default_rng([self.settings.seed, NETWORKS, number])
            return {"loss": descend(optimiser, losses(modules, generator))}

        return TrainingLoop(
            "AdaFocus, stage 0: networks", modules, optimiser, settings.epochs, epoch, record,
            Watch(Length(epochs=settings.epochs), optimiser, validated=False),
        )  # fmt: skip

    def random_patch_stage(self, record: dict[str, Any]) -> TrainingLoop:
        """Stage 1, with a loss after every frame; see ``RandomPatchTraining``.

        Args:
            record: all settings that the result depends on.
        """
        settings = self.settings.random_patches
        modules = nn.ModuleDict({"focus": self.focus, "classifier": self.classifier})
        optimiser = build_optimiser(
            settings.optimiser,
            [(self.focus, settings.focus_learning_rate), (self.classifier, settings.learning_rate)],
            settings.weight_decay,
        )
        glances: list[torch.Tensor] = []

        def epoch(number: int) -> Report:
            generator = np.random.default_rng([self.settings.seed, RANDOM_PATCHES, number])
            if not glances:  # the glance network is frozen: once for all epochs
                glances.append(self._pooled_glances())
            return {"loss": descend(optimiser, self._random_patch_losses(glances[0], generator))}

        return TrainingLoop(
            "AdaFocus, stage 1: random patches", modules, optimiser, settings.epochs, epoch, record,
            Watch(Length(epochs=settings.epochs), optimiser, validated=False),
        )  # fmt: skip

    def cache_patches(self, out: Path, record: dict[str, Any]) -> Cache:
        """A cache of the same videos with glances, patches, the networks and the classifier; what is there
        already is not computed again.

        Args:
            out: its folder.
            record: how the networks were trained.
        """
        arrays = [name for name in self._cache.arrays if name not in (GLANCE, PATCHES)]
        cache = derive(self._cache, out, arrays, networks=True)
        weights = {}
        for name, network in ((GLANCE, self.glance), (PATCHES, self.focus)):
            state = {key: tensor.contiguous().cpu() for key, tensor in network.backbone.state_dict().items()}
            if f"{name}.safetensors" not in cache.meta["networks"]:
                cache = add_network(cache, name, safetensors.torch.save(state), training=record)
            weights[name] = f"sha256:{cache.meta['networks'][f'{name}.safetensors']}"
        return add_patches(
            cache, self.glance, self.focus, self.classifier, patch_size=self.settings.patch_size,
            glance_weights=weights[GLANCE], focus_weights=weights[PATCHES], training=record,
            device=str(self.device),
        )  # fmt: skip

    def _distilling(self, modules: nn.ModuleDict, generator: np.random.Generator) -> Iterator[torch.Tensor]:
        """The glance network's features regress the standardised embedding of each frame (knowledge
        distillation by features, Romero et al. 2015, FitNets, equation 3)."""
        embedding = standardised(torch.from_numpy(self._cache["embedding"][self._rows]).float())
        for batch in shuffled(len(self._rows), self.settings.networks.batch_size, generator):
            drawn = self._draw_frames(len(batch), generator)
            images = self._glance_images(batch)[torch.arange(len(batch))[:, None], drawn]
            predicted = modules["glance_head"](self.glance.backbone(images.flatten(0, 1)))
            known = embedding[torch.from_numpy(batch)[:, None], drawn].flatten(0, 1)
            yield F.mse_loss(predicted, known.to(self.device))

    def _classifying(self, modules: nn.ModuleDict, generator: np.random.Generator) -> Iterator[torch.Tensor]:
        """Both networks learn the video's label from single frames."""
        frames = self._cache["frames"]
        for batch in shuffled(len(self._rows), self.settings.networks.batch_size, generator):
            drawn = self._draw_frames(len(batch), generator)
            pixels = frames[self._rows[batch]][np.arange(len(batch))[:, None], drawn.numpy()]
            target = self._targets[batch].repeat_interleave(drawn.shape[1], dim=0)
            loss = torch.zeros((), device=self.device)
            for name in ("glance", "focus"):
                network = self.glance if name == "glance" else self.focus
                # The focus network learns from whole frames here, not from patches.
                size = self._frame_size if name == "focus" else None
                whole = network.prepare(torch.from_numpy(pixels).flatten(0, 1).to(self.device), size)
                loss = loss + F.cross_entropy(modules[f"{name}_head"](network.backbone(whole)), target)
            yield loss

    def _random_patch_losses(
        self, glances: torch.Tensor, generator: np.random.Generator
    ) -> Iterator[torch.Tensor]:
        settings, size = self.settings.random_patches, self.settings.patch_size
        corners = grid_corners(size, self._frame_size)
        frames, along = self._cache["frames"], np.arange(size)
        for batch in shuffled(len(self._rows), settings.batch_size, generator):
            count = len(batch), self._cache.num_candidates
            top, left = np.moveaxis(corners[generator.integers(len(corners), size=count)], -1, 0)
            video, frame = np.ogrid[: count[0], : count[1]]
            rows = (top[..., None] + along)[..., :, None]
            columns = (left[..., None] + along)[..., None, :]
            pixels = frames[self._rows[batch]][video[..., None, None], frame[..., None, None], rows, columns]
            images = self.focus.prepare(torch.from_numpy(pixels).flatten(0, 1).to(self.device))
            images = recoloured(images.unflatten(0, count), self.focus, settings.colour, generator)
            features = self.focus.backbone(images).unflatten(0, count)
            yield loss_at_every_step(self.classifier(glances[batch], features), self._targets[batch])

    def _glance_images(self, batch: np.ndarray) -> torch.Tensor:
        """Prepared frames of training videos, [B, T, 3, S, S]."""
        if self._images is None:
            frames, total = self._cache["frames"], len(self._rows)
            first = self._prepared(frames[self._rows[:1]])
            if first.numel() * first.element_size() * total > LARGEST_IN_MEMORY:
                return self._prepared(frames[self._rows[batch]])
            self._images = torch.cat([self._prepared(frames[[row]]) for row in self._rows])
        return self._images[batch]

    def _prepared(self, clips: np.ndarray) -> torch.Tensor:
        frames = torch.from_numpy(clips).to(self.device)
        return self.glance.prepare(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def _pooled_glances(self) -> torch.Tensor:
        self.glance.eval()
        parts = in_parts(len(self._rows), LOOKED_AT_TOGETHER)
        # Rounded as the cache will round the maps that they are pooled from.
        return torch.cat(
            [
                self.classifier.pool(self.glance.maps(self._glance_images(part)).half().float())
                for part in parts
            ]
        )

    def _draw_frames(self, videos: int, generator: np.random.Generator) -> torch.Tensor:
        """int64 [videos, K], distinct frames of each."""
        total = self._cache.num_candidates
        count = min(self.settings.networks.frames_per_video, total)
        order = generator.permuted(np.tile(np.arange(total), (videos, 1)), axis=1)
        return torch.from_numpy(np.sort(order[:, :count], axis=1))
