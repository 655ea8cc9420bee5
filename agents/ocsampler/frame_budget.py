"""OCSampler's frame-number budget: how many frames each video needs.

The paper (Lin et al. 2022) adds a module on the skim features that predicts, for each video,
how many frames to process; its code was not released, so this is our reading of it. The policy ranks the
candidates. A number n *suffices* for a video if the recognizer is right on the n best of them and stays
right for every larger number; where it is not even right on all T, no number does. The head learns, for every
n, the chance that n suffices. At test time it takes the n that maximises

    P(n suffices) − λ · n · (GFLOPs of a frame),

near to FrameSelect's aim with the quality ``correct``: λ sweeps the trade-off without a new training, and a
video that is lost on any number gets one frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from agents.common.batches import of_round, per_epoch
from video_env.models.backbones import evaluating
from video_env.models.optimise import descend
from video_env.models.stopping import Length, Watch
from video_env.models.training_loop import Report, TrainingLoop
from video_env.models.verdicts import Verdicts, subset_bits


class FrameBudget(nn.Module):
    """The chance that the n best frames suffice, for every n.

    Two 1-D convolutions over time (kernels 3 and 5) on the skim features and the policy's
    log-probabilities, their maximum and mean over time, and one linear layer.

    Args:
        features: D of the skim features.
        num_candidates: T.
        hidden: channels.
    """

    def __init__(self, features: int, num_candidates: int, hidden: int = 32) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.layers = nn.Sequential(
            nn.Conv1d(features + 1, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 5, padding=2), nn.ReLU(),
        )  # fmt: skip
        self.output = nn.Linear(2 * hidden, num_candidates)

    def forward(self, features: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
        """Skim features [B, T, D] and the policy's log p [B, T] to logits [B, T]: entry n − 1 is that
        of "n suffices"."""
        seen = torch.cat([self.norm(features), log_probabilities.unsqueeze(-1)], dim=-1)
        maps = self.layers(seen.mT)
        return self.output(torch.cat([maps.amax(dim=-1), maps.mean(dim=-1)], dim=-1))


@dataclass(frozen=True)
class BudgetTraining:
    """Settings of the head's training.

    Attributes:
        length: see ``models.stopping``; its score is the negative cross-entropy on the validation videos.
        batch_size: videos per step.
        learning_rate: AdamW's.
        seed: decides every draw.
    """

    length: Length
    batch_size: int
    learning_rate: float
    seed: int


def sufficient_frames(right: np.ndarray) -> np.ndarray:
    """The smallest number of frames that suffices, one more than there are where none does.

    Args:
        right: bool [B, T]; entry n − 1 says whether the recognizer is right on the n best frames.

    Returns:
        int64 [B], 1 to T + 1: the smallest n that is right and stays right for all larger numbers.
    """
    ends_right = right[:, ::-1].cumprod(axis=1).sum(axis=1)
    return right.shape[1] - ends_right + 1


def right_by_number(verdicts: Verdicts, video: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """bool [B, T]: whether the recognizer is right on the n best frames, for every n.

    Args:
        verdicts: of the videos' split.
        video: int64 [B], numbers within it.
        ranked: int64 [B, T], candidates from the best to the worst.
    """
    bits = subset_bits(ranked.shape[1])
    chosen = np.zeros(ranked.shape, np.int8)
    columns = []
    for frame in range(ranked.shape[1]):
        np.put_along_axis(chosen, ranked[:, frame, None], 1, axis=1)
        columns.append(verdicts.prediction(video, chosen, chosen @ bits) == verdicts.labels[video])
    return np.stack(columns, axis=1)


class RankedVideos(NamedTuple):
    """Videos whose candidates a policy has ranked.

    Attributes:
        features: float [V, T, D], skim features.
        log_probabilities: float [V, T], the policy's.
        enough: int64 [V], 1 to T + 1, by ``sufficient_frames``.
    """

    features: torch.Tensor
    log_probabilities: torch.Tensor
    enough: np.ndarray

    def suffices(self) -> torch.Tensor:
        """float [V, T], 1 where n frames suffice."""
        numbers = torch.arange(1, self.features.shape[1] + 1, device=self.features.device)
        return (numbers >= torch.from_numpy(self.enough).to(self.features.device)[:, None]).float()


def train_budget(
    head: FrameBudget, videos: RankedVideos, settings: BudgetTraining, validation: RankedVideos | None = None
) -> float:
    """Train the head, in place; it is in evaluation mode then. Returns the best round's mean loss.

    Args:
        head: on the device of the features.
        videos: of the training split.
        settings: see ``BudgetTraining``.
        validation: of the validation split, which ends the training; None for a fixed length.
    """
    suffices = videos.suffices()
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=1e-4)

    def loss(batch: np.ndarray | slice, of: RankedVideos, wanted: torch.Tensor) -> torch.Tensor:
        logits = head(of.features[batch], of.log_probabilities[batch])
        return F.binary_cross_entropy_with_logits(logits, wanted[batch])

    def do_round(number: int) -> Report:
        generator = np.random.default_rng([settings.seed, number])
        batches = of_round(settings.length, number, len(suffices), settings.batch_size, generator)
        return {"loss": descend(optimiser, (loss(batch, videos, suffices) for batch in batches))}

    def validate() -> Report:
        assert validation is not None
        with evaluating(head):
            return {"score": -float(loss(slice(None), validation, validation.suffices()))}

    watch = Watch(settings.length, optimiser, validated=validation is not None)
    loop = TrainingLoop(
        "OCSampler, frame-number budget", head, optimiser, settings.length.rounds(), do_round, watch=watch,
        per_epoch=per_epoch(len(suffices), settings.batch_size),
        validate=None if validation is None else validate,
    )  # fmt: skip
    loop.run()
    return loop.history[watch.best]["loss"]


def choose_numbers(logits: torch.Tensor, cost_per_frame: float) -> torch.Tensor:
    """int64 [B], 1 to T: the n that maximises P(n suffices) − cost · n, of equal ones the smallest.

    Args:
        logits: float [B, T], the head's.
        cost_per_frame: λ times the GFLOPs of a frame, at least 0.
    """
    numbers = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    return (logits.sigmoid() - cost_per_frame * numbers).argmax(dim=1) + 1
