"""AdaFocusV2 (Wang et al. 2022, arXiv 2112.14238): the network, from frames to class scores and patches.

A glance network sees every whole frame, a policy says where to look, a focus network looks at a patch
there, and a classifier joins both. The patch is interpolated, so the loss of the classifier reaches the
policy. The same module serves at the published size and at a small one.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from agents.adafocus_v2.point_policies import POLICIES, FullyConnectedPolicy, PolicyName, SoftArgmaxPolicy
from agents.adafocus_v2.settings import AdaFocusV2Settings
from video_env.data.patches import check_patch_size
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork
from video_env.models.cost import counted_gflops
from video_env.models.cut_patches import cut_patches
from video_env.models.optimise import seeded


class CountedMaxClassifier(nn.Module):
    """A linear layer, BatchNorm and ReLU per frame; the maximum over the frames seen so far; and for every
    number of frames seen a linear layer of its own (Ghodrati et al. 2021, FrameExit; section 4.1).

    Args:
        features: of a frame, glance and patch together.
        classes: C.
        num_frames: T.
        hidden: width, 4096 as published.
        dropout: before the last layer.
    """

    def __init__(
        self, features: int, classes: int, num_frames: int, *, hidden: int = 4096, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Sequential(nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.outputs = nn.ModuleList(nn.Linear(hidden, classes) for _ in range(num_frames))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, T, D] to scores after every frame [B, T, C]."""
        seen = self.dropout(self._per_frame(features).cummax(dim=1).values)
        return torch.stack([layer(seen[:, k]) for k, layer in enumerate(self.outputs)], dim=1)

    def step(
        self, features: torch.Tensor, state: torch.Tensor | None, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Some frames on: their features [B, K, D], the maximum so far [B, hidden] (None at first), and how
        many frames came before, to the scores [B, C] after the last of them and the new maximum."""
        seen = self._per_frame(features).amax(dim=1)
        if state is not None:
            seen = torch.maximum(state, seen)
        return self.outputs[count + features.shape[1] - 1](seen), seen

    def _per_frame(self, features: torch.Tensor) -> torch.Tensor:
        return self.input(features.flatten(0, 1)).unflatten(0, features.shape[:2])


class AdaFocusV2Output(NamedTuple):
    """What the network says of a batch of videos, frames in reading order.

    Attributes:
        logits: float [B, T, C], the classifier's scores after every frame; the last ones are the video's.
        points: float [B, T, 2], (row, column) in [0, 1] of the patch in each frame.
        glance_logits: float [B, T, C], of each frame's glance by itself.
        focus_logits: float [B, T, C], of each frame's patch by itself.
    """

    logits: torch.Tensor
    points: torch.Tensor
    glance_logits: torch.Tensor
    focus_logits: torch.Tensor


class Glances(NamedTuple):
    """Of every frame: its map [B, T, D, h, w] and its pooled features [B, T, D]."""

    maps: torch.Tensor
    pooled: torch.Tensor


class Progress(NamedTuple):
    """What is carried from frame to frame: the policy's recurrent state and the classifier's maximum."""

    policy: torch.Tensor
    seen: torch.Tensor


class AdaFocusV2Network(nn.Module):
    """Glance network, policy, focus network and classifier.

    Args:
        glance: looks at whole frames.
        focus: looks at patches; frames are normalised as it wants them, which the glance network must
            share.
        frame_size: S, pixels.
        patch_size: P, pixels.
        classes: C.
        num_frames: T.
        policy: by name.
        policy_hidden: width of the policy.
        hidden: width of the classifier.
        dropout: before every layer of class scores.

    Raises:
        InputError: the patch is larger than the frame, or the networks want different inputs.
    """

    def __init__(
        self,
        glance: FrameNetwork,
        focus: FrameNetwork,
        *,
        frame_size: int,
        patch_size: int,
        classes: int,
        num_frames: int,
        policy: PolicyName = "fully_connected",
        policy_hidden: int = 2048,
        hidden: int = 4096,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not torch.equal(glance.mean, focus.mean) or not torch.equal(glance.deviation, focus.deviation):
            raise InputError(
                f"networks {glance.name} and {focus.name}: they want frames normalised differently; expected "
                "two of torchvision's or two small ones"
            )
        self.frame_size, self.patch_size = frame_size, check_patch_size(patch_size, frame_size)
        self.num_frames, self.classes, self.policy_hidden = num_frames, classes, policy_hidden
        self.glance, self.focus = glance, focus
        side = self._map_side()
        if policy == "fully_connected":
            self.policy: nn.Module = FullyConnectedPolicy(glance.features, side, hidden=policy_hidden)
        elif policy == "soft_argmax":
            self.policy = SoftArgmaxPolicy(
                glance.features, side, patch_share=patch_size / frame_size, hidden=policy_hidden
            )
        else:
            raise InputError(f"policy {policy!r}: expected one of {', '.join(POLICIES)}")
        self.classifier = CountedMaxClassifier(
            glance.features + focus.features, classes, num_frames, hidden=hidden, dropout=dropout
        )
        self.glance_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(glance.features, classes))
        self.focus_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(focus.features, classes))

    def forward(self, frames: torch.Tensor) -> AdaFocusV2Output:
        """All frames of videos.

        Args:
            frames: float [B, T, 3, S, S], normalised, in reading order (``coarse_to_fine``).

        Raises:
            InputError: the shape is another one.
        """
        self.check(frames)
        glances = self.look(frames)
        points, _ = self.policy(glances.maps)
        logits, features = self.at(frames, glances, points)
        return AdaFocusV2Output(logits, points, self.glance_head(glances.pooled), self.focus_head(features))

    def check(self, frames: torch.Tensor) -> None:
        """Raise InputError unless these are frames for ``forward``."""
        size = self.frame_size
        if frames.ndim != 5 or frames.shape[1:] != (self.num_frames, 3, size, size):
            raise InputError(
                f"frames: found shape {tuple(frames.shape)}, expected "
                f"[B, {self.num_frames}, 3, {size}, {size}]"
            )

    def normalised(
        self, frames: torch.Tensor, gains: np.ndarray | None = None, offsets: np.ndarray | None = None
    ) -> torch.Tensor:
        """Frames as both networks want them.

        Args:
            frames: uint8 [B, T, 3, S, S].
            gains: float [B, 3], each video's own of the colour channels, as shares of 1.
            offsets: float [B, 3], likewise, as shares of white.

        Returns:
            float32 [B, T, 3, S, S].
        """
        mean, deviation = self.focus.mean, self.focus.deviation
        gain, offset = torch.ones_like(mean), torch.zeros_like(mean)
        if gains is not None and offsets is not None:
            gain, offset = (
                torch.from_numpy(values).to(mean)[:, None, :, None, None] for values in (gains, offsets)
            )
        # All in one factor and one term: a pass over the frames takes as long as a small network.
        return (frames * (gain / (255 * deviation))).add_((offset - mean * gain) / deviation)

    def look(self, frames: torch.Tensor) -> Glances:
        """Glance at frames [B, T, 3, S, S]."""
        # On the CPU BatchNorm's statistics over channels-last images of the published size are off by 1e-4
        # (torch 2.15), which 50 layers turn into 2% of the glance map.
        kind = torch.channels_last if frames.is_cuda else torch.contiguous_format
        images = self.glance.scaled(frames.flatten(0, 1)).contiguous(memory_format=kind)
        return self.pooled(self.glance.maps(images).unflatten(0, frames.shape[:2]))

    def pooled(self, maps: torch.Tensor) -> Glances:
        """Glance maps [B, T, D, h, w] with their pooled features."""
        mean = self.glance.pooling == "mean"
        return Glances(maps, maps.mean(dim=(-2, -1)) if mean else maps.amax(dim=(-2, -1)))

    def at(
        self, frames: torch.Tensor, glances: Glances, points: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [B, T, C] after every frame with patches at points [B, T, 2], and the patches' features
        [B, T, D]."""
        features = self.focused(frames, points)
        return self.classifier(torch.cat([glances.pooled, features], dim=-1)), features

    def focused(self, frames: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Features [B, T, D] of the patches at points [B, T, 2]."""
        images = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        patches = cut_patches(images, points.flatten(0, 1), self.patch_size)
        return self.focus.look(patches).unflatten(0, frames.shape[:2])

    def step(
        self, frames: torch.Tensor, progress: Progress | None, count: int
    ) -> tuple[torch.Tensor, torch.Tensor, Progress]:
        """The next K frames of each video: [B, K, 3, S, S], what was carried (None at first), and how many
        frames came before, to scores [B, C] after the last of them, points [B, K, 2], and what to carry."""
        glances = self.look(frames)
        points, policy = self.policy(glances.maps, None if progress is None else progress.policy)
        features = torch.cat([glances.pooled, self.focused(frames, points)], dim=-1)
        logits, seen = self.classifier.step(features, None if progress is None else progress.seen, count)
        return logits, points, Progress(policy, seen)

    def _map_side(self) -> int:
        size = self.glance.input_size or self.frame_size
        with torch.no_grad():
            return self.glance.to("cpu").eval().maps(torch.zeros(1, 3, size, size)).shape[-1]


def build_network(
    settings: AdaFocusV2Settings, *, frame_size: int, num_frames: int, classes: int
) -> AdaFocusV2Network:
    """The network of these settings, with random weights drawn from their seed.

    Raises:
        InputError: the patch is larger than the frame, or the networks want different inputs.
    """
    check_patch_size(settings.patch_size, frame_size)
    released = settings.glance == "resnet50"
    with seeded(settings.seed):
        return AdaFocusV2Network(
            FrameNetwork(
                settings.glance, input_size=settings.glance_size,
                interpolation="bilinear_corners" if released else "bilinear",
            ),
            FrameNetwork(settings.focus, input_size=settings.patch_size),
            frame_size=frame_size, patch_size=settings.patch_size, classes=classes, num_frames=num_frames,
            policy=settings.policy, policy_hidden=settings.policy_hidden, hidden=settings.hidden,
            dropout=settings.dropout,
        )  # fmt: skip


def gflops_per_frame(network: AdaFocusV2Network) -> float:
    """Counted 10^9 multiply-adds of one frame, from the glance to the classifier's scores. Every frame costs
    the same, so leaving after k of T frames costs k / T of the whole."""
    shadow = copy.deepcopy(network).to("meta").eval()
    size = network.frame_size
    with torch.no_grad(), counted_gflops() as gflops:
        shadow.step(torch.empty(1, 1, 3, size, size, device="meta"), None, 0)
    return gflops()
