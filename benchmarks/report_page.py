"""Opening the report page of a comparison over 2,000 videos, in headless Chromium.

python benchmarks/report_page.py

Frames come from the built-in data set. The methods' choices are made up, because the time does not depend on
them. It needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the browser, which is part of the tests

import numpy as np
import pandas as pd
from report import write_report as write_json

from compare.report.page import write_report
from compare.run_folder import claim
from tests.browser import open_browser
from video_env.cache.derive import cache_from_arrays
from video_env.cache.store import Cache
from video_env.data import demo
from video_env.evaluation.budget import summarise
from video_env.evaluation.results import join_results, write_results

VIDEOS, SEEDS, OPENINGS = 2000, 3, 7
FRAME_METHODS = {f"method-{number}": ("num_frames", (1, 2, 3, 4, 6)) for number in range(12)}
PATCH_METHODS = {f"patch-method-{number}": ("patch_size", (24, 36, 48)) for number in range(8)}


def _cache(folder: Path) -> Cache:
    planned = demo.plan(demo.DemoData(train=0, validation=0, test=VIDEOS))
    index = pd.DataFrame(
        {
            "video": [video.name for video in planned],
            "label": [video.label for video in planned],
            "split": "test",
        }
    )
    middle = slice(demo.FRAMES_PER_CANDIDATE // 2, None, demo.FRAMES_PER_CANDIDATE)
    frames = np.stack([demo.render(video)[middle] for video in planned])
    classes = ["+".join(map(str, pair)) for pair in demo.CLASSES]
    return cache_from_arrays(folder, index, {"frames": frames}, classes, {})


def _results(cache: Cache) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    tables = []
    for seed in range(SEEDS):
        for method, (name, values) in {**FRAME_METHODS, **PATCH_METHODS}.items():
            for place, value in enumerate(values):
                table = _table(cache, generator, place, method in PATCH_METHODS)
                own = {"method": method, "title": method.replace("-", " "), "family": "made up", name: value}
                tables.append(table.assign(**own, seed=seed, split="test", data="made up"))
    return join_results(tables)


def _table(cache: Cache, generator: np.random.Generator, place: int, of_patches: bool) -> pd.DataFrame:
    candidates = cache.num_candidates
    scores = generator.dirichlet(np.ones(len(cache.classes)), VIDEOS).astype(np.float32)
    chosen = generator.random((VIDEOS, candidates)).argsort(axis=1)[
        :, : candidates if of_patches else place + 1
    ]
    prediction = scores.argmax(axis=1)
    table = pd.DataFrame(
        {
            "video": cache.index["video"],
            "label": cache.labels,
            "prediction": prediction,
            "correct": prediction == cache.labels,
            "confidence": scores[np.arange(VIDEOS), cache.labels],
            "gflops": 0.01 * (place + 1) * generator.uniform(0.9, 1.1, VIDEOS),
            "labels": [[label] for label in cache.labels.tolist()],
            "frames": chosen.shape[1],
            "selected": np.sort(chosen, axis=1).tolist(),
            "scores": list(scores),
            "videos_per_second": 100.0,
            "training_seconds": 10.0,
        }
    )
    if of_patches:
        points = generator.random((VIDEOS, 2 * candidates)).tolist()
        table = table.assign(patches=points, exit_after=candidates)
    return table


def _open(file: Path, folder: Path) -> dict[str, float]:
    """Seconds by the page's own clock, in a new browser."""
    browser = open_browser(folder)
    try:
        # Beside the clock: the page's own processor time, which other work on the machine does not change.
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.get(file.as_uri())
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        own = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
        times = browser.execute_script("""
            const times = { load: performance.getEntriesByType("navigation")[0].loadEventEnd };
            let begun = performance.now();
            const outcome = document.getElementById("outcome-0");
            outcome.value = "wrong";
            outcome.dispatchEvent(new Event("change", { bubbles: true }));
            document.body.getBoundingClientRect();
            times.filter = performance.now() - begun;
            begun = performance.now();
            document.getElementById("page-next").click();
            document.body.getBoundingClientRect();
            return { ...times, page: performance.now() - begun };""")
        return {name: milliseconds / 1000 for name, milliseconds in times.items()} | {"own": own}
    finally:
        browser.quit()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = _cache(folder / "cache")
        run = claim(
            folder / "run",
            caches=dict.fromkeys(range(SEEDS), cache),
            split="test",
            title=f"{VIDEOS:,} videos",
            methods={},
        )
        results = _results(cache)
        write_results(results, run.folder / "results.parquet")
        summarise(results[results["video"].isin(cache.index["video"][:200])]).to_csv(
            run.folder / "summary.csv", index=False
        )
        begun = time.perf_counter()
        file = write_report(run)
        seconds = time.perf_counter() - begun
        opened = pd.DataFrame([_open(file, folder / f"browser-{number}") for number in range(OPENINGS)])
        write_json(
            "report_page",
            {
                "videos": VIDEOS,
                "methods": len(FRAME_METHODS) + len(PATCH_METHODS),
                "tables of choices in the page": len(results) // VIDEOS,
                "the page: MiB": file.stat().st_size / 2**20,
                "writing it: seconds": seconds,
                "opening it, until its load event: seconds (aim under 3)": opened["load"].median(),
                f"the slowest of {OPENINGS} openings: seconds": opened["load"].max(),
                "opening it, processor time of its main thread: seconds": opened["own"].median(),
                "a filter, until the videos stand there: seconds": opened["filter"].median(),
                "the next 10 videos: seconds": opened["page"].median(),
            },
        )


if __name__ == "__main__":
    main()
