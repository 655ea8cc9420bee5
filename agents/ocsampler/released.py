"""OCSampler as published and released (Lin et al. 2022, arXiv 2201.04388), from frames to class scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from agents.ocsampler.networks import CandidatePolicy, ranked
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, load_state
from video_env.models.recognizers import Recognizer


class OCSamplerOutput(NamedTuple):
    """What the published network says of a batch of videos.

    Attributes:
        frame_probs: float [B, T], the policy's distribution over the candidates.
        frames: int64 [B, N], the N most probable candidates, in time order.
        scores: float [B, C], class probabilities.
    """

    frame_probs: torch.Tensor
    frames: torch.Tensor
    scores: torch.Tensor


class ReleasedOCSampler(nn.Module):
    """The whole published system (section 3; sizes of the released ActivityNet settings).

    MobileNetV2 with temporal shift skims all candidates at 128x128 and a linear layer scores each; the
    N most probable go at full size through ResNet-50 and FrameExit's classifier.

    Args:
        num_classes: C.
        num_frames: N.
        shift_div: of the temporal shift.
        hidden: width of the classifier's per-frame layer.
    """

    def __init__(
        self, num_classes: int = 200, *, num_frames: int = 6, shift_div: int = 10, hidden: int = 4096
    ) -> None:
        super().__init__()
        for name, value in (("num_frames", num_frames), ("shift_div", shift_div)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: found {value!r}, expected an integer of at least 1")
        self.num_frames = num_frames
        self.skim = FrameNetwork("mobilenet_v2", temporal_shift=shift_div, interpolation="nearest")
        # The linear one takes any number of candidates.
        self.policy = CandidatePolicy("linear", self.skim.features, num_candidates=num_frames)
        self.embedding = FrameNetwork("resnet50")
        self.recognizer = Recognizer(self.embedding.features, num_classes, hidden=hidden)

    def forward(self, frames: torch.Tensor) -> OCSamplerOutput:
        """Choose and recognise.

        Args:
            frames: float [B, T, 3, H, W], normalised as for ImageNet, 224x224 as published.

        Raises:
            InputError: the shape is another one, or T is less than N.
        """
        if frames.ndim != 5 or frames.shape[2] != 3 or frames.shape[1] < self.num_frames:
            raise InputError(
                f"frames: found shape {tuple(frames.shape)}, expected [B, T, 3, H, W] with T of at least "
                f"num_frames = {self.num_frames}"
            )
        log_probabilities = self.log_probabilities(frames)
        chosen = ranked(log_probabilities)[:, : self.num_frames].sort(dim=-1).values
        return OCSamplerOutput(log_probabilities.exp(), chosen, self.recognise(frames, chosen))

    def log_probabilities(self, frames: torch.Tensor) -> torch.Tensor:
        """The policy's distribution over the candidates: [B, T, 3, H, W] to log-probabilities [B, T]."""
        small = F.interpolate(frames.flatten(0, 1), self.skim.input_size, mode="nearest")
        return self.policy(self.skim.look(small.unflatten(0, frames.shape[:2])))

    def recognise(self, frames: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Class probabilities [B, C] from the chosen frames [B, N] alone."""
        taken = frames[torch.arange(len(frames), device=frames.device)[:, None], chosen]
        embedding = self.embedding.look(taken)
        return self.recognizer(embedding, torch.ones_like(chosen, dtype=torch.bool)).softmax(dim=-1)


def load_ocsampler(
    state: Mapping[str, torch.Tensor], *, where: str, num_frames: int = 6, shift_div: int = 10
) -> ReleasedOCSampler:
    """The published system with released weights, in evaluation mode; see ``load_released``."""
    network = ReleasedOCSampler(
        num_classes=_rows(state, "cls_head.fc.weight", 200), num_frames=num_frames, shift_div=shift_div,
        hidden=_rows(state, "cls_head.layers.0.weight", 4096),
    )  # fmt: skip
    load_state(network, state, where=f"{where}, as an OCSampler", names=released_name)
    return network.eval()


def _rows(state: Mapping[str, torch.Tensor], name: str, otherwise: int) -> int:
    """A weight's number of outputs; where it is missing the published one, and loading will say so."""
    return len(state[name]) if name in state and state[name].ndim == 2 else otherwise


# MobileNetV2's stages: how many blocks each has (Sandler et al. 2018, table 2).
_STAGES = (1, 2, 3, 4, 3, 3, 1)
_BLOCKS = {
    1 + sum(_STAGES[:stage]) + block: (stage + 1, block)
    for stage, blocks in enumerate(_STAGES)
    for block in range(blocks)
}
_RESNET = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def released_name(own: str) -> str:
    """The released checkpoint's name of an entry of ``ReleasedOCSampler``'s state dict."""
    part, _, rest = own.partition(".")
    if part == "policy":
        return rest.replace("score.", "sampler.logit.")
    if part == "recognizer":
        return "cls_head." + rest.replace("hidden.", "layers.").replace("output.", "fc.")
    rest = rest.removeprefix("backbone.")
    if part == "embedding":
        first, _, leaf = rest.partition(".")
        return f"backbone.model.{_RESNET[first]}.{leaf}"
    return "sampler." + _mobilenet_name(rest.removeprefix("features."))


def _mobilenet_name(own: str) -> str:
    """torchvision's name inside MobileNetV2's ``features`` to the released one.

    torchvision: ``2.conv.0.1.bias`` is the BatchNorm (1) of the first convolution (0) of block 2; a
    block's last convolution and its BatchNorm stand beside each other. Released: every convolution has
    ``conv`` and ``bn``, and one that follows a temporal shift stands inside ``net``.
    """
    index, _, rest = own.partition(".")
    if int(index) not in _BLOCKS:
        number, leaf = rest.split(".")
        return f"conv{1 if index == '0' else 2}.{('conv', 'bn')[int(number)]}.{leaf}"
    stage, block = _BLOCKS[int(index)]
    convolutions = 2 if stage == 1 else 3
    found = re.fullmatch(r"conv\.(\d)(?:\.(\d))?\.(\w+)", rest)
    assert found
    place, inner, leaf = int(found[1]), found[2], found[3]
    is_norm = (inner == "1") if inner else (place == convolutions)
    net = ".net" if place == 0 and block > 0 else ""
    return f"layer{stage}.{block}.conv.{min(place, convolutions - 1)}{net}.{('conv', 'bn')[is_norm]}.{leaf}"
