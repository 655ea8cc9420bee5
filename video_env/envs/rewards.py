"""How good a set of chosen frames is: the recognizer's verdicts, and the named qualities made of them.

A reward is the increase of a quality; the environments subtract λ·GFLOPs from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from video_env.cache.store import Cache
from video_env.data.sampling import candidate_indices
from video_env.errors import require_choice

if TYPE_CHECKING:
    import torch

    from video_env.models.recognizers import Recognizer


class Verdicts:
    """The recognizer's verdicts on sets of candidate frames of one split's videos.

    They are looked up in the cache's subset table where there is one (T ≤ 12), else computed from the
    cached embeddings. All methods take ``video``, int64 [B], positions within the split, and
    ``chosen``, bool or 0/1 [B, T]; ``number``, int64 [B], is the chosen subset's (see ``subset_bits``),
    used where there are tables.
    """

    def __init__(self, cache: Cache, rows: np.ndarray) -> None:
        self.cache = cache
        self.rows = rows
        self.labels = cache.labels[rows]
        self.num_classes = len(cache.classes)
        self._confidence = self._prediction = None
        if "subset_confidence" in cache and "subset_prediction" in cache:
            self._confidence = cache["subset_confidence"][rows].ravel()
            self._prediction = cache["subset_prediction"][rows].ravel()
        else:
            _ = self._recognizer  # fail now rather than at the first step

    def confidence(self, video: np.ndarray, chosen: np.ndarray, number: np.ndarray) -> np.ndarray:
        """The true class's probability, float64 [B]; 1/C where nothing is chosen."""
        if self._confidence is not None:
            return self._confidence.take((video << self.cache.num_candidates) | number).astype(np.float64)
        return _of_label(self.probabilities(video, chosen), self.labels[video])

    def prediction(self, video: np.ndarray, chosen: np.ndarray, number: np.ndarray) -> np.ndarray:
        """The predicted class, int64 [B]; -1 where nothing is chosen: a uniform prediction names none."""
        if self._prediction is not None:
            return self._prediction.take((video << self.cache.num_candidates) | number).astype(np.int64)
        return np.where(chosen.any(axis=1), self.probabilities(video, chosen).argmax(axis=1), -1)

    def probabilities(self, video: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Class probabilities from the embeddings, float64 [B, C]."""
        import torch

        with torch.inference_mode():
            mask = torch.from_numpy(np.ascontiguousarray(chosen, dtype=bool))
            scores = self._recognizer.scores(self._per_frame(video), mask)
            return scores.double().softmax(dim=-1).numpy()

    def single_frame_probabilities(self, video: np.ndarray) -> np.ndarray:
        """Class probabilities of each frame on its own, float64 [B, T, C]."""
        batch, num_candidates = len(video), self.cache.num_candidates
        alone = np.tile(np.eye(num_candidates, dtype=bool), (batch, 1))
        return self.probabilities(np.repeat(video, num_candidates), alone).reshape(
            batch, num_candidates, self.num_classes
        )

    def _per_frame(self, video: np.ndarray) -> torch.Tensor:
        import torch

        embedding = torch.from_numpy(self.cache["embedding"][self.rows[video]]).float()
        return self._recognizer.per_frame(embedding)

    @cached_property
    def _recognizer(self) -> Recognizer:
        from video_env.models.recognizers import load_recognizer

        return load_recognizer(self.cache)


def subset_bits(num_candidates: int) -> np.ndarray:
    """int64 [T]: what each frame adds to the number of a subset; its bit t says whether frame t is
    chosen. All zero where the subsets are too many to be numbered (T > 62)."""
    bits = np.arange(num_candidates, dtype=np.int64)
    return np.left_shift(1, bits) if num_candidates <= 62 else np.zeros_like(bits)


def uniform_subsets(num_candidates: int) -> np.ndarray:
    """bool [T + 1, T]: row N marks the centres of N uniform segments of the T candidates."""
    subsets = np.zeros((num_candidates + 1, num_candidates), bool)
    for count in range(1, num_candidates + 1):
        subsets[count, candidate_indices(num_candidates, count)] = True
    return subsets


class Verdict(Protocol):
    """What a classifier says of what it has seen: float64 probabilities [B, C] and their true class's
    [B], the predicted class int64 [B] (-1 where nothing was seen), and the labels int64 [B]."""

    @property
    def probabilities(self) -> np.ndarray: ...

    @property
    def confidence(self) -> np.ndarray: ...

    @property
    def prediction(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...


@dataclass
class Prediction:
    """A verdict from class probabilities at hand.

    Attributes:
        probabilities: float64 [B, C].
        labels: int64 [B].
        seen: bool [B], whether anything was seen: a uniform prediction names no class.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    seen: np.ndarray

    @cached_property
    def confidence(self) -> np.ndarray:
        """float64 [B], the true class's probability."""
        return _of_label(self.probabilities, self.labels)

    @cached_property
    def prediction(self) -> np.ndarray:
        """int64 [B], -1 where nothing was seen."""
        return np.where(self.seen, self.probabilities.argmax(axis=1), -1)


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
    return np.log(np.maximum(_of_label(verdict.probabilities, verdict.labels), 1e-12))


def _margin(verdict: Verdict) -> np.ndarray:
    """The true class's probability minus the largest of the others."""
    others = verdict.probabilities.copy()
    np.put_along_axis(others, verdict.labels[:, None], -np.inf, axis=1)
    return _of_label(verdict.probabilities, verdict.labels) - others.max(axis=1)


def _contrast(choice: Choice) -> np.ndarray:
    """Confidence minus that of the uniform subset of the same size."""
    uniform = uniform_subsets(choice.chosen.shape[1])[choice.chosen.sum(axis=1)]
    reference = choice.verdicts.probabilities(choice.video, uniform)
    return _of_label(choice.probabilities, choice.labels) - _of_label(reference, choice.labels)


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


def _of_label(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities[np.arange(len(labels)), labels]
