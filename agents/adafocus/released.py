"""AdaFocus (first version) as published and released (Wang et al. 2021, arXiv 2105.03245), from frames to
class scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from agents.adafocus.patch_policy import PatchPolicy
from agents.common.released_checkpoints import INPUT_SIZE
from video_env.data.patches import GRID, check_patch_size, grid_corners, grid_points
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, find_backbone, load_state
from video_env.models.classifiers import GRUClassifier


class AdaFocusOutput(NamedTuple):
    """What the published network says of a batch of videos.

    Attributes:
        logits: float [B, T, C], the classifier's scores after every frame; the last ones are the video's.
        points: float [B, T, 2], (row, column) in [0, 1] of the patch chosen in each frame.
        glance_features: float [B, T, 1280], pooled.
    """

    logits: torch.Tensor
    points: torch.Tensor
    glance_features: torch.Tensor


class ReleasedAdaFocus(nn.Module):
    """The whole published system (section 3; sizes of the released ActivityNet settings).

    MobileNetV2 glances at every frame at 224x224; the recurrent policy picks one of 49 patches, which
    ResNet-50 looks at; a GRU joins both.

    Args:
        num_classes: C.
        patch_size: side of a patch in pixels, at most 224.
        policy_hidden: width of the policy.
        classifier_hidden: width of the classifier's state.
    """

    def __init__(
        self, num_classes: int = 200, *, patch_size: int = 128, policy_hidden: int = 1024,
        classifier_hidden: int = 1024,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(patch_size, int):
            raise InputError(f"patch_size: found {patch_size!r}, expected an integer")
        self.patch_size = check_patch_size(patch_size, INPUT_SIZE)
        self.glance = FrameNetwork("mobilenet_v2", input_size=INPUT_SIZE)
        self.focus = FrameNetwork("resnet50", input_size=patch_size)
        glance, focus = self.glance.features, self.focus.features
        self.policy = PatchPolicy(glance, 7 * 7, GRID * GRID, hidden=policy_hidden)
        self.classifier = GRUClassifier(glance, focus, num_classes, hidden=classifier_hidden)
        self.register_buffer(
            "corners", torch.from_numpy(grid_corners(patch_size, INPUT_SIZE)), persistent=False
        )
        self.register_buffer("points", torch.from_numpy(grid_points()), persistent=False)
        self.corners: torch.Tensor
        self.points: torch.Tensor

    def forward(self, frames: torch.Tensor) -> AdaFocusOutput:
        """Choose the most probable patch of every frame, and recognise.

        Args:
            frames: float [B, T, 3, 224, 224], normalised as for ImageNet.

        Raises:
            InputError: the shape is another one.
        """
        if frames.ndim != 5 or frames.shape[2:] != (3, INPUT_SIZE, INPUT_SIZE):
            raise InputError(f"frames: found shape {tuple(frames.shape)}, expected [B, T, 3, 224, 224]")
        maps = self.glance.maps(frames)
        glances = self.classifier.pool(maps)
        chosen = self.policy(maps.transpose(0, 1))[0].argmax(dim=-1).T
        features = self.focus.look(self._patches(frames, chosen))
        return AdaFocusOutput(self.classifier(glances, features), self.points[chosen], glances)

    def _patches(self, frames: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The patches [B, T, 3, P, P] at positions [B, T]."""
        along = torch.arange(self.patch_size, device=frames.device)
        corners = self.corners[chosen]
        rows = (corners[..., 0, None] + along)[..., None, :, None]
        columns = (corners[..., 1, None] + along)[..., None, None, :]
        video = torch.arange(frames.shape[0], device=frames.device)[:, None, None, None, None]
        frame = torch.arange(frames.shape[1], device=frames.device)[:, None, None, None]
        channel = torch.arange(3, device=frames.device)[:, None, None]
        return frames[video, frame, channel, rows, columns]


def load_adafocus(
    state: Mapping[str, torch.Tensor], *, where: str, patch_size: int = 128
) -> ReleasedAdaFocus:
    """The published system with released weights, in evaluation mode; see ``load_released``."""
    acting = _acting_policy(state)
    network = ReleasedAdaFocus(
        num_classes=_rows(state, "classifier.fc.weight", 200), patch_size=patch_size,
        policy_hidden=_rows(state, f"{acting}.critic.0.weight", 1024, dimension=1),
        classifier_hidden=_rows(state, "classifier.fc.weight", 1024, dimension=1),
    )  # fmt: skip
    used = {name: tensor for name, tensor in state.items() if not _is_unused(name, acting)}
    load_state(network, used, where=f"{where}, as an AdaFocus", names=lambda own: released_name(own, acting))
    return network.eval()


def flattened(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """A released file's parts, ``glancer``, ``focuser``, ``fc`` and ``policy``, as the flat state dict of the
    whole system; anything else as it is."""
    parts = {
        "glancer": "glancer.",
        "focuser": "focuser.",
        "fc": "classifier.",
        "policy": "focuser.policy.policy_old.",
    }
    if not all(isinstance(checkpoint.get(part), Mapping) for part in parts):
        return checkpoint.get("model_state_dict", checkpoint)
    flat: dict[str, Any] = {}
    for part, prefix in parts.items():
        # The policy that acts is stated on its own; the focuser's copies of it may be older.
        entries = {name.removeprefix("module."): value for name, value in checkpoint[part].items()}
        flat |= {
            prefix + name: value
            for name, value in entries.items()
            if not (part == "focuser" and name.startswith("policy."))
        }
    return flat


def released_name(own: str, acting: str) -> str:
    """The released checkpoint's name of an entry of ``ReleasedAdaFocus``'s state dict."""
    part, _, rest = own.partition(".")
    if part == "policy":
        module, _, leaf = rest.partition(".")
        theirs = {"reduce": "state_encoder.0", "encode": "state_encoder.3", "actor": "actor.0",
                  "critic": "critic.0"}.get(module, module)  # fmt: skip
        return f"{acting}.{theirs}.{leaf}"
    if part == "classifier":
        return own
    return {"glance": "glancer.net.", "focus": "focuser.net."}[part] + rest.removeprefix("backbone.")


def _acting_policy(state: Mapping[str, torch.Tensor]) -> str:
    """The copy of the policy that acts; the released code copies the learning one to it after an update."""
    old, learning = "focuser.policy.policy_old", "focuser.policy.policy"
    return old if any(name.startswith(old + ".") for name in state) else learning


def _is_unused(name: str, acting: str) -> bool:
    """The learning copy of the policy, and the heads that stage 0 needed."""
    copies = name.startswith("focuser.policy.") and not name.startswith(acting + ".")
    heads = tuple(
        prefix + str(find_backbone(network).last_layer)
        for prefix, network in (("glancer.net.", "mobilenet_v2"), ("focuser.net.", "resnet50"))
    )
    return copies or name.startswith(heads)


def _rows(state: Mapping[str, torch.Tensor], name: str, otherwise: int, *, dimension: int = 0) -> int:
    """A size of a weight; where it is missing the published one, and loading will say so."""
    return state[name].shape[dimension] if name in state and state[name].ndim == 2 else otherwise
