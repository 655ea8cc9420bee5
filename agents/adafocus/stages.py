"""What the loops of AdaFocus's four stages have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from video_env.cache.store import Cache
from video_env.models.stopping import Length, Watch
from video_env.models.training_loop import Report, TrainingLoop


def stage_loop(
    name: str,
    cache: Cache,
    modules: nn.Module,
    optimiser: torch.optim.Optimizer,
    length: Length,
    do_round: Callable[[int], Report],
    record: dict[str, Any],
    *,
    per_epoch: int,
    validate: Callable[[], Report],
    constant_epochs: bool = False,
) -> TrainingLoop:
    """A stage's loop, which looks at the validation split where the cache has one.

    Args:
        name: of the stage.
        cache: whose videos are learned.
        modules: what is trained.
        optimiser: over their parameters.
        length: of the stage.
        do_round: does a round.
        record: all settings that the result depends on.
        per_epoch: gradient steps of a pass over the training videos.
        validate: measures a ``score`` on the validation split.
        constant_epochs: in a length in epochs the learning rates stay, and the last weights too, instead of a
            cosine and the best round's.
    """
    validated = "validation" in cache.splits
    watch: Watch | None = Watch(length, optimiser, validated=validated)
    work = do_round
    if length.epochs and constant_epochs:
        watch = None

        def work(number: int) -> Report:
            return {"updates": (number + 1) * per_epoch, **do_round(number)}

    return TrainingLoop(
        f"AdaFocus, {name}", modules, optimiser, length.rounds(), work, record, watch, per_epoch,
        validate if validated else None, cache.guess("validation") if validated else 0.0,
    )  # fmt: skip
