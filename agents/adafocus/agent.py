"""AdaFocus, the first version (Wang et al. 2021, arXiv 2105.03245): a patch in every frame, chosen by RL.

A cheap network glances at each whole frame; a recurrent policy chooses a patch from the glances; an
expensive network looks at the patch; a classifier over time joins both. Four stages, each a method:

0. ``fine_tune_networks``: glance and focus network learn the videos;
1. ``train_on_random_patches``: focus network and classifier learn from random patches; then the features
   of all patches are cached, and no backbone runs any more;
2. ``train_policy``: PPO on the dynamics of PatchSelect-v0;
3. ``fine_tune_classifier``: the classifier learns the patches that the policy chooses.

The published recipe starts from ImageNet weights. On the built-in data, which has none, the backbone
of the cache's embedding takes their place for the focus network, and its features are distilled into the
glance network, whose input is much smaller.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.adafocus.network_training import NetworkStages
from agents.adafocus.patch_caching import cache_in_folder, require_no_other_patches
from agents.adafocus.patch_policy import glance_maps
from agents.adafocus.policies import AnyPatchPolicy
from agents.adafocus.policy_training import PolicyStages, patch_shape
from agents.adafocus.released import ReleasedAdaFocus
from agents.adafocus.settings import (
    CLASSIFIER,
    NETWORKS,
    POLICY,
    PUBLISHED,
    RANDOM_PATCHES,
    AdaFocusSettings,
    read_settings,
    settings_of_stages,
)
from agents.common.agent_files import AgentRecord, read_agent, understanding, write_agent
from agents.common.training_log import TrainingLog
from video_env.cache.store import Cache, open_cache
from video_env.errors import InputError
from video_env.evaluation.protocols import LooksAt
from video_env.models.backbones import evaluating, load_state
from video_env.models.classifiers import Classifier, build_classifier, load_classifier
from video_env.models.cost import count_gflops
from video_env.models.device import resolve_device
from video_env.models.patch_arrays import GLANCE, PATCHES
from video_env.models.stopping import Ended
from video_env.models.training_loop import TrainingLoop, is_finished

PARTS = ("policy", "classifier", "classifier_config")
"""What an agent's file holds of networks."""
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
        policy: chooses patches; None before stage 1.
        classifier: stage 3's, before it stage 1's.
        networks: glance and focus network, and stages 0 and 1; None where the cache came with patches.
        gflops: counted cost of one decision in 10^9 multiply-adds.
        stage_seconds: that each stage took, by its number; ``training_seconds`` is their sum.
        stage_history: by its number, what each round of a stage logged, and the ``seconds`` and ``updates``
            so far; from stage 1 on also ``validation``, the top-1 on the validation split, if there is one.
        stage_ended: by its number, why a stage ended (``models.stopping``).
        trained_on: tells the data apart that it was trained on.
        sees: the networks of the glances and patches that it sees (``Cache.sources``), from stage 1 on.

    Raises:
        InputError: the patch is larger than the frame or of another size than the cache's patches, weights do
            not fit, or the cache lacks what the first stage needs.
    """

    looks_at: LooksAt = "glance"
    networks: NetworkStages | None

    def __init__(
        self,
        cache: str | Path | Cache,
        settings: AdaFocusSettings | None = None,
        *,
        folder: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self._begin(settings or AdaFocusSettings(), cache, None if folder is None else Path(folder), device)
        arrays = (GLANCE, PATCHES) if PATCHES in self._cache else ("frames",)
        self.trained_on = f"{self._cache.identity}, {'+'.join(arrays)} {self._cache.fingerprint(*arrays)}"
        if PATCHES in self._cache:
            _require_patch_size(self.settings.patch_size, self._cache)
            self._use(self._cache, load_classifier(self._cache, self.device))
            return
        if self._folder is None:
            raise InputError(
                f"folder: cache {self._cache.path} has no patches yet; expected a folder where stages 0 "
                "and 1 can keep theirs"
            )
        self.networks = NetworkStages(self._cache, self.settings, self.device)
        self.classifier = self.networks.classifier

    def _begin(
        self, settings: AdaFocusSettings, cache: str | Path | Cache, folder: Path | None, device: str
    ) -> None:
        """As it is before anything is trained or read."""
        self.settings, self.device = settings, resolve_device(device)
        self._cache, self._folder = open_cache(cache), folder
        self.stage_seconds: dict[int, float] = {}
        self.stage_history: dict[int, list[dict[str, float]]] = {}
        self.stage_ended: dict[int, Ended] = {}
        self.patch_cache: Cache | None = None
        self.policy: AnyPatchPolicy | None = None
        self.networks = None
        self._on_patches: PolicyStages | None = None
        self._draws = torch.Generator(self.device).manual_seed(settings.seed)

    @property
    def gflops(self) -> float:
        return self._gflops

    @property
    def training_seconds(self) -> float:
        return sum(self.stage_seconds.values())

    def learn(self, *, log_folder: str | Path | None = None) -> AdaFocus:
        """Run all stages that are not done yet, each from where it was interrupted. A stage that is done is
        not run again, here and when it is called by itself.

        Args:
            log_folder: for ``progress.csv`` and TensorBoard, one folder per stage.
        """
        for number, method in enumerate(METHODS):
            if number >= self._first_stage:
                logs = None if log_folder is None else Path(log_folder) / f"stage-{number}"
                getattr(self, method)(log_folder=logs)
        return self

    def fine_tune_networks(self, *, log_folder: Path | None = None) -> None:
        """Stage 0: the glance and the focus network learn the videos; see ``NetworkTraining``.

        Raises:
            CacheError: the cache lacks frames, or the embedding that is to be distilled.
            InputError: the cache has patches already, or a checkpoint is of other settings.
        """
        self._require_networks(NETWORKS)
        if NETWORKS in self.stage_seconds:
            return
        self._run(NETWORKS, log_folder)

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
        if self._folder is not None:
            require_no_other_patches(self._folder, self._folder / f"stage-{RANDOM_PATCHES}.pt")
        self._run(RANDOM_PATCHES, log_folder)

    def train_policy(self, *, log_folder: Path | None = None) -> None:
        """Stage 2: PPO on the dynamics of PatchSelect-v0 over cached patches; see ``PolicyTraining``.

        Raises:
            InputError: stage 1 has not been run, or a checkpoint is of other settings.
        """
        self._require(RANDOM_PATCHES)
        if POLICY in self.stage_seconds:
            return
        self._run(POLICY, log_folder)

    def fine_tune_classifier(self, *, log_folder: Path | None = None) -> None:
        """Stage 3: the classifier learns the patches that the policy chooses; see ``ClassifierTraining``.

        Raises:
            InputError: stage 2 has not been run, or a checkpoint is of other settings.
        """
        self._require(POLICY)
        if CLASSIFIER in self.stage_seconds:
            return
        self._run(CLASSIFIER, log_folder)

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
            Positions int64 [] or [B], and the recurrent state float32 [B, R], R as of the policy.

        Raises:
            InputError: there is no policy yet, or the observation is of another kind or shape.
        """
        policy = self._acting_policy()
        assert self.patch_cache is not None
        maps, single = glance_maps(observation, self.patch_cache)
        last = torch.zeros(len(maps), policy.state_size) if state is None else torch.from_numpy(state)
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
        policy = self._acting_policy()
        parts = {
            "policy": policy.state_dict(), "classifier": self.classifier.state_dict(),
            "classifier_config": self.classifier.config,
        }  # fmt: skip
        record = AgentRecord(
            "AdaFocus", asdict(self.settings), self.trained_on, self._shape(), self.sees, self.stage_seconds,
            self.stage_history, parts, self.stage_ended,
        )  # fmt: skip
        write_agent(Path(path), record)

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
        saved = read_agent(Path(path), "AdaFocus", *PARTS)
        with understanding(Path(path)):
            agent = cls.__new__(cls)
            agent._begin(read_settings(saved.settings, where=f"agent {path}"), cache, None, device)
            agent.trained_on, agent.stage_seconds = saved.trained_on, saved.seconds
            agent.stage_history, agent.stage_ended = saved.history, saved.ended
            saved.require_fits(Path(path), agent._cache, patch_shape(agent._cache))
            classifier = build_classifier(saved.parts["classifier_config"])
            load_state(classifier, saved.parts["classifier"], where=f"agent {path}")
            agent._use(agent._cache, classifier.to(agent.device).eval().requires_grad_(False))
            policy = agent._built_policy()
            load_state(policy, saved.parts["policy"], where=f"agent {path}")
        return agent

    @classmethod
    def from_released(
        cls, released: ReleasedAdaFocus, cache: str | Path | Cache, *, device: str = "auto"
    ) -> AdaFocus:
        """An agent with the policy of a released checkpoint, to be evaluated, or its classifier fine-tuned,
        on a cache with glances and patches; the classifier is the cache's.

        Raises:
            InputError: the cache lacks them, or its maps, positions or patches are of other sizes.
        """
        settings = replace(
            PUBLISHED, patch_size=released.patch_size,
            policy=replace(PUBLISHED.policy, hidden=released.policy.hidden),
        )  # fmt: skip
        opened = open_cache(cache)
        _ = opened[PATCHES]  # its error says how to make them
        agent = cls(opened, settings, device=device)
        load_state(agent._built_policy(), released.policy.state_dict(), where="released policy")
        agent.trained_on, agent.stage_seconds[POLICY] = "released checkpoint", 0.0
        return agent

    @property
    def _first_stage(self) -> int:
        """2 where the cache came with patches."""
        return POLICY if PATCHES in self._cache else NETWORKS

    def _file(self, stage: int) -> Path | None:
        return None if self._folder is None else self._folder / f"stage-{stage}.pt"

    def _run(self, number: int, log_folder: Path | None = None) -> None:
        loop = self._loop(number)
        log = TrainingLog(log_folder, f"stage-{number}")
        self.stage_seconds[number] = loop.run(self._file(number), log)
        self.stage_history[number], self.stage_ended[number] = loop.history, loop.ended
        if number == RANDOM_PATCHES:
            assert self._folder is not None
            assert self.networks is not None
            cache, seconds = cache_in_folder(self.networks, self._folder, self._record(number))
            self.stage_seconds[number] += seconds
            self._use(cache, load_classifier(cache, self.device))

    def _loop(self, number: int) -> TrainingLoop:
        record = self._record(number)
        if number < POLICY:
            assert self.networks is not None
            build = (self.networks.network_stage, self.networks.random_patch_stage)[number]
            return build(record)
        assert self._on_patches is not None
        build = self._on_patches.policy_stage if number == POLICY else self._on_patches.classifier_stage
        return build(record)

    def _record(self, stage: int) -> dict[str, Any]:
        """What a stage's result depends on."""
        weights = {} if self.networks is None else self.networks.weights
        used = settings_of_stages(self.settings, weights, self._first_stage, stage)
        return {"cache": self.trained_on, **used}

    def _use(self, cache: Cache, classifier: Classifier) -> None:
        """Make this cache the one that the policy acts on, and the policy its size."""
        self.patch_cache, self.classifier = cache, classifier
        self.sees = cache.sources(GLANCE, PATCHES)
        self._on_patches = PolicyStages(cache, self.settings, classifier, self.device)
        self.policy = self._on_patches.policy
        channels, height, width = cache[GLANCE].row_shape[1:]
        self._gflops = count_gflops(self.policy, torch.empty(1, 1, channels, height, width))

    def _shape(self) -> dict[str, int]:
        """Of the glance maps, and the number of positions."""
        assert self._on_patches is not None
        return self._on_patches.shape

    def _require_networks(self, stage: int) -> None:
        if self._first_stage > stage:
            raise InputError(
                f"stage {stage} ({METHODS[stage]}): cache {self._cache.path} has patches already, which this "
                "stage would contradict; begin with stage 2 (train_policy)"
            )

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
        self._run(stage)

    def _built_policy(self) -> AnyPatchPolicy:
        if self.policy is None:
            raise InputError("this AdaFocus has no policy yet: run stages 0, 1 and 2, or learn() for all")
        return self.policy

    def _acting_policy(self) -> AnyPatchPolicy:
        """The policy, if it has been trained, loaded or released."""
        if POLICY not in self.stage_seconds:
            raise InputError("this AdaFocus has no policy yet: run stage 2 (train_policy), or learn()")
        return self._built_policy()


def _require_patch_size(size: int, cache: Cache) -> None:
    """Of patches that were computed elsewhere the size may be unknown."""
    own = cache.sources(PATCHES)[PATCHES].get("patch_size", size)
    if size != own:
        raise InputError(
            f"patch_size: found {size}; cache {cache.path} has patches of {own} pixels already, and no "
            "others can be chosen on it"
        )
