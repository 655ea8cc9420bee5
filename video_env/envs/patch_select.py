"""Patch selection: where in each frame of a video the focus network looks.

The environments' docstrings are their specification, from which the documentation is made: they, not the code,
make this file long.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch

from video_env.cache.store import Cache
from video_env.data.patches import check_positions, grid_points, grid_side, surrounding
from video_env.envs.options import (
    Observation,
    Repeatable,
    check_flag,
    check_integer,
    check_number,
    check_observation,
    check_split,
    known_gflops,
    opened_cache,
)
from video_env.envs.patch_inputs import LARGEST_IN_MEMORY, PatchInputs
from video_env.envs.rendering import patch_view
from video_env.envs.rewards import VERDICT_QUALITIES
from video_env.envs.task import Arrays, EpisodeState, TaskEnv, TaskVectorEnv
from video_env.errors import InputError, require_choice
from video_env.models.classifiers import Classifier, load_classifier
from video_env.models.device import resolve_device
from video_env.models.verdicts import Prediction

# What a step is worth by itself, as published; every other reward is the increase of a quality.
PER_STEP = ("contrast", "confidence")
REWARDS = (*PER_STEP, "increment", *(name for name in VERDICT_QUALITIES if name != "confidence"))


@dataclass
class Looking(EpisodeState):
    """Patch selection in progress.

    Attributes:
        frame: int64 [B], the frame to be decided now; T when none is left, or the episode was stopped.
        recurrent: float32 [B, R], the classifier's state.
        patches: float32 [B, T, 2], where the patches are: (row, column) in [0, 1], −1 where there is none.
        reference: what ``contrast`` compares with, drawn in advance: positions int64 [B, T], or points
            float32 [B, T, 2].
        probabilities: float64 [B, C], after the frames so far.
        quality: float64 [B], the named quality now.
        gflops: float64 [B], spent so far.
    """

    frame: np.ndarray
    recurrent: np.ndarray
    patches: np.ndarray
    reference: np.ndarray
    probabilities: np.ndarray
    quality: np.ndarray
    gflops: np.ndarray


class PatchSelect(Repeatable):
    """The dynamics of PatchSelect-v0, batch first; see ``PatchSelectEnv`` for the arguments.

    Raises:
        InputError: an argument is out of range, or the cache lacks what it needs.
    """

    def __init__(
        self,
        cache: str | Path | Cache | None = None,
        split: str = "train",
        reward: str = "contrast",
        cost_per_gflop: float = 0.0,
        allow_exit: bool = False,
        observation: Observation = "features",
        selector_gflops: float = 0.0,
        classifier: Classifier | None = None,
        device: str = "cpu",
        precision: Literal["float32", "bfloat16"] = "float32",
        largest_in_memory: int = LARGEST_IN_MEMORY,
    ) -> None:
        require_choice("reward", reward, REWARDS)
        if precision not in ("float32", "bfloat16"):
            raise InputError(f"precision {precision!r}: expected float32 or bfloat16")
        if not (classifier is None or isinstance(classifier, Classifier)):
            raise InputError(f"classifier: found {classifier!r}, expected a Classifier")
        check_integer("largest_in_memory", largest_in_memory, 0)
        self.cache = self._reopens(opened_cache(cache))
        self.rows = self.cache.rows(check_split(split))
        self.reward, self.allow_exit = reward, check_flag("allow_exit", allow_exit)
        self.observation = check_observation(observation)
        self.cost_per_gflop = check_number("cost_per_gflop", cost_per_gflop)
        self.selector_gflops = check_number("selector_gflops", selector_gflops)
        self._maps = self.cache["glance"]
        self.num_frames, self.num_positions = self.cache["patches"].row_shape[:2]
        self.glance_gflops = known_gflops(self.cache, "glance")
        self.look_gflops = known_gflops(self.cache, "patches")
        # A classifier that was passed in is not touched: this one is a copy of its own.
        own = load_classifier(self.cache) if classifier is None else copy.deepcopy(classifier).eval()
        if "classifier" in self.arguments[1]:
            self.arguments[1]["classifier"] = own
        self.look_gflops += own.gflops()
        self.classifier = own.requires_grad_(False).to(resolve_device(device), getattr(torch, precision))
        self.inputs = PatchInputs(self.cache, self.rows, self.classifier, largest_in_memory=largest_in_memory)
        self._largest_in_memory = largest_in_memory
        self._parameter = next(self.classifier.parameters())
        self._quality = VERDICT_QUALITIES["confidence" if reward in (*PER_STEP, "increment") else reward]
        self._labels = self.cache.labels[self.rows]
        self._names = self.cache.index["video"].to_numpy(object)[self.rows]
        self.observation_space = self._observation_space()
        self.action_space = self._action_space()

    @cached_property
    def glances(self) -> np.ndarray | None:
        """float16 [V, T, D, h, w], the split's glance maps, where they fit in memory."""
        size = len(self.rows) * int(np.prod(self._maps.row_shape)) * self._maps.dtype.itemsize
        return self._maps[self.rows] if size <= self._largest_in_memory else None

    def begin(self, video: np.ndarray, generator: np.random.Generator) -> Looking:
        count, classes = len(video), len(self.cache.classes)
        nothing = np.full((count, classes), 1 / classes)
        return Looking(
            video=video,
            frame=np.zeros(count, np.int64),
            recurrent=np.zeros((count, self.classifier.hidden), np.float32),
            patches=np.full((count, self.num_frames, 2), -1, np.float32),
            reference=self._references(count, generator),
            probabilities=nothing,
            quality=self._quality(Prediction(nothing, self._labels[video], np.zeros(count, bool))),
            gflops=np.full(count, self.glance_gflops),
        )

    def step(self, state: Looking, action: np.ndarray) -> tuple[Looking, np.ndarray, np.ndarray]:
        batch, labels = np.arange(len(action)), self._labels[state.video]
        looks = self._check(action)
        alternatives = [self._surrounding(action)]
        if self.reward == "contrast":
            alternatives.append(self._surrounding_reference(state.reference[batch, state.frame]))
        states, probabilities = self.consider(state, alternatives)
        patches, going = state.patches.copy(), np.flatnonzero(looks)
        patches[going, state.frame[going]] = self._points(action[going])
        now = np.where(looks[:, None], probabilities[:, 0], state.probabilities)
        quality = np.where(looks, self._quality(Prediction(now, labels, looks)), state.quality)
        frame = np.where(looks, state.frame + 1, self.num_frames)
        # The next frame's glance is part of what going on costs; the first one's is not in the reward.
        spent = looks * (self.look_gflops + (frame < self.num_frames) * self.glance_gflops)
        if self.reward == "contrast":
            value = looks * (now - probabilities[:, 1])[batch, labels]
        elif self.reward == "confidence":
            value = looks * quality
        else:
            value = quality - state.quality
        after = Looking(
            video=state.video,
            frame=frame,
            recurrent=np.where(looks[:, None], states[:, 0], state.recurrent),
            patches=patches,
            reference=state.reference,
            probabilities=now,
            quality=quality,
            gflops=state.gflops + spent + self.selector_gflops,
        )
        return after, value - self.cost_per_gflop * spent, frame == self.num_frames

    def observe(self, state: Looking) -> Arrays:
        if self.observation == "index":
            video = self.rows.take(state.video)[:, None]
            return {"video": video, "frame": state.frame[:, None], "state": state.recurrent.copy()}
        progress = (state.frame / self.num_frames).astype(np.float32)[:, None]
        return {"glance": self._glance_maps(state), "state": state.recurrent.copy(), "progress": progress}

    def describe(self, state: Looking) -> Arrays:
        labels = self._labels[state.video]
        verdict = Prediction(state.probabilities, labels, self._taken(state)[:, 0])
        return {
            "video": self._names[state.video],
            "label": labels,
            "gflops": state.gflops.copy(),
            "confidence": verdict.confidence,
            "prediction": verdict.prediction,
            "correct": verdict.prediction == labels,
            "patches": state.patches.copy(),
            "probabilities": state.probabilities.copy(),
        }

    def render(self, state: Looking, episode: int) -> np.ndarray:
        row, classes = int(self.rows[state.video[episode]]), self.cache.classes
        info = {key: values[episode] for key, values in self.describe(state).items()}
        source = self.cache.meta["arrays"]["patches"]["source"]
        prediction, label = int(info["prediction"]), int(info["label"])
        return patch_view(
            self.cache["frames"][row] if "frames" in self.cache else None,
            info["patches"],
            self._history(state, episode),
            grid=grid_points(self.num_positions),
            patch_share=source.get("patch_size", 0) / source.get("frame_size", 1),
            lines=[
                f"{info['video']}: {classes[label]}",
                f"prediction {classes[prediction] if prediction >= 0 else 'none'}, true class "
                f"{info['confidence']:.2f}, {info['gflops']:.3g} GFLOPs",
            ],
        )

    @torch.inference_mode()
    def consider(
        self, state: Looking, alternatives: Sequence[tuple[np.ndarray, np.ndarray | None]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the classifier would say after each of K patches of the current frame.

        What they have in common, the recurrent part and the glance's, is computed once.

        Args:
            state: whose current frame it is.
            alternatives: each is the cached positions that make up a patch, int64 [B, N], and their weights
                [B, N], None where N is 1.

        Returns:
            Its states float32 [B, K, R] and probabilities float64 [B, K, C].
        """
        count = alternatives[0][0].shape[1]
        positions = np.concatenate([positions for positions, _ in alternatives], axis=1)
        patch = self.inputs.patch(state.video, state.frame, positions)
        if count > 1:
            weights = np.stack([weights for _, weights in alternatives if weights is not None], axis=1)
            share = torch.from_numpy(weights).to(patch)[..., None]
            patch = (patch.unflatten(1, (len(alternatives), count)) * share).sum(dim=2)
        inputs = patch + self.inputs.glance(state.video, state.frame)[:, None]
        states = self.classifier.step(torch.from_numpy(state.recurrent).to(self._parameter), inputs)
        probabilities = self.classifier.scores(states).float().softmax(dim=-1)
        return states.float().cpu().numpy(), probabilities.double().cpu().numpy()

    def _history(self, state: Looking, episode: int) -> np.ndarray:
        """float64 [n], the true class's probability after each frame that was looked at."""
        video, confidence = state.video[[episode]], []
        at = self.begin(video, np.random.default_rng(0))
        for point in state.patches[episode][self._taken(state)[episode]]:
            states, probabilities = self.consider(at, [surrounding(point[None], self.num_positions)])
            at.recurrent, at.frame = states[:, 0], at.frame + 1
            confidence.append(probabilities[0, 0, self._labels[video[0]]])
        return np.array(confidence)

    def _glance_maps(self, state: Looking) -> np.ndarray:
        """float32 [B, D, h, w]; zero where no frame is left."""
        frame = np.minimum(state.frame, self.num_frames - 1)
        if self.glances is not None:
            maps = self.glances[state.video, frame].astype(np.float32)
        else:
            maps = self._maps.entries(self.rows[state.video], frame).astype(np.float32)
        maps[state.frame == self.num_frames] = 0
        return maps

    @staticmethod
    def _taken(state: Looking) -> np.ndarray:
        """bool [B, T], which frames were looked at."""
        return np.greater_equal(state.patches[..., 0], 0)

    def _observation_space(self) -> gym.spaces.Dict:
        low, high = self.classifier.state_range
        state = gym.spaces.Box(low, high, (self.classifier.hidden,), np.float32)
        if self.observation == "index":
            video = gym.spaces.Box(0, len(self.cache) - 1, (1,), np.int64)
            frame = gym.spaces.Box(0, self.num_frames, (1,), np.int64)
            return gym.spaces.Dict(video=video, frame=frame, state=state)
        largest = float(np.finfo(np.float16).max)
        glance = gym.spaces.Box(-largest, largest, self._maps.row_shape[1:], np.float32)
        return gym.spaces.Dict(glance=glance, state=state, progress=gym.spaces.Box(0, 1, (1,), np.float32))

    def _action_space(self) -> gym.Space:
        raise NotImplementedError

    def _references(self, count: int, generator: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def _check(self, action: np.ndarray) -> np.ndarray:
        """bool [B], whether the action looks at a patch rather than stops; raises for invalid ones."""
        raise NotImplementedError

    def _surrounding(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Cached positions [B, N] and weights that make up the actions' patches."""
        raise NotImplementedError

    def _surrounding_reference(self, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        raise NotImplementedError

    def _points(self, action: np.ndarray) -> np.ndarray:
        """float32 [B, 2], where the actions' patches are."""
        raise NotImplementedError


class GridPatchSelect(PatchSelect):
    """One of the P grid positions in every frame: the dynamics of PatchSelect-v0."""

    def _action_space(self) -> gym.Space:
        self._grid = grid_points(self.num_positions)
        return gym.spaces.Discrete(self.num_positions + self.allow_exit)

    def describe(self, state: Looking) -> Arrays:
        side = grid_side(self.num_positions)
        row, column = np.moveaxis(np.rint(state.patches * (side - 1)).astype(np.int64), -1, 0)
        selected = np.where(self._taken(state), row * side + column, -1)
        return {**super().describe(state), "selected": selected}

    def _references(self, count: int, generator: np.random.Generator) -> np.ndarray:
        return generator.integers(self.num_positions, size=(count, self.num_frames))

    def _check(self, action: np.ndarray) -> np.ndarray:
        try:
            check_positions(action, self.num_positions + self.allow_exit)
        except InputError as error:
            raise InputError(f"action: {error}") from None
        return np.asarray(action < self.num_positions)

    def _surrounding(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return np.minimum(action, self.num_positions - 1)[:, None], None

    def _surrounding_reference(self, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return reference[:, None], None

    def _points(self, action: np.ndarray) -> np.ndarray:
        return self._grid[action]


class ContinuousPatchSelect(PatchSelect):
    """Any point of every frame: the dynamics of PatchSelectContinuous-v0."""

    def _action_space(self) -> gym.Space:
        return gym.spaces.Box(-1.0, 1.0, (2 + self.allow_exit,), np.float32)

    def _references(self, count: int, generator: np.random.Generator) -> np.ndarray:
        return generator.random((count, self.num_frames, 2), np.float32)

    def _check(self, action: np.ndarray) -> np.ndarray:
        if action.shape[1:] != (2 + self.allow_exit,):
            raise InputError(f"action: found shape {action.shape}, expected [B, {2 + self.allow_exit}]")
        if not (np.abs(action) <= 1).all():
            raise InputError(f"action: found {action.min()} to {action.max()}, expected -1 to 1")
        return action[:, 2] <= 0 if self.allow_exit else np.ones(len(action), bool)

    def _surrounding(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return surrounding(self._points(action), self.num_positions)

    def _surrounding_reference(self, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return surrounding(reference, self.num_positions)

    def _points(self, action: np.ndarray) -> np.ndarray:
        return (action[:, :2].astype(np.float32) + 1) / 2


class PatchSelectEnv(TaskEnv[Looking]):
    """Choose where to look in every frame of a video, and, if allowed, when to stop (AdaFocus's
    formulation, Wang et al. 2021, arXiv 2105.03245).

    ## Description
    A video is T frames, seen in order. A cheap network glances at each whole frame; then a patch of it is
    chosen, which an expensive network processes. A classifier over time, recurrent, predicts the class
    after every frame from the glances and patches so far. Glance maps and the features of the patches at
    P grid positions come from the cache: no network but the classifier runs here.

    ## Action Space
    `Discrete(P)`, with `allow_exit=True` `Discrete(P + 1)`:

    | action | meaning |
    | --- | --- |
    | 0 .. P−1 | look at this position of the 7×7 grid, row by row: position (i, j) puts the patch's top-left corner at floor(i/6·(S−s)), floor(j/6·(S−s)) in frames of S pixels and patches of s |
    | P | stop and predict now, without a patch of this frame |

    Every action is always valid, so there is no action mask.

    ## Observation Space
    `Dict` with:

    | key | space | meaning |
    | --- | --- | --- |
    | `glance` | `Box(-65504, 65504, (D, h, w), float32)` | the current frame's glance map; zero when none is left |
    | `state` | `Box(-1, 1, (R,), float32)`; of the running maximum 0 to 65504 | the classifier's recurrent state |
    | `progress` | `Box(0, 1, (1,), float32)` | share of the frames that are decided |

    With `observation="index"`, `glance` and `progress` are replaced by the following, for policies that
    hold the glance maps themselves:

    | key | space | meaning |
    | --- | --- | --- |
    | `video` | `Box(0, V−1, (1,), int64)` | the video's row in the cache (V videos) |
    | `frame` | `Box(0, T, (1,), int64)` | the current frame; T when none is left |

    ## Rewards
    Of each step, minus λ times the GFLOPs that the action spent (the patch, the classifier's step, and the
    next frame's glance; stopping spends nothing). In multi-label sets the true class is the first label:

    | name | reward of a step |
    | --- | --- |
    | `contrast` | the true class's probability with the chosen patch minus with a random patch at the same recurrent state (published default, `random`) |
    | `confidence` | the true class's probability (published, `conf`) |
    | `increment` | its increase over the last step (published, `prev`, which starts from 0; here from 1/C) |
    | `correct` | increase of: 1 if the prediction is right, else 0 |
    | `log_confidence` | increase of the logarithm of the true class's probability |
    | `margin` | increase of the true class's probability minus the largest other |
    | `largest_probability` | increase of the largest class probability |

    All but the first two telescope: a return is quality(end) − quality(nothing) − λ·GFLOPs(actions).
    Stopping is worth 0. The first frame's glance and the selector are in `info["gflops"]`, not in the
    reward. (The two of FrameSelect-v0's qualities that judge each frame by itself are not among these: the
    classifier over time has no verdict on a frame by itself.)

    ## Starting State
    A video drawn uniformly from the split, its first frame, the classifier's state zero.
    `reset(options={"video": id})` takes that video. The reference patches of `contrast` are drawn here too.

    ## Episode End
    Terminates after T frames, or on stop. Truncates after `max_episode_steps` steps, where `make` or `make_vec`
    is given such.

    ## Information
    `video` (id), `label`, `gflops` (spent so far), `confidence` (the true class's probability),
    `prediction` (−1 before the first patch), `correct`, `selected` (int64 [T], the positions, −1 where there
    is none yet), `patches` (float32 [T, 2], their (row, column) in [0, 1], −1 where there is none yet),
    `probabilities` (float64 [C]).

    ## Arguments
    | argument | default | meaning |
    | --- | --- | --- |
    | `cache` | the packaged one | path of a cache, or a `Cache`, with `glance`, `patches` and a classifier |
    | `split` | `"train"` | whose videos are drawn |
    | `reward` | `"contrast"` | by name |
    | `cost_per_gflop` | 0 | λ ≥ 0 |
    | `allow_exit` | False | whether there is an action that stops |
    | `observation` | `"features"` | or `"index"` |
    | `selector_gflops` | 0 | cost of the acting policy, per decision |
    | `classifier` | the cache's | a `Classifier` to use instead, such as a fine-tuned one |
    | `device` | `"cpu"` | where the classifier runs |
    | `precision` | `"float32"` | of the classifier; `"bfloat16"` is faster and less exact |
    | `largest_in_memory` | 2^30 | bytes of a table of classifier inputs that is computed in advance, or of glance maps that is read |
    | `render_mode` | None | or `"rgb_array"`: the frame, the grid, the patch, the probability so far |
    | `max_episode_steps` | None | of `gym.make` and `gym.make_vec`: steps after which an episode is truncated |

    An argument that is unknown, or of another kind, is refused when the environment is made.

    ## Version History
    * v0: initial version
    """

    kind = GridPatchSelect


class PatchSelectVectorEnv(TaskVectorEnv[Looking]):
    """PatchSelect-v0 for many videos at once; see ``PatchSelectEnv``."""

    kind = GridPatchSelect


class PatchSelectContinuousEnv(TaskEnv[Looking]):
    """Choose any point to look at in every frame of a video.

    ## Description
    As `PatchSelect-v0`, but the patch may lie anywhere. Its features are interpolated bilinearly between
    those of the four nearest cached positions.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: the patch's (row, column), −1 at the upper or left edge of the frame, 1 at
    its lower or right edge. With `allow_exit=True` `Box(-1, 1, (3,), float32)`: a third number above 0
    stops.

    ## Observation Space
    As `PatchSelect-v0`.

    ## Rewards
    As `PatchSelect-v0`; the reference of `contrast` is a uniformly random point.

    ## Starting State
    As `PatchSelect-v0`.

    ## Episode End
    As `PatchSelect-v0`.

    ## Information
    As `PatchSelect-v0`, without `selected`.

    ## Arguments
    Those of `PatchSelect-v0`.

    ## Version History
    * v0: initial version
    """

    kind = ContinuousPatchSelect


class PatchSelectContinuousVectorEnv(TaskVectorEnv[Looking]):
    """PatchSelectContinuous-v0 for many videos at once; see ``PatchSelectContinuousEnv``."""

    kind = ContinuousPatchSelect
