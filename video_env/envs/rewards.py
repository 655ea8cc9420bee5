"""How good a set of chosen frames is: the named qualities, made of the recognizer's verdicts.

A reward is the increase of a quality; the environments subtract λ·GFLOPs from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from video_env.data.sampling import candidate_indices
from video_env.errors import require_choice
from video_env.models.verdicts import Verdict, Verdicts, of_label


def uniform_subsets(num_candidates: int) -> np.ndarray:
    """bool [T + 1, T]: row N marks the centres of N uniform segments of the T candidates."""
    subsets = np.zeros((num_candidates + 1, num_candidates), bool)
    for count in range(1, num_candidates + 1):
        subsets[count, candidate_indices(num_candidates, count)] = True
    return subsets


@dataclass
class Choice:
    """Chosen frames and what the recognizer says of them, asked when it is needed: all that a quality
    may depend on. The arguments are those of the methods of ``Verdicts``."""

    verdicts: Verdicts
    video: np.ndarray
    chosen: np.ndarray
    number: np.ndarray

    @cached_property
    def confidence(self) -> np.ndarray:
        """float64 [B], the true class's probability."""
        return self.verdicts.confidence(self.video, self.chosen, self.number)

    @cached_property
    def prediction(self) -> np.ndarray:
        """int64 [B], -1 where nothing is chosen."""
        return self.verdicts.prediction(self.video, self.chosen, self.number)

    @property
    def labels(self) -> np.ndarray:
        """int64 [B]."""
        return self.verdicts.labels[self.video]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float64 [B, C], of the chosen frames together."""
        return self.verdicts.probabilities(self.video, self.chosen)

    @cached_property
    def single_frame_probabilities(self) -> np.ndarray:
        """float64 [B, T, C], of each frame on its own."""
        return self.verdicts.single_frame_probabilities(self.video)

    @property
    def single_frame_confidence(self) -> np.ndarray:
        """float64 [B, T], the true class's probability for each frame on its own."""
        return np.take_along_axis(self.single_frame_probabilities, self.labels[:, None, None], 2)[..., 0]


def _confidence(verdict: Verdict) -> np.ndarray:
    """The true class's probability."""
    return verdict.confidence


def _correct(verdict: Verdict) -> np.ndarray:
    """1 where the prediction is right, else 0."""
    return (verdict.prediction == verdict.labels).astype(np.float64)


def _log_confidence(verdict: Verdict) -> np.ndarray:
    """The logarithm of the true class's probability."""
    return np.log(np.maximum(of_label(verdict.probabilities, verdict.labels), 1e-12))


def _margin(verdict: Verdict) -> np.ndarray:
    """The true class's probability minus the largest of the others."""
    others = verdict.probabilities.copy()
    np.put_along_axis(others, verdict.labels[:, None], -np.inf, axis=1)
    return of_label(verdict.probabilities, verdict.labels) - others.max(axis=1)


def _contrast(choice: Choice) -> np.ndarray:
    """Confidence minus that of the uniform subset of the same size."""
    uniform = uniform_subsets(choice.chosen.shape[1])[choice.chosen.sum(axis=1)]
    reference = choice.verdicts.probabilities(choice.video, uniform)
    return of_label(choice.probabilities, choice.labels) - of_label(reference, choice.labels)


def _largest_probability(verdict: Verdict) -> np.ndarray:
    """Released OCSampler, score 1: the largest class probability, whichever class it is."""
    return verdict.probabilities.max(axis=1)


def _frame_margin(choice: Choice) -> np.ndarray:
    """Released OCSampler, score 2: the mean over the chosen frames of the true class's probability,
    less the largest probability where that frame alone is misclassified; 0 for no frame."""
    true, largest = choice.single_frame_confidence, choice.single_frame_probabilities.max(axis=2)
    score = np.where(true == largest, true, true - largest)
    return (score * choice.chosen).sum(axis=1) / np.maximum(choice.chosen.sum(axis=1), 1)


def _frame_confidence(choice: Choice) -> np.ndarray:
    """Released OCSampler, score 3: the largest over the chosen frames of the true class's probability;
    0 for no frame."""
    return (choice.single_frame_confidence * choice.chosen).max(axis=1)


VERDICT_QUALITIES: dict[str, Callable[[Verdict], np.ndarray]] = {
    "confidence": _confidence,
    "correct": _correct,
    "log_confidence": _log_confidence,
    "margin": _margin,
    "largest_probability": _largest_probability,
}
"""By name, the qualities of any verdict."""

QUALITIES: dict[str, Callable[[Choice], np.ndarray]] = {
    **VERDICT_QUALITIES,
    "contrast": _contrast,
    "frame_margin": _frame_margin,
    "frame_confidence": _frame_confidence,
}


def quality(name: str) -> Callable[[Choice], np.ndarray]:
    """A quality by name.

    Raises:
        InputError: there is none of this name; the message lists them.
    """
    require_choice("reward", name, tuple(QUALITIES))
    return QUALITIES[name]
