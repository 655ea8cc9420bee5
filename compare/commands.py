"""What each command does. Arguments and their help are the functions' signatures and docstrings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from agents.adafocus.settings import AdaFocusSettings
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.settings import OCSamplerSettings
from baselines.sb3 import SB3Settings
from compare import entries
from compare.published import (
    NO_CHECKPOINT_HAS_MORE_CLASSES,
    ReleasedName,
    build_released_cache,
    recognizer_is_of,
    released_entry,
)
from compare.summary import write_summary
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.derive import extract
from video_env.cache.store import Cache
from video_env.data.annotations import READERS
from video_env.errors import InputError, require_seed
from video_env.evaluation.budget import Metric, summarise
from video_env.evaluation.evaluate import evaluate as evaluate_entry
from video_env.evaluation.results import read_results, write_results
from video_env.evaluation.selections import write_selections
from video_env.evaluation.tables import read_table
from video_env.models import processes
from video_env.models.backbones import BackboneName, FrameNetwork, load_weights
from video_env.models.classifiers import read_classifier
from video_env.models.conditional_exit import ExitRule
from video_env.models.device import resolve_device
from video_env.models.encoders import CacheEncoder
from video_env.models.optimise import seeded
from video_env.models.patch_arrays import add_patches
from video_env.models.redraw import encoders_of, take_networks
from video_env.models.train_recognizer import (
    RecognizerTraining,
    has_recognizer,
    recognizer_accuracy,
)
from video_env.models.train_recognizer import (
    train_recognizer as train_on_cache,
)
from video_env.models.train_small import SmallTraining, train_small_networks

CacheFolder = Annotated[Path, tyro.conf.Positional]


def cache(
    videos: Path,
    annotations: Path,
    out: Path,
    classes: Path | None = None,
    annotation_format: Literal[tuple(READERS)] = "csv",  # type: ignore[valid-type]
    skim: BackboneName | Literal["none"] = "mobilenet_v2",
    skim_weights: str = "torchvision",
    embedding: BackboneName | Literal["none"] = "resnet50",
    embedding_weights: str = "torchvision",
    like: Path | None = None,
    published: ReleasedName | None = None,
    checkpoint: Path | None = None,
    shift_div: int = 10,
    patch_size: int = 128,
    device: str = "auto",
    settings: Annotated[BuildSettings, tyro.conf.arg(name="")] = BuildSettings(),  # noqa: B008
) -> None:
    """Decode a folder of videos into a cache of frames and features; an interrupted build goes on.

    Args:
        videos: folder of the video files.
        annotations: CSV file with the columns video, path, label, split.
        out: folder of the cache.
        classes: file with the classes' names, one per line: labels are then names in it, or numbers into it
            from 0. Needed where labels are numbers and names together, or far apart.
        annotation_format: of the annotation file.
        skim: network for the cheap features of all candidates, or none.
        skim_weights: torchvision, random, or a file of weights.
        embedding: network for the recognizer's features, or none.
        embedding_weights: torchvision, random, or a file of weights.
        like: a finished cache whose networks and recognizer are taken, for other draws of the same videos
            (with --random-epoch); weights that it does not hold are given by --skim-weights and
            --embedding-weights.
        published: take the networks and the recognizer or classifier of a released checkpoint.
        checkpoint: its file.
        shift_div: of an ocsampler's temporal shift.
        patch_size: of an adafocus or adafocus-v2, in pixels.
        device: auto, cpu, cuda:0, ...
        settings: how videos are read.
    """
    resolve_device(device)
    below = 0 if published is None else NO_CHECKPOINT_HAS_MORE_CLASSES
    table = READERS[annotation_format](annotations, videos, classes, taken_below=below)
    print("\n".join(table.summary()))
    if (published is None) != (checkpoint is None) or (published and like):
        raise InputError("published: goes with --checkpoint FILE, and not with --like")
    if published is not None and checkpoint is not None:
        built = build_released_cache(
            table, out, settings, published, checkpoint, shift_div=shift_div, patch_size=patch_size,
            device=device,
        )  # fmt: skip
    elif like is not None:
        weights = {"skim": skim_weights, "embedding": embedding_weights}
        files = {array: file for array, file in weights.items() if file not in ("torchvision", "random")}
        source = Cache(like)
        encoders_of(source, weights=files, device=device)  # fail before the videos are decoded
        built = take_networks(build_cache(table, out, settings), source, weights=files, device=device)
    else:
        encoders = {}
        for array, name, where in (
            ("skim", skim, skim_weights),
            ("embedding", embedding, embedding_weights),
        ):
            if name != "none":
                with seeded(0):
                    network = FrameNetwork(name)
                record, size = load_weights(network, where), settings.frame_size
                encoders[array] = CacheEncoder(network, weights=record, frame_size=size, device=device)
        built = build_cache(table, out, settings, encoders)
    failures = read_table(out / "failures.csv")
    print(built)
    if len(failures):
        print(f"{len(failures)} videos could not be decoded, see {out / 'failures.csv'}; the first:")
        print("\n".join(f"  {failure.video}: {failure.reason}" for failure in failures.head(5).itertuples()))


def cache_add(
    path: CacheFolder,
    classifier_weights: Path,
    patch_size: int = 128,
    glance: BackboneName = "mobilenet_v2",
    glance_weights: str = "torchvision",
    glance_size: int | None = None,
    focus: BackboneName = "resnet50",
    focus_weights: str = "torchvision",
    device: str = "auto",
) -> None:
    """Add to a cache what patch selection needs: glance maps, the features of all patches, and the classifier
    over them; an interrupted call goes on.

    Args:
        path: a cache with frames.
        classifier_weights: file of the classifier's weights: gru and fc, as released, or input and output
            of a running maximum.
        patch_size: side of a patch in pixels of the cache's frames.
        glance: network that looks at whole frames.
        glance_weights: torchvision, random, or a file of weights.
        glance_size: pixels that frames are scaled to for it; by default 224, of a small network its own.
        focus: network that looks at patches.
        focus_weights: torchvision, random, or a file of weights.
        device: auto, cpu, cuda:0, ...
    """
    opened = Cache(path)
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


def cache_verify(path: CacheFolder) -> None:
    """Read a whole cache and check every checksum.

    Args:
        path: the cache.
    """
    opened = Cache(path)
    count = sum(1 for _ in tqdm(opened.verify(), desc="verifying", unit="file"))
    print(f"{opened}: all {count} files are as they were written")


def cache_extract(
    path: CacheFolder,
    out: Path,
    train: int = 80,
    validation: int = 20,
    test: int = 40,
    frame_size: int | None = None,
) -> None:
    """Make a small cache of the first videos of each split of a large one.

    Args:
        path: the large cache.
        out: folder of the small one; it must not exist.
        train: videos to take.
        validation: videos to take.
        test: videos to take.
        frame_size: pixels that frames are scaled down to; as they are by default.
    """
    wanted = {
        split: count
        for split, count in (("train", train), ("validation", validation), ("test", test))
        if count
    }
    print(extract(Cache(path), out, wanted, frame_size=frame_size))


def train_recognizer(
    path: CacheFolder,
    network: Literal["cached", "small"] = "cached",
    overwrite: bool = False,
    device: str = "auto",
    small: SmallTraining = SmallTraining(),  # noqa: B008
    recognizer: Annotated[RecognizerTraining, tyro.conf.arg(name="")] = RecognizerTraining(),  # noqa: B008
) -> None:
    """Train the recognizer on cached embeddings and store it, and its verdicts on all subsets, in the cache.

    Args:
        path: the cache.
        network: cached uses the embeddings that are there; small first trains the two small networks on
            the cached frames, for caches without features.
        overwrite: replace a recognizer (and small networks) that the cache has.
        device: auto, cpu, cuda:0, ...
        small: how small networks are trained.
        recognizer: how the recognizer is trained.
    """
    opened = Cache(path)
    resolve_device(device)
    if has_recognizer(opened) and not overwrite:
        print(f"{opened.path} has a recognizer, which is kept; --overwrite trains a new one")
    if network == "small":
        opened = train_small_networks(opened, small, device, overwrite=overwrite)
    opened = train_on_cache(opened, recognizer, device, overwrite=overwrite)
    for split in ("train", "validation"):
        if (opened.index["split"] == split).any():
            print(f"top-1 on all candidates, {split}: {recognizer_accuracy(opened, split, device):.3f}")


def train_ocsampler(
    path: CacheFolder,
    out: Path,
    drawn: tuple[Path, ...] = (),
    device: str = "auto",
    settings: Annotated[OCSamplerSettings, tyro.conf.arg(name="")] = OCSamplerSettings(),  # noqa: B008
) -> None:
    """Train an OCSampler on a cache; an interrupted training goes on.

    Args:
        path: the cache.
        out: the agent's file (.pt); logs go to a folder of the same name.
        drawn: caches of the same videos, made with --random-epoch and --like, whose candidates training
            takes in turn instead of those of the cache.
        device: auto, cpu, cuda:0, ...
        settings: of the agent and its training.
    """
    if out.suffix != ".pt":
        raise InputError(f"out {out}: expected a name that ends in .pt")
    caches = [Cache(one) for one in drawn]
    agent = entries.train_ocsampler(Cache(path), settings, out, drawn=caches, device=device)
    name = entries.ocsampler_name(settings)
    print(f"{out}: {name}, N = {settings.num_frames}, trained in {agent.training_seconds:.0f} s")


def train_adafocus(
    path: CacheFolder,
    out: Path,
    device: str = "auto",
    settings: Annotated[AdaFocusSettings, tyro.conf.arg(name="")] = AdaFocusSettings(),  # noqa: B008
) -> None:
    """Train an AdaFocus on a cache, all four stages; an interrupted training goes on.

    Args:
        path: a cache with frames; or with glances, patches and a classifier: then training begins at stage 2.
        out: folder of the agent (agent.pt), its stages' checkpoints, its logs, and its cache of patches.
        device: auto, cpu, cuda:0, ...
        settings: of the agent and its stages.
    """
    agent = entries.train_adafocus(Cache(path), settings, out, device=device)
    assert agent.patch_cache is not None
    name = entries.adafocus_name(agent.classifier.name)
    print(
        f"{out / 'agent.pt'}: {name}, trained in {agent.training_seconds:.0f} s; it acts on cache "
        f"{agent.patch_cache.path}"
    )


def train_adafocus_v2(
    path: CacheFolder,
    out: Path,
    validate: bool = False,
    device: str = "auto",
    settings: Annotated[AdaFocusV2Settings, tyro.conf.arg(name="")] = AdaFocusV2Settings(),  # noqa: B008
) -> None:
    """Train an AdaFocusV2 on the frames of a cache, end to end; an interrupted training goes on.

    Under torchrun every process takes a share of each batch (--parts must be a multiple of their number):
    torchrun --nproc-per-node 2 -m compare.cli train adafocus-v2 ...

    Args:
        path: a cache with frames, and for --focus-weights cache with the small network of its embedding.
        out: folder of the agent (agent.pt), its checkpoint and its logs.
        validate: log the top-1 on the validation split after every epoch.
        device: auto, cpu, cuda:0, ...
        settings: of the agent and its training.
    """
    with processes.joined(device) as own:
        agent = entries.train_adafocus_v2(Cache(path), settings, out, device=own, validate=validate)
        if processes.is_first():
            name = entries.adafocus_v2_name(settings)
            print(f"{out / 'agent.pt'}: {name}, trained in {agent.training_seconds:.0f} s")


def train_sb3(
    path: CacheFolder,
    out: Path,
    device: str = "auto",
    settings: Annotated[SB3Settings, tyro.conf.arg(name="")] = SB3Settings(),  # noqa: B008
) -> None:
    """Train a Stable-Baselines3 algorithm on a cache.

    Args:
        path: the cache.
        out: the model's file (.zip); its settings go beside it as .json, logs to a folder of the same name.
        device: auto, cpu, cuda:0, ...
        settings: of the algorithm and its training.
    """
    if out.suffix != ".zip":
        raise InputError(f"out {out}: expected a name that ends in .zip")
    entries.train_sb3_to_file(Cache(path), settings, out, device=device)
    print(f"{out}: {settings.algorithm}")


def evaluate(
    path: CacheFolder,
    policy: str,
    out: Path,
    num_frames: int | None = None,
    cost_per_gflop: float | None = None,
    gflops: float | None = None,
    exit: ExitRule = ExitRule(),  # noqa: B008
    published: ReleasedName | None = None,
    shift_div: int = 10,
    patch_size: int = 128,
    split: str = "test",
    method: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Let a method choose frames or patches for every video of a split, and write a result table.

    Args:
        path: the cache.
        policy: a saved agent's file, or uniform, random, centre, "single-frame confidence", motion,
            oracle, "all frames", "random patch", "centre patch", "most-moving patch", "patch oracle"; or,
            with --published, a released checkpoint's file.
        out: the result table (.parquet).
        num_frames: N, for methods that are not trained here; by default 2. A saved agent has its own.
        cost_per_gflop: λ of an OCSampler that was trained with a frame-number budget; its own by default.
        gflops: budget per video of an AdaFocusV2, which then leaves videos early; it looks at all frames by
            default.
        exit: when a video is left.
        published: what system the released checkpoint is of.
        shift_div: of an ocsampler's temporal shift.
        patch_size: of an adafocus or adafocus-v2, in pixels.
        split: train, validation or test.
        method: name in tables and curves; by default the policy's own.
        seed: of random, and the seed that the table states for methods that are not trained.
        device: auto, cpu, cuda:0, ...
    """
    if out.suffix != ".parquet":
        raise InputError(f"out {out}: expected a name that ends in .parquet")
    opened = Cache(path)
    resolve_device(device)
    require_seed(seed)
    if cost_per_gflop is not None and (published or policy in entries.UNTRAINED):
        raise InputError(f"cost_per_gflop {cost_per_gflop}: {policy} has no frame-number budget")
    if gflops is not None and policy in entries.UNTRAINED:
        raise InputError(f"gflops {gflops:g}: {policy} has no conditional exit")
    if exit != ExitRule() and gflops is None:
        raise InputError("exit: an exit rule goes with a budget (--gflops)")
    number = 2 if num_frames is None else num_frames
    if published is not None:
        file = Path(policy)
        entry = released_entry(
            published, file, opened, num_frames=number, shift_div=shift_div, patch_size=patch_size,
            gflops=gflops, rule=exit, device=device,
        )  # fmt: skip
        if not recognizer_is_of(published, file, opened):
            print(f"the recognizer is that of {path}, not the checkpoint's own")
    elif policy in entries.UNTRAINED:
        entry = entries.untrained_entry(policy, opened, split, number, seed)
    elif Path(policy).suffix or Path(policy).exists():
        if not Path(policy).is_file():
            raise InputError(f"agent {policy}: no such file")
        if num_frames is not None:
            raise InputError(f"num_frames {num_frames}: {policy} is a saved agent, which has its own number")
        entry = entries.saved_entry(
            Path(policy), opened, cost_per_gflop=cost_per_gflop, gflops=gflops, rule=exit,
            device=device,
        )  # fmt: skip
    else:
        raise InputError(
            f"policy {policy!r}: expected a saved agent's file or one of {', '.join(entries.UNTRAINED)}"
        )
    if method is not None:
        entry = replace(entry, method=method)
    table = evaluate_entry(entry, opened, split, device)
    write_results(table, out)
    row = summarise(table).iloc[0]
    print(
        f"{out}: {entry.method}, {entry.setting}: top-1 {row['top1']:.3f}, mAP "
        f"{row['mean_average_precision']:.3f} at {row['gflops']:.4g} GFLOPs per video, "
        f"{row['frames']:.2f} frames, {len(table)} videos"
    )


def curve(
    results: tyro.conf.Positional[list[Path]],
    out: Path,
    metric: Metric = "top1",
    title: str = "",
    overlay: str | None = None,
) -> None:
    """Summary table and accuracy-vs-budget curve from result tables.

    Args:
        results: result tables, or folders of them.
        out: folder for summary.csv, areas.csv and curve.png.
        metric: what the curve, its intervals and the areas are of: top1 or mean_average_precision.
        title: stands above the curve.
        overlay: show the published figures on activitynet, fcvid or mini-kinetics too.
    """
    write_summary(read_results(*results), out, metric=metric, title=title, overlay=overlay)


def selections(path: CacheFolder, results: list[Path], out: Path) -> None:
    """The frames chosen, as JSON lines: video, method, setting, seed, frame indices, timestamps in seconds.

    Args:
        path: the cache that the tables were made on.
        results: result tables, or folders of them.
        out: the file to write.
    """
    table = read_results(*results)
    write_selections(Cache(path), table, out)
    print(f"{out}: {len(table)} selections")
