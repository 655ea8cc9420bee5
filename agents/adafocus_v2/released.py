"""AdaFocusV2 with released weights (Wang et al. 2022, arXiv 2112.14238)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from agents.adafocus_v2.network import AdaFocusV2Network
from agents.common.released_checkpoints import INPUT_SIZE
from video_env.data.patches import check_patch_size
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, load_state

GLANCE_SIZES: dict[str, int] = {"mobilenet_v2": 224, "resnet50": 96}
"""Pixels of the whole frame for each of the two released glance networks."""
# What the released code calls our parts.
PARTS = {
    "glance.backbone.": "global_CNN.", "glance_head.": "global_CNN_fc.", "focus.backbone.": "local_CNN.",
    "focus_head.": "local_CNN_fc.", "policy.encoder.": "policy_stn.encoder.",
    "policy.gru.": "policy_stn.gru.", "policy.point.": "policy_stn.fc.0.",
    "classifier.input.": "classifier.mlp.layers.",
}  # fmt: skip
BLOCK = re.compile(r"features\.(\d+)\.conv\.(\d+)\.(?:(\d+)\.)?")
UNUSED = ("global_CNN.classifier.", "global_CNN.fc.", "local_CNN.fc.")


def build_released(
    *,
    glance: str = "mobilenet_v2",
    patch_size: int = 128,
    num_classes: int = 200,
    num_frames: int = 16,
    policy_hidden: int = 2048,
    hidden: int = 4096,
) -> AdaFocusV2Network:
    """The published network with random weights: ResNet-50 on patches of frames at 224x224, and one of the
    two glance networks (a ResNet-50 sees frames scaled to 96x96, corner pixel on corner pixel, as released).

    Raises:
        InputError: the glance network is another one, or the patch is larger than the frame.
    """
    if glance not in GLANCE_SIZES:
        raise InputError(f"glance {glance!r}: expected one of {', '.join(GLANCE_SIZES)}")
    if not isinstance(patch_size, int):
        raise InputError(f"patch_size: found {patch_size!r}, expected an integer")
    check_patch_size(patch_size, INPUT_SIZE)
    return AdaFocusV2Network(
        FrameNetwork(glance, input_size=GLANCE_SIZES[glance], interpolation="bilinear_corners"),
        FrameNetwork("resnet50", input_size=patch_size),
        frame_size=INPUT_SIZE, patch_size=patch_size, classes=num_classes, num_frames=num_frames,
        policy_hidden=policy_hidden, hidden=hidden,
    )  # fmt: skip


def load_adafocus_v2(
    state: Mapping[str, torch.Tensor], *, where: str, patch_size: int = 128
) -> AdaFocusV2Network:
    """The published network with released weights, in evaluation mode; see ``load_released``."""
    counts = [name.split(".")[2] for name in state if name.startswith("classifier.classifiers.")]
    numbers = [int(number) for number in counts if number.isdecimal()]

    def size(name: str, dimension: int, otherwise: int) -> int:
        """Of a weight; where it is missing the published one, and loading will say so."""
        return state[name].shape[dimension] if name in state and state[name].ndim > dimension else otherwise

    network = build_released(
        glance="mobilenet_v2" if "global_CNN.features.0.0.weight" in state else "resnet50",
        patch_size=patch_size,
        num_classes=size("local_CNN_fc.1.weight", 0, 200),
        num_frames=max(numbers, default=15) + 1,
        policy_hidden=size("policy_stn.gru.weight_hh_l0", 1, 2048),
        hidden=size("classifier.mlp.layers.0.weight", 0, 4096),
    )
    used = {name: tensor for name, tensor in state.items() if not name.startswith(UNUSED)}
    load_state(network, used, where=f"{where}, as an AdaFocusV2", names=released_name)
    return network.eval()


def released_name(own: str) -> str:
    """The released checkpoint's name of an entry of ``AdaFocusV2Network``'s state dict."""
    if own.startswith("classifier.outputs."):
        number, leaf = own.removeprefix("classifier.outputs.").split(".")
        return f"classifier.classifiers.{number}.1.{leaf}"
    for ours, theirs in PARTS.items():
        if own.startswith(ours):
            return theirs + BLOCK.sub(_flat_block, own.removeprefix(ours))
    return own


def _flat_block(entry: re.Match[str]) -> str:
    """The released MobileNetV2 numbers the layers of a block in a row, torchvision's nests convolution,
    BatchNorm and ReLU by three; the first block has one such three, the others two."""
    block, outer, inner = entry.groups()
    nested = 1 if block == "1" else 2
    layer = 3 * int(outer) + int(inner) if inner else 3 * nested + int(outer) - nested
    return f"features.{block}.conv.{layer}."
