"""Training the recognizer on cached embeddings, and storing its verdicts in the cache."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from video_env.cache.changes import add_arrays, change
from video_env.cache.jobs import changing
from video_env.cache.store import Cache
from video_env.errors import InputError, require_positive, require_seed
from video_env.files import sha256_of
from video_env.models.backbones import evaluating
from video_env.models.device import resolve_device
from video_env.models.optimise import passes, seeded, train_in_one_cycle
from video_env.models.recognizers import (
    NAME,
    Consensus,
    Recognizer,
    load_recognizer,
    read_recognizer,
    recognizer_bytes,
    subset_tables,
)

# 2^12 subsets of one video at 4096 features are 64 MiB; each further frame would double them.
LARGEST_TABLE = 12
TABLES = ("subset_confidence", "subset_prediction")


@dataclass(frozen=True)
class RecognizerTraining:
    """Settings of the recognizer's training.

    Attributes:
        consensus: how frames are joined, ``max`` or ``mean``.
        hidden: width of the per-frame layer; 4096 as published, 0 for none.
        epochs: passes over the training videos; more where they would be fewer steps than these:
        least_steps: gradient steps that a small data set needs too.
        batch_size: videos per step.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        seed: decides the initial weights and every draw.
    """

    consensus: Consensus = "max"
    hidden: int = 4096
    epochs: int = 30
    least_steps: int = 750
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "least_steps", "batch_size", "learning_rate")
        require_seed(self.seed)
        if self.hidden < 0:
            raise InputError(f"hidden: found {self.hidden}, expected 0 (none) or more")


def train_recognizer(
    cache: Cache, settings: RecognizerTraining, device: str = "auto", *, overwrite: bool = False
) -> Cache:
    """Train a recognizer on the cached embeddings of the training videos and store it in the cache.

    Each step draws, for every video, a random subset of its candidates, of a size drawn from 1 to T,
    so that the recognizer knows sets of all sizes. Where T ≤ 12 the tables of its verdicts on every
    subset are added too. A recognizer that the cache has is kept, whatever its settings were, unless
    ``overwrite`` is set: then it and its tables are replaced, in one step, once the new ones are there.

    Returns:
        The cache, opened again.

    Raises:
        CacheError: the cache lacks embeddings or training videos.
    """
    place = resolve_device(device)
    with changing(cache.path):
        had, cache = has_recognizer(cache), Cache(cache.path)
        if has_recognizer(cache) and not overwrite:
            if not had:
                print(f"{cache.path}: another process has trained a recognizer meanwhile, which is kept",
                      file=sys.stderr)  # fmt: skip
            return add_subset_tables(cache, device)
        origin = {
            "settings": asdict(settings),
            "embedding": cache.content("embedding"),
            "videos": cache.meta["index_sha256"],
        }
        with change(cache, NAME, origin) as made:
            if made is None:
                return Cache(cache.path)
            file = made.network(NAME, lambda: recognizer_bytes(_trained(cache, settings, place)))
            recognizer = read_recognizer(file, place)
            made.take_out(*TABLES)
            if cache.num_candidates <= LARGEST_TABLE:
                made.arrays(TABLES, _verdicts(cache, recognizer, place), {"recognizer": sha256_of(file)})
            return made.finish(gflops=recognizer.gflops(), training={NAME: asdict(settings)})


def _trained(cache: Cache, settings: RecognizerTraining, place: torch.device) -> Recognizer:
    rows = cache.rows("train")
    embedding, targets = (torch.from_numpy(each[rows]) for each in (cache["embedding"], cache.label_shares()))
    generator = np.random.default_rng(settings.seed)
    with seeded(settings.seed):
        recognizer = Recognizer(
            embedding.shape[-1], len(cache.classes), hidden=settings.hidden, consensus=settings.consensus
        ).to(place)
    batches = -(-len(rows) // settings.batch_size)
    if settings.hidden and cache.num_candidates * (len(rows) // batches) < 2:
        raise InputError(
            f"batch_size {settings.batch_size}: of the {len(rows)} training videos, of one candidate frame "
            "each, a step would see a single frame, which cannot be normalised; expected another batch size, "
            "more videos or candidates, or hidden 0"
        )

    def losses() -> Iterator[torch.Tensor]:
        for batch in np.array_split(generator.permutation(len(rows)), batches):
            chosen = torch.from_numpy(random_subsets(len(batch), cache.num_candidates, generator))
            scores = recognizer(embedding[batch].float().to(place), chosen.to(place))
            yield F.cross_entropy(scores, targets[batch].to(place))

    train_in_one_cycle(
        "recognizer", [(recognizer, settings.learning_rate)], losses,
        epochs=passes(settings.epochs, settings.least_steps, batches), steps=batches,
        weight_decay=settings.weight_decay,
    )  # fmt: skip
    return recognizer


def add_subset_tables(cache: Cache, device: str = "auto") -> Cache:
    """Add ``subset_confidence`` and ``subset_prediction`` where T ≤ 12; else the cache as it is."""
    if cache.num_candidates > LARGEST_TABLE or all(name in cache for name in TABLES):
        return cache
    place = resolve_device(device)
    with changing(cache.path):
        cache = Cache(cache.path)
        if all(name in cache for name in TABLES):
            return cache
        compute = _verdicts(cache, load_recognizer(cache, place), place)
        source = {"recognizer": cache.meta["networks"][f"{NAME}.safetensors"]}
        return add_arrays(cache, TABLES, compute, source=source)


def _verdicts(
    cache: Cache, recognizer: Recognizer, place: torch.device
) -> Callable[[slice], dict[str, np.ndarray]]:
    """What computes the tables for the rows of a shard."""
    labels, embedding = torch.from_numpy(cache.labels), cache["embedding"]

    def compute(rows: slice) -> dict[str, np.ndarray]:
        # Videos one by one: 2^T sets of 4096 features are as large a batch as any device needs.
        features = torch.from_numpy(embedding[rows]).float().to(place)
        tables = [
            subset_tables(recognizer, video[None], label[None])
            for video, label in zip(features, labels[rows].to(place), strict=True)
        ]
        return {
            name: np.concatenate(values)
            for name, values in zip(TABLES, zip(*tables, strict=True), strict=True)
        }

    return compute


def has_recognizer(cache: Cache) -> bool:
    """Whether a recognizer is stored in the cache."""
    return f"{NAME}.safetensors" in cache.meta["networks"]


def random_subsets(count: int, num_candidates: int, generator: np.random.Generator) -> np.ndarray:
    """bool [count, T]: subsets of a size drawn from 1 to T, all subsets of a size being equally likely."""
    ranks = generator.random((count, num_candidates)).argsort(axis=1).argsort(axis=1)
    return ranks < generator.integers(1, num_candidates + 1, (count, 1))


def recognizer_accuracy(cache: Cache, split: str, device: str = "auto") -> float:
    """Top-1 accuracy on all candidates of a split's videos."""
    place = resolve_device(device)
    recognizer, rows = load_recognizer(cache, place), cache.rows(split)
    correct = 0
    with evaluating(recognizer):
        for batch in tqdm(np.array_split(rows, -(-len(rows) // 256)), desc=f"{split} accuracy", leave=False):
            embedding = torch.from_numpy(cache["embedding"][batch]).float().to(place)
            everything = torch.ones(embedding.shape[:2], dtype=torch.bool, device=place)
            correct += int(
                (recognizer(embedding, everything).argmax(1).cpu().numpy() == cache.labels[batch]).sum()
            )
    return correct / len(rows)
