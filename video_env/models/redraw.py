"""The networks of one cache applied to another draw of the same videos' candidates.

For training, a candidate is a random frame of its segment, another in every epoch. Each draw is a cache
of its own (``BuildSettings.random_epoch``); to be worth the same rewards, it needs the networks of the
cache that it is a variant of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from video_env.cache.changes import add_network, encode_frames
from video_env.cache.jobs import changing
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork, load_weights
from video_env.models.encoders import CacheEncoder
from video_env.models.recognizers import NAME
from video_env.models.train_recognizer import add_subset_tables, has_recognizer
from video_env.settings import difference

ENCODED = ("skim", "embedding")


def encoders_of(
    cache: Cache, *, weights: Mapping[str, str] | None = None, device: str = "auto"
) -> dict[str, CacheEncoder]:
    """The encoders that computed a cache's ``skim`` and ``embedding``.

    Args:
        cache: where they are stored, or at least recorded.
        weights: by array, the file of weights that the cache does not hold itself.
        device: where they run.

    Raises:
        InputError: weights are neither stored in the cache, nor torchvision's, nor given, or those
            given are not those that the cache was computed with.
    """
    return {
        array: encoder_of(cache, array, weights=weights, device=device) for array in ENCODED if array in cache
    }


def encoder_of(
    cache: Cache,
    array: str,
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    kind: type[CacheEncoder] = CacheEncoder,
) -> CacheEncoder:
    """The encoder that computed one of a cache's arrays; see ``encoders_of``.

    Args:
        kind: of the encoder.

    Raises:
        InputError: see ``encoders_of``.
        CacheError: the cache has no such array.
    """
    source = cache.sources(array)[array]
    if source.get("network", "elsewhere") == "elsewhere":
        raise InputError(f"cache {cache.path}: its {array} was computed elsewhere, by an unknown network")
    network = FrameNetwork(
        source["network"],
        input_size=source["input_size"],
        temporal_shift=source.get("temporal_shift", 0),
        interpolation=source.get("interpolation", "bilinear"),
    )
    record = load_weights(network, _where(cache, array, source, weights or {}))
    if record != source["weights"]:
        raise InputError(
            f"{array} weights: found {record}, expected {source['weights']}, with which cache "
            f"{cache.path} was computed"
        )
    options = {"patch_size": source["patch_size"]} if "patch_size" in source else {}
    frame_size = int(source["frame_size"])
    return kind(network, weights=record, frame_size=frame_size, device=device, **options)


def take_networks(
    target: Cache, source: Cache, *, weights: Mapping[str, str] | None = None, device: str = "auto"
) -> Cache:
    """Give a cache the features, the recognizer and the subset table that another one's networks make of
    its frames; what it has already stays. Opens the cache again.

    Args:
        target: a cache with frames, of the same classes.
        source: the cache whose networks are taken.
        weights: see ``encoders_of``.
        device: where they run.

    Raises:
        InputError: see ``encoders_of``; or the classes or the size of the frames differ.
    """
    for name in ("classes", "frame_size"):
        if different := difference(target.meta[name], source.meta[name]):
            raise InputError(f"cache {target.path}: other {name} than in {source.path}: {different}")
    missing = {
        name: encoder
        for name, encoder in encoders_of(source, weights=weights, device=device).items()
        if name not in target
    }
    with changing(target.path):
        return _take(Cache(target.path), source, missing, device)


def _take(target: Cache, source: Cache, missing: Mapping[str, CacheEncoder], device: str) -> Cache:
    target = encode_frames(target, {name: one for name, one in missing.items() if name not in target})
    if not has_recognizer(source):
        return target
    if not has_recognizer(target):
        data = source.network_file(f"{NAME}.safetensors").read_bytes()
        gflops = {part: source.gflops[part] for part in ("hidden", "output")}
        target = add_network(
            target, NAME, data, gflops=gflops, training=source.meta.get("training", {}).get(NAME)
        )
    return add_subset_tables(target, device)


def _where(cache: Cache, array: str, source: dict[str, Any], weights: Mapping[str, str]) -> str:
    """Where a network's weights are, as ``load_weights`` takes it."""
    stored = f"{array}.safetensors"
    if array in weights:
        return weights[array]
    if stored in cache.meta["networks"]:
        return str(cache.network_file(stored))
    if source["weights"].startswith("torchvision:"):
        return "torchvision"
    if source["weights"] == "random":
        raise InputError(f"cache {cache.path}: the random weights of its {array} network were not kept")
    raise InputError(
        f"cache {cache.path}: its {array} was computed with a file of weights ({source['weights']}) that it "
        "does not hold; give that file"
    )
