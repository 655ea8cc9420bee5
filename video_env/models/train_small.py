"""Small networks for a cache that has frames and nothing else: trained, stored in it, and applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from video_env.cache.changes import change, encoding
from video_env.cache.jobs import changing
from video_env.cache.store import Cache, CacheError
from video_env.files import sha256_of, write_bytes
from video_env.models.backbones import FrameNetwork, load_weights
from video_env.models.encoders import CacheEncoder
from video_env.models.optimise import seeded
from video_env.models.recognizers import NAME as RECOGNIZER
from video_env.models.train_backbone import BackboneTraining, SkimTraining, train_on_videos, train_skim
from video_env.models.train_recognizer import TABLES

EMBEDDING, SKIM = "embedding", "skim"


@dataclass(frozen=True)
class SmallTraining:
    """Settings of the small networks' training.

    Attributes:
        weights: what the embedding's backbone starts from: ``random``, or a file of weights.
        backbone: how it learns the videos' labels.
        skim: how its features are distilled into the skim network.
    """

    weights: str = "random"
    backbone: BackboneTraining = field(default_factory=BackboneTraining)
    skim: SkimTraining = field(default_factory=SkimTraining)

    def weights_record(self) -> str:
        """What to record of the initial weights: ``random``, or the file's SHA-256."""
        return self.weights if self.weights == "random" else f"sha256:{sha256_of(Path(self.weights))}"


def train_small_networks(
    cache: Cache, settings: SmallTraining, device: str = "auto", *, overwrite: bool = False
) -> Cache:
    """Train the two small networks on the cached frames and add ``embedding`` and ``skim``.

    Each network is stored once it is trained, so an interrupted call goes on after the last one that was
    finished. What the cache has is kept, unless ``overwrite`` is set: then each network is replaced
    together with its features, once those are there; with a new embedding the old recognizer goes.

    Returns:
        The cache, opened again.

    Raises:
        CacheError: the cache has no frames, or features of other networks, which are never replaced.
    """
    with changing(cache.path):
        cache = Cache(cache.path)
        for array, name in ((EMBEDDING, "small"), (SKIM, "small_skim")):
            found = cache.meta["arrays"].get(array, {}).get("source", {}).get("network", name)
            if overwrite and found != name:
                raise CacheError(
                    f"cache {cache.path}: its {array} was computed by {found}, which is not replaced by "
                    "a small network; expected a cache that was built without skim and embedding networks"
                )
        if overwrite or EMBEDDING not in cache:
            start = {"weights": settings.weights_record(), **asdict(settings.backbone)}

            def train_embedding(network: FrameNetwork, cache: Cache) -> None:
                load_weights(network, settings.weights)
                pretrained = settings.weights != "random"
                train_on_videos(network, cache, settings.backbone, device, pretrained=pretrained)

            network = _network("small", settings.backbone.seed)
            cache = _add(cache, EMBEDDING, network, start, train_embedding, device, overwrite)
        if overwrite or SKIM not in cache:

            def train_on_embedding(network: FrameNetwork, cache: Cache) -> None:
                train_skim(network, cache, settings.skim, device)

            network = _network("small_skim", settings.skim.seed)
            cache = _add(cache, SKIM, network, asdict(settings.skim), train_on_embedding, device, overwrite)
        return cache


def _add(
    cache: Cache,
    array: str,
    network: FrameNetwork,
    training: dict[str, Any],
    train: Callable[[FrameNetwork, Cache], None],
    device: str,
    overwrite: bool,
) -> Cache:
    """Train a network, unless the cache or an interrupted call has it, and add it and its features."""
    stored = f"{array}.safetensors"
    kept = stored in cache.meta["networks"] and not overwrite
    if kept:
        training = cache.meta.get("training", {}).get(array, training)
    seen = {name: cache.content(name) for name in ("frames", EMBEDDING) if name in cache and name != array}
    origin = {"training": training, "from": seen, "videos": cache.meta["index_sha256"], "kept": kept}
    with change(cache, array, origin) as made:
        if made is None:
            return Cache(cache.path)

        def weights() -> bytes:
            if kept:
                return cache.network_file(stored).read_bytes()
            train(network, cache)
            return safetensors.torch.save(_state(network))

        file = made.network(array, weights)
        load_weights(network, str(file))
        size = int(cache.meta["frame_size"])
        encoder = CacheEncoder(network, weights=f"sha256:{sha256_of(file)}", frame_size=size, device=device)
        if array == EMBEDDING and not kept:
            made.take_out(*TABLES, f"{RECOGNIZER}.safetensors")  # they know the old embedding only
        made.arrays((array,), encoding(cache, array, encoder), encoder.source)
        return made.finish(gflops={array: encoder.gflops}, training={array: training})


def save_weights(network: FrameNetwork, file: Path) -> None:
    """Write a network's weights so that ``load_weights`` reads them."""
    write_bytes(file, safetensors.torch.save(_state(network)))


def _network(name: str, seed: int) -> FrameNetwork:
    with seeded(seed):
        return FrameNetwork(name)


def _state(network: FrameNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous().cpu() for name, tensor in network.backbone.state_dict().items()}
