"""What trainings share below the loop: seeds, optimisers, gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import nn

from video_env.models.training_loop import TrainingLoop


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers (initial weights, dropout) from a seed inside, and leave no trace."""
    # Of all GPUs, as manual_seed sets all; but none is woken that no one has used yet.
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        torch.manual_seed(seed)
        yield


OptimiserName = Literal["adamw", "sgd"]


def build_optimiser(
    name: OptimiserName,
    groups: list[tuple[nn.Module, float]],
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9, over modules with their learning rates."""
    parameters = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
    if name == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay)
    return torch.optim.SGD(parameters, momentum=0.9, weight_decay=weight_decay)


def descend(
    optimiser: torch.optim.Optimizer,
    losses: Iterable[torch.Tensor],
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> float:
    """One gradient step for each loss.

    Args:
        optimiser: makes the steps.
        losses: computes the next loss when it is asked for it.
        schedule: of the learning rates, from step to step.

    Returns:
        The mean loss.
    """
    values = []
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()
        values.append(loss.detach())
    return float(np.mean([float(value) for value in values]))  # only now: a GPU would be waited for


def passes(epochs: int, least_steps: int, per_epoch: int) -> int:
    """Passes over the videos: as many as are asked for, or more where that were too few steps."""
    return max(epochs, -(-least_steps // per_epoch))


def train_in_one_cycle(
    name: str,
    groups: list[tuple[nn.Module, float]],
    losses: Callable[[], Iterable[torch.Tensor]],
    *,
    epochs: int,
    steps: int,
    weight_decay: float,
    warm_up: float = 0.15,
) -> None:
    """Train by AdamW, with learning rates that rise and fall once (Smith and Topin 2019), and without
    checkpoints.

    Args:
        name: for the progress bar.
        groups: what is trained, each module with its highest learning rate; in evaluation mode in the end.
        losses: gives the losses of an epoch, each computed when it is asked for.
        epochs: how many.
        steps: losses per epoch.
        weight_decay: AdamW's.
        warm_up: share of all steps in which the learning rates rise.
    """
    trained = nn.ModuleList(module for module, _ in groups)
    optimiser = build_optimiser("adamw", groups, weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [rate for _, rate in groups], total_steps=epochs * steps, pct_start=warm_up
    )
    TrainingLoop(
        name, trained, optimiser, epochs, lambda _: {"loss": descend(optimiser, losses(), schedule)}
    ).run()
