"""The training loop of the networks that make a cache's features and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from tqdm import tqdm


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers (initial weights, dropout) from a seed inside, and leave no trace."""
    # Of all GPUs, as manual_seed sets all; but none is woken that no one has used yet.
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        torch.manual_seed(seed)
        yield


def optimise(
    modules: Iterable[nn.Module],
    losses: Iterable[torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    description: str,
    warm_up: float = 0.15,
) -> float:
    """AdamW with a one-cycle learning rate.

    Args:
        modules: what is trained.
        losses: an iterator that computes the next batch's loss when it is asked for it.
        steps: how many losses there will be.
        learning_rate: the highest.
        weight_decay: AdamW's.
        description: for the progress bar.
        warm_up: share of the steps in which the learning rate rises.

    Returns:
        The mean loss over the last tenth of the steps.
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=warm_up
    )
    last: list[float] = []
    with tqdm(losses, total=steps, desc=description, unit="step", mininterval=1) as progress:
        for step, loss in enumerate(progress):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step >= steps - max(1, steps // 10):
                last.append(float(loss.detach()))
            if step % 10 == 0:
                progress.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
    return sum(last) / len(last)
