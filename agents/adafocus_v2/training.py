"""AdaFocusV2's training: one stage, end to end from frames, in one process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from agents.adafocus_v2.augmentation import Draws
from agents.adafocus_v2.loss import training_loss
from agents.adafocus_v2.network import AdaFocusV2Network
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.common.batches import of_round, per_epoch
from video_env.cache.store import Cache
from video_env.data.sampling import coarse_to_fine
from video_env.errors import InputError
from video_env.models import processes
from video_env.models.optimise import build_optimiser, seeded
from video_env.models.stopping import Watch
from video_env.models.training_loop import Report, TrainingLoop


class AdaFocusV2Training:
    """A network on the training videos of a cache.

    Args:
        network: trained in place, where it is.
        cache: with ``frames``.
        settings: see ``AdaFocusV2Settings``.
        device: of the network.

    Raises:
        InputError: the number of processes does not divide the parts.
        CacheError: there is no training split.
    """

    def __init__(
        self, network: AdaFocusV2Network, cache: Cache, settings: AdaFocusV2Settings, device: torch.device
    ) -> None:
        if settings.parts % processes.count():
            raise InputError(
                f"parts: found {settings.parts}, expected a multiple of the {processes.count()} processes"
            )
        self.network, self.settings, self.device = network, settings, device
        self._frames, self._rows = cache["frames"], cache.rows("train")
        self._targets = torch.from_numpy(cache.label_shares()[self._rows])
        self._order = coarse_to_fine(network.num_frames)

    def loop(
        self, record: dict[str, Any], validate: Callable[[], Report] | None = None, guess: float = 0.0
    ) -> TrainingLoop:
        """The only stage.

        Args:
            record: all settings that the result depends on.
            validate: measures ``score`` and ``validation`` after every round; None for a fixed length.
            guess: the accuracy of a guess there.
        """
        settings, network = self.settings, self.network
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
        return TrainingLoop(
            "AdaFocusV2", nn.ModuleDict({"network": network}), optimiser, settings.length.rounds(),
            lambda number: self._round(trained, optimiser, number), record,
            Watch(settings.length, optimiser, validated=validate is not None),
            per_epoch(len(self._rows), settings.batch_size), validate, guess,
        )  # fmt: skip

    def _round(self, loss: nn.Module, optimiser: torch.optim.Optimizer, number: int) -> Report:
        settings, losses = self.settings, []
        generator = np.random.default_rng([settings.seed, 0, number])
        for batch in of_round(settings.length, number, len(self._rows), settings.batch_size, generator):
            if len(batch) < settings.parts:
                raise InputError(
                    f"parts: found {settings.parts}, expected at most the {len(batch)} videos of a batch"
                )
            if len(batch) // settings.parts * self.network.num_frames < 2:
                raise InputError(
                    f"batch_size {settings.batch_size}, parts {settings.parts}: of the {len(self._rows)} "
                    "training videos, of one candidate frame each, a part would see a single frame, which "
                    "cannot be normalised; expected other numbers, or more videos or candidates"
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
        for row, (side, top, left, flip) in zip(rows, draws.places(size), strict=True):
            clip = torch.from_numpy(self._frames[int(row)][self._order]).to(self.device).permute(0, 3, 1, 2)
            clip = transforms.resized_crop(clip, top, left, side, side, [size, size], antialias=True)
            clips.append(clip.flip(-1) if flip else clip)
        return self.network.normalised(torch.stack(clips), draws.gains, draws.offsets)


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
