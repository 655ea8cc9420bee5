"""Frame selection: which of a video's T candidate frames the recognizer processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from video_env.cache.store import Cache
from video_env.envs.options import (
    Observation,
    Repeatable,
    check_integer,
    check_number,
    check_observation,
    check_split,
    known_gflops,
    opened_cache,
)
from video_env.envs.rendering import filmstrip
from video_env.envs.rewards import Choice, quality
from video_env.envs.task import Arrays, EpisodeState, TaskEnv, TaskVectorEnv
from video_env.errors import InputError
from video_env.models.verdicts import Verdicts, subset_bits


@dataclass
class Selection(EpisodeState):
    """Frame selection in progress.

    Attributes:
        chosen: int8 [B, T], 1 for the frames chosen so far.
        number: int64 [B], of the chosen subset: see ``subset_bits``.
        processed: int64 [B], frames processed so far; one that is chosen again counts again.
        gflops: float64 [B], spent so far.
        quality: float64 [B], the named quality now.
    """

    chosen: np.ndarray
    number: np.ndarray
    processed: np.ndarray
    gflops: np.ndarray
    quality: np.ndarray


class FrameSelect(Repeatable):
    """The dynamics of FrameSelect-v0, batch first; see ``FrameSelectEnv`` for the arguments.

    Raises:
        InputError: an argument is out of range, or the cache lacks what it needs.
    """

    def __init__(
        self,
        cache: str | Path | Cache | None = None,
        split: str = "train",
        reward: str = "confidence",
        cost_per_gflop: float = 0.0,
        observation: Observation = "features",
        skim_gflops: float | None = None,
        selector_gflops: float = 0.0,
    ) -> None:
        self.cache = self._reopens(opened_cache(cache))
        self.rows = self.cache.rows(check_split(split))
        self.num_candidates = self.cache.num_candidates
        self.cost_per_gflop = check_number("cost_per_gflop", cost_per_gflop)
        self.observation = check_observation(observation)
        self.verdicts = Verdicts(self.cache, self.rows)
        self._quality = quality(reward)
        self.frame_gflops = known_gflops(self.cache, "embedding") + known_gflops(self.cache, "hidden")
        if skim_gflops is None:
            skim_gflops = known_gflops(self.cache, "skim") * self.num_candidates
        self.fixed_gflops = check_number("skim_gflops", skim_gflops) + known_gflops(self.cache, "output")
        self.selector_gflops = check_number("selector_gflops", selector_gflops)
        self._names = self.cache.index["video"].to_numpy(object)[self.rows]
        self._bits = subset_bits(self.num_candidates)
        nothing = np.zeros((1, self.num_candidates), np.int8)
        first = np.zeros(1, np.int64)
        # No quality of the empty set depends on the video: its prediction is uniform.
        self._quality_of_nothing = float(self._quality(Choice(self.verdicts, first, nothing, first))[0])
        self.observation_space = self._observation_space()
        self.action_space = self._action_space()

    @cached_property
    def features(self) -> np.ndarray:
        """float32 [V, T, D], the skim features of the split's videos, in memory."""
        return self.cache["skim"][self.rows].astype(np.float32)

    def begin(self, video: np.ndarray, generator: np.random.Generator) -> Selection:
        count = len(video)
        return Selection(
            video=video,
            chosen=np.zeros((count, self.num_candidates), np.int8),
            number=np.zeros(count, np.int64),
            processed=np.zeros(count, np.int64),
            gflops=np.full(count, self.fixed_gflops),
            quality=np.full(count, self._quality_of_nothing),
        )

    def observe(self, state: Selection) -> Arrays:
        selected = state.chosen.copy()
        if self.observation == "features":
            return {"features": self.features.take(state.video, axis=0), "selected": selected}
        return {"video": self.rows.take(state.video)[:, None], "selected": selected}

    def describe(self, state: Selection) -> Arrays:
        choice = Choice(self.verdicts, state.video, state.chosen, state.number)
        return {
            "video": self._names[state.video],
            "label": choice.labels,
            "gflops": state.gflops.copy(),
            "confidence": choice.confidence,
            "prediction": choice.prediction,
            "correct": choice.prediction == choice.labels,
            "selected": state.chosen.copy(),
            "processed": state.processed.copy(),
        }

    def render(self, state: Selection, episode: int) -> np.ndarray:
        row, classes = int(self.rows[state.video[episode]]), self.cache.classes
        info = {key: values[episode] for key, values in self.describe(state).items()}
        prediction = int(info["prediction"])
        return filmstrip(
            self.cache["frames"][row] if "frames" in self.cache else None,
            state.chosen[episode].astype(bool),
            [
                f"{info['video']}: {classes[info['label']]}",
                f"prediction {classes[prediction] if prediction >= 0 else 'none'}, true class "
                f"{info['confidence']:.2f}, {info['gflops']:.3g} GFLOPs",
            ],
        )

    def _advance(
        self, state: Selection, chosen: np.ndarray, number: np.ndarray, processed: np.ndarray
    ) -> tuple[Selection, np.ndarray]:
        """The state after a decision that processed so many frames, and its reward:
        Δquality − λ·(GFLOPs that it spent on frames)."""
        quality = self._quality(Choice(self.verdicts, state.video, chosen, number))
        spent = self.frame_gflops * processed
        after = Selection(
            video=state.video,
            chosen=chosen,
            number=number,
            processed=state.processed + processed,
            gflops=state.gflops + spent + self.selector_gflops,
            quality=quality,
        )
        return after, quality - state.quality - self.cost_per_gflop * spent

    def _observation_space(self) -> gym.spaces.Dict:
        selected = gym.spaces.MultiBinary(self.num_candidates)
        if self.observation == "index":
            video = gym.spaces.Box(0, len(self.cache) - 1, (1,), np.int64)
            return gym.spaces.Dict(video=video, selected=selected)
        shape = (self.num_candidates, *self.cache["skim"].row_shape[1:])
        largest = float(np.finfo(np.float16).max)
        features = gym.spaces.Box(-largest, largest, shape, np.float32)
        return gym.spaces.Dict(features=features, selected=selected)

    def _action_space(self) -> gym.Space:
        raise NotImplementedError


