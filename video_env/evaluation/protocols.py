"""What the evaluation asks of a method: a policy or a recogniser, and its entry in a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.labels import point_label
from video_env.evaluation.results import Setting, is_setting_name
from video_env.models.stopping import Ended

LooksAt = Literal["nothing", "skim", "all frames", "glance"]
"""What a policy needs to have seen before it decides: its cost is charged to the method. ``glance`` is of
patch selection, whose environments count each glance themselves."""


class Policy(Protocol):
    """Whatever chooses frames or patches, in Stable-Baselines3's form.

    Attributes:
        gflops: 10^9 multiply-adds of one decision.
        looks_at: what it needs to have seen before the first one.
    """

    @property
    def gflops(self) -> float: ...

    @property
    def looks_at(self) -> LooksAt: ...

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Actions for a batch of observations; may take ``action_masks`` too."""


class Recogniser(Protocol):
    """A method with networks of its own, which looks at the frames of a video and says what it shows."""

    @property
    def recognise(self) -> Callable[..., Recognition]:
        """From frames uint8 [B, T, H, W, 3] in time order, and options, to what is said of them."""


class Recognition(NamedTuple):
    """What a method says of a batch of videos that it looks at by itself.

    Attributes:
        probabilities: float32 [B, C].
        points: float32 [B, T, 2], (row, column) in [0, 1] of the patch in each candidate frame, in time
            order; −1 where it did not look.
        exit_after: int64 [B], number of frames after which each video was left.
        gflops: float64 [B], 10^9 multiply-adds of all that ran.
    """

    probabilities: np.ndarray
    points: np.ndarray
    exit_after: np.ndarray
    gflops: np.ndarray


@dataclass(frozen=True)
class Training:
    """What a method's own training took.

    Attributes:
        seconds: its time.
        stages: that it has, one after another.
        num_settings: how many numbers and names it depends on.
        history: at every look at the validation split, the ``seconds`` of training so far, the top-1 there
            (``validation``), the ``score`` that the training ends by, and the gradient steps so far
            (``updates``; environment ``steps`` of Stable-Baselines3's algorithms).
        ended: why the training ended (``models.stopping``).
    """

    seconds: float = 0.0
    stages: int = 0
    num_settings: int = 0
    history: tuple[dict[str, float], ...] = ()
    ended: Ended = ""

    @classmethod
    def of(
        cls,
        seconds: float,
        settings: Any,
        *,
        stages: int = 1,
        history: Iterable[dict[str, float]] = (),
        ended: Ended = "",
    ) -> Training:
        """Of a trained agent.

        Args:
            seconds: that it took.
            settings: nested plain data; its numbers and names are counted, the seed aside.
            stages: one after another.
            history: rows of what was logged; those with a ``validation`` are kept.
            ended: why the training ended.
        """
        validated = tuple(
            {name: row[name] for name in _VALIDATED if name in row} for row in history if "validation" in row
        )
        return cls(seconds, stages, _count(settings), validated, ended)


_VALIDATED = ("seconds", "updates", "steps", "validation", "score")


NO_TRAINING = Training()


def _count(settings: Any) -> int:
    if isinstance(settings, (tuple, list)):
        return sum(map(_count, settings))
    if not isinstance(settings, dict):
        return 1
    return sum(_count(value) for name, value in settings.items() if name != "seed")


@dataclass(frozen=True)
class Entry:
    """One point of a comparison: a policy, the environment it acts in, and how to call it; or a method that
    recognises videos by itself.

    Attributes:
        method: its id in tables, such as ``ocsampler-budget``.
        title: the name that people read.
        family: what it belongs to; ``bound`` for references: oracles and all frames.
        setting: its point on the curve, such as ``{"num_frames": 2}``; each part becomes a column.
        seed: of its training or draws; the comparison's where there are none.
        environment: id; None for a ``Recogniser``.
        policy: acts there, or recognises.
        options: of the environment, without cache and split, or of ``recognise``.
        training: what its training took; where there was one, the policy acts on training videos too.
        cache: what it acts on, where that is not the comparison's own cache.

    Raises:
        InputError: a part of the setting has the name of another column, or is no number or word.
    """

    method: str
    title: str
    family: str
    setting: Setting
    seed: int
    environment: str | None
    policy: Policy | Recogniser
    options: dict[str, Any] = field(default_factory=dict)
    training: Training = NO_TRAINING
    cache: Cache | None = None

    def __post_init__(self) -> None:
        # NumPy's numbers become Python's.
        plain = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.setting.items()
        }
        object.__setattr__(self, "setting", plain)
        for name, value in plain.items():
            where = f"setting of {self.method}: {name}"
            if not is_setting_name(name):
                raise InputError(f"{where} is another column of result tables, choose another")
            if not isinstance(value, int | float | str) or value != value:
                raise InputError(f"{where}: found {value!r}, expected a number or a word")
            if isinstance(value, str) and (not value or _is_number(value)):
                raise InputError(f"{where}: found the text {value!r}, expected a word, or the number itself")

    @property
    def label(self) -> str:
        """Title and setting as people read them."""
        return point_label(self.title, self.setting)


def _is_number(text: str) -> bool:
    """Whether a CSV file would give a number back."""
    try:
        float(text)
    except ValueError:
        return False
    return True
