"""Networks of torchvision and timm by name, as these libraries build and describe them."""

from __future__ import annotations

import difflib
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from video_env.errors import InputError
from video_env.models.networks import BACKBONES, Backbone

# Their training gives the outputs of side classifiers too, which nothing here would use.
_WITH_SIDE_CLASSIFIERS = ("googlenet", "inception_v3")


@cache
def library_backbone(name: str) -> Backbone:
    """A network of a library, ``torchvision:NAME`` or ``timm:NAME``, without its classifier.

    Raises:
        InputError: there is no such network (near names are listed), or timm is not installed.
    """
    library, _, own = name.partition(":")
    if library == "timm" and own:
        _require_timm(name)
    known = _names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise InputError(
            f"network {name!r}: expected one of {', '.join(BACKBONES)}, torchvision:NAME or timm:NAME"
            + (f"; near names: {', '.join(near)}" if near else "")
        )
    return _torchvision_backbone(own) if library == "torchvision" else _timm_backbone(own)


def library_weights(network: str, library: str) -> tuple[dict[str, torch.Tensor], str]:
    """A library's pretrained weights of a network and what to record of them.

    Raises:
        InputError: it has none for it, or they can be neither found nor downloaded.
    """
    if library == "torchvision":
        return _torchvision_weights(network)
    if not network.startswith("timm:"):
        raise InputError(f"network {network!r} has no timm weights; expected timm:NAME", needs="weights")
    timm: Any = _require_timm(network)
    try:
        model = timm.create_model(network.removeprefix("timm:"), pretrained=True)
    except Exception as error:  # of whichever client downloads
        raise InputError(
            f"timm's weights of {network} are neither in its folder nor can they be downloaded ({error}); "
            "expected the path of a file of weights",
            needs="weights",
        ) from error
    return model.state_dict(), f"timm:{model.pretrained_cfg['architecture']}.{model.pretrained_cfg['tag']}"


def _require_timm(name: str) -> Any:
    try:
        import timm
    except ImportError:
        raise InputError(f"network {name!r} needs timm: pip install 'video-env[pretrained]'") from None
    return timm


def _names() -> list[str]:
    import torchvision

    names = [*BACKBONES]
    for name in torchvision.models.list_models(module=torchvision.models):
        if name not in _WITH_SIDE_CLASSIFIERS:
            names.append(f"torchvision:{name}")
    try:
        import timm
    except ImportError:
        return names
    return names + [f"timm:{name}" for name in timm.list_models()]


class _Pooled(nn.Module):
    """In the classifier's place: the mean of maps, where they are not pooled yet."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3)) if features.ndim == 4 else features


def _build_torchvision(name: str) -> nn.Module:
    import torchvision

    network = torchvision.models.get_model(name, weights=None)
    setattr(network, _last_child(network), _Pooled())
    return network


def _last_child(network: nn.Module) -> str:
    return [name for name, _ in network.named_children()][-1]


def _torchvision_backbone(name: str) -> Backbone:
    import torchvision

    build = partial(_build_torchvision, name)
    with torch.device("meta"):
        network = build().eval()
    try:
        transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        size, mean, deviation = transforms.crop_size[0], transforms.mean, transforms.std
    except (ValueError, AttributeError):  # a network without weights
        size, mean, deviation = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    fixed = name.startswith(("vit", "maxvit"))
    # The release of a vision transformer states its size in its position embedding.
    size = getattr(network, "image_size", 224) if fixed else size
    features = network(torch.empty(1, 3, size, size, device="meta")).shape[1]
    return Backbone(
        build, features, size, tuple(mean), tuple(deviation), _last_child(network) + ".", _torchvision_maps,
        "mean", fixed,
    )  # fmt: skip


def _torchvision_maps(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    import torchvision

    if isinstance(network, torchvision.models.VisionTransformer):
        raise InputError("a vision transformer of torchvision gives no feature maps; timm's may")
    for name, layer in network.named_children():
        if name == "avgpool" or isinstance(layer, _Pooled):
            break
        images = layer(images)
    return F.relu(images) if isinstance(network, torchvision.models.DenseNet) else images


def _build_timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=0)


def _timm_backbone(name: str) -> Backbone:
    from timm.data.config import resolve_data_config

    build = partial(_build_timm, name)
    with torch.device("meta"):
        network: Any = build().eval()
    wanted = resolve_data_config(model=network)
    size = wanted["input_size"][-1]
    features = network(torch.empty(1, 3, size, size, device="meta")).shape[1]
    config = network.pretrained_cfg
    last = config.get("classifier") or ()
    layers = (last,) if isinstance(last, str) else tuple(last)
    return Backbone(
        build, features, size, tuple(wanted["mean"]), tuple(wanted["std"]),
        tuple(f"{layer}." for layer in layers), _timm_maps, "mean", bool(config.get("fixed_input_size")),
    )  # fmt: skip


def _timm_maps(network: Any, images: torch.Tensor) -> torch.Tensor:
    features = network.forward_features(images)
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        features = features.permute(0, 3, 1, 2)
    return features


def _torchvision_weights(network: str) -> tuple[dict[str, torch.Tensor], str]:
    import torchvision

    name = network.removeprefix("torchvision:")
    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
    except ValueError:
        raise InputError(
            f"network {network!r} has no torchvision weights; expected random or a file", needs="weights"
        ) from None
    try:
        return weights.get_state_dict(progress=True, check_hash=True), f"torchvision:{weights}"
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"torchvision's weights {weights} are neither in {torch.hub.get_dir()}/checkpoints nor can "
            f"they be downloaded ({error}); expected the path of a file of weights",
            needs="weights",
        ) from error
