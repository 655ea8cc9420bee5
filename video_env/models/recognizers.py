"""Consensus heads: per-frame features of the chosen frames to class scores of the video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from video_env.cache.changes import add_network
from video_env.cache.store import Cache, CacheError
from video_env.errors import InputError
from video_env.models.backbones import load_state
from video_env.models.cost import count_gflops

Consensus = Literal["max", "mean"]
NAME = "recognizer"


class Recognizer(nn.Module):
    """What the chosen frames say about the video (FrameExit's classifier without its exits).

    Each frame's features go through Linear, BatchNorm and ReLU; the consensus over the chosen frames
    is their elementwise maximum (Ghodrati et al. 2021, section 3.2) or, with ``mean``, the mean of
    per-frame logits (TSN; equal to the logits of the mean, as the last layer is linear); a linear
    layer gives the classes' scores. If nothing is chosen all scores are 0: the uniform prediction.

    Args:
        features: D of the embeddings.
        classes: C.
        hidden: width of the per-frame layer, 4096 as published; 0 leaves it out.
        consensus: ``max`` or ``mean``.
    """

    def __init__(
        self, features: int, classes: int, *, hidden: int = 4096, consensus: Consensus = "max"
    ) -> None:
        super().__init__()
        if consensus not in ("max", "mean"):
            raise InputError(f"consensus {consensus!r}: expected max or mean")
        self.config = {"features": features, "classes": classes, "hidden": hidden, "consensus": consensus}
        self.features, self.consensus = features, consensus
        self.hidden = (
            nn.Sequential(nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
            if hidden
            else nn.Identity()
        )
        self.output = nn.Linear(hidden or features, classes)

    def forward(self, embedding: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Scores before softmax.

        Args:
            embedding: float [B, T, D].
            chosen: bool [B, T], which of the frames count.

        Returns:
            float [B, C].
        """
        return self.scores(self.per_frame(embedding), chosen)

    def per_frame(self, embedding: torch.Tensor) -> torch.Tensor:
        """The part that sees one frame at a time: [B, T, D] to [B, T, hidden]."""
        return self.hidden(embedding.flatten(0, -2)).unflatten(0, embedding.shape[:-1])

    def scores(self, per_frame: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The part that sees the set: [B, T, hidden] and bool [B, T] to scores [B, C]."""
        if self.consensus == "max":
            pooled = per_frame.masked_fill(~chosen[..., None], -torch.inf).amax(dim=-2)
        else:
            pooled = (per_frame * chosen[..., None]).sum(dim=-2) / chosen.sum(dim=-1, keepdim=True)
        something = chosen.any(dim=-1, keepdim=True)
        return self.output(pooled.where(something, 0)) * something

    def gflops(self) -> dict[str, float]:
        """Counted 10^9 multiply-adds: ``hidden`` per frame and ``output`` per video."""
        frame = torch.empty(1, self.features)
        pooled = torch.empty(1, self.output.in_features)
        return {"hidden": count_gflops(self.hidden, frame), "output": count_gflops(self.output, pooled)}


@torch.inference_mode()
def subset_tables(
    recognizer: Recognizer, embedding: torch.Tensor, labels: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The recognizer's verdict on every subset of the candidate frames, in one batched pass.

    The pooled features of all 2^T subsets are built by doubling: those that hold frame t are those
    of the first t frames, each joined with frame t.

    Args:
        recognizer: in evaluation mode.
        embedding: float [B, T, D].
        labels: int [B].

    Returns:
        The true class's probability, float16 [B, 2^T], and the predicted class, int16 [B, 2^T], by
        subset number: bit t says whether frame t is chosen. For the empty subset the prediction is -1
        (there is none) and the probability 1/C.
    """
    frames = recognizer.per_frame(embedding)
    batch, num_candidates, width = frames.shape
    if recognizer.consensus == "max":
        pooled = frames.new_full((batch, 1, width), -torch.inf)
        for frame in range(num_candidates):
            pooled = torch.cat([pooled, torch.maximum(pooled, frames[:, frame, None])], dim=1)
    else:
        pooled = frames.new_zeros(batch, 1, width)
        for frame in range(num_candidates):
            pooled = torch.cat([pooled, pooled + frames[:, frame, None]], dim=1)
        count = torch.tensor([number.bit_count() for number in range(2**num_candidates)])
        pooled = pooled / count.clamp(min=1)[:, None].to(pooled)
    pooled[:, 0] = 0
    scores = recognizer.output(pooled)
    scores[:, 0] = 0
    probabilities = scores.softmax(dim=-1)
    confidence = probabilities.gather(2, labels[:, None, None].expand(-1, scores.shape[1], 1))[..., 0]
    prediction = scores.argmax(dim=-1)
    prediction[:, 0] = -1
    return confidence.half().cpu().numpy(), prediction.to(torch.int16).cpu().numpy()


def store_recognizer(
    cache: Cache, recognizer: Recognizer, gflops: dict[str, float], training: dict[str, Any] | None = None
) -> Cache:
    """Put the recognizer, its counted cost and its training's settings into the cache; opens the cache
    again."""
    return add_network(cache, NAME, recognizer_bytes(recognizer), gflops=gflops, training=training)


def recognizer_bytes(recognizer: Recognizer) -> bytes:
    """A recognizer as a safetensors file, with its config, as ``read_recognizer`` reads it."""
    state = {name: tensor.contiguous().cpu() for name, tensor in recognizer.state_dict().items()}
    return safetensors.torch.save(state, {"config": json.dumps(recognizer.config)})


def load_recognizer(cache: Cache, device: str | torch.device = "cpu") -> Recognizer:
    """The cache's recognizer, in evaluation mode.

    Raises:
        CacheError: the cache has none, or its file is damaged.
    """
    file = cache.path / "networks" / f"{NAME}.safetensors"
    if file.name not in cache.meta["networks"]:
        raise CacheError(f"cache {cache.path} has no recognizer", needs=NAME)
    return read_recognizer(cache.network_file(file.name), device)


def read_recognizer(file: Path, device: str | torch.device = "cpu") -> Recognizer:
    """A recognizer from its file, in evaluation mode.

    Raises:
        CacheError: the file holds none.
    """
    try:
        with safe_open(file, "pt") as entries:
            config: dict[str, Any] = json.loads(entries.metadata()["config"])
            state = {name: entries.get_tensor(name) for name in entries.keys()}  # noqa: SIM118
        recognizer = Recognizer(
            config["features"], config["classes"], hidden=config["hidden"], consensus=config["consensus"]
        )
    except Exception as error:  # safetensors raises its own kinds, and OSError; and entries may be missing
        raise CacheError(f"{file}: not a readable recognizer ({error!r})") from error
    load_state(recognizer, state, where=str(file))
    return recognizer.to(device).eval()
