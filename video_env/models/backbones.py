"""Named networks that turn frames into features, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.files import sha256_of
from video_env.models.cost import count_gflops
from video_env.models.library_networks import library_backbone, library_weights
from video_env.models.networks import BACKBONES, Backbone, Pooling
from video_env.models.package_weights import package_weights
from video_env.models.preparing import SMALLER, in_parts, much_smaller, normalised
from video_env.models.temporal_shift import TemporalShiftMobileNetV2
from video_env.models.tensors import read_tensors

Interpolation = Literal["bilinear", "nearest", "bilinear_corners"]


def find_backbone(name: str) -> Backbone:
    """A network by name: one of ``BACKBONES``, ``torchvision:NAME`` or ``timm:NAME``.

    Raises:
        InputError: there is no such network (near names are listed), or its library is not installed.
    """
    return BACKBONES[name] if name in BACKBONES else library_backbone(name)


class FrameNetwork(nn.Module):
    """A backbone with its preprocessing: uint8 frames [..., H, W, 3] to features float32 [..., D].

    Frames are scaled to the backbone's input size and normalised.

    Args:
        name: as of ``find_backbone``.
        input_size: pixels; the backbone's own by default.
        temporal_shift: ``shift_div`` of the temporal shift in MobileNetV2's residual blocks, 0 for none.
            With it frames see their neighbours, so the input must be whole videos, [B, T, H, W, 3].
        interpolation: ``bilinear`` (antialiased); ``nearest``, as the released OCSampler does it; or
            ``bilinear_corners`` (not antialiased, corner pixels on corner pixels), as the released
            AdaFocusV2 does it.
    """

    def __init__(
        self,
        name: str,
        *,
        input_size: int | None = None,
        temporal_shift: int = 0,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        spec = find_backbone(name)
        if temporal_shift and name != "mobilenet_v2":
            raise InputError(f"temporal_shift {temporal_shift}: network {name} has none, only mobilenet_v2")
        if spec.fixed_size and input_size not in (None, spec.input_size):
            raise InputError(f"input_size of network {name}: found {input_size}, expected {spec.input_size}")
        self.name = name
        self.input_size = input_size or spec.input_size
        self.features = spec.features
        self.temporal_shift = temporal_shift
        self.interpolation = interpolation
        self.backbone = TemporalShiftMobileNetV2(temporal_shift) if temporal_shift else spec.build()
        self.register_buffer("mean", torch.tensor(spec.mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(spec.deviation)[:, None, None], persistent=False)
        self.mean: torch.Tensor
        self.deviation: torch.Tensor

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        lead = frames.shape[:-3]
        return self.look(self.prepare(frames.flatten(0, -4)).unflatten(0, lead))

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """Prepared images [..., 3, S, S] to features [..., D]."""
        if self.temporal_shift:
            return self.backbone(images)
        return self.backbone(images.flatten(0, -4)).unflatten(0, images.shape[:-3])

    @property
    def pooling(self) -> Pooling:
        """How feature maps become features."""
        return find_backbone(self.name).pooling

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Prepared images [..., 3, S, S] to feature maps [..., D, h, w], before pooling.

        Raises:
            InputError: the network has none with its number of features.
        """
        maps = find_backbone(self.name).maps(self.backbone, images.flatten(0, -4))
        if maps.ndim != 4 or maps.shape[1] != self.features:
            raise InputError(
                f"network {self.name}: found features of shape {tuple(maps.shape[1:])} before pooling, "
                f"expected maps [{self.features}, h, w]; it cannot be a glance network"
            )
        return maps.unflatten(0, images.shape[:-3])

    def prepare(self, frames: torch.Tensor, size: int | None = None) -> torch.Tensor:
        """Scale to ``size``, by default the input size, and normalise: uint8 [B, H, W, 3] to float32
        [B, 3, S, S]."""
        size = size or self.input_size
        smaller = size is not None and SMALLER * size <= min(frames.shape[1:3])
        # Only on a processor it is faster; and where GFLOPs are counted, scaling is not to count.
        by_products = smaller and self.interpolation == "bilinear" and frames.device.type == "cpu"

        def scale(part: torch.Tensor) -> torch.Tensor:
            if by_products:
                return much_smaller(part, size or 0)
            return self.scaled(part.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1).contiguous()

        whole = size is None or frames.shape[1:3] == (size, size)
        images = frames.float() if whole else in_parts(scale, frames)
        return normalised(images, self.mean, self.deviation)

    def scaled(self, images: torch.Tensor, size: int | None = None) -> torch.Tensor:
        """Images [B, 3, H, W] scaled to ``size``, by default the input size; as they are if that is their
        own."""
        size = size or self.input_size
        if size is None or images.shape[2:] == (size, size):
            return images
        if self.interpolation == "bilinear_corners":
            return F.interpolate(images, (size, size), mode="bilinear", align_corners=True)
        antialias = self.interpolation == "bilinear"
        return F.interpolate(images, (size, size), mode=self.interpolation, antialias=antialias)

    def gflops(self, frame_size: int) -> float:
        """Counted cost of one frame of this size, in 10^9 multiply-adds."""
        size = self.input_size or frame_size
        image = torch.empty(1, 3, size, size)
        return count_gflops(self.backbone, image[None] if self.temporal_shift else image)


