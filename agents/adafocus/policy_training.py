"""AdaFocus's stages 2 and 3: policy and classifier learn on cached glances and patches; no backbone runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.adafocus.patch_ppo import ppo_loss, roll_out
from agents.adafocus.policies import AnyPatchPolicy, build_policy
from agents.adafocus.settings import CLASSIFIER, POLICY, AdaFocusSettings
from agents.adafocus.stages import stage_loop
from agents.common.batches import LARGEST_IN_MEMORY, LOOKED_AT_TOGETHER, in_parts, of_round, per_epoch
from agents.common.scores import scored
from video_env.cache.store import Cache
from video_env.envs.patch_select import GridPatchSelect
from video_env.models.backbones import evaluating
from video_env.models.classifiers import Classifier, loss_at_every_step
from video_env.models.optimise import build_optimiser, descend, seeded
from video_env.models.patch_arrays import GLANCE, PATCHES
from video_env.models.training_loop import Report, TrainingLoop
from video_env.models.verdicts import of_label


class PolicyStages:
    """The policy over a cache's glances and patches, and the stages that train it and the classifier.

    Args:
        cache: with ``glance`` and ``patches``.
        settings: see ``AdaFocusSettings``.
        classifier: over time, of the cache's features.
        device: where both run.

    Attributes:
        policy: untrained at first.
        shape: of the glance maps, and the number of positions, by name.

    Raises:
        CacheError: the cache lacks glances or patches.
    """

    def __init__(
        self, cache: Cache, settings: AdaFocusSettings, classifier: Classifier, device: torch.device
    ) -> None:
        self.settings, self.device, self.cache, self.classifier = settings, device, cache, classifier
        self.shape, own = patch_shape(cache), settings.policy
        with seeded(settings.seed):
            self.policy: AnyPatchPolicy = build_policy(
                own.network, self.shape, hidden=own.width, patch_share=_patch_share(cache)
            )
        self.policy.to(device).eval()
        self._task: GridPatchSelect | None = None
        self._maps: torch.Tensor | None = None

    def policy_stage(self, record: dict[str, Any]) -> TrainingLoop:
        """Stage 2: PPO on the dynamics of PatchSelect-v0; see ``PolicyTraining``.

        Args:
            record: all settings that the result depends on.

        Raises:
            CacheError: the cache has no training videos.
        """
        policy, settings, rows = self.policy, self.settings.policy, self._rows
        optimiser = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)

        def do_round(number: int) -> Report:
            generator = np.random.default_rng([self.settings.seed, POLICY, number])
            task = self._training_task()
            draws = torch.Generator(self.device).manual_seed(int(generator.integers(2**31)))
            reports = []
            for videos in of_round(settings.rollouts, number, len(rows), settings.batch_size, generator):
                with self._rolling(), torch.no_grad():
                    # A few videos at a time: their maps stay in the processor's cache.
                    parts = np.array_split(videos, -(-len(videos) // 4))
                    reduced = torch.cat([policy.reduced(self._rolled_maps(part)) for part in parts])
                    rollout = roll_out(policy, reduced, task, videos, generator, draws)
                maps = self._maps_of(videos).float()
                for _ in range(settings.inner_steps):
                    loss, entropy = ppo_loss(policy, maps, rollout, settings.coefficients)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                reports.append((float(rollout.rewards.mean()), rollout.confidence, float(entropy.detach())))
            reward, confidence, last = np.mean(reports, axis=0).tolist()
            return {"reward": reward, "confidence": confidence, "entropy": last}

        return stage_loop(
            "stage 2: policy", self.cache, nn.ModuleDict({"policy": policy}), optimiser, settings.length,
            do_round, record, per_epoch=settings.inner_steps * per_epoch(len(rows), settings.batch_size),
            validate=lambda: self._scored(*self._chosen_features(self.cache.rows("validation"), None)),
            constant_epochs=True,
        )  # fmt: skip

    def classifier_stage(self, record: dict[str, Any]) -> TrainingLoop:
        """Stage 3: the classifier learns the patches that the policy chooses; see ``ClassifierTraining``.

        Args:
            record: all settings that the result depends on.

        Raises:
            CacheError: the cache has no training videos.
        """
        settings, rows = self.settings.fine_tuning, self._rows
        self.classifier.requires_grad_(True)
        modules = nn.ModuleDict({"classifier": self.classifier})
        optimiser = build_optimiser(
            settings.optimiser, [(self.classifier, settings.learning_rate)], settings.weight_decay
        )
        chosen: list[tuple[torch.Tensor, torch.Tensor]] = []
        validation: list[tuple[torch.Tensor, torch.Tensor]] = []

        def do_round(number: int) -> Report:
            generator = np.random.default_rng([self.settings.seed, CLASSIFIER, number])
            if settings.drawn or not chosen:
                chosen[:] = [self._chosen_features(rows, generator if settings.drawn else None)]
            glance, patch = chosen[0]

            def losses() -> Iterator[torch.Tensor]:
                for batch in of_round(settings.length, number, len(rows), settings.batch_size, generator):
                    scores = self.classifier(glance[batch], patch[batch])
                    yield loss_at_every_step(scores, self._targets[batch])

            return {"loss": descend(optimiser, losses())}

        def validate() -> Report:
            if not validation:  # the policy is frozen: once for all rounds
                validation.append(self._chosen_features(self.cache.rows("validation"), None))
            report = self._scored(*validation[0])
            # The classifier grows surer of the training videos for long, and of its mistakes too: those the
            # arithmetic mean hardly sees.
            return {**report, "score": report["geometric"]}

        return stage_loop(
            "stage 3: classifier", self.cache, modules, optimiser, settings.length, do_round, record,
            per_epoch=per_epoch(len(rows), settings.batch_size), validate=validate,
        )  # fmt: skip

    @cached_property
    def _rows(self) -> np.ndarray:
        """Of the training videos; an error that lists the cache's splits where there are none."""
        return self.cache.rows("train")

    @cached_property
    def _targets(self) -> torch.Tensor:
        return torch.from_numpy(self.cache.label_shares()[self._rows]).to(self.device)

    def _training_task(self) -> GridPatchSelect:
        settings = self.settings.policy
        if self._task is None:
            self._task = GridPatchSelect(
                self.cache, "train", settings.reward, observation="index", device=str(self.device),
                precision=settings.rollout_precision,
            )  # fmt: skip
        return self._task

    def _scored(self, glances: torch.Tensor, patches: torch.Tensor) -> Report:
        """What the classifier makes of the validation videos in the end; also the geometric mean of the true
        class's probability, as ``geometric``."""
        labels = self.cache.labels[self.cache.rows("validation")]
        with evaluating(self.classifier):
            log_probabilities = self.classifier(glances, patches)[:, -1].log_softmax(dim=-1).cpu().numpy()
        geometric = float(np.exp(of_label(log_probabilities, labels).mean()))
        return {**scored(np.exp(log_probabilities), labels), "geometric": geometric}

    @torch.no_grad()
    def _chosen_features(
        self, rows: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled glances and chosen patches' features of videos, float32 [V, T, D] each; the most probable
        positions, or drawn ones."""
        policy, cache = self.policy, self.cache
        policy.eval()
        glances, patches = [], []
        for videos in in_parts(len(rows), 2 * LOOKED_AT_TOGETHER):
            # As they are cached, not as rollouts round them.
            maps = torch.from_numpy(cache[GLANCE][rows[videos]]).to(self.device)
            maps = maps.transpose(0, 1).float()
            log_probabilities = policy(maps)[0].cpu()
            if generator is not None:
                noise = generator.gumbel(size=log_probabilities.shape)
                log_probabilities = log_probabilities + torch.from_numpy(noise)
            positions = log_probabilities.argmax(dim=-1).numpy().T
            count, total = positions.shape
            entries = cache[PATCHES].entries(
                np.repeat(rows[videos], total), np.tile(np.arange(total), count), positions.ravel()
            )
            patches.append(torch.from_numpy(entries).float().view(count, total, -1).to(self.device))
            glances.append(self.classifier.pool(maps).transpose(0, 1))
        return torch.cat(glances), torch.cat(patches)

    def _maps_of(self, videos: np.ndarray) -> torch.Tensor:
        """Glance maps of training videos (by number), [T, B, D, h, w], with the channels last in memory."""
        if self._maps is None:
            array = self.cache[GLANCE]
            low = self.settings.policy.rollout_precision == "bfloat16"
            kind = torch.bfloat16 if low else torch.half
            if len(self._rows) * np.prod(array.row_shape) * 2 > LARGEST_IN_MEMORY:
                maps = torch.from_numpy(array[self._rows[videos]]).to(self.device)
                return maps.to(kind).movedim(-3, -1).contiguous().movedim(-1, -3).transpose(0, 1)
            channels, height, width = array.row_shape[1:]
            shape = (len(self._rows), array.row_shape[0], height, width, channels)
            self._maps = torch.empty(shape, dtype=kind, device=self.device)
            for number, row in enumerate(self._rows):
                self._maps[number] = torch.from_numpy(array[int(row)]).movedim(1, -1)
        chosen = self._maps.index_select(0, torch.from_numpy(videos).to(self.device))
        return chosen.movedim(-1, -3).transpose(0, 1)

    def _rolling(self) -> AbstractContextManager[Any]:
        low = self.settings.policy.rollout_precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=low)

    def _rolled_maps(self, videos: np.ndarray) -> torch.Tensor:
        maps = self._maps_of(videos)
        return maps if maps.dtype == torch.bfloat16 else maps.float()


def _patch_share(cache: Cache) -> float | None:
    """Side of a patch as a share of the frame's; None of patches that were computed elsewhere."""
    source = cache.sources(PATCHES)[PATCHES]
    known = "patch_size" in source and "frame_size" in source
    return source["patch_size"] / source["frame_size"] if known else None


def patch_shape(cache: Cache) -> dict[str, int]:
    """The sizes of a cache's glance maps, and the number of positions of a patch, by name."""
    channels, height, width = cache[GLANCE].row_shape[1:]
    positions = cache[PATCHES].row_shape[1]
    return {"channels": channels, "height": height, "width": width, "positions": positions}
