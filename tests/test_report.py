"""The report page in a real browser, against the tables it was made from.

All of it in one file, though it is long: its tests share one browser and one page.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from compare.claims import measure_claims
from compare.claims_page import write_claims
from compare.pictures import draw_pictures
from compare.remarks import remarks
from compare.report.gallery import strip
from compare.report.page import write_report
from compare.run_folder import Run, claim
from compare.summary import in_order, methods_shown, write_summary
from tests.browser import CHROMIUM, DRIVER, open_browser
from tests.conftest import write_cache
from tests.result_tables import entry
from video_env.cache.store import Cache, read_meta, write_meta
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.budget import summarise
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.labels import method_labels, setting_labels
from video_env.evaluation.results import at_setting, join_results, write_results

# What a data set may call a video or a class.
NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> & \"é\" "


def write_run(
    folder: Path,
    cache: Cache,
    split: str,
    methods: dict[str, tuple[int, ...]],
    *,
    seeds: tuple[int, ...] = (0,),
    title: str = "small data set",
) -> Run:
    """A comparison of untrained methods, each with these numbers of frames."""
    settings = {name: {"num_frames": list(numbers)} for name, numbers in methods.items()}
    run = claim(folder, caches=dict.fromkeys(seeds, cache), split=split, title=title, methods=settings)
    tables = [
        evaluate(entry(name, cache, split, number, seed), cache, split)
        for seed in seeds
        for name, numbers in methods.items()
        for number in numbers
    ]
    results = join_results(tables)
    write_results(results, folder / "results.parquet")
    summarise(results).to_csv(folder / "summary.csv", index=False)
    return run


def rename(cache: Cache, prefix: str) -> Cache:
    """The cache with this before every id and class name."""
    index = cache.index
    index.assign(video=prefix + index["video"]).to_parquet(cache.path / "index.parquet")
    meta = read_meta(cache.path)
    meta["classes"] = [prefix + name for name in meta["classes"]]
    write_meta(cache.path, meta)
    return Cache(cache.path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(PACKAGED_CACHE, folder / "cache")
    methods = {
        "uniform": (1, 2, 4), "random": (1, 2, 4), "oracle": (2,), "all-frames": (12,), "random-patch": (1,),
        "most-moving-patch": (1,),
    }  # fmt: skip
    run = write_run(
        folder / "run", rename(Cache(folder / "cache"), NASTY), "train", methods, seeds=(0, 1), title=NASTY
    )
    summary = pd.read_csv(run.folder / "summary.csv")
    one = summary["method"] == "oracle"
    assert summary.loc[one, "top1_low"].tolist() == [1.0]
    summary.loc[one, "top1_high"] = 1 + 2**-52  # as sums of shares may be off: alone it still has a curve
    summary.to_csv(run.folder / "summary.csv", index=False)
    row = {"source": "a paper", "published": "76.9", "setting": "N = 2", "value": 0.25, "low": 0.125,
           "high": 0.375, "unit": "accuracy", "verdict": "reproduced"}  # fmt: skip
    row |= {"claim": "a", "title": NASTY, "claim_verdict": "not reproduced"}
    claims = [
        {
            **row,
            "measure": NASTY,
            "decides": True,
            "reason": NASTY,
            "trainings": NASTY,
            "seeds": 3,
            "claim_note": NASTY,
        },
        {**row, "measure": "second", "decides": False, "low": None},
    ]
    pd.DataFrame(claims).to_csv(run.folder / "claims.csv", index=False)
    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="the page is tested through selenium")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("the page is tested in Chromium: chromium and chromedriver are not installed")
    driver = open_browser(tmp_path_factory.mktemp("browser"))
    yield driver
    driver.quit()


class Page:
    """A report that is open in the browser."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.browser, self.url = browser, file.as_uri()
        self.resize(1280, 900)
        self.scheme("light")
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(self.url)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        # Without motion: what is clicked shall not be scrolling still.
        preferences = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        features = [{"name": key, "value": value} for key, value in preferences.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        (element,) = self.all(selector)
        return element

    def texts(self, selector: str) -> list[str]:
        return [element.get_property("textContent") for element in self.all(selector)]

    def choose(self, selector: str, text: str) -> None:
        """Choose in a drop-down as a person does."""
        from selenium.webdriver.support.select import Select

        Select(self.one(selector)).select_by_visible_text(text)

    def act(self) -> Any:
        from selenium.webdriver import ActionChains

        return ActionChains(self.browser, duration=0)

    def script(self, text: str, *arguments: object) -> Any:
        return self.browser.execute_script(text, *arguments)

    def matches(self) -> int:
        return int(self.one("#matches").text.split()[0])

    def setting(self, method: str) -> str:
        """The label of the setting that the page shows of a method."""
        text = "return document.querySelector(arguments[0]).selectedOptions[0].text"
        return self.script(text, f"#method-list [data-method='{method}']")

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since it was opened, but for what stands in the page itself."""
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        addresses = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if not address.startswith("data:")]


@pytest.fixture
def page(browser: Any, run: Run, tmp_path: Path) -> Page:
    return Page(browser, write_report(run, tmp_path / "page.html"))


def test_opens_quietly_and_alone(page: Page) -> None:
    page.one("#page-next").click()
    page.all(".strip")[0].click()
    assert page.script(
        "return [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )
    assert page.complaints() == []
    assert page.requests() == [page.url]


def test_names_are_text_and_nothing_else(page: Page, run: Run) -> None:
    assert page.script("return window.hacked") is None
    assert page.one("h1").get_property("textContent") == NASTY
    assert page.browser.title == NASTY.strip()
    cache = run.cache(0)
    first = cache.index.iloc[cache.rows("train")[0]]
    assert page.texts(".card .id")[0] == first["video"] == NASTY + "train-00000"
    assert page.texts(".card .badge")[0] == cache.classes[first["label"]]
    assert [page.texts(".claim td")[place] for place in (0, 5)] == [NASTY, NASTY]
    assert page.texts(".claim td")[4] == f"reproduced {NASTY}"
    assert page.texts(".claim td .badge") == ["reproduced", "does not decide"]
    assert page.all("img[src='x']") == []


# Each would set a mark if it were read as anything but text.
MARKUP = {
    "video": "a'b\"&amp;<svg/onload=window.hacked=1>\u2028</script><script>window.hacked=2</script>",
    "label": "<!--<script>window.hacked=3</script><img src=x onerror=window.hacked=4>\u2029'\"&lt;",
    "method": "</td></tr></table><script>window.hacked=5</script>{{7*7}}${window.hacked=6}`'\"\u2028&",
    "setting": "\"><img src=x onerror='window.hacked=7'>' onmouseover='window.hacked=8' x='&#39;",
    "part of a setting": "<img src=x onerror='window.hacked=13'>=\u2028",
    "title": "</title></h1><script>window.hacked=9</script>\u2028<base href=//example.org>$x_{$",
    "command": "</code></pre><iframe srcdoc='<script>parent.hacked=10</script>'></iframe>",
    "run's method": "<img src=x onerror=window.hacked=11>",
    "cache": "<img src=x onerror=window.hacked=12>&'\"",
}


def test_markup_anywhere_is_text(browser: Any, tmp_path: Path) -> None:
    """In ids, labels, methods, settings, title, command and the cache's path."""
    folder = tmp_path / MARKUP["cache"]
    shutil.copytree(PACKAGED_CACHE, folder)
    opened = Cache(folder)
    opened.index.assign(video=MARKUP["video"] + opened.index["video"]).to_parquet(folder / "index.parquet")
    meta = read_meta(folder)
    meta["classes"] = [MARKUP["label"] + name for name in meta["classes"]]
    write_meta(folder, meta)
    opened = Cache(folder)
    run = claim(
        tmp_path / "run", caches={0: opened}, split="test", title=MARKUP["title"],
        methods={MARKUP["run's method"]: {MARKUP["setting"]: MARKUP["label"]}}, command=["compare", MARKUP["command"]],
    )  # fmt: skip
    entries = [entry("uniform", opened, "test", number) for number in (1, 2)]
    entries.append(entry("random-patch", opened, "test"))
    tables = []
    for number, one in enumerate(entries):
        name = MARKUP["method"] + str(number // 2)
        setting = {**one.setting, MARKUP["part of a setting"]: MARKUP["setting"] + str(number)}
        named = replace(one, method=name, title=name, family=MARKUP["method"], setting=setting)
        tables.append(evaluate(named, opened, "test"))
    write_results(join_results(tables), run.folder / "results.parquet")
    summary = write_summary(run.results, run.folder, title=run.title)
    write_claims(measure_claims(run.results), run.folder)
    draw_pictures(run)
    assert {"curve.png", "selections.png"} <= {path.name for path in run.folder.iterdir()}

    page = Page(browser, write_report(run))
    page.act().move_to_element(page.all("#chart .mark")[0]).perform()
    assert MARKUP["method"] + "0" in page.one("#chart-tip").get_property("textContent")
    page.all("#legend button")[0].click()
    page.all(".strip")[0].click()
    first = opened.index.iloc[opened.rows("test")[0]]
    page.choose("#filter-class", " ".join(opened.classes[first["label"]].split()))
    page.one("#filter-text").send_keys("onload=window")
    assert page.matches() == (opened.index.iloc[opened.rows("test")]["label"] == first["label"]).sum()
    assert page.texts(".card .id")[0] == first["video"]
    assert page.texts(".card .badge")[0] == opened.classes[first["label"]]
    body = page.one("body").get_property("textContent")
    path = json.loads((run.folder / "run.json").read_text())["caches"]["0"]
    settings = json.dumps({MARKUP["setting"]: MARKUP["label"]}, indent=1, ensure_ascii=False)
    labels = setting_labels(summary)
    assert labels.str.contains("=13", regex=False).all()
    for text in (*summary["method"], *labels, MARKUP["run's method"], path, settings):
        assert text in body
    assert shlex.join(["video-env", "compare", MARKUP["command"]]) in body
    assert page.one("h1").get_property("textContent") == MARKUP["title"]
    assert page.script("return window.hacked") is None
    assert page.all("iframe, base, img[src=x], svg[onload]") == []
    assert page.complaints() == []
    assert page.requests() == [page.url]


def test_hover_says_what_a_point_is(page: Page, run: Run) -> None:
    summary = run.table("summary")
    assert summary is not None
    point = summary[(summary["method"] == "random") & at_setting(summary, num_frames=2)].iloc[0]
    mark = page.all("[data-method='random'] .mark")[1]
    assert not page.one("#chart-tip").is_displayed()
    page.act().move_to_element(mark).perform()
    said = page.one("#chart-tip").text.split("\n")
    assert said[:5] == [
        "random", "N = 2", f"top-1 {point['top1']:.3f}",
        f"95% interval {point['top1_low']:.3f} to {point['top1_high']:.3f}",
        f"{point['gflops']:.4g} GFLOPs per video",
    ]  # fmt: skip
    # The same by keyboard: to the next point of the method. mAP has no interval in this table.
    page.one("#chart").send_keys("\ue014")
    assert page.one("#chart-tip").text.split("\n")[:2] == ["random", "N = 4"]
    page.one("input[value='mean_average_precision'] + span").click()
    page.act().move_to_element(page.all("[data-method='random'] .mark")[1]).perform()
    assert page.one("#chart-tip").text.split("\n")[2:4] == [
        f"mAP {point['mean_average_precision']:.3f}", f"{point['gflops']:.4g} GFLOPs per video",
    ]  # fmt: skip


def test_points_stand_where_the_numbers_say(page: Page, run: Run) -> None:
    page.one("#curve-log").click() if page.one("#curve-log").is_selected() else None
    summary = run.table("summary")
    assert summary is not None
    drawn = page.script(
        "return [...document.querySelectorAll('#chart .mark')].map((mark) =>"
        " [mark.transform.baseVal[0].matrix.e, mark.transform.baseVal[0].matrix.f])"
    )
    # A straight scale: pixels are a linear function of the values, right and upwards.
    for pixels, values, sign in zip(
        np.transpose(drawn), (summary["gflops"], summary["top1"]), (1, -1), strict=True
    ):
        slope, start = np.polyfit(values, pixels, 1)
        np.testing.assert_allclose(slope * values + start, pixels, atol=0.1)
        assert slope * sign > 0


def test_a_click_hides_a_method(page: Page) -> None:
    def shown() -> list[str]:
        return page.script(
            "return [...document.querySelectorAll('#chart .series')].map((one) => one.dataset.method)"
        )

    everything = shown()
    assert len(everything) == 6
    button = {button.text: button for button in page.all("#legend button")}
    assert list(button) == ["uniform", "random", "oracle", "all frames", "random patch", "most-moving patch"]
    button["uniform"].click()
    assert shown() == [name for name in everything if name != "uniform"]
    assert button["uniform"].get_attribute("aria-pressed") == "false"
    button["uniform"].click()
    assert shown() == everything
    page.act().double_click(button["oracle"]).perform()
    assert shown() == ["oracle"]
    page.one("#legend-all").click()
    page.one("input[value='patches'] + span").click()
    assert set(shown()) == {"random-patch", "most-moving-patch", "all-frames"}


def curve_page(browser: Any, run: Run, folder: Path, summary: pd.DataFrame, results: pd.DataFrame) -> Page:
    """The report of a run with these tables and no videos."""
    shutil.copytree(run.folder, folder / "run")
    own = Run(folder / "run")
    write_results(results, own.folder / "results.parquet")
    summary.to_csv(own.folder / "summary.csv", index=False)
    return Page(browser, write_report(own, folder / "page.html", videos=0))


def test_eight_lines_are_on_at_first(browser: Any, run: Run, tmp_path: Path) -> None:
    """Those that the pictures show; the others stand in the legend, switched off."""
    names = ("centre", "motion", "early-exit", "ppo", "ocsampler", "ocsampler-budget", "CNN+LSTM")
    uniform, patches = (run.results[run.results["method"] == name] for name in ("uniform", "random-patch"))
    more = [uniform.assign(method=name, title=f"the {name}") for name in names]
    more[-1]["family"] = "own"  # a user's
    of_patches = ["adafocus", "adafocus-v2", "centre-patch", "patch-oracle"]
    more += [patches.assign(method=name, title=f"the {name}") for name in of_patches]
    results = in_order(join_results([run.results, *more]))
    page = curve_page(browser, run, tmp_path, summarise(results), results)

    def shown() -> list[str]:
        return page.script(
            "return [...document.querySelectorAll('#chart .series')].map((one) => one.dataset.method)"
        )

    def colours() -> set[str]:
        lines = "[...document.querySelectorAll('#chart .line')]"
        return set(page.script(f"return {lines}.map((line) => getComputedStyle(line).stroke)"))

    of_frames = results[results["method"].isin(["oracle", "all-frames", "random", "uniform", *names])]
    assert set(shown()) == set(methods_shown(results))
    assert len(shown()) == 8
    assert "CNN+LSTM" in shown()
    assert len(colours()) == 8
    pressed = {
        button.text: button.get_attribute("aria-pressed") == "true" for button in page.all("#legend button")
    }
    assert len(pressed) == results["method"].nunique() == 17
    assert {name for name, on in pressed.items() if on} == {method_labels(results)[name] for name in shown()}
    page.one("input[value='frames'] + span").click()
    assert set(shown()) == set(methods_shown(of_frames))
    off = next(
        button for button in page.all("#legend button") if button.get_attribute("aria-pressed") == "false"
    )
    off.click()
    assert len(shown()) == 9
    # What a reader has switched on stays on while other kinds are looked at.
    page.one("input[value='patches'] + span").click()
    assert set(shown()) == {*of_patches, "random-patch", "most-moving-patch", "all-frames"}
    assert len(colours()) == 7
    page.one("input[value='frames'] + span").click()
    assert len(shown()) == 9
    page.one("#legend-all").click()
    assert len(shown()) == 11
    assert page.complaints() == []


def test_a_large_gap_is_ringed_and_the_remarks_stand_below_the_table(
    browser: Any, run: Run, tmp_path: Path
) -> None:
    """One frame of ``random`` as if it were learned by heart, and two as if they were learned well."""
    results = in_order(run.results)
    random = results["method"] == "random"
    for count, gap in ((1, 0.2), (2, 0.05)):
        own = random & at_setting(results, num_frames=count)
        trained = results.loc[own, "correct"].mean() + gap
        results = results.assign(
            top1_train=results["top1_train"].mask(own, trained),
            training_seconds=results["training_seconds"].mask(own, 5.0),
        )
    page = curve_page(browser, run, tmp_path, summarise(results), results)
    rings = page.all("#chart .ring")
    assert len(rings) == 1
    mark = page.all("[data-method='random'] .mark")[0]
    assert mark.location["x"] + mark.size["width"] / 2 == pytest.approx(
        rings[0].location["x"] + rings[0].size["width"] / 2, abs=1
    )
    page.act().move_to_element(mark).perform()
    one = random & at_setting(results, num_frames=1)
    trained = results.loc[one, "top1_train"].iloc[0]
    assert f"top-1 {trained:.3f} on training videos" in page.one("#chart-tip").text
    assert "Ringed: over 10 points better on training videos." in page.one("#curve .note").text
    lines = page.texts(".remarks li")
    assert lines == remarks(results)
    assert [line for line in lines if "a gap of 20 points" in line] == [
        line for line in lines if "a gap" in line
    ]
    gaps = page.texts("#summary td")
    assert "+0.200 !" in gaps
    assert "+0.050" in gaps
    assert page.complaints() == []


def test_settings_sort_by_their_numbers(browser: Any, run: Run, tmp_path: Path) -> None:
    """Ten frames after two; and the reason for an empty difference is below the table."""
    uniform = run.results[run.results["method"] == "uniform"]
    ten = uniform[at_setting(uniform, num_frames=4)].assign(num_frames=10, gflops=5.0)
    costs = [
        uniform[at_setting(uniform, num_frames=4)].assign(
            num_frames=np.nan, cost_per_gflop=cost, method="mine"
        )
        for cost in (0.5, 12.0)
    ]
    results = join_results([uniform, ten.assign(method="mine", title="mine"), *costs])
    page = curve_page(browser, run, tmp_path, summarise(results), results)
    heading = next(one for one in page.all("#summary th button") if one.text == "setting")
    column = "#summary .sortable:first-of-type tbody td:nth-child(2)"
    heading.click()
    found = page.texts(column)
    assert found == ["N = 1", "N = 2", "N = 4", "N = 10", "λ = 0.5", "λ = 12"]
    heading.click()
    assert page.texts(column) == found[::-1]
    assert "to uniform: empty where a method costs more than the" in page.one("#summary .note").text


def test_summary_sorts(page: Page, run: Run) -> None:
    summary = run.table("summary")
    assert summary is not None
    heading = next(one for one in page.all("#summary th button") if one.text == "top-1")
    column = "#summary .sortable:first-of-type tbody td:nth-child(3)"
    for ascending in (True, False):
        heading.click()
        wanted = summary["top1"].sort_values(ascending=ascending).map("{:.3f}".format).to_list()
        assert page.texts(column)[: len(summary)] == wanted


def test_filters_count_what_the_table_counts(page: Page, run: Run) -> None:
    shown = {name: page.setting(name) for name in run.methods}
    by_method = run.results[setting_labels(run.results) == run.results["method"].map(shown)]

    def tables(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        of_seed = by_method[by_method["seed"] == seed]
        return tuple(
            of_seed.pivot(index="video", columns="method", values=name) for name in ("correct", "prediction")
        )  # type: ignore[return-value]

    correct, prediction = tables(0)
    assert page.matches() == len(correct) == 32
    page.choose("#outcome-method-0", "random")
    page.choose("#outcome-0", "is wrong")
    assert page.matches() == (~correct["random"].astype(bool)).sum()
    page.choose("#outcome-method-1", "all frames")
    page.choose("#outcome-1", "is right")
    both = ~correct["random"].astype(bool) & correct["all-frames"].astype(bool)
    assert 0 < page.matches() == both.sum()
    ids = both.index[both]
    assert set(page.texts(".card .id")) <= set(ids)
    page.choose("#seed", "1")
    correct_1, _ = tables(1)
    other = ~correct_1["random"].astype(bool) & correct_1["all-frames"].astype(bool)
    assert page.matches() == other.sum() != both.sum()
    page.one("#filters button[type=reset]").click()
    assert page.matches() == 32

    page.choose("#filter-agreement", "disagree")
    assert page.matches() == (prediction.nunique(axis=1) > 1).sum()
    page.one("#methods-shown summary").click()
    page.one("#show-none").click()
    for name in ("uniform", "oracle"):
        page.browser.find_element("xpath", f"//div[@id='method-list']//label[contains(., '{name}')]").click()
    assert 0 < page.matches() == (prediction["uniform"] != prediction["oracle"]).sum() < 32
    page.choose("#filter-agreement", "agree")
    assert 0 < page.matches() == (prediction["uniform"] == prediction["oracle"]).sum() < 32
    # Another setting of a method is another table.
    page.choose("[aria-label='setting of uniform']", "N = 1")
    one = run.results[at_setting(run.results, num_frames=1) & (run.results["seed"] == 0)]
    one = one[one["method"] == "uniform"].set_index("video")["prediction"]
    assert page.matches() == (one == prediction["oracle"].loc[one.index]).sum()
    page.one("#filters button[type=reset]").click()

    cache = run.cache(0)
    page.choose("#filter-class", cache.classes[3])
    assert page.matches() == (cache.index.iloc[cache.rows("train")]["label"] == 3).sum()
    page.one("#filters button[type=reset]").click()
    page.one("#filter-text").send_keys("Train-0001")
    assert page.matches() == correct.index.str.contains("train-0001", regex=False).sum() == 10
    page.one("#filter-text").send_keys("no such video")
    assert page.matches() == 0
    assert page.complaints() == []


def test_a_card_shows_what_was_chosen(page: Page, run: Run) -> None:
    results = run.results[run.results["seed"] == 0]
    results = results.assign(
        label=results["method"].map(method_labels(results)), setting=setting_labels(results)
    ).set_index(["label", "setting", "video"])
    cache = run.cache(0)
    for number in (0, 7):
        card = page.all(".card")[number]
        video = card.get_dom_attribute("data-video")
        for row in card.find_elements("css selector", ".row.right, .row.wrong"):
            name, track, verdict = row.find_elements("xpath", "./*")
            setting = name.find_element("css selector", "small").text
            method = name.text.removesuffix(setting).strip()
            found = results.loc[(method, setting, video)]
            columns = page.script(
                "return [...arguments[0].children].map((mark) => mark.style.gridColumnStart)", track
            )
            assert [int(column) - 1 for column in columns] == list(found["selected"])
            said = verdict.get_property("textContent")
            assert said.startswith("✓ right" if found["correct"] else "✗ wrong")
            probability = round(float(found["scores"][found["prediction"]]) * 100)
            assert f"{cache.classes[found['prediction']]} {probability}%" in said
            assert f"{found['gflops']:.3g} GFLOPs" in said
    for number, cards in ((1, 10), (2, 10), (3, 10), (4, 2)):
        assert page.one("#page-number").text == f"{number} / 4"
        assert len(page.all(".card")) == cards
        page.one("#page-next").click() if number < 4 else None
    assert not page.one("#page-next").is_enabled()


def test_patches_are_drawn_where_they_were(page: Page, run: Run) -> None:
    card = page.all(".card")[2]
    results = run.results
    found = results[
        (results["method"] == "most-moving-patch") & (results["seed"] == 0)
        & (results["video"] == card.get_dom_attribute("data-video"))
    ].iloc[0]  # fmt: skip
    next(
        one for one in card.find_elements("css selector", ".name") if one.text.startswith("most-moving")
    ).click()
    drawn = page.script(
        "return [...arguments[0].querySelectorAll('.look:not(.under)')].map((one) =>"
        " ['y', 'x', 'height', 'width'].map((name) => one[name].baseVal.value))",
        card,
    )
    # Patches of 36 pixels were cut from frames of 96; the page's frames are the cache's of 32.
    side = 36 / 96 * 32
    points = np.reshape(found["patches"], (-1, 2))
    corners = points * (32 - side) + 32 * np.stack([np.zeros(12), found["selected"]], axis=1)
    np.testing.assert_allclose(drawn, np.concatenate([corners, np.full((12, 2), side)], axis=1), atol=0.1)
    # Frames that a method did not process are veiled.
    next(one for one in card.find_elements("css selector", ".name") if one.text.startswith("oracle")).click()
    veiled = page.script(
        "return [...arguments[0].querySelectorAll('.veil')].map((one) => one.x.baseVal.value / 32)", card
    )
    oracle = results[(results["method"] == "oracle") & (results["seed"] == 0)].set_index("video")["selected"]
    assert sorted([*veiled, *oracle[found["video"]]]) == list(range(12))


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)" (WCAG 2.2)."""
    values = np.array([int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    darker, brighter = sorted([luminance(one), luminance(other)])
    return (brighter + 0.05) / (darker + 0.05)


def test_colours_follow_the_scheme(page: Page) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.scheme(scheme)
        ground = page.script("return getComputedStyle(document.body).backgroundColor")
        grounds.append(luminance(ground))
        # Text on what lies behind it: the nearest element with a ground of its own.
        pairs = page.script("""return ["h1", ".facts", "nav a", "td", "th", ".legend button", ".badge.good", ".badge.bad",
            ".note", ".name small", ".verdict small", ".right .verdict b", ".wrong .verdict b", "select", "dt"].map((selector) => {
            const element = document.querySelector(selector);
            let behind = element;
            while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)" && behind !== document.body) behind = behind.parentElement;
            return [selector, getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        })""")
        for selector, colour, behind in pairs:
            assert contrast(colour, behind) >= 4.5, f"{selector}, {scheme}"
        for line in page.all("#chart .line, .track i"):
            assert (
                contrast(
                    page.script(
                        "const style = getComputedStyle(arguments[0]); return arguments[0].matches('i') ? style.backgroundColor : style.stroke",
                        line,
                    ),
                    ground,
                )
                >= 3
            )
    assert grounds[0] > 0.9
    assert grounds[1] < 0.05


def test_fits_a_phone(page: Page) -> None:
    page.resize(390, 844, mobile=True)
    page.script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.script("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    # What is wider scrolls in a box of its own; the rest ends within the screen.
    outside = page.script("""return [...document.querySelectorAll("body *")].filter((one) =>
        !one.closest(".scroller, pre, .hidden, svg") && one.getBoundingClientRect().right > 391).map((one) => one.outerHTML.slice(0, 80))""")
    assert outside == []
    assert page.script("return document.querySelector('#chart svg').getBoundingClientRect().width") <= 390
    page.all(".strip")[0].click()  # Enlarged frames too.
    assert page.script("return document.documentElement.scrollWidth") == 390


def test_without_frames_tables_and_single_labels(browser: Any, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    index = cache.index.assign(labels=[[label, (label + 1) % 4] for label in cache.labels])
    index.to_parquet(cache.path / "index.parquet")
    meta = read_meta(cache.path)
    del meta["arrays"]["frames"]
    write_meta(cache.path, meta)
    run = write_run(tmp_path / "run", Cache(cache.path), "test", {"uniform": (1, 2)})
    (run.folder / "summary.csv").unlink()
    file = write_report(run, videos=5)
    assert file == run.folder / "report.html"
    page = Page(browser, file)
    assert page.complaints() == []
    assert page.one("#matches").text == "5 of 5 videos (the first of 8 of the split)"
    assert len(page.all(".card .tile")) == 5 * 6
    assert page.all("img, #curve, #claims") == []
    # A class is that of every video with the label among its own.
    page.choose("#filter-class", "b")
    labels = index["labels"].iloc[cache.rows("test")[:5]]
    assert page.matches() == labels.map(lambda of_video: 1 in of_video).sum()
    write_report(run, file, videos=0)
    assert Page(browser, file).all("#videos") == []


def test_bad_input(tmp_path: Path, cache: Cache) -> None:
    run = claim(tmp_path, caches={0: cache}, split="test", title="", methods={})
    with pytest.raises(InputError, match="holds no results yet"):
        write_report(run)
    run = write_run(tmp_path, cache, "test", {"uniform": (1,)})
    with pytest.raises(InputError, match="videos: found -1"):
        write_report(run, videos=-1)
    write_results(run.results.iloc[1:], tmp_path / "results.parquet")
    with pytest.raises(InputError, match=r"uniform, N = 1, seed 0: no row of video 'video-16'"):
        write_report(Run(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_strip_holds_the_frames_in_order() -> None:
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    frames = np.stack(
        [
            np.broadcast_to(ramp[:40, None, None], (40, 48, 3)),
            np.broadcast_to(ramp[None, :, None], (40, 48, 3)),
        ]
    )
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip(frames, 20)))), int)
    assert image.shape == (20, 48, 3)
    small = [np.asarray(Image.fromarray(frame).resize((24, 20)), int) for frame in frames]
    assert np.abs(image - np.concatenate(small, axis=1)).mean() < 6


def test_the_same_run_makes_the_same_page(run: Run, tmp_path: Path) -> None:
    first, second = (write_report(run, tmp_path / name).read_bytes() for name in ("1.html", "2.html"))
    assert first == second
    assert str(Path.home()).encode() not in first
