"""What a network by name is, and the networks of this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Pooling = Literal["mean", "max"]


def small_backbone() -> nn.Module:
    """The recognizer's network of the built-in data: 61k parameters, 11.6 MMAC on 96x96 pixels."""
    return nn.Sequential(
        _convolution(3, 16, 2), _convolution(16, 32, 2), _convolution(32, 64, 2), _convolution(64, 64, 1),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip


def small_skim_backbone() -> nn.Module:
    """The skim network of the built-in data: 6k parameters, 0.2 MMAC on 16x16 pixels."""
    return nn.Sequential(
        _convolution(3, 8, 1), _convolution(8, 16, 2), _convolution(16, 32, 2),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip


def small_glance_backbone() -> nn.Module:
    """The glance network of the built-in data: 6k parameters, 0.4 MMAC on 16x16 pixels, an 8x8 map. It
    can find an object there, but not read it."""
    return nn.Sequential(
        _convolution(3, 8, 1), _convolution(8, 16, 2), _convolution(16, 32, 1),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _torchvision(name: str, last: str) -> Callable[[], nn.Module]:
    """A torchvision classifier without its last layer: images to pooled features."""

    def build() -> nn.Module:
        import torchvision

        network = torchvision.models.get_model(name, weights=None)
        setattr(network, last, nn.Identity())
        return network

    return build


def _maps_before_pooling(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Of a ``Sequential`` that ends with pooling and ``Flatten``."""
    assert isinstance(network, nn.Sequential)
    return network[:-2](images)


def _mobilenet_maps(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    features = network.get_submodule("features")
    return features(images)


def _resnet_maps(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    for name, layer in network.named_children():
        if name == "avgpool":
            break
        images = layer(images)
    return images


@dataclass(frozen=True)
class Backbone:
    """A network by name: how it is built, its number of features D, and what its input looks like.

    ``input_size`` None means that it takes frames of any size as they are; ``maps`` gives the features
    [B, D, h, w] before they are pooled, ``pooling`` how they are. ``last_layer`` is how the names of
    the classifier's entries begin in a file of weights. A network of ``fixed_size`` takes no other
    input size. ``layers_of`` names another network whose layers have the same weights, though other strides.
    """

    build: Callable[[], nn.Module]
    features: int
    input_size: int | None
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    last_layer: str | tuple[str, ...] = ""
    maps: Callable[[nn.Module, torch.Tensor], torch.Tensor] = _maps_before_pooling
    pooling: Pooling = "max"
    fixed_size: bool = False
    layers_of: str = ""


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PLAIN = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone(_torchvision("resnet50", "fc"), 2048, 224, *_IMAGENET, "fc.", _resnet_maps, "mean"),
    "mobilenet_v2": Backbone(
        _torchvision("mobilenet_v2", "classifier"),
        1280,
        128,
        *_IMAGENET,
        "classifier.",
        _mobilenet_maps,
        "mean",
    ),
    "small": Backbone(small_backbone, 64, None, *_PLAIN),
    "small_skim": Backbone(small_skim_backbone, 32, 16, *_PLAIN),
    "small_glance": Backbone(small_glance_backbone, 32, 16, *_PLAIN, layers_of="small_skim"),
}
