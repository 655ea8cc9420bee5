"""``video-env cache``: build a cache, in one of several ways; add to it, verify it, take an extract of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from compare.command_line.signatures import REQUIRED, CacheFolder, Option, as_command
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.derive import extract
from video_env.cache.store import Cache
from video_env.data.annotations import SPLIT_SYNONYMS, SPLITS, Annotations
from video_env.data.reading import FORMATS, read_annotations
from video_env.errors import InputError
from video_env.evaluation.agent_kinds import RELEASED, ReleasedSystem
from video_env.evaluation.tables import read_table
from video_env.models.backbones import FrameNetwork, find_backbone, load_weights
from video_env.models.classifiers import read_classifier
from video_env.models.device import resolve_device
from video_env.models.encoders import CacheEncoder
from video_env.models.optimise import seeded
from video_env.models.patch_arrays import add_patches
from video_env.models.redraw import encoders_of, take_networks

Format: Any = Literal[FORMATS]

NO_CHECKPOINT_HAS_MORE_CLASSES = 10_000
"""So label numbers up to here may be meant; a checkpoint then says how many classes it has."""


def commands() -> dict[str, Callable[..., None]]:
    """By name: build, like, one for each released system, add, verify and extract."""
    return {
        "build": build,
        "like": like,
        **{f"released-{system.name}": _released(system) for system in RELEASED.values()},
        "add": add,
        "verify": verify,
        "extract": take_extract,
    }


def build(
    videos: Path,
    annotations: tuple[str, ...],
    out: Path,
    classes: Path | None = None,
    annotation_format: Format = "auto",
    skim: str = "mobilenet_v2",
    skim_weights: str = "torchvision",
    embedding: str = "resnet50",
    embedding_weights: str = "torchvision",
    device: str = "auto",
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")] = BuildSettings(),  # noqa: B008
) -> None:
    """Decode a folder of videos into a cache of frames and features; an interrupted build goes on.

    Args:
        videos: Folder of the video files.
        annotations: CSV file with the columns video, path, label, split; or a list of another format; or, of
            lists that do not say it, one for each split: train=FILE validation=FILE.
        out: Folder of the cache.
        classes: File with the classes' names, one per line. Labels are then names in it, or numbers into it
            from 0. Needed where labels are numbers and names together, or far apart.
        annotation_format: Format of the annotation file; auto guesses and says so.
        skim: Network for the cheap features of all candidates, or none.
        skim_weights: torchvision or timm (downloaded once), package:NAME (installed), random (not kept: for
            trials), or a file of weights.
        embedding: Network for the recognizer's features, or none.
        embedding_weights: torchvision or timm (downloaded once), package:NAME (installed), random (not
            kept), or a file of weights.
        device: auto, cpu, cuda:0, ...
        settings: How videos are read.
    """
    resolve_device(device)
    for name in {skim, embedding} - {"none"}:
        find_backbone(name)  # a wrong name is said before anything is downloaded
    table = _read(videos, annotations, classes, annotation_format)
    encoders = {}
    for array, name, weights in (("skim", skim, skim_weights), ("embedding", embedding, embedding_weights)):
        if name == "none":
            if weights != "torchvision":
                raise InputError(f"{array}_weights: found {weights}, but no {array} network to load them")
            continue
        with seeded(0):
            network = FrameNetwork(name)
        record, size = load_weights(network, weights), settings.frame_size
        encoders[array] = CacheEncoder(network, weights=record, frame_size=size, device=device)
    _report(build_cache(table, out, settings, encoders), out)


def like(
    cache: CacheFolder,
    videos: Path,
    annotations: tuple[str, ...],
    out: Path,
    classes: Path | None = None,
    annotation_format: Format = "auto",
    skim_weights: Path | None = None,
    embedding_weights: Path | None = None,
    device: str = "auto",
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")] = BuildSettings(),  # noqa: B008
) -> None:
    """Build a cache with the networks and the recognizer of another one, for other candidates of the same
    videos (--random-epoch).

    Args:
        cache: Folder of the finished cache whose networks are taken.
        videos: Folder of the video files.
        annotations: CSV file with the columns video, path, label, split; or a list of another format; or, of
            lists that do not say it, one for each split: train=FILE validation=FILE.
        out: Folder of the new cache.
        classes: File with the classes' names, one per line.
        annotation_format: Format of the annotation file; auto guesses and says so.
        skim_weights: File of the skim network's weights, where the cache does not hold them.
        embedding_weights: File of the embedding network's weights, where the cache does not hold them.
        device: auto, cpu, cuda:0, ...
        settings: How videos are read.
    """
    resolve_device(device)
    table = _read(videos, annotations, classes, annotation_format)
    weights = {"skim": skim_weights, "embedding": embedding_weights}
    files = {array: str(file) for array, file in weights.items() if file is not None}
    source = Cache(cache)
    encoders_of(source, weights=files, device=device)  # fail before the videos are decoded
    _report(take_networks(build_cache(table, out, settings), source, weights=files, device=device), out)


_ANNOTATIONS: dict[str, Option] = {
    "videos": (Path, REQUIRED, "Folder of the video files."),
    "annotations": (
        tuple[str, ...],
        REQUIRED,
        "CSV file with the columns video, path, label, split; or a list of another format; or, of lists that "
        "do not say it, one for each split: train=FILE validation=FILE.",
    ),
    "classes": (Path | None, None, "File with the classes' names, one per line."),
    "annotation_format": (Format, "auto", "Format of the annotation file; auto guesses and says so."),
}


def _released(system: ReleasedSystem) -> Callable[..., None]:
    def run(
        videos: Path,
        annotations: tuple[str, ...],
        classes: Path | None,
        annotation_format: str,
        **options: Any,
    ) -> None:
        resolve_device(options["device"])
        table = _read(videos, annotations, classes, annotation_format, below=NO_CHECKPOINT_HAS_MORE_CLASSES)
        _report(system.build_cache(annotations=table, **options), options["out"])

    return as_command(system.build_cache, run, instead_of={"annotations": _ANNOTATIONS})


def _read(
    videos: Path, annotations: Sequence[str], classes: Path | None, annotation_format: str, *, below: int = 0
) -> Annotations:
    table = read_annotations(
        _by_split(annotations), videos, classes, format=annotation_format, taken_below=below
    )
    print("\n".join(table.summary()))
    return table


def _by_split(annotations: Sequence[str]) -> str | dict[str, str]:
    """One file, or by split: ``train=FILE validation=FILE``.

    Raises:
        InputError: several files without splits, or a split twice.
    """
    if len(annotations) == 1 and annotations[0].partition("=")[0] not in (*SPLITS, *SPLIT_SYNONYMS):
        return annotations[0]
    files: dict[str, str] = {}
    for given in annotations:
        split, _, file = given.partition("=")
        if not file or split in files:
            raise InputError(
                f"annotations: found {' '.join(annotations)}, expected one file, or one for each split: "
                "train=FILE validation=FILE"
            )
        files[split] = file
    return files


def _report(built: Cache, out: Path) -> None:
    failures = read_table(out / "failures.csv")
    print(built)
    if len(failures):
        count = "1 video" if len(failures) == 1 else f"{len(failures)} videos"
        print(f"{count} could not be decoded, see {out / 'failures.csv'}; the first:")
        print("\n".join(f"  {failure.video}: {failure.reason}" for failure in failures.head(5).itertuples()))


def add(
    cache: CacheFolder,
    classifier_weights: Path,
    patch_size: int = 128,
    glance: str = "mobilenet_v2",
    glance_weights: str = "torchvision",
    glance_size: int | None = None,
    focus: str = "resnet50",
    focus_weights: str = "torchvision",
    device: str = "auto",
) -> None:
    """Add to a cache what patch selection needs: glance maps, the features of all patches, and the classifier
    over them; an interrupted call goes on.

    Args:
        cache: Folder of a cache with frames.
        classifier_weights: File of the classifier's weights: gru and fc, as released, or input and output
            of a running maximum.
        patch_size: Side of a patch in pixels of the cache's frames.
        glance: Network that looks at whole frames.
        glance_weights: torchvision, timm, random, package:NAME, or a file of weights.
        glance_size: Pixels that frames are scaled to for it; by default 224, of a small network its own.
        focus: Network that looks at patches.
        focus_weights: torchvision, timm, random, package:NAME, or a file of weights.
        device: auto, cpu, cuda:0, ...
    """
    opened = Cache(cache)
    resolve_device(device)
    size = 224 if glance_size is None and glance == "mobilenet_v2" else glance_size
    with seeded(0):
        networks = FrameNetwork(glance, input_size=size), FrameNetwork(focus, input_size=patch_size)
    records = [
        load_weights(network, weights)
        for network, weights in zip(networks, (glance_weights, focus_weights), strict=True)
    ]
    classifier = read_classifier(classifier_weights, glance=networks[0].features, pooling=networks[0].pooling)
    added = add_patches(
        opened, *networks, classifier, patch_size=patch_size, glance_weights=records[0],
        focus_weights=records[1], device=device,
    )  # fmt: skip
    print(added)


def verify(cache: CacheFolder) -> None:
    """Read a whole cache and check every checksum.

    Args:
        cache: Folder of the cache.
    """
    opened = Cache(cache)
    count = sum(1 for _ in tqdm(opened.verify(), desc="verifying", unit="file"))
    print(f"{opened}: all {count} files are as they were written")


def take_extract(
    cache: CacheFolder,
    out: Path,
    train: int = 80,
    validation: int = 20,
    test: int = 40,
    frame_size: int | None = None,
) -> None:
    """Make a small cache of the first videos of each split of a large one.

    Args:
        cache: Folder of the large cache.
        out: Folder of the small one; it must not exist.
        train: Number of training videos.
        validation: Number of validation videos.
        test: Number of test videos.
        frame_size: Pixels that frames are scaled down to; as they are by default.
    """
    wanted = {
        split: count
        for split, count in (("train", train), ("validation", validation), ("test", test))
        if count
    }
    print(extract(Cache(cache), out, wanted, frame_size=frame_size))
