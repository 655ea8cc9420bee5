"""What the recognizer says of sets of frames: looked up in a cache's subset table, or computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from video_env.cache.store import Cache

if TYPE_CHECKING:
    import torch

    from video_env.models.recognizers import Recognizer


class Verdicts:
    """The recognizer's verdicts on sets of candidate frames of one split's videos.

    They are looked up in the cache's subset table where there is one (T ≤ 12), else computed from the
    cached embeddings. All methods take ``video``, int64 [B], numbers within the split, and
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
        return of_label(self.probabilities(video, chosen), self.labels[video])

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
            scores = self._recognizer.scores(self._per_frame(video, chosen), mask)
            return scores.double().softmax(dim=-1).numpy()

    def single_frame_probabilities(self, video: np.ndarray) -> np.ndarray:
        """Class probabilities of each frame on its own, float64 [B, T, C]."""
        batch, num_candidates = len(video), self.cache.num_candidates
        alone = np.tile(np.eye(num_candidates, dtype=bool), (batch, 1))
        return self.probabilities(np.repeat(video, num_candidates), alone).reshape(
            batch, num_candidates, self.num_classes
        )

    def _per_frame(self, video: np.ndarray, chosen: np.ndarray) -> torch.Tensor:
        import torch

        embedding = torch.from_numpy(self.cache["embedding"].of_frames(self.rows[video], chosen)).float()
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
        return of_label(self.probabilities, self.labels)

    @cached_property
    def prediction(self) -> np.ndarray:
        """int64 [B], -1 where nothing was seen."""
        return np.where(self.seen, self.probabilities.argmax(axis=1), -1)


def of_label(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probabilities [B] of the labels [B] among probabilities [B, C]."""
    return probabilities[np.arange(len(labels)), labels]
