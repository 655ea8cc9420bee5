"""Classifiers over time: what the glances and patches seen so far say about the video.

A classifier sees, frame by frame, the pooled features of the glance at the whole frame and those of one
patch, and carries a recurrent state. Its input layer is linear in both, so that each part can be computed
once per frame, or once per patch position, and used for every patch that is tried there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from video_env.cache.changes import add_network
from video_env.cache.store import Cache, CacheError
from video_env.errors import InputError
from video_env.models.backbones import load_state, read_state_dict
from video_env.models.cost import counted_gflops
from video_env.models.networks import Pooling

ClassifierName = Literal["gru", "running_max"]
NAME = "classifier"


class Classifier(nn.Module):
    """What both classifiers share; see ``GRUClassifier`` and ``RunningMaxClassifier``.

    Args:
        glance: features of a pooled glance.
        patch: features of a patch.
        classes: C.
        hidden: R, width of the recurrent state.
        pooling: how glance maps are pooled: the glance network's own way.

    Attributes:
        state_range: least and largest value that a state can hold.
    """

    name: ClassifierName
    state_range: tuple[float, float]

    def __init__(
        self, glance: int, patch: int, classes: int, *, hidden: int = 1024, pooling: Pooling = "mean"
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "max"):
            raise InputError(f"pooling {pooling!r}: expected mean or max")
        self.glance, self.patch, self.classes, self.hidden = glance, patch, classes, hidden
        self.pooling: Pooling = pooling

    @property
    def config(self) -> dict[str, Any]:
        """What it takes to build it again."""
        return {
            "classifier": self.name, "glance": self.glance, "patch": self.patch, "classes": self.classes,
            "hidden": self.hidden, "pooling": self.pooling,
        }  # fmt: skip

    def pool(self, maps: torch.Tensor) -> torch.Tensor:
        """Glance maps [..., D, h, w] to features [..., D]."""
        return maps.mean(dim=(-2, -1)) if self.pooling == "mean" else maps.amax(dim=(-2, -1))

    def glance_input(self, glance: torch.Tensor) -> torch.Tensor:
        """The glance's part of the input layer, bias included: [..., D] to [..., I]."""
        raise NotImplementedError

    def patch_input(self, patch: torch.Tensor) -> torch.Tensor:
        """The patch's part of the input layer: [..., D] to [..., I]."""
        raise NotImplementedError

    def step(self, state: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """One frame on: states [B, R] and K alternative inputs [B, K, I] to states [B, K, R].

        What does not depend on the input is computed once for all alternatives.
        """
        raise NotImplementedError

    def scores(self, state: torch.Tensor) -> torch.Tensor:
        """States [..., R] to scores before softmax [..., C]."""
        raise NotImplementedError

    def forward(self, glance: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
        """Whole videos at once: [B, T, D] and [B, T, D'] to scores after every frame [B, T, C]."""
        raise NotImplementedError

    def gflops(self) -> float:
        """Counted 10^9 multiply-adds of one frame: both parts of the input, the step, the scores."""
        with torch.no_grad(), torch.device("meta"), counted_gflops() as gflops:
            shadow = build_classifier(self.config)
            inputs = shadow.glance_input(torch.empty(1, self.glance)) + shadow.patch_input(
                torch.empty(1, self.patch)
            )
            shadow.scores(shadow.step(torch.empty(1, self.hidden), inputs[:, None]))
        return gflops()


class GRUClassifier(Classifier):
    """The published one (Wang et al. 2021, AdaFocus, section 3.1): a GRU over the concatenated features of
    glance and patch, and a linear layer after every frame. The first state is zero."""

    name: ClassifierName = "gru"
    state_range = (-1.0, 1.0)

    def __init__(self, glance: int, patch: int, classes: int, **options: Any) -> None:
        super().__init__(glance, patch, classes, **options)
        self.gru = nn.GRU(glance + patch, self.hidden, batch_first=True)
        self.fc = nn.Linear(self.hidden, classes)

    def glance_input(self, glance: torch.Tensor) -> torch.Tensor:
        weight, _, bias, _ = self.gru.all_weights[0]
        return F.linear(glance, weight[:, : self.glance], bias)

    def patch_input(self, patch: torch.Tensor) -> torch.Tensor:
        return F.linear(patch, self.gru.all_weights[0][0][:, self.glance :])

    def step(self, state: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        # The gates of nn.GRU in its order: reset, update, new.
        _, weight, _, bias = self.gru.all_weights[0]
        own = F.linear(state, weight, bias)[:, None]
        reset_and_update = (inputs[..., : 2 * self.hidden] + own[..., : 2 * self.hidden]).sigmoid()
        reset, update = reset_and_update.chunk(2, dim=-1)
        new = (inputs[..., 2 * self.hidden :] + reset * own[..., 2 * self.hidden :]).tanh()
        return new + update * (state[:, None] - new)

    def scores(self, state: torch.Tensor) -> torch.Tensor:
        return self.fc(state)

    def forward(self, glance: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
        return self.fc(self.gru(torch.cat([glance, patch], dim=-1))[0])


class RunningMaxClassifier(Classifier):
    """For small data: a linear layer and ReLU per frame, the running maximum over the frames seen, and a
    linear layer after every frame. The first state is zero, below which no feature lies."""

    name: ClassifierName = "running_max"
    state_range = (0.0, 65504.0)

    def __init__(self, glance: int, patch: int, classes: int, **options: Any) -> None:
        super().__init__(glance, patch, classes, **options)
        self.input = nn.Linear(glance + patch, self.hidden)
        self.output = nn.Linear(self.hidden, classes)

    def glance_input(self, glance: torch.Tensor) -> torch.Tensor:
        return F.linear(glance, self.input.weight[:, : self.glance], self.input.bias)

    def patch_input(self, patch: torch.Tensor) -> torch.Tensor:
        return F.linear(patch, self.input.weight[:, self.glance :])

    def step(self, state: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        return torch.maximum(state[:, None], inputs)

    def scores(self, state: torch.Tensor) -> torch.Tensor:
        return self.output(state)

    def forward(self, glance: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
        per_frame = self.input(torch.cat([glance, patch], dim=-1)).relu()
        return self.output(per_frame.cummax(dim=1).values)


CLASSIFIERS: dict[str, type[Classifier]] = {"gru": GRUClassifier, "running_max": RunningMaxClassifier}


def loss_at_every_step(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of scores [B, T, C] after every frame with targets [B, C]."""
    repeated = targets[:, None].expand(-1, scores.shape[1], -1)
    return F.cross_entropy(scores.flatten(0, 1).float(), repeated.flatten(0, 1))


def build_classifier(config: dict[str, Any]) -> Classifier:
    """A classifier from its ``config``.

    Raises:
        InputError: there is none of this name.
    """
    options = dict(config)
    name = options.pop("classifier")
    if name not in CLASSIFIERS:
        raise InputError(f"classifier {name!r}: expected one of {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name](**options)


def classifier_bytes(classifier: Classifier) -> bytes:
    """A classifier as a safetensors file, with its config, as ``load_classifier`` reads it."""
    state = {name: tensor.contiguous().cpu() for name, tensor in classifier.state_dict().items()}
    return safetensors.torch.save(state, {"config": json.dumps(classifier.config)})


def store_classifier(cache: Cache, classifier: Classifier, training: dict[str, Any] | None = None) -> Cache:
    """Put the classifier, its counted cost and its training's settings into the cache; opens it again."""
    return add_network(
        cache, NAME, classifier_bytes(classifier), gflops={NAME: classifier.gflops()}, training=training
    )


def load_classifier(cache: Cache, device: str | torch.device = "cpu") -> Classifier:
    """The cache's classifier over time, in evaluation mode.

    Raises:
        CacheError: the cache has none, its file is damaged, or it does not fit the cache's arrays.
    """
    file = cache.path / "networks" / f"{NAME}.safetensors"
    if file.name not in cache.meta["networks"]:
        raise CacheError(f"cache {cache.path} has no classifier over glances and patches", needs=NAME)
    file = cache.network_file(file.name)
    try:
        with safe_open(file, "pt") as entries:
            config = json.loads(entries.metadata()["config"])
            state = {name: entries.get_tensor(name) for name in entries.keys()}  # noqa: SIM118
        classifier = build_classifier(config)
    except Exception as error:  # safetensors raises its own kinds, and OSError
        raise CacheError(f"{file}: not a readable classifier ({error})") from error
    load_state(classifier, state, where=str(file))
    check_fits(classifier, cache)
    return classifier.to(device).eval().requires_grad_(False)


def read_classifier(file: Path, *, glance: int, pooling: Pooling) -> Classifier:
    """A classifier from a file of weights: one written from ``classifier_bytes``, or a state dict with the
    entries ``gru`` and ``fc`` (as released) or ``input`` and ``output``, sizes being those of the entries.

    Args:
        file: safetensors or torch.save's.
        glance: features of a glance, which a state dict does not tell from those of a patch.
        pooling: of the glance network.

    Raises:
        InputError: the file is missing or holds something else.
    """
    state = read_state_dict(file)
    names = {"gru": ("gru.weight_ih_l0", "fc.weight"), "running_max": ("input.weight", "output.weight")}
    for name, (first, last) in names.items():
        if first in state and last in state:
            classes, hidden = state[last].shape
            patch = state[first].shape[1] - glance
            if patch < 1:
                raise InputError(
                    f"weights file {file}: a classifier of {state[first].shape[1]} features, expected those "
                    f"of a patch beside the glance's {glance}"
                )
            config = {"classifier": name, "glance": glance, "patch": patch, "classes": classes,
                      "hidden": hidden, "pooling": pooling}  # fmt: skip
            classifier = build_classifier(config)
            load_state(classifier, state, where=f"weights file {file}")
            return classifier.eval()
    raise InputError(
        f"weights file {file}: found {', '.join(list(state)[:5])}, expected a classifier's gru and fc, or "
        "input and output"
    )


def check_fits(classifier: Classifier, cache: Cache) -> None:
    """Raise InputError unless the classifier takes what the cache's arrays hold."""
    found = {
        "glance features": (classifier.glance, cache["glance"].row_shape[1]),
        "patch features": (classifier.patch, cache["patches"].row_shape[2]),
        "classes": (classifier.classes, len(cache.classes)),
    }
    wrong = [f"{own} {what}, the cache has {there}" for what, (own, there) in found.items() if own != there]
    if wrong:
        raise InputError(f"classifier for cache {cache.path}: it takes {'; '.join(wrong)}")
