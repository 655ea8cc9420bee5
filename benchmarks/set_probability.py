"""The probability of drawn sets, by dynamic programming beside the sum over all orders.

python benchmarks/set_probability.py
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from report import alternating_seconds, median_ratio, write_report

from agents.ocsampler.set_probability import draw_sets, log_set_probability

BATCH, CANDIDATES, FRAMES = 64, 10, 6


def sum_over_orders(log_probabilities: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """As released: the probability of each of the N! orders, batched, and their sum."""
    orders = torch.tensor(list(itertools.permutations(range(chosen.shape[-1]))))
    p = log_probabilities.exp().gather(-1, chosen)[:, orders]
    left = 1 - p.cumsum(dim=-1) + p
    return (p / left).prod(dim=-1).sum(dim=-1).log()


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(BATCH, CANDIDATES, generator=generator, requires_grad=True)
    chosen = draw_sets(scores.detach().log_softmax(-1), FRAMES, generator)

    def repeated(compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(20):
                scores.grad = None
                compute(scores.log_softmax(-1), chosen).sum().backward()

        return run

    values = [compute(scores.log_softmax(-1), chosen) for compute in (log_set_probability, sum_over_orders)]
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-4)
    seconds = alternating_seconds(
        {"dynamic programming": repeated(log_set_probability), "all orders": repeated(sum_over_orders)},
        rounds=15,
    )
    results = {
        f"{name}: milliseconds, forward and backward": float(np.median(of_task)) / 20 * 1000
        for name, of_task in seconds.items()
    }
    ratio = median_ratio(seconds["all orders"], seconds["dynamic programming"])
    results[f"N = {FRAMES} of T = {CANDIDATES}, batch {BATCH}: times faster (aim 5)"] = ratio
    write_report("set_probability", results)


if __name__ == "__main__":
    main()
