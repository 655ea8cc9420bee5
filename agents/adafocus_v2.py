"""AdaFocusV2 (Wang et al. 2022, arXiv 2112.14238): one stage, end to end from frames, and conditional exit.

The network is in ``adafocus_v2_network``, the thresholds of the exit in ``conditional_exit``; here is the
agent: its training on the frames of a cache, and its decisions within a budget.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from agents import processes
from agents.adafocus_v2_loss import training_loss
from agents.adafocus_v2_network import AdaFocusV2Network
from agents.adafocus_v2_settings import PUBLISHED, AdaFocusV2Settings, read_settings
from agents.augmentation import Draws
from agents.batches import in_parts, shuffled
from agents.saved import read_agent
from agents.stage import Stage, build_optimiser
from video_env.cache.store import Cache, open_cache
from video_env.data.patches import check_patch_size
from video_env.data.sampling import coarse_to_fine
from video_env.errors import InputError
from video_env.evaluation.conditional_exit import (
    CRITERIA,
    DEFAULT_EXIT,
    ExitRule,
    confidences,
    thresholds_for,
)
from video_env.evaluation.evaluate import Recognition
from video_env.models.backbones import (
    FrameNetwork,
    embedding_weights,
    evaluating,
    load_state,
    load_weights,
)
from video_env.models.cost import counted_gflops
from video_env.models.device import resolve_device
from video_env.models.optimise import seeded
from video_env.models.train_backbone import label_shares

TOGETHER = 32  # videos that are recognised at once
ENTRIES = {"settings", "trained_on", "seconds", "history", "shape", "network", "confidences"}


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
        history: of every epoch what was logged, and the ``seconds`` of training so far.
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
        self._shape = {
            "frame_size": height, "num_frames": self._cache.num_candidates,
            "classes": len(self._cache.classes),
        }  # fmt: skip
        network = build_network(self.settings, **self._shape)
        # By content, so that a file that was replaced is another setting.
        self._weights = {
            "glance_weights": load_weights(network.glance, self.settings.glance_weights),
            "focus_weights": load_weights(network.focus, self._focus_weights()),
        }
        self._use(network)

    def _use(self, network: AdaFocusV2Network) -> None:
        self.network = network.to(self.device).eval()
        # Only here: see AdaFocusV2Network.look.
        network.focus.to(memory_format=torch.channels_last)
        self._gflops_per_frame = _gflops_per_frame(network)
        self._order = coarse_to_fine(network.num_frames)
        self.confidences: dict[str, np.ndarray] = {}
        self._solved: dict[tuple[float, ExitRule], np.ndarray] = {}
        self.training_seconds, self.history = 0.0, list[dict[str, float]]()
        self._trained = False

    def _focus_weights(self) -> str:
        if self.settings.focus_weights != "cache":
            return self.settings.focus_weights
        return str(embedding_weights(self._cache, self.settings.focus))

    @property
    def gflops(self) -> float:
        return self._gflops_per_frame * self.network.num_frames

    def learn(self, *, log_folder: str | Path | None = None, validate: bool = False) -> AdaFocusV2:
        """Train, from where an interrupted call left off, and solve what budgets need on the training videos.

        Under ``torchrun`` every process trains on its share of each batch; see ``AdaFocusV2Settings.parts``.

        Args:
            log_folder: for ``progress.csv`` and TensorBoard.
            validate: log the top-1 on the validation split after every epoch; it does not count as training.

        Raises:
            InputError: it was loaded, there is no validation split, the checkpoint is of other settings, a
                batch has fewer videos than parts, or the number of processes does not divide the parts.
        """
        if not self._weights:
            raise InputError("this AdaFocusV2 was loaded; to train one, make a new AdaFocusV2 on the cache")
        file = None if self._folder is None else self._folder / "training.pt"
        if validate:
            self._cache.rows("validation")  # its error lists the splits that there are
        stage = self._stage(validate)
        processes.wait()
        self.training_seconds = stage.run(file, None if log_folder is None else Path(log_folder))
        self.history, self._trained = stage.history, True
        self.calibrate()
        processes.wait()
        return self

    def calibrate(self, split: str = "train") -> None:
        """Run the network over a split, the training videos as published, to solve budgets on."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in CRITERIA}
        for frames in self._clips(self._cache.rows(split)):
            logits = self._all_frames(frames)[0].cpu().numpy()
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
        parts = [frames[part] for part in in_parts(len(frames), TOGETHER)]
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
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        saved = {
            "agent": "AdaFocusV2", "settings": asdict(self.settings), "trained_on": self.trained_on,
            "seconds": self.training_seconds, "history": self.history, "shape": self._shape,
            "network": self.network.state_dict(),
            "confidences": {name: torch.from_numpy(values) for name, values in self.confidences.items()},
        }  # fmt: skip
        torch.save(saved, partial)
        partial.replace(path)

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
        saved = read_agent(Path(path), "AdaFocusV2", ENTRIES)
        agent = cls._on(open_cache(cache), read_settings(saved["settings"]), device, where=f"agent {path}",
                        shape=saved["shape"])  # fmt: skip
        network = build_network(agent.settings, **saved["shape"])
        load_state(network, saved["network"], where=f"agent {path}")
        agent._use(network)
        agent.trained_on, agent.training_seconds = saved["trained_on"], saved["seconds"]
        agent.history, agent._trained = saved["history"], True
        agent.confidences = {name: values.numpy() for name, values in saved["confidences"].items()}
        return agent

    @classmethod
    def from_published(
        cls, published: AdaFocusV2Network, cache: str | Path | Cache, *, device: str = "auto"
    ) -> AdaFocusV2:
        """An agent with released weights, to be evaluated on a cache of frames; budgets need ``calibrate``.

        Raises:
            InputError: the cache's frames or classes are not those of the weights.
        """
        settings = replace(
            PUBLISHED, patch_size=published.patch_size, glance=published.glance.name,
            glance_size=published.glance.input_size, hidden=published.classifier.hidden,
            policy_hidden=published.policy_hidden,
        )  # fmt: skip
        shape = {"frame_size": published.frame_size, "num_frames": published.num_frames,
                 "classes": published.classes}  # fmt: skip
        agent = cls._on(open_cache(cache), settings, device, where="released weights", shape=shape)
        agent._use(published)
        agent.trained_on, agent._trained = "released checkpoint", True
        return agent

    @classmethod
    def _on(
        cls, cache: Cache, settings: AdaFocusV2Settings, device: str, *, where: str, shape: dict[str, int]
    ) -> AdaFocusV2:
        """An agent without a network yet, on a cache that fits."""
        found = {
            "frame_size": int(cache["frames"].row_shape[1]), "num_frames": cache.num_candidates,
            "classes": len(cache.classes),
        }  # fmt: skip
        wrong = [
            f"{name} {shape[name]}, the cache {found[name]}" for name in shape if shape[name] != found[name]
        ]
        if wrong:
            raise InputError(f"{where}: does not fit cache {cache.path}: it has {'; '.join(wrong)}")
        agent = cls.__new__(cls)
        agent.settings, agent.device = settings, resolve_device(device)
        agent._cache, agent._folder, agent._shape, agent._weights = cache, None, shape, {}
        return agent

    # Training.

    def _stage(self, validate: bool) -> Stage:
        settings, network = self.settings, self.network
        if settings.parts % processes.count():
            raise InputError(
                f"parts: found {settings.parts}, expected a multiple of the {processes.count()} processes"
            )
        self._rows = self._cache.rows("train")
        self._targets = label_shares(self._cache)[self._rows]
        groups: list[tuple[list[nn.Module], float]] = [
            ([network.glance, network.glance_head], settings.rates.glance),
            ([network.policy], settings.rates.policy),
            ([network.focus, network.focus_head], settings.rates.focus),
            ([network.classifier], settings.rates.classifier),
        ]
        optimiser = build_optimiser(
            settings.optimiser,
            [(nn.ModuleList(modules), settings.learning_rate * rate) for modules, rate in groups],
            settings.weight_decay,
            settings.betas,
        )
        loss = _Loss(network, settings)
        trained: nn.Module = loss
        if processes.count() > 1:
            # Heads without a loss, where ingredients are switched off, get no gradient.
            trained = DistributedDataParallel(loss, broadcast_buffers=False, find_unused_parameters=True)
        record = {**asdict(settings), **self._weights, "cache": self.trained_on}
        return Stage(
            0, "AdaFocusV2", nn.ModuleDict({"network": network}), optimiser, settings.epochs,
            lambda generator: self._epoch(trained, optimiser, generator), record, settings.seed,
            validate=self._validate if validate else None,
        )  # fmt: skip

    def _epoch(
        self, loss: nn.Module, optimiser: torch.optim.Optimizer, generator: np.random.Generator
    ) -> dict[str, float]:
        settings, losses = self.settings, []
        for batch in shuffled(len(self._rows), settings.batch_size, generator):
            if len(batch) < settings.parts:
                raise InputError(
                    f"parts: found {settings.parts}, expected at most the {len(batch)} videos of a batch"
                )
            optimiser.zero_grad()
            value = torch.zeros((), device=self.device)
            statistics = RunningStatistics(self.network, settings.parts)
            for last, part in self._own_parts(batch, generator):
                statistics.restart()
                # Gradients are exchanged once, with those of the last part.
                waiting = isinstance(loss, DistributedDataParallel) and not last
                loss.require_backward_grad_sync = not waiting  # type: ignore[assignment]
                with seeded(part.seed):
                    share = loss(*part.inputs) * part.share
                (share * processes.count()).backward()  # DistributedDataParallel takes means
                value += share.detach()
                statistics.take()
            statistics.settle()
            if settings.gradient_norm:
                nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_norm)
            optimiser.step()
            losses.append(processes.total(value))
        return {"loss": float(torch.stack(losses).mean())}

    def _own_parts(self, batch: np.ndarray, generator: np.random.Generator) -> Iterator[tuple[bool, _Part]]:
        """This process's parts of a batch, and whether each is its last; every process draws for all."""
        settings, total = self.settings, self.network.num_frames
        augmentation = Draws.of(len(batch), settings.augmentation, generator)
        drawn = torch.from_numpy(generator.random((len(batch), total, 2), np.float32))
        noise = torch.from_numpy(generator.standard_normal((len(batch), total, 2), np.float32))
        seeds = generator.integers(2**31, size=settings.parts)
        parts = np.array_split(np.arange(len(batch)), settings.parts)
        own = range(processes.rank(), settings.parts, processes.count())
        for number in own:
            chosen = parts[number]
            frames = self._augmented(self._rows[batch[chosen]], augmentation[chosen])
            inputs = (frames, self._targets[batch[chosen]], drawn[chosen], noise[chosen])
            yield (
                number == own[-1],
                _Part(
                    tuple(tensor.to(self.device) for tensor in inputs),
                    len(chosen) / len(batch),
                    int(seeds[number]),
                ),
            )

    def _augmented(self, rows: np.ndarray, draws: Draws) -> torch.Tensor:
        """Normalised frames in reading order, [B, T, 3, S, S]."""
        size, clips = self.network.frame_size, []
        frames = self._cache["frames"]
        for row, (side, top, left, flip) in zip(rows, draws.places(size), strict=True):
            clip = torch.from_numpy(frames[int(row)][self._order]).to(self.device).permute(0, 3, 1, 2)
            clip = transforms.resized_crop(clip, top, left, side, side, [size, size], antialias=True)
            clips.append(clip.flip(-1) if flip else clip)
        return self._normalised(torch.stack(clips), draws.gains, draws.offsets)

    def _validate(self) -> dict[str, float]:
        labels = self._cache.index["label"].to_numpy()[self._cache.rows("validation")]
        trained, self._trained = self._trained, True
        found = [
            self.recognise(frames).probabilities for frames in self._clips(self._cache.rows("validation"))
        ]
        self._trained = trained
        return {"validation": float((np.concatenate(found).argmax(axis=-1) == labels).mean())}

    # Recognition.

    def _clips(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for part in in_parts(len(rows), TOGETHER):
            yield self._cache["frames"][rows[part]]

    def _normalised(
        self, frames: torch.Tensor, gains: np.ndarray | None = None, offsets: np.ndarray | None = None
    ) -> torch.Tensor:
        """uint8 [B, T, 3, S, S] to float32, as both networks want it; with each video's own gain and offset
        [B, 3] of the colour channels, as shares of 1 and of white."""
        mean, deviation = self.network.focus.mean, self.network.focus.deviation
        gain, offset = torch.ones_like(mean), torch.zeros_like(mean)
        if gains is not None and offsets is not None:
            gain, offset = (
                torch.from_numpy(values).to(mean)[:, None, :, None, None] for values in (gains, offsets)
            )
        # All in one factor and one term: a pass over the frames takes as long as a small network.
        return (frames * (gain / (255 * deviation))).add_((offset - mean * gain) / deviation)

    def _in_reading_order(self, frames: np.ndarray) -> torch.Tensor:
        """uint8 [B, T, S, S, 3] in time order to [B, T, 3, S, S]."""
        return torch.from_numpy(frames[:, self._order]).to(self.device).permute(0, 1, 4, 2, 3)

    def _all_frames(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [B, T, C] and points [B, T, 2] in reading order."""
        network = self.network
        with evaluating(network):
            images = self._normalised(self._in_reading_order(frames))
            glances = network.look(images)
            points, _ = network.policy(glances.maps)
            return network.at(images, glances, points)[0], points

    def _without_exit(self, frames: np.ndarray) -> Recognition:
        logits, points = self._all_frames(frames)
        exits = np.full(len(frames), self.network.num_frames)
        return self._recognition(logits[:, -1], points, exits)

    def _with_exit(self, frames: np.ndarray, thresholds: np.ndarray, rule: ExitRule) -> Recognition:
        """Frame by frame; the frames after a video's exit are not computed."""
        network, total = self.network, self.network.num_frames
        images = self._in_reading_order(frames)
        last = torch.zeros(len(frames), network.classes, device=self.device)
        points = torch.zeros(len(frames), total, 2, device=self.device)
        exits, there, carried = np.full(len(frames), total), np.arange(len(frames)), None
        with evaluating(network):
            for count in range(0, total, rule.every):
                look = torch.from_numpy(there).to(self.device)
                now = slice(count, count + rule.every)
                scores, place, carried = network.step(self._normalised(images[look, now]), carried, count)
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
        positions = np.where(read[..., None], points.float().cpu().numpy(), -1).astype(np.float32)
        in_time = np.empty_like(positions)
        in_time[:, self._order] = positions
        probabilities = logits.float().softmax(dim=-1).cpu().numpy()
        return Recognition(probabilities, in_time, exits, exits * self._gflops_per_frame)


class RunningStatistics:
    """BatchNorm's running statistics while a batch is trained on in parts: every part updates those from
    before the batch, and their mean is what stays, whichever process trained on which part."""

    def __init__(self, network: nn.Module, parts: int) -> None:
        named = network.named_buffers() if parts > 1 else ()
        self._buffers = [b for name, b in named if name.endswith(("running_mean", "running_var"))]
        self._parts = parts
        self._before = self._joined()
        self._sum = torch.zeros_like(self._before)

    def restart(self) -> None:
        self._write(self._before)

    def take(self) -> None:
        self._sum += self._joined()

    def settle(self) -> None:
        if self._buffers:
            self._write(processes.total(self._sum) / self._parts)

    def _joined(self) -> torch.Tensor:
        return torch.cat([buffer.flatten() for buffer in self._buffers]) if self._buffers else torch.empty(0)

    def _write(self, values: torch.Tensor) -> None:
        sizes = [buffer.numel() for buffer in self._buffers]
        for buffer, own in zip(self._buffers, values.split(sizes), strict=True):
            buffer.copy_(own.view_as(buffer))


class _Part(NamedTuple):
    inputs: tuple[torch.Tensor, ...]
    share: float
    seed: int


class _Loss(nn.Module):
    """The training loss as a module, for ``DistributedDataParallel``."""

    def __init__(self, network: AdaFocusV2Network, settings: AdaFocusV2Settings) -> None:
        super().__init__()
        self.network, self.settings = network, settings

    def forward(
        self, frames: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        low = self.settings.precision == "bfloat16"
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=low):
            return training_loss(self.network, frames, targets, drawn, self.settings.ingredients, noise)


def build_network(
    settings: AdaFocusV2Settings, *, frame_size: int, num_frames: int, classes: int
) -> AdaFocusV2Network:
    """The network of these settings, with random weights drawn from their seed.

    Raises:
        InputError: the patch is larger than the frame, or the networks want different inputs.
    """
    check_patch_size(settings.patch_size, frame_size)
    released = settings.glance == "resnet50"
    with seeded(settings.seed):
        return AdaFocusV2Network(
            FrameNetwork(
                settings.glance, input_size=settings.glance_size,
                interpolation="bilinear_corners" if released else "bilinear",
            ),
            FrameNetwork(settings.focus, input_size=settings.patch_size),
            frame_size=frame_size, patch_size=settings.patch_size, classes=classes, num_frames=num_frames,
            policy=settings.policy, policy_hidden=settings.policy_hidden, hidden=settings.hidden,
            dropout=settings.dropout,
        )  # fmt: skip


def _gflops_per_frame(network: AdaFocusV2Network) -> float:
    """Counted 10^9 multiply-adds of one frame, from the glance to the classifier's scores. Every frame costs
    the same, so leaving after k of T frames costs k / T of the whole."""
    shadow = copy.deepcopy(network).to("meta").eval()
    size = network.frame_size
    with torch.no_grad(), counted_gflops() as gflops:
        shadow.step(torch.empty(1, 1, 3, size, size, device="meta"), None, 0)
    return gflops()
