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
    probabilities = log_probabilities.double().exp()
    inside = probabilities.gather(-1, chosen)
    outside = probabilities.scatter(-1, chosen, 0).sum(dim=-1, keepdim=True)
    return _reached(inside, outside, chosen.shape[-1])[..., 0].log().to(log_probabilities)


def log_probability_of_all_sets(log_probabilities: torch.Tensor, count: int) -> torch.Tensor:
    """Logarithm of the probability of every set of N frames; see ``all_sets``.

    Args:
        log_probabilities: float [..., T], log p, where p sums to 1 over the candidates.
        count: N, from 1 to T.

    Returns:
        float [..., C(T, N)], whose exponentials sum to 1.
    """
    probabilities = log_probabilities.double().exp()
    nothing = torch.zeros_like(probabilities[..., :1])
    return _reached(probabilities, nothing, count).log().to(log_probabilities)


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


def _reached(inside: torch.Tensor, outside: torch.Tensor, count: int) -> torch.Tensor:
    """q of every subset of this size of the K candidates ``inside`` [..., K], given the probability of
    all that is ``outside`` [..., 1]; in float64, where products of tiny probabilities are still numbers.
    """
    # Subsets come first and the batch last: whole rows are gathered, which is several times faster.
    everything = torch.cat([inside, outside], dim=-1).reshape(-1, inside.shape[-1] + 1).mT.contiguous()
    reached = everything[:-1]  # the first draw, from all that there is
    for members, previous, left in _layers(inside.shape[-1], count, inside.device):
        # What is left to draw from is added up, not taken from 1, which would lose all digits when little
        # is left.
        ahead = reached / (left @ everything)
        reached = (_rows(ahead, previous) * _rows(everything, members)).sum(dim=1)
    return reached.mT.reshape(*inside.shape[:-1], -1)


def _rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of values [K, B] at a table of indices [R, M]: [R, M, B]."""
    return values.index_select(0, index.flatten()).unflatten(0, index.shape)


@lru_cache(maxsize=32)
def _layers(
    total: int, count: int, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For each size 2 to N of a subset of K candidates, three tables.

    ``members`` [R, size]: the elements of each subset of this size; ``previous`` [R, size]: the subset
    without that element, as an index among those of one size less; ``left`` float64 [R', K + 1]: for
    each of the latter, 1 for the candidates that it lacks, and for all that is outside.
    """
    layers = []
    for size in range(2, count + 1):
        smaller = list(itertools.combinations(range(total), size - 1))
        place = {subset: index for index, subset in enumerate(smaller)}
        subsets = list(itertools.combinations(range(total), size))
        previous = [[place[subset[:i] + subset[i + 1 :]] for i in range(size)] for subset in subsets]
        left = torch.ones(len(smaller), total + 1, dtype=torch.float64, device=device)
        for row, subset in enumerate(smaller):
            left[row, list(subset)] = 0
        layers.append((torch.tensor(subsets, device=device), torch.tensor(previous, device=device), left))
    return layers