class SequentialFrameSelect(FrameSelect):
    """One frame at a time: the dynamics of FrameSelect-v0."""

    def __init__(self, *args: Any, max_frames: int | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_frames = self.num_candidates if max_frames is None else max_frames
        check_integer("max_frames", self.max_frames, 1)
        self._bits_or_stop = np.append(self._bits, 0)

    def _action_space(self) -> gym.Space:
        return gym.spaces.Discrete(self.num_candidates + 1)

    def step(self, state: Selection, action: np.ndarray) -> tuple[Selection, np.ndarray, np.ndarray]:
        self._check(action)
        goes_on = action < self.num_candidates
        going = np.flatnonzero(goes_on)
        chosen = state.chosen.copy()
        chosen[going, action[going]] = 1
        after, reward = self._advance(state, chosen, state.number | self._bits_or_stop.take(action), goes_on)
        return after, reward, ~goes_on | (after.processed >= self.max_frames)

    def describe(self, state: Selection) -> Arrays:
        return {**super().describe(state), "action_mask": self.action_mask(state)}

    @staticmethod
    def action_mask(state: Selection) -> np.ndarray:
        """int8 [B, T + 1], 1 for the frames not chosen yet, and for stop."""
        mask = np.ones((len(state.chosen), state.chosen.shape[1] + 1), np.int8)
        np.subtract(1, state.chosen, out=mask[:, :-1])
        return mask

    def _check(self, action: np.ndarray) -> None:
        if action.dtype.kind not in "iu" or action.min() < 0 or action.max() > self.num_candidates:
            raise InputError(
                f"action: found {action!r}, expected an integer from 0 to {self.num_candidates} (stop) "
                "for each environment"
            )


class OneStepFrameSelect(FrameSelect):
    """The whole subset at once: the dynamics of FrameSelectOneStep-v0."""

    def __init__(self, *args: Any, num_frames: int | None = None, **options: Any) -> None:
        self.num_frames = num_frames
        super().__init__(*args, **options)
        if num_frames is not None:
            what = ", the cache's candidate frames"
            check_integer("num_frames", num_frames, 1, self.num_candidates, what=what)

    def _action_space(self) -> gym.Space:
        if self.num_frames is None:
            return gym.spaces.MultiBinary(self.num_candidates)
        return gym.spaces.Box(-1.0, 1.0, (self.num_candidates,), np.float32)

    def step(self, state: Selection, action: np.ndarray) -> tuple[Selection, np.ndarray, np.ndarray]:
        if action.shape != state.chosen.shape:
            raise InputError(f"action: found shape {action.shape}, expected {state.chosen.shape}")
        chosen = self._subset(action)
        processed = chosen.sum(axis=1, dtype=np.int64)
        after, reward = self._advance(state, chosen, chosen @ self._bits, processed)
        return after, reward, np.ones(len(action), bool)

    def _subset(self, action: np.ndarray) -> np.ndarray:
        if self.num_frames is None:
            if not np.isin(action, (0, 1)).all():
                raise InputError(f"action: found {np.unique(action)[:5]}, expected zeros and ones")
            return action.astype(np.int8)
        if not (np.abs(action) <= 1).all():
            raise InputError(f"action: found scores from {action.min()} to {action.max()}, expected -1 to 1")
        best = np.argsort(-action, axis=1, kind="stable")[:, : self.num_frames]
        chosen = np.zeros(action.shape, np.int8)
        np.put_along_axis(chosen, best, 1, axis=1)
        return chosen


class FrameSelectEnv(TaskEnv[Selection]):
    """Choose frames of a video one at a time, then stop and let the recognizer predict.

    ## Description
    A video is reduced to T candidate frames, of which cheap skim features are known. Each frame that
    is chosen is processed by the recognizer, which costs GFLOPs; the prediction is its consensus over
    all frames chosen. The aim is quality − λ·GFLOPs at the end of the episode.

    ## Action Space
    `Discrete(T + 1)`:

    | action | meaning |
    | --- | --- |
    | 0 .. T−1 | process this candidate frame; choosing it again costs again and changes nothing |
    | T | stop and predict |

    `info["action_mask"]` and `action_masks()` are int8 [T + 1], as `action_space.sample(mask)` takes it: 0 for
    the frames chosen already, 1 for the others and for stop.

    ## Observation Space
    `Dict` with:

    | key | space | meaning |
    | --- | --- | --- |
    | `features` | `Box(-65504, 65504, (T, D), float32)` | skim features of every candidate |
    | `selected` | `MultiBinary(T)` | 1 for the frames chosen so far |

    With `observation="index"`, `features` is replaced by

    | key | space | meaning |
    | --- | --- | --- |
    | `video` | `Box(0, V−1, (1,), int64)` | the video's row in the cache (V videos), for policies that hold the features themselves |

    ## Rewards
    Each step: the increase of the quality minus λ times the GFLOPs that the action spent. A return is
    therefore quality(end) − quality(nothing chosen) − λ·GFLOPs(frames). Skimming, the selector and
    the recognizer's last layer cost the same whatever is chosen: they are in `info["gflops"]`, not in the reward.
    The quality is named by `reward`; in multi-label sets the true class is the first label:

    | name | quality of the chosen frames | nothing chosen |
    | --- | --- | --- |
    | `confidence` | the true class's probability | 1/C |
    | `correct` | 1 if the prediction is right, else 0 | 0 |
    | `log_confidence` | logarithm of the true class's probability | −log C |
    | `margin` | the true class's probability minus the largest other | 0 |
    | `contrast` | confidence minus that of the uniform subset of the same size | 0 |
    | `largest_probability` | the largest class probability (released OCSampler, 1) | 1/C |
    | `frame_margin` | mean over frames of the true probability, less the largest where misclassified (2) | 0 |
    | `frame_confidence` | largest true-class probability over the frames (3) | 0 |

    ## Starting State
    A video drawn uniformly from the split, nothing chosen (the uniform prediction).
    `reset(options={"video": id})` takes that video.

    ## Episode End
    Terminates on stop or after `max_frames` choices. Truncates after `max_episode_steps` steps, where `make` or
    `make_vec` is given such.

    ## Information
    `video` (id), `label`, `gflops` (spent so far), `confidence` (the true class's probability),
    `prediction` (−1 while nothing is chosen), `correct`, `selected`, `processed` (frames so far; one that is
    chosen again counts again), `action_mask` (int8 [T + 1]).

    ## Arguments
    | argument | default | meaning |
    | --- | --- | --- |
    | `cache` | the packaged one | path of a cache, or a `Cache` |
    | `split` | `"train"` | whose videos are drawn |
    | `reward` | `"confidence"` | a quality by name |
    | `cost_per_gflop` | 0 | λ ≥ 0 |
    | `max_frames` | T | choices after which the episode ends |
    | `observation` | `"features"` | or `"index"` |
    | `skim_gflops` | the cache's | cost of looking at all candidates, per video |
    | `selector_gflops` | 0 | cost of the acting policy, per decision |
    | `render_mode` | None | or `"rgb_array"`: a filmstrip of the candidates |
    | `max_episode_steps` | None | of `gym.make` and `gym.make_vec`: steps after which an episode is truncated |

    An argument that is unknown, or of another kind, is refused when the environment is made.

    ## Version History
    * v0: initial version
    """

    kind = SequentialFrameSelect

    def action_masks(self) -> np.ndarray:
        """int8 [T + 1], 1 for the actions that are valid now (sb3-contrib's protocol)."""
        return SequentialFrameSelect.action_mask(self._running())[0]


class FrameSelectVectorEnv(TaskVectorEnv[Selection]):
    """FrameSelect-v0 for many videos at once; see ``FrameSelectEnv``."""

    kind = SequentialFrameSelect

    def action_masks(self) -> np.ndarray:
        """int8 [num_envs, T + 1], 1 for the actions that are valid now."""
        return SequentialFrameSelect.action_mask(self._running())


class FrameSelectOneStepEnv(TaskEnv[Selection]):
    """Choose all frames of a video in one decision (OCSampler's formulation, Lin et al. 2022).

    ## Description
    As `FrameSelect-v0`, but an episode is one step long: the action names the whole subset.

    ## Action Space
    With `num_frames=N`: `Box(-1, 1, (T,), float32)`, a score per candidate; the N highest are
    processed, of equal scores the earlier. Without: `MultiBinary(T)`, any subset.

    ## Observation Space
    As `FrameSelect-v0`; `selected` is all zero at the start.

    ## Rewards
    quality(subset) − quality(nothing chosen) − λ·GFLOPs(frames), with the same named qualities.

    ## Starting State
    As `FrameSelect-v0`.

    ## Episode End
    Terminates after the first step. Never truncates.

    ## Information
    As `FrameSelect-v0`, without `action_mask`: every action is valid.

    ## Arguments
    Those of `FrameSelect-v0` but `max_frames`, and:

    | argument | default | meaning |
    | --- | --- | --- |
    | `num_frames` | None | N, from 1 to T |

    ## Version History
    * v0: initial version
    """

    kind = OneStepFrameSelect


class FrameSelectOneStepVectorEnv(TaskVectorEnv[Selection]):
    """FrameSelectOneStep-v0 for many videos at once; see ``FrameSelectOneStepEnv``."""

    kind = OneStepFrameSelect
