"""The probability of drawing a set without replacement, exact and differentiable.

A policy gives each of T candidates a probability p; frames are drawn one after another, each time
among those left and in proportion to p. OCSampler's policy gradient needs the probability of the
*set* drawn, in whatever order (Lin et al. 2022, section 3.3): a sum over N! orders. With S a subset of
the set and q(S) the probability that the first |S| draws are exactly S,

    q(∅) = 1,    q(S) = Σ_{i ∈ S} q(S \\ {i}) · p_i / (1 − p(S \\ {i})),

so that 2^N · N steps suffice; and one pass over the subsets of all T candidates gives the probability
of every set of N frames.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch


def log_set_probability(log_probabilities: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Logarithm of the probability that drawing N times without replacement gives this set.

    Args:
        log_probabilities: float [..., T], log p, where p sums to 1 over the candidates.
        chosen: int [..., N], the N distinct frames of the set, in any order.

    Returns:
        float [...], at most 0.
    """
    count = chosen.shape[-1]
    inside = log_probabilities.gather(-1, chosen)
    outside = log_probabilities.scatter(-1, chosen, -torch.inf).logsumexp(-1, keepdim=True)
    return _log_reached(inside, outside, count)[..., 0]


def log_probability_of_all_sets(log_probabilities: torch.Tensor, count: int) -> torch.Tensor:
    """Logarithm of the probability of every set of N frames; see ``all_sets``.

    Args:
        log_probabilities: float [..., T], log p, where p sums to 1 over the candidates.
        count: N, from 1 to T.

    Returns:
        float [..., C(T, N)], whose exponentials sum to 1.
    """
    nothing = torch.full_like(log_probabilities[..., :1], -torch.inf)
    return _log_reached(log_probabilities, nothing, count)


def all_sets(num_candidates: int, count: int) -> torch.Tensor:
    """int64 [C(T, N), N]: every set of N of T candidates, in the order of itertools.combinations."""
    return torch.tensor(list(itertools.combinations(range(num_candidates), count)))


def draw_sets(
    log_probabilities: torch.Tensor, count: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw N frames without replacement: the N largest of log p plus Gumbel noise (Kool et al. 2019).

    Args:
        log_probabilities: float [..., T].
        count: N, from 1 to T.
        generator: on the same device; the draws follow from it.

    Returns:
        int64 [..., N], in time order.
    """
    noise = torch.empty_like(log_probabilities).exponential_(generator=generator).log().neg()
    return (log_probabilities + noise).topk(count, dim=-1).indices.sort(dim=-1).values


def _log_reached(inside: torch.Tensor, outside: torch.Tensor, count: int) -> torch.Tensor:
    """log q of every subset of this size of the K candidates ``inside`` [..., K], given the logarithm of
    all that is ``outside`` [..., 1]."""
    # What is left to draw from is added up, not taken from 1, which would lose all digits when little
    # is left.
    reached = torch.zeros_like(outside)
    for members, previous, left in _layers(inside.shape[-1], count, inside.device):
        rest = torch.cat([outside.unsqueeze(-2).expand(*outside.shape[:-1], left.shape[0], 1),
                          _gather(inside, left)], dim=-1).logsumexp(-1)  # fmt: skip
        step = _gather(reached - rest, previous) + _gather(inside, members)
        reached = step.logsumexp(-1)
    return reached


def _gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """values [..., K] at a table of positions [R, M]: [..., R, M]."""
    return values[..., index.flatten()].unflatten(-1, index.shape)


@lru_cache(maxsize=32)
def _layers(
    total: int, count: int, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For each size 1 to N of a subset of K candidates, three tables of positions.

    ``members`` [R, size]: the elements of each subset of this size; ``previous`` [R, size]: the subset
    without that element, as a position among those of one size less; ``left`` [R', K − size + 1]: for
    each of the latter, the candidates that it lacks.
    """
    layers = []
    for size in range(1, count + 1):
        smaller = list(itertools.combinations(range(total), size - 1))
        position = {subset: index for index, subset in enumerate(smaller)}
        subsets = list(itertools.combinations(range(total), size))
        previous = [[position[subset[:i] + subset[i + 1 :]] for i in range(size)] for subset in subsets]
        left = [sorted(set(range(total)) - set(subset)) for subset in smaller]
        layers.append(tuple(torch.tensor(table, device=device) for table in (subsets, previous, left)))
    return layers  # type: ignore[return-value]
