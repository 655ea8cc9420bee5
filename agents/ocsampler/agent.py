"""OCSampler (Lin et al. 2022, arXiv 2201.04388): all frames of a video chosen in one step.

A policy scores the T candidates from skim features; N are drawn without replacement, and the policy
gradient uses the exact probability of the set drawn. The reward is the recognizer's score on the drawn
frames less its score on a baseline: one random frame in each of N uniform segments. The recognizer is
frozen, and its verdicts come from the cache: no recognizer runs in the loop.

There are two trainings, told apart by one setting. With ``skim="cached"`` the policy learns on the
cache's skim features, in seconds. With the name of a network, that network is trained with the policy,
end to end from the cached frames, as published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from agents.common.agent_files import AgentRecord, read_agent, understanding, write_agent
from agents.common.batches import LOOKED_AT_TOGETHER, in_parts, per_epoch
from agents.common.training_log import TrainingLog
from agents.ocsampler.frame_budget import FrameBudget, choose_numbers
from agents.ocsampler.networks import CandidatePolicy, ranked
from agents.ocsampler.released import ReleasedOCSampler
from agents.ocsampler.settings import PUBLISHED, OCSamplerSettings, read_settings
from agents.ocsampler.training import OCSamplerTraining
from agents.ocsampler.training_videos import SplitVideos, same_videos
from video_env.cache.store import Cache, open_cache
from video_env.envs.costs import relative_cost
from video_env.envs.options import check_number
from video_env.errors import InputError
from video_env.evaluation.protocols import LooksAt
from video_env.models.backbones import FrameNetwork, evaluating, load_state, load_weights_by
from video_env.models.cost import count_gflops
from video_env.models.device import resolve_device
from video_env.models.optimise import seeded
from video_env.models.stopping import Ended, Watch
from video_env.models.training_loop import Report, TrainingLoop

PARTS = ("network",)
"""What an agent's file holds of networks."""


