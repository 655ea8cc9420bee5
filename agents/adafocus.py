"""AdaFocus, the first version (Wang et al. 2021, arXiv 2105.03245): a patch in every frame, chosen by RL.

A cheap network glances at each whole frame; a recurrent policy chooses a patch from the glances; an
expensive network looks at the patch; a classifier over time joins both. Four stages, each a method:

0. ``fine_tune_networks``: glance and focus network learn the videos;
1. ``train_on_random_patches``: focus network and classifier learn from random patches; then the features
   of all patches are cached, and no backbone runs any more;
2. ``train_policy``: PPO on the dynamics of PatchSelect-v0;
3. ``fine_tune_classifier``: the classifier learns the patches that the policy chooses.

The published recipe starts from ImageNet weights. On the built-in data, which has none, the recognizer's
own backbone takes their place for the focus network, and the glance network learns to foretell that
backbone's features from its much smaller input.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from agents.adafocus_settings import PUBLISHED, AdaFocusSettings, read_settings
from agents.patch_policy import PatchPolicy
from agents.patch_ppo import ppo_loss, roll_out
from agents.published_adafocus import PublishedAdaFocus
from agents.saved import read_agent, require_seen
from agents.stage import Stage, build_optimiser, descend, is_finished
from agents.training_videos import LARGEST_IN_MEMORY, LOOKED_AT_TOGETHER, in_parts
from video_env.cache.derive import derive
from video_env.cache.store import Cache, add_network, open_cache, write_bytes
from video_env.data.patches import check_patch_size, grid_corners
from video_env.envs.patch_select import GridPatchSelect
from video_env.errors import InputError
from video_env.evaluation.evaluate import LooksAt
from video_env.models.backbones import FrameNetwork, embedding_weights, evaluating, load_state, load_weights
from video_env.models.classifiers import build_classifier, load_classifier
from video_env.models.cost import count_gflops
from video_env.models.device import resolve_device
from video_env.models.optimise import seeded
from video_env.models.patch_arrays import GLANCE, PATCHES, add_patches
from video_env.models.train_backbone import label_shares, recoloured

NETWORKS, RANDOM_PATCHES, POLICY, CLASSIFIER = range(4)
ENTRIES = {"settings", "trained_on", "sees", "seconds", "shape", "policy", "classifier_config", "classifier"}
METHODS = ("fine_tune_networks", "train_on_random_patches", "train_policy", "fine_tune_classifier")


class AdaFocus:
    """The agent; it acts in PatchSelect-v0, with observations of either kind.

    Args:
        cache: path of a cache, or a ``Cache``. With ``frames`` all four stages can run; with ``glance``,
            ``patches`` and a classifier, training begins at stage 2.
        settings: see ``AdaFocusSettings``.
        folder: where the stages' checkpoints go, and ``cache``, the cache with the patches of stage 1.
            Needed where the cache has no patches yet.
        device: where the networks run.

    Attributes:
        patch_cache: the cache with glances, patches and the classifier of stage 1; None before stage 1.
        policy: the ``PatchPolicy``; None before stage 1.
        classifier: stage 3's, before it stage 1's.
        glance, focus: the networks of stages 0 and 1.
        gflops: counted cost of one decision in 10^9 multiply-adds.
        stage_seconds: that each stage took, by its number; ``training_seconds`` is their sum.
        stage_history: by its number, what each epoch of a stage logged, and the ``seconds`` so far; of stages
            that ran, or were read from their files, in this session.
        trained_on: tells the data apart that it was trained on.
        sees: the networks of the glances and patches that it sees (``Cache.sources``), from stage 1 on.

    Raises:
        InputError: the patch is larger than the frame or of another size than the cache's patches, weights do
            not fit, or the cache lacks what the first stage needs.
    """

    looks_at: LooksAt = "glance"

    def __init__(
        self,
        cache: str | Path | Cache,
        settings: AdaFocusSettings | None = None,
        *,
        folder: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self.settings = settings or AdaFocusSettings()
        self.device = resolve_device(device)
        self._cache = open_cache(cache)
        self._folder = None if folder is None else Path(folder)
        self.stage_seconds: dict[int, float] = {}
        self.stage_history: dict[int, list[dict[str, float]]] = {}
        self._validating = False
        self._weights: dict[str, str] = {}
        self.patch_cache: Cache | None = None
        self.policy: PatchPolicy | None = None
        arrays = (GLANCE, PATCHES) if PATCHES in self._cache else ("frames",)
        self.trained_on = f"{self._cache.identity}, {'+'.join(arrays)} {self._cache.fingerprint(*arrays)}"
        self._draws = torch.Generator(self.device).manual_seed(self.settings.seed)
        if PATCHES in self._cache:
            _require_patch_size(self.settings.patch_size, self._cache)
            self.classifier = load_classifier(self._cache, self.device)
            self._use(self._cache)
        else:
            if self._folder is None:
                raise InputError(
                    f"folder: cache {self._cache.path} has no patches yet; expected a folder where stages 0 "
                    "and 1 can keep theirs"
                )
            self._build_networks()

    @property
    def gflops(self) -> float:
        return self._policy_gflops

    @property
    def training_seconds(self) -> float:
        return sum(self.stage_seconds.values())

    def learn(self, *, log_folder: str | Path | None = None, validate: bool = False) -> AdaFocus:
        """Run all stages that are not done yet, each from where it was interrupted. A stage that is done is
        not run again, here and when it is called by itself.

        Args:
            log_folder: for ``progress.csv`` and TensorBoard, one folder per stage.
            validate: log the top-1 on the validation split after every epoch of stages 2 and 3; it does not
                count as training.
        """
        self._validating = validate
        for number, method in enumerate(METHODS):
            if number >= self._first_stage:
                logs = None if log_folder is None else Path(log_folder) / f"stage-{number}"
                getattr(self, method)(log_folder=logs)
        return self

    def fine_tune_networks(self, *, log_folder: Path | None = None) -> None:
        """Stage 0: the glance and the focus network learn the videos; see ``NetworkTraining``.

        Raises:
            CacheError: the cache lacks frames, or the embedding that shall be foretold.
            InputError: the cache has patches already, or a checkpoint is of other settings.
        """
        self._require_networks(NETWORKS)
        if NETWORKS in self.stage_seconds:
            return
        self._run(self._network_stage(), log_folder)

    def train_on_random_patches(self, *, log_folder: Path | None = None) -> None:
        """Stage 1: focus network and classifier learn from random patches, with a loss after every frame;
        then every patch's features are cached. See ``RandomPatchTraining``.

        Raises:
            InputError: stage 0 has not been run, the cache has patches already, or a checkpoint is of
                other settings.
        """
        self._require_networks(RANDOM_PATCHES)
        self._require(NETWORKS)
        if RANDOM_PATCHES in self.stage_seconds:
            return
        self._require_no_other_patches()
        self._run(self._random_patch_stage(), log_folder)
        self._cache_patches()

    def train_policy(self, *, log_folder: Path | None = None) -> None:
        """Stage 2: PPO on the dynamics of PatchSelect-v0 over cached patches; see ``PolicyTraining``.

        Raises:
            InputError: stage 1 has not been run, or a checkpoint is of other settings.
        """
        self._require(RANDOM_PATCHES)
        if POLICY in self.stage_seconds:
            return
        self._require_training_videos()
        self._run(self._policy_stage(), log_folder)

    def fine_tune_classifier(self, *, log_folder: Path | None = None) -> None:
        """Stage 3: the classifier learns the patches that the policy chooses; see ``ClassifierTraining``.

        Raises:
            InputError: stage 2 has not been run, or a checkpoint is of other settings.
        """
        self._require(POLICY)
        if CLASSIFIER in self.stage_seconds:
            return
        self._require_training_videos()
        self._run(self._classifier_stage(), log_folder)

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: np.ndarray | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions for PatchSelect-v0.

        Args:
            observation: of PatchSelect-v0, one or a batch; index observations are of ``patch_cache``.
            state: the policy's recurrent state that the last call returned; None in the first frame.
            episode_start: bool [B], which episodes begin now, and with them a fresh state.
            deterministic: the most probable position, or one drawn.

        Returns:
            Positions int64 [] or [B], and the recurrent state float32 [B, hidden].

        Raises:
            InputError: there is no policy yet, or the observation is of another kind or shape.
        """
        policy = self._acting_policy()
        maps, single = self._look(observation)
        last = torch.zeros(len(maps), policy.hidden) if state is None else torch.from_numpy(state)
        if episode_start is not None:
            last = last * ~torch.from_numpy(np.atleast_1d(episode_start).astype(bool))[:, None]
        with evaluating(policy):
            log_probabilities, _, after = policy(maps[None].to(self.device), last.to(self.device))
            if deterministic:
                action = log_probabilities[0].argmax(dim=-1)
            else:
                action = torch.multinomial(log_probabilities[0].exp(), 1, generator=self._draws)[:, 0]
        chosen = action.cpu().numpy()
        return chosen[0] if single else chosen, after.cpu().numpy()

    def save(self, path: str | Path) -> None:
        """Write policy and classifier to a file, in one step.

        Raises:
            InputError: there is no policy yet.
        """
        policy, path = self._acting_policy(), Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        saved = {
            "agent": "AdaFocus", "settings": asdict(self.settings), "trained_on": self.trained_on,
            "sees": self.sees, "seconds": self.stage_seconds, "shape": self._shape,
            "policy": policy.state_dict(), "classifier": self.classifier.state_dict(),
            "classifier_config": self.classifier.config,
        }  # fmt: skip
        torch.save(saved, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path, *, cache: str | Path | Cache, device: str = "auto") -> AdaFocus:
        """Read an agent from a file.

        Args:
            path: the file.
            cache: with the patches that it was trained on (its folder's ``cache``), or others of the same
                networks.
            device: where it runs.

        Raises:
            InputError: the file is missing or holds no AdaFocus, or it does not fit the cache.
        """
        saved = read_agent(Path(path), "AdaFocus", ENTRIES)
        agent = cls.__new__(cls)
        agent.settings = read_settings(saved["settings"])
        agent.device, agent._folder = resolve_device(device), None
        agent._cache, agent.trained_on = open_cache(cache), saved["trained_on"]
        agent.stage_seconds, agent.stage_history, agent._validating = saved["seconds"], {}, False
        require_seen(Path(path), saved["sees"], agent._cache)
        agent._draws = torch.Generator(agent.device).manual_seed(agent.settings.seed)
        agent.classifier = build_classifier(saved["classifier_config"])
        load_state(agent.classifier, saved["classifier"], where=f"agent {path}")
        agent.classifier.to(agent.device).eval().requires_grad_(False)
        agent._use(agent._cache)
        if agent._shape != saved["shape"]:
            raise InputError(
                f"agent {path}: trained on glance maps and positions {saved['shape']}, cache "
                f"{agent._cache.path} has {agent._shape}"
            )
        policy = agent._built_policy()
        load_state(policy, saved["policy"], where=f"agent {path}")
        return agent

    @classmethod
    def from_published(
        cls, published: PublishedAdaFocus, cache: str | Path | Cache, *, device: str = "auto"
    ) -> AdaFocus:
        """An agent with the policy of a released checkpoint, to be evaluated, or its classifier fine-tuned,
        on a cache with glances and patches; the classifier is the cache's.

        Raises:
            InputError: the cache lacks them, or its maps, positions or patches are of other sizes.
        """
        settings = replace(
            PUBLISHED, patch_size=published.patch_size,
            policy=replace(PUBLISHED.policy, hidden=published.policy.hidden),
        )  # fmt: skip
        opened = open_cache(cache)
        _ = opened[PATCHES]  # its error says how to make them
        agent = cls(opened, settings, device=device)
        load_state(agent._built_policy(), published.policy.state_dict(), where="released policy")
        agent.trained_on, agent.stage_seconds[POLICY] = "released checkpoint", 0.0
        return agent

    @property
    def _first_stage(self) -> int:
        """2 where the cache came with patches."""
        return POLICY if PATCHES in self._cache else NETWORKS

    def _file(self, stage: int) -> Path | None:
        return None if self._folder is None else self._folder / f"stage-{stage}.pt"

    def _run(self, stage: Stage, log_folder: Path | None = None) -> None:
        self.stage_seconds[stage.number] = stage.run(self._file(stage.number), log_folder)
        self.stage_history[stage.number] = stage.history

    def _require_networks(self, stage: int) -> None:
        if self._first_stage > stage:
            raise InputError(
                f"stage {stage} ({METHODS[stage]}): cache {self._cache.path} has patches already, which this "
                "stage would contradict; begin with stage 2 (train_policy)"
            )

    def _require_no_other_patches(self) -> None:
        """An error where the folder's cache has patches of a stage 1 whose file is gone."""
        assert self._folder is not None
        file, out = self._file(RANDOM_PATCHES), self._folder / "cache"
        gone = file is None or not file.is_file()
        if gone and (out / "meta.json").is_file() and "classifier.safetensors" in Cache(out).meta["networks"]:
            raise InputError(
                f"{out}: holds the patches of another stage 1, whose file {file} is gone; delete it or "
                "choose another folder"
            )

    def _require_training_videos(self) -> None:
        assert self.patch_cache is not None
        self.patch_cache.rows("train")  # its error lists the splits that there are

    def _require(self, stage: int) -> None:
        """The stage's result, from this session or from its file; an error where there is none."""
        if stage in self.stage_seconds or stage < self._first_stage:
            return
        file = self._file(stage)
        if file is None or not file.is_file() or not is_finished(file):
            raise InputError(
                f"stage {stage + 1} ({METHODS[stage + 1]}): stage {stage} ({METHODS[stage]}) has not been "
                "finished; run it first, or learn() for all of them"
            )
        if stage > self._first_stage:
            self._require(stage - 1)
        build = (self._network_stage, self._random_patch_stage, self._policy_stage, self._classifier_stage)
        self._run(build[stage]())
        if stage == RANDOM_PATCHES:
            self._cache_patches()

    # Stages 0 and 1: networks.

    def _build_networks(self) -> None:
        settings, frames = self.settings, self._cache["frames"]
        if frames.row_shape[1] != frames.row_shape[2]:
            raise InputError(
                f"cache {self._cache.path}: frames {frames.row_shape[1:3]}, expected square ones"
            )
        self._frame_size = int(frames.row_shape[1])
        check_patch_size(settings.patch_size, self._frame_size)
        with seeded(settings.seed):
            self.glance = FrameNetwork(settings.glance, input_size=settings.glance_size)
            self.focus = FrameNetwork(settings.focus, input_size=settings.patch_size)
            self.classifier = build_classifier(
                {"classifier": settings.classifier, "glance": self.glance.features,
                 "patch": self.focus.features, "classes": len(self._cache.classes),
                 "hidden": settings.hidden, "pooling": self.glance.pooling}
            )  # fmt: skip
        weights = settings.focus_weights
        # By content, so that a file that was replaced is another setting.
        self._weights = {
            "glance_weights": load_weights(self.glance, settings.glance_weights),
            "focus_weights": load_weights(
                self.focus,
                str(embedding_weights(self._cache, settings.focus)) if weights == "cache" else weights,
            ),
        }
        for network in (self.glance, self.focus):
            network.to(self.device).to(memory_format=torch.channels_last)
        self.classifier.to(self.device)
        self._rows = self._cache.rows("train")
        self._targets = label_shares(self._cache)[self._rows].to(self.device)
        self._images: torch.Tensor | None = None

    def _record(self, *names: str) -> dict[str, Any]:
        """What a stage's result depends on."""
        settings = {**asdict(self.settings), **self._weights}
        return {
            "cache": self.trained_on,
            "seed": settings["seed"],
            **{name: settings[name] for name in names},
        }

    _OF_NETWORKS = ("glance", "glance_size", "glance_weights", "focus", "focus_weights", "networks")
    _OF_PATCHES = (*_OF_NETWORKS, "patch_size", "classifier", "hidden", "random_patches")

    @property
    def _of_policy(self) -> tuple[str, ...]:
        return ("policy",) if self._first_stage == POLICY else (*self._OF_PATCHES, "policy")

    def _network_stage(self) -> Stage:
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
        losses = self._classifying if classify else self._foretelling
        return Stage(
            NETWORKS, "AdaFocus, stage 0: networks", modules, optimiser, settings.epochs,
            lambda generator: {"loss": descend(optimiser, losses(modules, generator))},
            self._record(*self._OF_NETWORKS), self.settings.seed,
        )  # fmt: skip

    def _foretelling(self, modules: nn.ModuleDict, generator: np.random.Generator) -> Iterator[torch.Tensor]:
        """The glance network's features regress the standardised embedding of each frame (knowledge
        distillation by features, Romero et al. 2015, FitNets, equation 3)."""
        embedding = torch.from_numpy(self._cache["embedding"][self._rows]).float()
        embedding = (embedding - embedding.mean(dim=(0, 1))) / (embedding.std(dim=(0, 1)) + 1e-6)
        for batch in self._batches(generator, self.settings.networks.batch_size):
            drawn = self._draw_frames(len(batch), generator)
            images = self._glance_images(batch)[torch.arange(len(batch))[:, None], drawn]
            foretold = modules["glance_head"](self.glance.backbone(images.flatten(0, 1)))
            known = embedding[torch.from_numpy(batch)[:, None], drawn].flatten(0, 1)
            yield F.mse_loss(foretold, known.to(self.device))

    def _classifying(self, modules: nn.ModuleDict, generator: np.random.Generator) -> Iterator[torch.Tensor]:
        """Both networks learn the video's label from single frames."""
        frames = self._cache["frames"]
        for batch in self._batches(generator, self.settings.networks.batch_size):
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

    def _random_patch_stage(self) -> Stage:
        settings = self.settings.random_patches
        modules = nn.ModuleDict({"focus": self.focus, "classifier": self.classifier})
        optimiser = build_optimiser(
            settings.optimiser,
            [(self.focus, settings.focus_learning_rate), (self.classifier, settings.learning_rate)],
            settings.weight_decay,
        )
        glances: list[torch.Tensor] = []

        def epoch(generator: np.random.Generator) -> dict[str, float]:
            if not glances:  # the glance network is frozen: once for all epochs
                glances.append(self._pooled_glances())
            return {"loss": descend(optimiser, self._random_patch_losses(glances[0], generator))}

        return Stage(
            RANDOM_PATCHES, "AdaFocus, stage 1: random patches", modules, optimiser, settings.epochs, epoch,
            self._record(*self._OF_PATCHES), self.settings.seed,
        )  # fmt: skip

    def _random_patch_losses(
        self, glances: torch.Tensor, generator: np.random.Generator
    ) -> Iterator[torch.Tensor]:
        settings, size = self.settings.random_patches, self.settings.patch_size
        corners = grid_corners(size, self._frame_size)
        frames, along = self._cache["frames"], np.arange(size)
        for batch in self._batches(generator, settings.batch_size):
            count = len(batch), self._cache.num_candidates
            top, left = np.moveaxis(corners[generator.integers(len(corners), size=count)], -1, 0)
            video, frame = np.ogrid[: count[0], : count[1]]
            rows = (top[..., None] + along)[..., :, None]
            columns = (left[..., None] + along)[..., None, :]
            pixels = frames[self._rows[batch]][video[..., None, None], frame[..., None, None], rows, columns]
            images = self.focus.prepare(torch.from_numpy(pixels).flatten(0, 1).to(self.device))
            images = recoloured(images.unflatten(0, count), self.focus, settings.colour, generator)
            features = self.focus.backbone(images).unflatten(0, count)
            yield self._loss_at_every_step(self.classifier(glances[batch], features), self._targets[batch])

    def _cache_patches(self) -> None:
        """The cache of stage 1's patches, complete and with its networks; its time is part of stage 1's."""
        assert self._folder is not None
        begun, timed = time.perf_counter(), self._folder / "caching-seconds.json"
        arrays = [name for name in self._cache.arrays if name not in (GLANCE, PATCHES)]
        cache = derive(self._cache, self._folder / "cache", arrays, networks=True)
        weights = {}
        for name, network in ((GLANCE, self.glance), (PATCHES, self.focus)):
            state = {key: tensor.contiguous().cpu() for key, tensor in network.backbone.state_dict().items()}
            if f"{name}.safetensors" not in cache.meta["networks"]:
                training = self._record(*self._OF_PATCHES)
                cache = add_network(cache, name, safetensors.torch.save(state), training=training)
            weights[name] = f"sha256:{cache.meta['networks'][f'{name}.safetensors']}"
        cache = add_patches(
            cache, self.glance, self.focus, self.classifier, patch_size=self.settings.patch_size,
            glance_weights=weights[GLANCE], focus_weights=weights[PATCHES],
            training=self._record(*self._OF_PATCHES), device=str(self.device),
        )  # fmt: skip
        if not timed.is_file():
            write_bytes(timed, json.dumps(time.perf_counter() - begun).encode())
        self.stage_seconds[RANDOM_PATCHES] += json.loads(timed.read_text())
        self.classifier = load_classifier(cache, self.device)
        self._use(cache)

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

    def _batches(self, generator: np.random.Generator, size: int) -> list[np.ndarray]:
        order = generator.permutation(len(self._rows))
        return np.array_split(order, -(-len(order) // size))

    @staticmethod
    def _loss_at_every_step(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of scores [B, T, C] after every frame with targets [B, C]."""
        repeated = targets[:, None].expand(-1, scores.shape[1], -1)
        return F.cross_entropy(scores.flatten(0, 1), repeated.flatten(0, 1))

    # Stages 2 and 3: policy and classifier, on cached features.

    def _use(self, cache: Cache) -> None:
        """Make this cache the one that the policy acts on, and the policy its size."""
        self.patch_cache, self.sees = cache, cache.sources(GLANCE, PATCHES)
        channels, height, width = cache[GLANCE].row_shape[1:]
        positions = cache[PATCHES].row_shape[1]
        self._shape = {"channels": channels, "height": height, "width": width, "positions": positions}
        with seeded(self.settings.seed):
            self.policy = PatchPolicy(
                channels, height * width, positions, hidden=self.settings.policy.hidden
            ).to(self.device)
        self.policy.eval()
        self._policy_gflops = count_gflops(self.policy, torch.empty(1, 1, channels, height, width))
        self._rows = cache.rows("train") if (cache.index["split"] == "train").any() else np.zeros(0, int)
        self._targets = label_shares(cache)[self._rows].to(self.device)
        self._task: GridPatchSelect | None = None
        self._maps: torch.Tensor | None = None

    def _training_task(self) -> GridPatchSelect:
        settings = self.settings.policy
        if self._task is None:
            self._task = GridPatchSelect(
                self.patch_cache, "train", settings.reward, observation="index", device=str(self.device),
                precision=settings.rollout_precision,
            )  # fmt: skip
        return self._task

    def _policy_stage(self) -> Stage:
        policy, settings = self._built_policy(), self.settings.policy
        optimiser = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)

        def epoch(generator: np.random.Generator) -> dict[str, float]:
            task = self._training_task()
            draws = torch.Generator(self.device).manual_seed(int(generator.integers(2**31)))
            reports = []
            for videos in self._batches(generator, settings.batch_size):
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

        return Stage(
            POLICY, "AdaFocus, stage 2: policy", nn.ModuleDict({"policy": policy}), optimiser,
            settings.epochs, epoch, self._record(*self._of_policy), self.settings.seed, cosine=False,
            validate=self._validate if self._validating else None,
        )  # fmt: skip

    def _classifier_stage(self) -> Stage:
        settings = self.settings.fine_tuning
        self.classifier.requires_grad_(True)
        modules = nn.ModuleDict({"classifier": self.classifier})
        optimiser = build_optimiser(
            settings.optimiser, [(self.classifier, settings.learning_rate)], settings.weight_decay
        )
        chosen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def epoch(generator: np.random.Generator) -> dict[str, float]:
            if settings.drawn or not chosen:
                chosen[:] = [self._chosen_features(self._rows, generator if settings.drawn else None)]
            glance, patch = chosen[0]

            def losses() -> Iterator[torch.Tensor]:
                for batch in self._batches(generator, settings.batch_size):
                    scores = self.classifier(glance[batch], patch[batch])
                    yield self._loss_at_every_step(scores, self._targets[batch])

            return {"loss": descend(optimiser, losses())}

        return Stage(
            CLASSIFIER, "AdaFocus, stage 3: classifier", modules, optimiser, settings.epochs, epoch,
            self._record(*self._of_policy, "fine_tuning"), self.settings.seed,
            validate=self._validate if self._validating else None,
        )  # fmt: skip

    def _validate(self) -> dict[str, float]:
        """Top-1 on the validation split, with the most probable positions."""
        assert self.patch_cache is not None
        rows = self.patch_cache.rows("validation")
        with evaluating(self.classifier):
            scores = self.classifier(*self._chosen_features(rows, None))[:, -1]
        labels = self.patch_cache.index["label"].to_numpy()[rows]
        return {"validation": float((scores.argmax(dim=-1).cpu().numpy() == labels).mean())}

    @torch.no_grad()
    def _chosen_features(
        self, rows: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled glances and chosen patches' features of videos, float32 [V, T, D] each; the most probable
        positions, or drawn ones."""
        policy, cache = self._built_policy(), self.patch_cache
        assert cache is not None
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
        """Glance maps of training videos (by position), [T, B, D, h, w], with the channels last in memory."""
        if self._maps is None:
            assert self.patch_cache is not None
            array = self.patch_cache[GLANCE]
            low = self.settings.policy.rollout_precision == "bfloat16"
            kind = torch.bfloat16 if low else torch.half
            if len(self._rows) * np.prod(array.row_shape) * 2 > LARGEST_IN_MEMORY:
                maps = torch.from_numpy(array[self._rows[videos]]).to(self.device)
                return maps.to(kind).movedim(-3, -1).contiguous().movedim(-1, -3).transpose(0, 1)
            channels, height, width = array.row_shape[1:]
            shape = (len(self._rows), array.row_shape[0], height, width, channels)
            self._maps = torch.empty(shape, dtype=kind, device=self.device)
            for position, row in enumerate(self._rows):
                self._maps[position] = torch.from_numpy(array[int(row)]).movedim(1, -1)
        chosen = self._maps.index_select(0, torch.from_numpy(videos).to(self.device))
        return chosen.movedim(-1, -3).transpose(0, 1)

    def _rolling(self) -> AbstractContextManager[Any]:
        low = self.settings.policy.rollout_precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=low)

    def _rolled_maps(self, videos: np.ndarray) -> torch.Tensor:
        maps = self._maps_of(videos)
        return maps if maps.dtype == torch.bfloat16 else maps.float()

    def _built_policy(self) -> PatchPolicy:
        if self.policy is None:
            raise InputError("this AdaFocus has no policy yet: run stages 0, 1 and 2, or learn() for all")
        return self.policy

    def _acting_policy(self) -> PatchPolicy:
        """The policy, if it has been trained, loaded or released."""
        if POLICY not in self.stage_seconds:
            raise InputError("this AdaFocus has no policy yet: run stage 2 (train_policy), or learn()")
        return self._built_policy()

    def _look(self, observation: dict[str, np.ndarray]) -> tuple[torch.Tensor, bool]:
        """Glance maps float32 [B, D, h, w], and whether there is a single one without a batch."""
        assert self.patch_cache is not None
        expected = tuple(self._shape[name] for name in ("channels", "height", "width"))
        if "glance" in observation:
            maps = np.asarray(observation["glance"])
            if maps.shape[-3:] != expected or maps.ndim not in (3, 4):
                raise InputError(f"glance: found shape {maps.shape}, expected [..., {expected}]")
            return torch.from_numpy(maps.reshape(-1, *expected)).float(), maps.ndim == 3
        if not {"video", "frame"} <= set(observation):
            raise InputError(
                f"observation: found {', '.join(observation)}, expected glance, or video and frame"
            )
        video, frame = (np.asarray(observation[name]) for name in ("video", "frame"))
        last = self.patch_cache[GLANCE].row_shape[0] - 1
        maps = self.patch_cache[GLANCE].entries(video.reshape(-1), np.minimum(frame.reshape(-1), last))
        maps[frame.reshape(-1) > last] = 0  # as the environment shows it where no frame is left
        return torch.from_numpy(maps).float(), video.ndim == 1


def _require_patch_size(size: int, cache: Cache) -> None:
    """Of patches that were computed elsewhere the size may be unknown."""
    own = cache.sources(PATCHES)[PATCHES].get("patch_size", size)
    if size != own:
        raise InputError(
            f"patch_size: found {size}; cache {cache.path} has patches of {own} pixels already, and no "
            "others can be chosen on it"
        )
