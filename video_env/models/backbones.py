"""Named networks that turn frames into features, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from video_env.cache.store import sha256_of
from video_env.errors import InputError
from video_env.models.cost import count_gflops
from video_env.models.device import resolve_device

BackboneName = Literal["resnet50", "mobilenet_v2", "small", "small_skim"]


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


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _torchvision(name: str, last: str) -> Callable[[], nn.Module]:
    """A torchvision classifier without its last layer: images to pooled features."""

    def build() -> nn.Module:
        import torchvision

        network = torchvision.models.get_model(name, weights=None)
        setattr(network, last, nn.Identity())
        return network

    return build


@dataclass(frozen=True)
class Backbone:
    """A network by name: how it is built, its number of features D, and what its input looks like.

    ``input_size`` None means that it takes frames of any size as they are.
    """

    build: Callable[[], nn.Module]
    features: int
    input_size: int | None
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    last_layer: str = ""


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PLAIN = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone(_torchvision("resnet50", "fc"), 2048, 224, *_IMAGENET, last_layer="fc."),
    "mobilenet_v2": Backbone(
        _torchvision("mobilenet_v2", "classifier"), 1280, 128, *_IMAGENET, last_layer="classifier."
    ),
    "small": Backbone(small_backbone, 64, None, *_PLAIN),
    "small_skim": Backbone(small_skim_backbone, 32, 16, *_PLAIN),
}


class FrameNetwork(nn.Module):
    """A backbone with its preprocessing: uint8 frames [B, H, W, 3] to features float32 [B, D].

    Frames are scaled to the backbone's input size (bilinear, antialiased) and normalised.

    Args:
        name: one of ``BACKBONES``.
        input_size: pixels; the backbone's own by default.
    """

    def __init__(self, name: BackboneName, *, input_size: int | None = None) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise InputError(f"network {name!r}: expected one of {', '.join(BACKBONES)}")
        spec = BACKBONES[name]
        self.name = name
        self.input_size = input_size or spec.input_size
        self.features = spec.features
        self.backbone = spec.build()
        self.register_buffer("mean", torch.tensor(spec.mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(spec.deviation)[:, None, None], persistent=False)
        self.mean: torch.Tensor
        self.deviation: torch.Tensor

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.backbone(self.prepare(frames))

    def prepare(self, frames: torch.Tensor) -> torch.Tensor:
        """Scale and normalise: uint8 [B, H, W, 3] to float32 [B, 3, S, S]."""
        images = frames.permute(0, 3, 1, 2).float() / 255
        size = self.input_size
        if size is not None and images.shape[2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return (images - self.mean) / self.deviation

    def gflops(self, frame_size: int) -> float:
        """Counted cost of one frame of this size, in 10^9 multiply-adds."""
        size = self.input_size or frame_size
        return count_gflops(self.backbone, torch.empty(1, 3, size, size))


class CacheEncoder:
    """A frame network as the cache builder wants it: uint8 frames in, float16 features out.

    Args:
        network: in evaluation mode from now on.
        weights: where its weights came from, for the cache's records.
        frame_size: pixels of the cache's frames.
        device: where it runs.
        batch: frames that go through the network together; a number, not a matter of memory at hand,
            because the last bits of features depend on it.
    """

    def __init__(
        self, network: FrameNetwork, *, weights: str, frame_size: int, device: str = "auto", batch: int = 64
    ) -> None:
        self.device = resolve_device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self.gflops = network.gflops(frame_size)
        self.source = {
            "network": network.name,
            "input_size": network.input_size,
            "frame_size": frame_size,
            "weights": weights,
        }
        self._batch = batch

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(frames).split(self._batch)
        features = torch.cat([self.network(batch.to(self.device)).half().cpu() for batch in batches])
        if not features.isfinite().all():
            raise InputError(
                f"network {self.network.name}: its features are not finite in float16 (largest 65504); "
                "are these its weights?"
            )
        return features.numpy()


def load_weights(network: FrameNetwork, weights: str) -> str:
    """Fill a network's weights.

    Args:
        network: changed in place.
        weights: ``torchvision`` (its pretrained weights, from its own download folder), ``random``,
            or the path of a file: a state dict by torch.save (plain, or under ``state_dict``, with or
            without DataParallel's ``module.``) or safetensors, of torchvision's names.

    Returns:
        What to record of it: the name, and a file's SHA-256.

    Raises:
        InputError: the file is missing or no state dict, its entries do not fit (all listed), or
            torchvision has no such weights here.
    """
    if weights == "random":
        return weights
    if weights == "torchvision":
        state, record = _torchvision_weights(network.name)
    else:
        state, record = _read_state_dict(Path(weights)), f"sha256:{sha256_of(Path(weights))}"
    last = BACKBONES[network.name].last_layer
    state = {name: tensor for name, tensor in state.items() if not (last and name.startswith(last))}
    load_state(network.backbone, state, where=f"weights {weights} for {network.name}")
    return record


def load_state(module: nn.Module, state: dict[str, torch.Tensor], *, where: str) -> None:
    """``load_state_dict`` with one error that lists every missing, extra and mis-shaped entry."""
    own = module.state_dict()
    # Written by BatchNorm since 2018 and never used for inference; older files lack it.
    ignored = {name for name in own if name.endswith("num_batches_tracked")}
    faults = [f"missing {name}" for name in own if name not in state and name not in ignored]
    faults += [f"unexpected {name}" for name in state if name not in own]
    faults += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if faults:
        shown = "; ".join(faults[:12]) + (f"; and {len(faults) - 12} more" if len(faults) > 12 else "")
        raise InputError(f"{where}: {len(faults)} entries do not fit: {shown}")
    module.load_state_dict(state, strict=False)


def _read_state_dict(file: Path) -> dict[str, torch.Tensor]:
    state: Any
    if not file.is_file():
        raise InputError(f"weights file {file}: no such file")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise InputError(f"weights file {file}: not a readable state dict ({error})") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"weights file {file}: expected a dict of tensors by name")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _torchvision_weights(name: str) -> tuple[dict[str, torch.Tensor], str]:
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
    except ValueError:
        raise InputError(f"network {name!r} has no torchvision weights; expected random or a file") from None
    try:
        return weights.get_state_dict(progress=True, check_hash=True), f"torchvision:{weights}"
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"torchvision's weights {weights} are neither in {torch.hub.get_dir()}/checkpoints nor can "
            f"they be downloaded ({error}); give a weights file by its path instead"
        ) from error


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; each module's own mode again after."""
    modes: list[tuple[nn.Module, bool]] = [(module, module.training) for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.train(mode)
