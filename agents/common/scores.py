"""What an agent's training is watched by on the validation split."""

from __future__ import annotations

import numpy as np

from video_env.models.verdicts import of_label


def scored(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """``score``, the mean probability of the true class, which changes with every video where accuracy may
    stand still, and ``validation``, the top-1.

    Args:
        probabilities: float [V, C].
        labels: int64 [V].
    """
    right = probabilities.argmax(axis=-1) == labels
    return {"score": float(of_label(probabilities, labels).mean()), "validation": float(right.mean())}
