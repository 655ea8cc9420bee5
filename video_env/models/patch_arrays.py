"""What patch selection needs of a cache: glance maps, the features of every patch, and a classifier."""

from __future__ import annotations

import hashlib
from typing import Any

from video_env.cache.changes import encode_frames
from video_env.cache.jobs import changing
from video_env.cache.store import Cache, CacheError
from video_env.data.patches import check_patch_size
from video_env.errors import InputError
from video_env.models.backbones import FrameNetwork
from video_env.models.classifiers import NAME, Classifier, classifier_bytes, store_classifier
from video_env.models.encoders import CacheEncoder, GlanceEncoder, PatchEncoder
from video_env.settings import difference

GLANCE, PATCHES = "glance", "patches"


def add_patches(
    cache: Cache,
    glance: FrameNetwork,
    focus: FrameNetwork,
    classifier: Classifier,
    *,
    patch_size: int,
    glance_weights: str,
    focus_weights: str,
    training: dict[str, Any] | None = None,
    device: str = "auto",
) -> Cache:
    """Add the arrays ``glance`` and ``patches``, computed from ``frames``, and the classifier over them.

    What is there already from the same networks is kept, so an interrupted call goes on. The networks run
    in this process, on all of torch's threads or on the GPU.

    Args:
        cache: has ``frames``.
        glance: looks at whole frames.
        focus: looks at patches.
        classifier: takes the pooled features of both.
        patch_size: side of a patch in pixels of the cache's frames.
        glance_weights: where the glance network's weights came from, for the records.
        focus_weights: likewise the focus network's.
        training: settings to record with the classifier.
        device: where the networks run.

    Returns:
        The cache, opened again.

    Raises:
        CacheError: the cache has no frames, or one of the arrays from other networks.
        InputError: the patch is larger than the frame, or the classifier does not take what the networks
            give or has other classes than the cache.
    """
    height, size = (int(side) for side in cache["frames"].row_shape[1:3])
    if height != size:
        raise InputError(f"cache {cache.path}: frames of {height}x{size} pixels, expected square ones")
    check_patch_size(patch_size, size)
    wrong = [
        f"{own} {what}, expected {there}"
        for what, own, there in (
            ("glance features", classifier.glance, glance.features),
            ("patch features", classifier.patch, focus.features),
            ("classes", classifier.classes, len(cache.classes)),
        )
        if own != there
    ]
    if classifier.pooling != glance.pooling:
        wrong.append(f"pooling {classifier.pooling}, expected {glance.pooling}")
    if wrong:
        raise InputError(
            f"classifier: it takes {'; '.join(wrong)} with the networks {glance.name} and {focus.name} on "
            f"cache {cache.path}"
        )
    encoders: dict[str, CacheEncoder] = {
        GLANCE: GlanceEncoder(glance, weights=glance_weights, frame_size=size, device=device),
        PATCHES: PatchEncoder(
            focus, patch_size=patch_size, frame_size=size, weights=focus_weights, device=device
        ),
    }
    with changing(cache.path):
        return _add(Cache(cache.path), encoders, classifier, training)


def _add(
    cache: Cache, encoders: dict[str, CacheEncoder], classifier: Classifier, training: dict[str, Any] | None
) -> Cache:
    for name, encoder in encoders.items():
        found = cache.meta["arrays"].get(name, {}).get("source", encoder.source)
        if different := difference(found, encoder.source):
            raise CacheError(
                f"cache {cache.path}: has {name} already, made otherwise: {different}. Make another cache of "
                "the same videos for it"
            )
    stored = cache.meta["networks"].get(f"{NAME}.safetensors")
    if stored not in (None, hashlib.sha256(classifier_bytes(classifier)).hexdigest()):
        raise CacheError(
            f"cache {cache.path}: has another classifier already; make another cache of the same videos"
        )
    cache = encode_frames(cache, {name: one for name, one in encoders.items() if name not in cache})
    return cache if stored else store_classifier(cache, classifier, training)
