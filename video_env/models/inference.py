"""Networks as they are run when nothing is learned: the same function, in less time."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

Network = TypeVar("Network", bound=nn.Module)

PIXELS_TOGETHER = 1 << 17
"""On a processor, pixels of the images that pass a network together: what its first layers make of them stays
in the cache of the processor."""
LEAST_TOGETHER = 16
"""Images; fewer would read a large network's weights too often."""


def for_inference(network: Network) -> Network:
    """A copy in evaluation mode that gives the same outputs, but for rounding.

    BatchNorm is folded into the convolution or linear layer before it. That takes modules whose children run
    in the order in which they were registered, as those of this package and of torchvision do. Images may
    come in any memory format; convolutions run with the channels last.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for (name, layer), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                setattr(module, name, fuse_linear_bn_eval(layer, norm))
            else:
                continue
            setattr(module, after, nn.Identity())
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def chunks_of(images: int, side: int, device: torch.device) -> list[slice]:
    """A batch of images, of side² pixels each, in the chunks that pass a network together; on a GPU one."""
    count = images
    if device.type == "cpu":
        count = max(LEAST_TOGETHER, PIXELS_TOGETHER // side**2)
    return [slice(start, start + count) for start in range(0, images, count)]