class OCSampler:
    """The agent; it acts in FrameSelectOneStep-v0 with observations of the kind it names.

    Args:
        cache: path of a cache, or a ``Cache``.
        settings: see ``OCSamplerSettings``.
        drawn: caches of the same videos whose candidates were drawn at random inside their segments, with
            the same recognizer (see ``models.redraw``): round after round, training takes the next of
            them. Without them every round sees the candidates of ``cache``.
        device: where the networks run.

    Attributes:
        cost_per_gflop: λ of the frame-number budget; may be changed after training. None: always N.
        cost_of_all_frames: λ as the share of quality that all candidates together may cost; may be changed
            likewise. None where λ is given per GFLOP.
        all_frames_gflops: that the recognizer spends on all candidates.
        observation: what the agent looks at: ``features``, or ``index`` where its own network skims the
            frames of the cache.
        gflops: counted cost of one decision in 10^9 multiply-adds, that of its own skim network included,
            that of computing the cached skim features not.
        looks_at: what the agent needs to have seen before it decides.
        trained_on: tells the data apart that it was trained on.
        sees: the network of the cached features that it sees (``Cache.sources``); empty with one of its own.
        training_seconds: that training took.
        history: of every round what was logged, and the ``seconds`` of training so far.
        ended: why training ended (``models.stopping``).

    Raises:
        InputError: N is larger than T, or the cache lacks what training needs.
    """

    def __init__(
        self,
        cache: str | Path | Cache,
        settings: OCSamplerSettings | None = None,
        *,
        drawn: Sequence[str | Path | Cache] = (),
        device: str = "auto",
    ) -> None:
        cache, settings = open_cache(cache), settings or OCSamplerSettings()
        if settings.num_frames > cache.num_candidates:
            raise InputError(
                f"num_frames: found {settings.num_frames}, expected at most {cache.num_candidates}, "
                f"the candidate frames of cache {cache.path}"
            )
        if settings.estimator == "exact" and "subset_confidence" not in cache:
            raise InputError(
                f"estimator exact: cache {cache.path} has no subset table, which a recognizer has for up to "
                "12 candidate frames",
                needs="subset_confidence",
            )
        seen = "skim" if settings.skim == "cached" else "frames"
        self.trained_on = f"{cache.identity}, {seen} {cache.content(seen)}"
        self.sees = cache.sources("skim") if settings.skim == "cached" else {}
        self._drawn = [same_videos(open_cache(one), cache, self.sees) for one in drawn]
        if drawn:
            self.trained_on += f", candidates drawn {len(drawn)} times"
        shape = {
            "num_candidates": cache.num_candidates,
            "features": cache["skim"].row_shape[-1] if settings.skim == "cached" else 0,
            "frame_size": cache["frames"].row_shape[1] if settings.skim != "cached" else 0,
            "frame_gflops": cache.gflops.get("embedding", 0.0) + cache.gflops.get("hidden", 0.0),
        }
        self._start(settings, shape, cache, device)
        if self.skim is not None:
            load_weights_by("skim_weights", self.skim, settings.skim_weights, cache, "skim")

    def _start(
        self, settings: OCSamplerSettings, shape: dict[str, Any], cache: Cache | None, device: str
    ) -> None:
        self.settings, self._shape, self._cache = settings, shape, cache
        self.num_candidates = int(shape["num_candidates"])
        self.all_frames_gflops = self.num_candidates * float(shape["frame_gflops"])
        self.device = resolve_device(device)
        with seeded(settings.seed):
            self.skim = (
                None
                if settings.skim == "cached"
                else FrameNetwork(
                    settings.skim,
                    temporal_shift=settings.temporal_shift,
                    interpolation=settings.interpolation,
                )
            )
            features = int(shape["features"]) if self.skim is None else self.skim.features
            self.policy = CandidatePolicy(settings.policy, features, self.num_candidates, settings.hidden)
            self.budget = (
                FrameBudget(features, self.num_candidates, settings.hidden) if settings.has_budget else None
            )
        self.features = features
        parts = {"skim": self.skim, "policy": self.policy, "budget": self.budget}
        # One module of all parts that there are: what is saved, moved and put into evaluation mode.
        self.network = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
        self.network.to(self.device)
        self.cost_per_gflop = settings.cost_per_gflop
        if settings.cost_of_all_frames is not None:
            self.cost_of_all_frames = settings.cost_of_all_frames
        self._costs = self._count_gflops()
        self._loaded = False
        self.training_seconds, self.history = 0.0, list[Report]()
        self.ended: Ended = ""
        self._draws = torch.Generator(self.device).manual_seed(settings.seed)

    @property
    def cost_per_gflop(self) -> float | None:
        return self._cost_per_gflop

    @cost_per_gflop.setter
    def cost_per_gflop(self, value: float | None) -> None:
        if value is not None and self.budget is None:
            raise InputError(
                f"cost_per_gflop {value}: this agent has no frame-number budget; train one with "
                "OCSamplerSettings(cost_per_gflop=...)"
            )
        if value is not None:
            check_number("cost_per_gflop", value)
        self._cost_per_gflop = value
        self._cost_of_all_frames: float | None = None

    @property
    def cost_of_all_frames(self) -> float | None:
        return self._cost_of_all_frames

    @cost_of_all_frames.setter
    def cost_of_all_frames(self, value: float) -> None:
        self.cost_per_gflop = relative_cost(value, self.all_frames_gflops)
        self._cost_of_all_frames = value

    @property
    def observation(self) -> Literal["features", "index"]:
        return "features" if self.skim is None else "index"

    @property
    def looks_at(self) -> LooksAt:
        return "skim" if self.skim is None else "nothing"

    @property
    def gflops(self) -> float:
        budget = 0.0 if self.cost_per_gflop is None else self._costs["budget"]
        return self._costs["skim"] + self._costs["policy"] + budget

    def learn(
        self,
        *,
        log_folder: Path | None = None,
        checkpoint: Path | None = None,
        callback: Callable[[OCSampler], None] | None = None,
    ) -> OCSampler:
        """Train as long as it helps, then the frame-number budget if there is one. An agent that was
        trained already stays as it is.

        Args:
            log_folder: for ``progress.csv`` and TensorBoard.
            checkpoint: a file written after every round; if it exists, training goes on from it, to
                the same result as without the interruption.
            callback: called after every update of the policy.

        Raises:
            InputError: the checkpoint belongs to other settings, or the agent was loaded.
        """
        settings, cache = self.settings, self._cache
        if cache is None or self._loaded:
            raise InputError("this OCSampler was loaded; to train one, make a new OCSampler on the cache")
        if self.history:
            return self
        videos = [self._videos(one, "train") for one in self._drawn or [cache]]
        validation = self._videos(cache, "validation") if "validation" in cache.splits else None
        training = OCSamplerTraining(self.policy, self.skim, self.budget, settings, self.device)
        updated = (lambda: None) if callback is None else (lambda: callback(self))
        loop = TrainingLoop(
            f"OCSampler, N = {settings.num_frames}" + ("" if self.skim is None else ", end to end"),
            self.network, training.optimiser, settings.length.rounds(),
            lambda number: training.round(videos[number % len(videos)], number, updated),
            {**asdict(settings), "cache": self.trained_on},
            Watch(settings.length, training.optimiser, validated=validation is not None),
            per_epoch(len(videos[0]), settings.batch_size),
            validate=None if validation is None else lambda: training.validate(validation),
            finish=None
            if self.budget is None
            else lambda: training.learn_budget(self._videos(cache, "train"), validation),
        )  # fmt: skip
        self.training_seconds = loop.run(checkpoint, TrainingLog(log_folder, "train"))
        self.history, self.ended = loop.history, loop.ended
        return self

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Actions for FrameSelectOneStep-v0.

        Args:
            observation: with ``features`` [T, D]; or, where the agent skims with its own network,
                ``video`` [1], the video's row in the agent's cache, or ``frames`` uint8
                [T, H, W, 3]. All may have a batch dimension before.
            state, episode_start: not used; there as in Stable-Baselines3.
            deterministic: rank the candidates by probability (the most probable are taken), or in
                the order in which a draw without replacement gave them.

        Returns:
            The action and ``state``. Without a budget (the environment made with ``num_frames=N``): scores
            float32 [T] or [B, T], evenly spaced from 1 (taken first) to −1. With a budget (made without
            ``num_frames``): the subset, int8 0 or 1, of the size that was predicted for each video.

        Raises:
            InputError: the observation lacks what the agent looks at, or its shape is another one.
        """
        with evaluating(self.network):
            features, lead = self._look(observation)
            log_probabilities = self.policy(features)
            scores = log_probabilities
            if not deterministic:
                scores = scores - torch.empty_like(scores).exponential_(generator=self._draws).log()
            order = ranked(scores)
            rank = order.argsort(dim=-1)
            if self.cost_per_gflop is None:
                action = (1 - 2 * rank / max(1, self.num_candidates - 1)).float()
            else:
                action = (rank < self._numbers(features, log_probabilities)[:, None]).to(torch.int8)
        return action.cpu().numpy().reshape(*lead, self.num_candidates), state

    def save(self, path: str | Path) -> None:
        """Write the agent to a file, in one step."""
        record = AgentRecord(
            "OCSampler", asdict(self.settings), self.trained_on, self._shape, self.sees,
            {0: self.training_seconds}, {0: self.history}, {"network": self.network.state_dict()},
            {0: self.ended},
        )  # fmt: skip
        write_agent(Path(path), record)

    @classmethod
    def load(
        cls, path: str | Path, *, cache: str | Path | Cache | None = None, device: str = "auto"
    ) -> OCSampler:
        """Read an agent from a file. A cache is needed to act on index observations.

        Raises:
            InputError: the file is missing or holds no OCSampler, or the cache has another number of
                candidate frames, or skim features of another network.
        """
        saved = read_agent(Path(path), "OCSampler", *PARTS)
        with understanding(Path(path)):
            agent = cls.__new__(cls)
            agent.trained_on, agent.sees, agent._drawn = saved.trained_on, saved.sees, []
            opened = None if cache is None else open_cache(cache)
            if opened is not None:
                saved.require_fits(Path(path), opened, {"num_candidates": opened.num_candidates})
            agent._start(read_settings(saved.settings), saved.shape, opened, device)
            load_state(agent.network, saved.parts["network"], where=f"agent {path}")
            agent.network.eval()
            agent.training_seconds, agent.history = saved.seconds[0], saved.history.get(0, [])
            agent.ended, agent._loaded = saved.ended.get(0, ""), True
        return agent

    @classmethod
    def from_released(
        cls, released: ReleasedOCSampler, cache: str | Path | Cache, *, device: str = "auto"
    ) -> OCSampler:
        """An agent with the skim network and the policy of a released checkpoint, to be evaluated, or
        trained further, on a cache with frames.

        Raises:
            InputError: the checkpoint's N is larger than the cache's T, or the cache has no frames.
        """
        settings = {**asdict(PUBLISHED), "num_frames": released.num_frames, "skim_weights": "random",
                    "temporal_shift": released.skim.temporal_shift}  # fmt: skip
        agent = cls(cache, OCSamplerSettings(**settings), device=device)
        assert agent.skim is not None
        agent.skim.load_state_dict(released.skim.state_dict())
        agent.policy.load_state_dict(released.policy.state_dict())
        agent.trained_on = "released checkpoint"
        agent.network.eval()
        return agent

    def _videos(self, cache: Cache, split: str) -> SplitVideos:
        return SplitVideos(cache, split, self.settings.reward, self.skim, self.device)

    def _numbers(self, features: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
        assert self.budget is not None
        assert self.cost_per_gflop is not None
        cost = self.cost_per_gflop * float(self._shape["frame_gflops"])
        return choose_numbers(self.budget(features, log_probabilities), cost)

    def _look(self, observation: dict[str, np.ndarray]) -> tuple[torch.Tensor, tuple[int, ...]]:
        """Skim features [B, T, D] on the device, and the shape of the batch: (B,) or ()."""
        if self.skim is None:
            if "features" not in observation:
                raise InputError(f"observation: found {', '.join(observation)}, expected features")
            values = np.asarray(observation["features"])
            _require_shape("features", values, (self.num_candidates, self.features))
            features = torch.as_tensor(values, dtype=torch.float32).to(self.device)
            return features.reshape(-1, *values.shape[-2:]), values.shape[:-2]
        if "frames" in observation:
            frames = np.asarray(observation["frames"])
            _require_shape("frames", frames, (self.num_candidates, *frames.shape[-3:-1], 3))
            lead, frames = frames.shape[:-4], frames.reshape(-1, *frames.shape[-4:])
            return self._skim(len(frames), lambda part: frames[part]), lead
        if "video" in observation and self._cache is not None:
            rows = np.asarray(observation["video"])
            array = self._cache["frames"]
            flat = rows.reshape(-1)
            return self._skim(len(flat), lambda part: array[flat[part]]), rows.shape[:-1]
        raise InputError(
            f"observation: found {', '.join(observation)}, expected frames, or video where the agent was "
            "loaded with cache=..."
        )

    def _skim(self, count: int, read: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
        assert self.skim is not None
        parts = [
            self.skim(torch.from_numpy(np.ascontiguousarray(read(part))).to(self.device))
            for part in in_parts(count, LOOKED_AT_TOGETHER)
        ]
        return torch.cat(parts)

    def _count_gflops(self) -> dict[str, float]:
        features = torch.empty(1, self.num_candidates, self.features)
        probabilities = torch.empty(1, self.num_candidates)
        skim = 0.0 if self.skim is None else self.skim.gflops(int(self._shape["frame_size"]))
        return {
            "skim": self.num_candidates * skim,
            "policy": count_gflops(self.policy, features),
            "budget": 0.0 if self.budget is None else count_gflops(self.budget, features, probabilities),
        }


def _require_shape(name: str, values: np.ndarray, expected: tuple[int, ...]) -> None:
    if values.shape[-len(expected) :] != expected or values.ndim not in (len(expected), len(expected) + 1):
        raise InputError(
            f"{name}: found shape {values.shape}, expected [..., {', '.join(map(str, expected))}]"
        )
