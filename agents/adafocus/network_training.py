"""AdaFocus's stages 0 and 1: its networks learn from frames, and then every patch's features are cached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from agents.adafocus.settings import (
    NETWORKS,
    RANDOM_PATCHES,
    AdaFocusSettings,
    NetworkTraining,
    RandomPatchTraining,
)
from agents.adafocus.stages import stage_loop
from agents.common.batches import LARGEST_IN_MEMORY, LOOKED_AT_TOGETHER, in_parts, of_round, per_epoch
from agents.common.scores import scored
from video_env.cache.changes import add_network
from video_env.cache.derive import derive
from video_env.cache.store import Cache
from video_env.data.patches import check_patch_size, grid_corners
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, evaluating, load_weights_by
from video_env.models.classifiers import build_classifier, loss_at_every_step
from video_env.models.optimise import build_optimiser, descend, seeded
from video_env.models.patch_arrays import GLANCE, PATCHES, add_patches
from video_env.models.train_backbone import recoloured
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
        # By content, so that a file that was replaced is another setting.
        self.weights = {
            "glance_weights": load_weights_by(
                "glance_weights", self.glance, settings.glance_weights, cache, "skim"
            ),
            "focus_weights": load_weights_by(
                "focus_weights", self.focus, settings.focus_weights, cache, "embedding"
            ),
        }
        for network in (self.glance, self.focus):
            network.to(device).to(memory_format=torch.channels_last)
        self.classifier.to(device)
        self._rows = cache.rows("train")
        self._targets = torch.from_numpy(cache.label_shares()).to(device)
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

        def do_round(number: int) -> Report:
            generator = np.random.default_rng([self.settings.seed, NETWORKS, number])
            batches = self._batches(settings, number, generator)
            return {"loss": descend(optimiser, losses(modules, self._rows, batches, generator))}

        def validate() -> Report:
            rows = self._cache.rows("validation")
            generator = np.random.default_rng([self.settings.seed, NETWORKS, 0])
            parts = in_parts(len(rows), settings.batch_size)
            with evaluating(modules):
                loss = float(torch.stack(list(losses(modules, rows, parts, generator))).mean())
            return {"validation_loss": loss, "score": -loss}

        return stage_loop(
            "stage 0: networks", self._cache, modules, optimiser, settings.length, do_round, record,
            per_epoch=per_epoch(len(self._rows), settings.batch_size), validate=validate,
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
        validation: list[torch.Tensor] = []

        def do_round(number: int) -> Report:
            generator = np.random.default_rng([self.settings.seed, RANDOM_PATCHES, number])
            if not glances:  # the glance network is frozen: once for all rounds
                glances.append(self._pooled_glances(self._rows))
            batches = self._batches(settings, number, generator)
            return {"loss": descend(optimiser, self._random_patch_losses(glances[0], batches, generator))}

        def validate() -> Report:
            if not validation:
                validation.append(self._pooled_glances(self._cache.rows("validation")))
            return self._scored_on_random_patches(validation[0])

        return stage_loop(
            "stage 1: random patches", self._cache, modules, optimiser, settings.length, do_round, record,
            per_epoch=per_epoch(len(self._rows), settings.batch_size), validate=validate,
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

    def _batches(
        self, settings: NetworkTraining | RandomPatchTraining, number: int, generator: np.random.Generator
    ) -> list[np.ndarray]:
        """A round's, as numbers of training videos."""
        return of_round(settings.length, number, len(self._rows), settings.batch_size, generator)

    def _distilling(
        self, modules: nn.ModuleDict, rows: np.ndarray, batches: Iterable[np.ndarray],
        generator: np.random.Generator,
    ) -> Iterator[torch.Tensor]:  # fmt: skip
        """The glance network's features regress the standardised embedding of each frame (knowledge
        distillation by features, Romero et al. 2015, FitNets, equation 3)."""
        for batch in batches:
            drawn = self._draw_frames(len(batch), generator)
            images = self._glance_images(rows[batch])[torch.arange(len(batch))[:, None], drawn]
            predicted = modules["glance_head"](self.glance.backbone(images.flatten(0, 1)))
            known = self._embeddings(rows[batch])[torch.arange(len(batch))[:, None], drawn]
            yield F.mse_loss(predicted, known.flatten(0, 1).to(self.device))

    def _classifying(
        self, modules: nn.ModuleDict, rows: np.ndarray, batches: Iterable[np.ndarray],
        generator: np.random.Generator,
    ) -> Iterator[torch.Tensor]:  # fmt: skip
        """Both networks learn the video's label from single frames."""
        frames = self._cache["frames"]
        for batch in batches:
            drawn = self._draw_frames(len(batch), generator)
            pixels = frames[rows[batch]][np.arange(len(batch))[:, None], drawn.numpy()]
            target = self._targets_of(rows[batch]).repeat_interleave(drawn.shape[1], dim=0)
            loss = torch.zeros((), device=self.device)
            for name in ("glance", "focus"):
                network = self.glance if name == "glance" else self.focus
                # The focus network learns from whole frames here, not from patches.
                size = self._frame_size if name == "focus" else None
                whole = network.prepare(torch.from_numpy(pixels).flatten(0, 1).to(self.device), size)
                loss = loss + F.cross_entropy(modules[f"{name}_head"](network.backbone(whole)), target)
            yield loss

    def _random_patch_losses(
        self, glances: torch.Tensor, batches: Iterable[np.ndarray], generator: np.random.Generator
    ) -> Iterator[torch.Tensor]:
        colour = self.settings.random_patches.colour
        for batch in batches:
            rows = self._rows[batch]
            images = recoloured(self._random_patches(rows, generator), self.focus, colour, generator)
            features = self.focus.backbone(images).unflatten(0, (len(batch), -1))
            scores = self.classifier(glances[batch], features)
            yield loss_at_every_step(scores, self._targets_of(rows))

    def _scored_on_random_patches(self, glances: torch.Tensor) -> Report:
        """Of the validation split, always on the same patches."""
        rows, found = self._cache.rows("validation"), []
        generator = np.random.default_rng([self.settings.seed, RANDOM_PATCHES, 0])
        with evaluating(self.focus, self.classifier):
            for part in in_parts(len(rows), LOOKED_AT_TOGETHER):
                images = self._random_patches(rows[part], generator).flatten(0, 1)
                features = self.focus.backbone(images).unflatten(0, (len(part), -1))
                found.append(self.classifier(glances[part], features)[:, -1].softmax(dim=-1))
        return scored(torch.cat(found).cpu().numpy(), self._cache.labels[rows])

    def _random_patches(self, rows: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
        """Prepared patches at random positions of all frames, [B, T, 3, P, P]."""
        size, count = self.settings.patch_size, (len(rows), self._cache.num_candidates)
        corners, along = grid_corners(size, self._frame_size), np.arange(size)
        top, left = np.moveaxis(corners[generator.integers(len(corners), size=count)], -1, 0)
        video, frame = np.ogrid[: count[0], : count[1]]
        down = (top[..., None] + along)[..., :, None]
        across = (left[..., None] + along)[..., None, :]
        pixels = self._cache["frames"][rows][video[..., None, None], frame[..., None, None], down, across]
        images = self.focus.prepare(torch.from_numpy(pixels).flatten(0, 1).to(self.device))
        return images.unflatten(0, count)

    def _glance_images(self, rows: np.ndarray) -> torch.Tensor:
        """Prepared frames of training and validation videos, [B, T, 3, S, S]."""
        if self._images is None:
            first = self._prepared(self._rows[:1])
            if first.numel() * first.element_size() * len(self._cache) > LARGEST_IN_MEMORY:
                return self._prepared(rows)
            self._images = first.new_empty(len(self._cache), *first.shape[1:])
            for split in self._cache.splits & {"train", "validation"}:
                every = self._cache.rows(split)
                for part in in_parts(len(every), LOOKED_AT_TOGETHER):
                    self._images[every[part]] = self._prepared(every[part])
        return self._images[rows]

    def _prepared(self, rows: np.ndarray) -> torch.Tensor:
        frames = torch.from_numpy(self._cache["frames"][rows]).to(self.device)
        return self.glance.prepare(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def _pooled_glances(self, rows: np.ndarray) -> torch.Tensor:
        self.glance.eval()
        parts = in_parts(len(rows), LOOKED_AT_TOGETHER)
        # Rounded as the cache will round the maps that they are pooled from.
        return torch.cat(
            [
                self.classifier.pool(self.glance.maps(self._glance_images(rows[part])).half().float())
                for part in parts
            ]
        )

    def _embeddings(self, rows: np.ndarray) -> torch.Tensor:
        """Of videos, float32 [B, T, D], standardised over the training videos' frames."""
        mean, deviation = self._embedding_scale
        return (torch.from_numpy(self._cache["embedding"][rows]).float() - mean) / deviation

    @cached_property
    def _embedding_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        every = torch.from_numpy(self._cache["embedding"][self._rows]).float().flatten(0, 1)
        return every.mean(dim=0), every.std(dim=0, correction=min(1, len(every) - 1)) + 1e-6

    def _targets_of(self, rows: np.ndarray) -> torch.Tensor:
        return self._targets[torch.from_numpy(rows).to(self.device)]

    def _draw_frames(self, videos: int, generator: np.random.Generator) -> torch.Tensor:
        """int64 [videos, K], distinct frames of each."""
        total = self._cache.num_candidates
        count = min(self.settings.networks.frames_per_video, total)
        order = generator.permuted(np.tile(np.arange(total), (videos, 1)), axis=1)
        return torch.from_numpy(np.sort(order[:, :count], axis=1))
