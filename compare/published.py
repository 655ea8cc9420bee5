"""Released checkpoints on a user's own videos: a cache made with one, and the entry that evaluates it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from agents.adafocus.agent import AdaFocus
from agents.adafocus.released import INPUT_SIZE, ReleasedAdaFocus
from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.network import AdaFocusV2Network
from agents.ocsampler.agent import OCSampler
from agents.ocsampler.released import ReleasedOCSampler
from agents.released import load_released
from compare.entries import adafocus_entry, adafocus_v2_entry, ocsampler_entry
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.errors import InputError
from video_env.evaluation.protocols import Entry
from video_env.files import sha256_of
from video_env.models.classifiers import NAME as CLASSIFIER
from video_env.models.conditional_exit import DEFAULT_EXIT, ExitRule
from video_env.models.encoders import CacheEncoder
from video_env.models.patch_arrays import add_patches
from video_env.models.recognizers import NAME, store_recognizer
from video_env.models.train_recognizer import add_subset_tables, has_recognizer

ReleasedName = Literal["ocsampler", "adafocus", "adafocus-v2"]

NO_CHECKPOINT_HAS_MORE_CLASSES = 10_000
"""So label numbers up to here may be meant; the checkpoint then says how many classes it has."""


def build_released_cache(
    annotations: Annotations,
    out: Path,
    settings: BuildSettings,
    published: ReleasedName,
    checkpoint: Path,
    *,
    shift_div: int = 10,
    patch_size: int = 128,
    device: str = "auto",
) -> Cache:
    """A cache whose features and recognizer, or classifier, are those of a released checkpoint; an
    interrupted call goes on.

    Args:
        annotations: the videos, their labels numbered as the checkpoint's classes are.
        out: folder of the cache.
        settings: how videos are read; frames are kept, since features are computed from them.
        published: what system the checkpoint is of.
        checkpoint: the released file.
        shift_div: of an OCSampler's temporal shift.
        patch_size: of an AdaFocus or AdaFocusV2.
        device: where the networks run.

    Raises:
        InputError: the checkpoint does not fit, or a label is none of its classes.
    """
    if not settings.keep_frames:
        raise InputError("keep_frames: found False, expected True: the checkpoint's networks look at frames")
    if published == "adafocus":
        return _build_adafocus_cache(annotations, out, settings, checkpoint, patch_size, device)
    if published == "adafocus-v2":  # looks at frames by itself, so nothing else is cached
        whole = load_released("adafocus-v2", checkpoint, patch_size=patch_size)
        assert isinstance(whole, AdaFocusV2Network)
        _require_frames(settings, whole.num_frames)
        return build_cache(_with_classes(annotations, whole.classes, checkpoint), out, settings)
    network = load_released("ocsampler", checkpoint, num_frames=1, shift_div=shift_div)
    assert isinstance(network, ReleasedOCSampler)
    annotations = _with_classes(annotations, int(network.recognizer.config["classes"]), checkpoint)
    weights = f"sha256:{sha256_of(checkpoint)}"
    encoders = {
        name: CacheEncoder(part, weights=weights, frame_size=settings.frame_size, device=device)
        for name, part in (("skim", network.skim), ("embedding", network.embedding))
    }
    cache = build_cache(annotations, out, settings, encoders)
    if not has_recognizer(cache):
        recognizer = network.recognizer.cpu()
        cache = store_recognizer(cache, recognizer, recognizer.gflops(), {"checkpoint": weights})
    return add_subset_tables(cache, device)


def _build_adafocus_cache(
    annotations: Annotations,
    out: Path,
    settings: BuildSettings,
    checkpoint: Path,
    patch_size: int,
    device: str,
) -> Cache:
    network = load_released("adafocus", checkpoint, patch_size=patch_size)
    assert isinstance(network, ReleasedAdaFocus)
    _require_frames(settings, None)
    cache = build_cache(_with_classes(annotations, network.classifier.classes, checkpoint), out, settings)
    weights = f"sha256:{sha256_of(checkpoint)}"
    return add_patches(
        cache, network.glance, network.focus, network.classifier.cpu(), patch_size=patch_size,
        glance_weights=weights, focus_weights=weights, training={"checkpoint": weights}, device=device,
    )  # fmt: skip


def _require_frames(settings: BuildSettings, num_candidates: int | None) -> None:
    if settings.frame_size != INPUT_SIZE:
        raise InputError(f"frame_size: found {settings.frame_size}, expected {INPUT_SIZE} as released")
    if num_candidates not in (None, settings.num_candidates):
        raise InputError(
            f"num_candidates: found {settings.num_candidates}, expected {num_candidates}, as many as the "
            "checkpoint was trained with"
        )


def released_entry(
    published: ReleasedName,
    checkpoint: Path,
    cache: Cache,
    *,
    num_frames: int,
    shift_div: int = 10,
    patch_size: int = 128,
    gflops: float | None = None,
    rule: ExitRule = DEFAULT_EXIT,
    device: str = "auto",
) -> Entry:
    """A released system choosing frames or patches on a cache; the recognizer or classifier is the cache's,
    but that of an AdaFocusV2 its own, and its budget is solved on the cache's training videos.

    Raises:
        InputError: the checkpoint does not fit, N is not from 1 to T, the cache lacks frames or (for an
            AdaFocus) glances and patches, or the budget is not of an AdaFocusV2 or out of its range.
    """
    if published == "adafocus-v2":
        whole = load_released("adafocus-v2", checkpoint, patch_size=patch_size)
        assert isinstance(whole, AdaFocusV2Network)
        v2 = AdaFocusV2.from_released(whole, cache, device=device)
        if gflops is not None:
            v2.calibrate()
        return adafocus_v2_entry(v2, gflops, rule, method="AdaFocusV2, released")
    if gflops is not None:
        raise InputError(f"gflops {gflops:g}: {published} has no conditional exit; expected adafocus-v2")
    if published == "adafocus":
        system = load_released("adafocus", checkpoint, patch_size=patch_size)
        assert isinstance(system, ReleasedAdaFocus)
        focuser = AdaFocus.from_released(system, cache, device=device)
        return replace(adafocus_entry(focuser, fine_tuned=False), method="AdaFocus, released")
    network = load_released("ocsampler", checkpoint, num_frames=num_frames, shift_div=shift_div)
    assert isinstance(network, ReleasedOCSampler)
    agent = OCSampler.from_released(network, cache, device=device)
    return replace(ocsampler_entry(agent), method="OCSampler, released")


def recognizer_is_of(published: ReleasedName, checkpoint: Path, cache: Cache) -> bool:
    """Whether the recognizer, or classifier over patches, that will judge is the checkpoint's own."""
    if published == "adafocus-v2":
        return True
    name = NAME if published == "ocsampler" else CLASSIFIER
    training = cache.meta.get("training", {}).get(name) or {}
    return training.get("checkpoint") == f"sha256:{sha256_of(checkpoint)}"


def _with_classes(annotations: Annotations, count: int, checkpoint: Path) -> Annotations:
    """The annotations with as many classes as the checkpoint has.

    Numbered classes may lack the last ones; named ones must be all there, or their numbers would mean
    something else.
    """
    found, numbered = len(annotations.classes), all(name.isdecimal() for name in annotations.classes)
    if found > count or (found < count and not numbered):
        highest = f"labels up to {found - 1}" if numbered else f"{found} classes by name"
        raise InputError(
            f"annotations: found {highest}, expected the {count} classes of checkpoint {checkpoint} "
            f"(labels 0 to {count - 1}, numbered as it was trained)"
        )
    return replace(annotations, classes=(*annotations.classes, *map(str, range(found, count))))
