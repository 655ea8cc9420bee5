"""AdaFocusV2 (Wang et al. 2022, arXiv 2112.14238): one stage, end to end from frames, and conditional exit.

The network is in ``network``, its training in ``training``, the exit's thresholds in
``video_env.models.conditional_exit``; here is the agent, with its decisions within a budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.adafocus_v2.network import AdaFocusV2Network, build_network, gflops_per_frame
from agents.adafocus_v2.recognition import RecognisingNetwork
from agents.adafocus_v2.settings import PUBLISHED, AdaFocusV2Settings, read_settings
from agents.adafocus_v2.training import AdaFocusV2Training
from agents.common.agent_files import AgentRecord, read_agent, understanding, write_agent
from agents.common.batches import LOOKED_AT_TOGETHER, in_parts
from agents.common.scores import scored
from agents.common.training_log import TrainingLog
from video_env.cache.store import Cache, open_cache
from video_env.data.sampling import coarse_to_fine
from video_env.errors import InputError
from video_env.evaluation.protocols import Recognition
from video_env.models import processes
from video_env.models.backbones import load_state, load_weights_by
from video_env.models.conditional_exit import (
    CRITERIA,
    DEFAULT_EXIT,
    ExitRule,
    confidences,
    thresholds_for,
)
from video_env.models.device import resolve_device
from video_env.models.stopping import Ended
from video_env.settings import difference

PARTS = ("network", "confidences")
"""What an agent's file holds beside its record."""