def load_weights(network: FrameNetwork, weights: str) -> str:
    """Fill a network's weights.

    Args:
        network: changed in place.
        weights: ``torchvision`` or ``timm`` (that library's pretrained weights, from its own download
            folder), ``random``, ``package:NAME`` (of an installed
            package, see ``package_weights``), or the path of a file: a state dict by
            torch.save (plain, or under ``state_dict``, with or
            without DataParallel's ``module.``) or safetensors, of torchvision's names.

    Returns:
        What to record of it: the name, and a file's SHA-256.

    Raises:
        InputError: the file is missing or no state dict, its entries do not fit (all listed), or
            torchvision has no such weights here.
    """
    if weights == "random":
        return weights
    if weights in ("torchvision", "timm"):
        state, record = library_weights(network.name, weights)
    elif weights.startswith("package:"):
        state, record = package_weights(weights.removeprefix("package:"), network.name)
    else:
        state, record = read_state_dict(Path(weights)), f"sha256:{sha256_of(Path(weights))}"
    last = find_backbone(network.name).last_layer
    state = {name: tensor for name, tensor in state.items() if not (last and name.startswith(last))}
    load_state(network.backbone, state, where=f"weights {weights} for {network.name}")
    return record


def load_weights_by(
    setting: str, network: FrameNetwork, weights: str, cache: Cache, array: Literal["embedding", "skim"]
) -> str:
    """``load_weights``, to which ``cache`` is a source too: the network that one of the cache's arrays was
    computed with.

    Args:
        setting: whose value ``weights`` is, for errors.
        network: changed in place.
        weights: ``cache``, or as ``load_weights`` takes them.
        cache: where the videos are that the network is for.
        array: of the cache.

    Returns:
        What to record of it.

    Raises:
        InputError: that network has other layers, or its weights are not in the cache; or as
            ``load_weights`` raises it.
    """
    if weights != "cache":
        return load_weights(network, weights)
    file = cache.path / "networks" / f"{array}.safetensors"
    found = cache.meta["arrays"].get(array, {}).get("source", {}).get("network")
    like = (network.name, find_backbone(network.name).layers_of)
    if not found or found not in like or file.name not in cache.meta["networks"]:
        raise InputError(
            f"{setting} cache: cache {cache.path} does not hold the weights of a {network.name} that its "
            f"{array} was computed with (its network: {found or 'none'}); expected torchvision, random or a "
            "file"
        )
    return load_weights(network, str(cache.network_file(file.name)))


def load_state(
    module: nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    where: str,
    names: Callable[[str], str] = lambda own: own,
) -> None:
    """``load_state_dict`` with one error that lists every missing, extra and mis-shaped entry.

    Args:
        module: changed in place.
        state: the entries.
        where: they come from, for the error.
        names: what the entry of one of the module's own names is called there.

    Raises:
        InputError: entries do not fit, or hold values that are not finite.
    """
    own = {names(name): tensor for name, tensor in module.state_dict().items()}
    # Written by BatchNorm since 2018 and never used for inference; older files lack it.
    ignored = {name for name in own if name.endswith("num_batches_tracked")}
    faults = [f"missing {name}" for name in own if name not in state and name not in ignored]
    faults += [f"unexpected {name}" for name in state if name not in own]
    faults += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    faults += [
        f"{name} has values that are not finite"
        for name in own
        if name in state and state[name].is_floating_point() and not state[name].isfinite().all()
    ]
    if faults:
        shown = "; ".join(faults[:40]) + (f"; and {len(faults) - 40} more" if len(faults) > 40 else "")
        raise InputError(f"{where}: {len(faults)} entries do not fit: {shown}")
    found = {name: state[names(name)] for name in module.state_dict() if names(name) in state}
    module.load_state_dict(found, strict=False)


def read_state_dict(file: Path) -> dict[str, torch.Tensor]:
    """A file's tensors by name: safetensors, or torch.save's, also under ``state_dict`` and with
    DataParallel's ``module.``; reading never executes code from the file.

    Raises:
        InputError: the file is missing or holds something else.
    """
    return plain_state_dict(read_checkpoint(file), where=f"weights file {file}")


def read_checkpoint(file: Path) -> Any:
    """Whatever a file of safetensors or of torch.save holds; reading never executes code from it.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    if not file.is_file():
        raise InputError(f"weights file {file}: no such file")
    what = f"weights file {file}: not a readable state dict"
    if file.suffix != ".safetensors":
        return read_tensors(file, what=what)
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except Exception as error:  # safetensors' own, which is none of Python's
        raise InputError(f"{what} ({error})") from error


def plain_state_dict(state: Any, *, where: str) -> dict[str, torch.Tensor]:
    """Tensors by name, taken out of ``state_dict`` and rid of ``module.``, where they have such.

    Raises:
        InputError: there is something else in it.
    """
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise InputError(f"{where}: expected a dict of tensors by name")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


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
