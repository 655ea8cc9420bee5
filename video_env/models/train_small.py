"""Small networks for a cache that has frames and nothing else: trained, stored in it, and applied."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from video_env.cache.build import encode_frames
from video_env.cache.store import Cache, CacheError, add_network, remove
from video_env.files import sha256_of, write_bytes
from video_env.models.backbones import BackboneName, FrameNetwork, load_weights
from video_env.models.encoders import CacheEncoder
from video_env.models.optimise import seeded
from video_env.models.train_backbone import BackboneTraining, SkimTraining, train_on_videos, train_skim
from video_env.models.train_recognizer import remove_recognizer

EMBEDDING, SKIM = "embedding", "skim"


@dataclass(frozen=True)
class SmallTraining:
    """Settings of the small networks' training.

    Attributes:
        weights: what the recognizer's backbone starts from: ``random``, or a file of weights.
        backbone: how the recognizer's backbone learns the videos' labels.
        skim: how the skim network learns to foretell the backbone's features.
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

    Each network is stored in the cache once it is trained, so an interrupted call goes on after the
    last one that was finished. What the cache has is kept, unless ``overwrite`` is set: then each
    network's features, and with new embeddings the recognizer, are replaced once it is trained.

    Returns:
        The cache, opened again.

    Raises:
        CacheError: the cache has no frames, or features of other networks, which are never replaced.
    """
    for array, name in ((EMBEDDING, "small"), (SKIM, "small_skim")):
        found = cache.meta["arrays"].get(array, {}).get("source", {}).get("network", name)
        if overwrite and found != name:
            raise CacheError(
                f"cache {cache.path}: its {array} was computed by {found}, which this command does not "
                "replace; build another cache with --skim none --embedding none"
            )
    if overwrite or EMBEDDING not in cache:
        network = _network("small", settings.backbone.seed)
        if overwrite or not _restored(cache, network, EMBEDDING):
            load_weights(network, settings.weights)
            train_on_videos(network, cache, settings.backbone, device)
            cache = remove_recognizer(remove(cache, (EMBEDDING,), (EMBEDDING,)))
            training = {"weights": settings.weights_record(), **asdict(settings.backbone)}
            cache = _store(cache, network, EMBEDDING, training)
        cache = _encode(cache, network, EMBEDDING, device)
    if overwrite or SKIM not in cache:
        network = _network("small_skim", settings.skim.seed)
        if overwrite or not _restored(cache, network, SKIM):
            train_skim(network, cache, settings.skim, device)
            cache = remove(cache, (SKIM,), (SKIM,))
            cache = _store(cache, network, SKIM, asdict(settings.skim))
        cache = _encode(cache, network, SKIM, device)
    return cache


def save_weights(network: FrameNetwork, file: Path) -> None:
    """Write a network's weights so that ``load_weights`` reads them."""
    write_bytes(file, safetensors.torch.save(_state(network)))


def _network(name: BackboneName, seed: int) -> FrameNetwork:
    with seeded(seed):
        return FrameNetwork(name)


def _restored(cache: Cache, network: FrameNetwork, name: str) -> bool:
    if f"{name}.safetensors" not in cache.meta["networks"]:
        return False
    load_weights(network, str(cache.path / "networks" / f"{name}.safetensors"))
    return True


def _store(cache: Cache, network: FrameNetwork, name: str, training: dict[str, Any]) -> Cache:
    return add_network(cache, name, safetensors.torch.save(_state(network)), training=training)


def _encode(cache: Cache, network: FrameNetwork, name: str, device: str) -> Cache:
    weights = f"sha256:{cache.meta['networks'][f'{name}.safetensors']}"
    size = int(cache.meta["frame_size"])
    return encode_frames(
        cache, {name: CacheEncoder(network, weights=weights, frame_size=size, device=device)}
    )


def _state(network: FrameNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous().cpu() for name, tensor in network.backbone.state_dict().items()}