class AdaFocusV2:
    """The agent. It looks at frames by itself and recognises the video, so it needs no environment.

    Args:
        cache: path of a cache, or a ``Cache``, with ``frames``; for ``focus_weights`` cache also with the
            network that its ``embedding`` was computed with.
        settings: see ``AdaFocusV2Settings``.
        folder: where the training's checkpoint goes; without it an interrupted training begins anew.
        device: where the network runs.

    Attributes:
        network: the ``AdaFocusV2Network``.
        gflops: counted cost of all T frames of a video in 10^9 multiply-adds.
        confidences: how sure the classifier was of each training video after every frame, float32 [V, T],
            by criterion: what budgets are solved on. Empty before training, and of released weights
            before ``calibrate``.
        training_seconds: that training took.
        history: of every round what was logged, and the ``seconds`` of training so far.
        ended: why training ended (``models.stopping``).
        trained_on: tells the data apart that it was trained on.

    Raises:
        InputError: the patch is larger than the frame, or weights do not fit.
        CacheError: the cache has no frames.
    """

    def __init__(
        self,
        cache: str | Path | Cache,
        settings: AdaFocusV2Settings | None = None,
        *,
        folder: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self.settings = settings or AdaFocusV2Settings()
        self.device = resolve_device(device)
        self._cache = open_cache(cache)
        self._folder = None if folder is None else Path(folder)
        frames = self._cache["frames"]
        height, width = (int(side) for side in frames.row_shape[1:3])
        if height != width:
            raise InputError(
                f"cache {self._cache.path}: frames of {height}x{width} pixels, expected square ones"
            )
        self.trained_on = f"{self._cache.identity}, frames {self._cache.fingerprint('frames')}"
        self._shape = _shape_of(self._cache)
        network = build_network(self.settings, **self._shape)
        # By content, so that a file that was replaced is another setting.
        glance, focus = self.settings.glance_weights, self.settings.focus_weights
        self._weights = {
            "glance_weights": load_weights_by("glance_weights", network.glance, glance, self._cache, "skim"),
            "focus_weights": load_weights_by("focus_weights", network.focus, focus, self._cache, "embedding"),
        }
        self._use(network)

    def _use(self, network: AdaFocusV2Network) -> None:
        self.network = network.to(self.device).eval()
        # Only here: see AdaFocusV2Network.look.
        network.focus.to(memory_format=torch.channels_last)
        self._gflops_per_frame = gflops_per_frame(network)
        self._order = coarse_to_fine(network.num_frames)
        self._reading_order = torch.from_numpy(self._order).to(self.device)
        self._folded: RecognisingNetwork | None = None
        self.confidences: dict[str, np.ndarray] = {}
        self._solved: dict[tuple[float, ExitRule], np.ndarray] = {}
        self.training_seconds, self.history = 0.0, list[dict[str, float]]()
        self.ended: Ended = ""
        self._trained = False

    @property
    def gflops(self) -> float:
        return self._gflops_per_frame * self.network.num_frames

    def learn(self, *, log_folder: str | Path | None = None) -> AdaFocusV2:
        """Train, from where an interrupted call left off, and solve what budgets need on the training videos.

        Under ``torchrun`` every process trains on its share of each batch; see ``AdaFocusV2Settings.parts``.

        Args:
            log_folder: for ``progress.csv`` and TensorBoard.

        Raises:
            InputError: it was loaded, the checkpoint is of other settings, a batch has fewer videos than
                parts, or the number of processes does not divide the parts.
        """
        if not self._weights:
            raise InputError("this AdaFocusV2 was loaded; to train one, make a new AdaFocusV2 on the cache")
        file = None if self._folder is None else self._folder / "training.pt"
        training = AdaFocusV2Training(self.network, self._cache, self.settings, self.device)
        record = {**asdict(self.settings), **self._weights, "cache": self.trained_on}
        there = "validation" in self._cache.splits
        loop = (
            training.loop(record, self._validate, self._cache.guess("validation"))
            if there
            else training.loop(record)
        )
        processes.wait()
        log = TrainingLog(None if log_folder is None else Path(log_folder), "stage-0")
        self.training_seconds = loop.run(file, log)
        self.history, self.ended, self._trained = loop.history, loop.ended, True
        self.calibrate()
        processes.wait()
        return self

    def calibrate(self, split: str = "train") -> None:
        """Run the network over a split, the training videos as published, to solve budgets on."""
        self._folded = None
        found: dict[str, list[np.ndarray]] = {name: [] for name in CRITERIA}
        for frames in self._clips(self._cache.rows(split)):
            with torch.inference_mode():
                scores, _ = self._recognising().every(self._on_device(frames), self._reading_order)
            logits = scores.cpu().numpy()
            for name in CRITERIA:
                found[name].append(confidences(logits, name))
        self.confidences = {name: np.concatenate(parts) for name, parts in found.items()}
        self._solved = {}

    def predict(
        self,
        observation: dict[str, np.ndarray],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        *,
        gflops: float | None = None,
        rule: ExitRule = DEFAULT_EXIT,
    ) -> tuple[np.ndarray, Recognition]:
        """Recognise videos.

        Args:
            observation: ``frames``, uint8 [B, T, S, S, 3] in time order, or ``video``, rows [B] of the
                agent's cache.
            state, episode_start, deterministic: not used: a video is one decision.
            gflops: budget in 10^9 multiply-adds per video, kept to on average over videos like the
                training ones; by default all frames are looked at.
            rule: of the exit.

        Returns:
            Classes int64 [B], and the ``Recognition`` with probabilities, patches, exits and costs.

        Raises:
            InputError: the observation is another one, or the budget is below the cost of one frame or
                above that of all.
        """
        if "video" in observation:
            rows = np.asarray(observation["video"]).reshape(-1)
            if ((rows < 0) | (rows >= len(self._cache))).any():
                raise InputError(f"video: found {rows.tolist()}, expected rows 0 to {len(self._cache) - 1}")
            frames = self._cache["frames"][rows]
        elif "frames" in observation:
            frames = np.asarray(observation["frames"])
        else:
            raise InputError(f"observation: found {', '.join(observation)}, expected frames or video")
        found = self.recognise(frames, gflops=gflops, rule=rule)
        return found.probabilities.argmax(axis=-1), found

    def recognise(
        self, frames: np.ndarray, *, gflops: float | None = None, rule: ExitRule = DEFAULT_EXIT
    ) -> Recognition:
        """What ``predict`` does, from frames uint8 [B, T, S, S, 3] in time order."""
        size, num_frames = self.network.frame_size, self.network.num_frames
        if frames.ndim != 5 or frames.shape[1:] != (num_frames, size, size, 3) or frames.dtype != np.uint8:
            raise InputError(
                f"frames: found {frames.dtype} {frames.shape}, expected uint8 "
                f"[B, {num_frames}, {size}, {size}, 3]"
            )
        if not len(frames):
            raise InputError("frames: found no video, expected at least one")
        if not self._trained:
            raise InputError("this AdaFocusV2 has not been trained: call learn(), or load one")
        parts = [frames[part] for part in in_parts(len(frames), LOOKED_AT_TOGETHER)]
        if gflops is None:
            found = [self._without_exit(part) for part in parts]
        else:
            thresholds = self.thresholds(gflops, rule)
            found = [self._with_exit(part, thresholds, rule) for part in parts]
        return Recognition(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def thresholds(self, gflops: float, rule: ExitRule = DEFAULT_EXIT) -> np.ndarray:
        """float32 [T], with which the training videos cost at most so much on average.

        Raises:
            InputError: the budget cannot be met or is no restriction, or there was no calibration.
        """
        first = min(rule.every, self.network.num_frames)
        least, most = self._gflops_per_frame * first, self.gflops
        # A budget that was computed by the cost's own formula may differ in the last digit.
        if not least * (1 - 1e-9) <= gflops <= most * (1 + 1e-9):
            raise InputError(
                f"gflops: found a budget of {gflops:g} per video, expected {least:.4g}, the cost of "
                f"{'one frame' if first == 1 else f'{first} frames'}, to {most:.4g}, that of all "
                f"{self.network.num_frames}"
            )
        if not self.confidences:
            raise InputError("gflops: no exit was solved yet for these weights; call calibrate() first")
        known = gflops, rule
        if known not in self._solved:
            sure, frames = self.confidences[rule.criterion], gflops / self._gflops_per_frame
            self._solved[known] = thresholds_for(sure, frames, rule.schedule, rule.every)
        return self._solved[known]

    def save(self, path: str | Path) -> None:
        """Write the agent to a file, in one step; under ``torchrun`` the first process does.

        Raises:
            InputError: it has not been trained.
        """
        if not self._trained:
            raise InputError("this AdaFocusV2 has not been trained: nothing to save yet")
        if not processes.is_first():
            return
        parts = {
            "network": self.network.state_dict(),
            "confidences": {name: torch.from_numpy(values) for name, values in self.confidences.items()},
        }
        record = AgentRecord(
            "AdaFocusV2", asdict(self.settings), self.trained_on, self._shape,
            seconds={0: self.training_seconds}, history={0: self.history}, parts=parts,
            ended={0: self.ended},
        )  # fmt: skip
        write_agent(Path(path), record)

    @classmethod
    def load(cls, path: str | Path, *, cache: str | Path | Cache, device: str = "auto") -> AdaFocusV2:
        """Read an agent from a file.

        Args:
            path: the file.
            cache: with frames like those that it was trained on.
            device: where it runs.

        Raises:
            InputError: the file is missing or holds no AdaFocusV2, or it does not fit the cache.
        """
        saved, opened = read_agent(Path(path), "AdaFocusV2", *PARTS), open_cache(cache)
        with understanding(Path(path)):
            saved.require_fits(Path(path), opened, _shape_of(opened))
            agent = cls._on(opened, read_settings(saved.settings), device, saved.shape)
            network = build_network(agent.settings, **saved.shape)
            load_state(network, saved.parts["network"], where=f"agent {path}")
            agent._use(network)
            agent.trained_on, agent.training_seconds = saved.trained_on, saved.seconds[0]
            agent.history, agent.ended, agent._trained = saved.history[0], saved.ended.get(0, ""), True
            sure = saved.parts["confidences"]
            agent.confidences = {name: values.numpy() for name, values in sure.items()}
        return agent

    @classmethod
    def from_released(
        cls, released: AdaFocusV2Network, cache: str | Path | Cache, *, device: str = "auto"
    ) -> AdaFocusV2:
        """An agent with released weights, to be evaluated on a cache of frames; budgets need ``calibrate``.

        Raises:
            InputError: the cache's frames or classes are not those of the weights.
        """
        settings = replace(
            PUBLISHED, patch_size=released.patch_size, glance=released.glance.name,
            glance_size=released.glance.input_size, hidden=released.classifier.hidden,
            policy_hidden=released.policy_hidden,
        )  # fmt: skip
        shape = {"frame_size": released.frame_size, "num_frames": released.num_frames,
                 "classes": released.classes}  # fmt: skip
        opened = open_cache(cache)
        if different := difference(_shape_of(opened), shape):
            raise InputError(f"released weights: do not fit cache {opened.path}: {different}")
        agent = cls._on(opened, settings, device, shape)
        agent._use(released)
        agent.trained_on, agent._trained = "released checkpoint", True
        return agent

    @classmethod
    def _on(
        cls, cache: Cache, settings: AdaFocusV2Settings, device: str, shape: dict[str, int]
    ) -> AdaFocusV2:
        """An agent without a network yet."""
        agent = cls.__new__(cls)
        agent.settings, agent.device = settings, resolve_device(device)
        agent._cache, agent._folder, agent._shape, agent._weights = cache, None, shape, {}
        return agent

    def _validate(self) -> dict[str, float]:
        self._folded = None  # its weights have changed
        rows = self._cache.rows("validation")
        found = [self._without_exit(frames).probabilities for frames in self._clips(rows)]
        return scored(np.concatenate(found), self._cache.labels[rows])

    # Recognition.

    def _clips(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for part in in_parts(len(rows), LOOKED_AT_TOGETHER):
            yield self._cache["frames"][rows[part]]

    def _recognising(self) -> RecognisingNetwork:
        """The network with its weights of now."""
        if self._folded is None:
            self._folded = RecognisingNetwork(self.network)
        return self._folded

    def _on_device(self, frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)

    def _without_exit(self, frames: np.ndarray) -> Recognition:
        with torch.inference_mode():
            logits, points = self._recognising().last(self._on_device(frames), self._reading_order)
        exits = np.full(len(frames), self.network.num_frames)
        return self._recognition(logits, points, exits)

    def _with_exit(self, frames: np.ndarray, thresholds: np.ndarray, rule: ExitRule) -> Recognition:
        """Frame by frame; the frames after a video's exit are not computed."""
        network, total = self.network, self.network.num_frames
        recognising, images = self._recognising(), self._on_device(frames)
        last = torch.zeros(len(frames), network.classes, device=self.device)
        points = torch.zeros(len(frames), total, 2, device=self.device)
        exits, there, carried = np.full(len(frames), total), np.arange(len(frames)), None
        with torch.inference_mode():
            for count in range(0, total, rule.every):
                look = torch.from_numpy(there).to(self.device)
                now = slice(count, count + rule.every)
                pixels = images[look[:, None], self._reading_order[now]]
                scores, place, carried = recognising.step(pixels, carried, count)
                last[look], points[look, now] = scores.float(), place.float()
                after = count + place.shape[1]
                sure = confidences(scores.float().cpu().numpy(), rule.criterion)
                stay = sure < thresholds[after - 1]
                exits[there[~stay]] = after
                there = there[stay]
                if not len(there):
                    break
                kept = torch.from_numpy(stay).to(self.device)
                carried = type(carried)(*(part[kept] for part in carried))
        return self._recognition(last, points, exits)

    def _recognition(self, logits: torch.Tensor, points: torch.Tensor, exits: np.ndarray) -> Recognition:
        """Patches go back into time order."""
        read = np.arange(self.network.num_frames) < exits[:, None]
        chosen = np.where(read[..., None], points.float().cpu().numpy(), -1).astype(np.float32)
        in_time = np.empty_like(chosen)
        in_time[:, self._order] = chosen
        probabilities = logits.float().softmax(dim=-1).cpu().numpy()
        return Recognition(probabilities, in_time, exits, exits * self._gflops_per_frame)


def _shape_of(cache: Cache) -> dict[str, int]:
    """The sizes of a cache that a network is built for."""
    return {
        "frame_size": int(cache["frames"].row_shape[1]),
        "num_frames": cache.num_candidates,
        "classes": len(cache.classes),
    }
