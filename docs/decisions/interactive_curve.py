"""The curve drawn by four programs, as pages under the report's content security policy, and what a browser
says of them. It made the numbers of ``interactive-curve.md`` beside it, which has the commands.

python docs/decisions/interactive_curve.py NODE_MODULES OUT
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # for the browser, part of the tests

import jinja2
import pandas as pd

from compare.report.page import curve_data, json_text, source
from tests.browser import open_browser

ROOT = Path(__file__).resolve().parent.parent.parent
OPENINGS = 5
PLOTLY = """
import Plotly from "plotly.js-basic-dist-min";
const dark = matchMedia("(prefers-color-scheme: dark)");
const draw = () => Plotly.react(box, methods.map((method) => ({
  name: method.label, mode: "lines+markers", line: { dash: method.bound ? "dot" : "solid" },
  x: method.points.map((point) => point.gflops), y: method.points.map((point) => point.values.top1[0]),
  error_y: { type: "data", symmetric: false,
    array: method.points.map(({ values: { top1 } }) => top1[2] - top1[0]),
    arrayminus: method.points.map(({ values: { top1 } }) => top1[0] - top1[1]) },
})), {
  paper_bgcolor: "transparent", plot_bgcolor: "transparent",
  font: { color: dark.matches ? "#e6eaef" : "#1c2128" },
  xaxis: { type: "log", title: { text: "GFLOPs a video" } }, yaxis: { title: { text: metrics.top1 } },
  legend: { orientation: "h", y: -0.2 }, height: 700, margin: { t: 20, r: 10 },
}, { responsive: true, displaylogo: false });
dark.addEventListener("change", draw);
draw();
"""
PLOT = """
import * as Plot from "@observablehq/plot";
const rows = methods.flatMap((method) => method.points.map((point) => ({
  method: method.label, bound: method.bound, gflops: point.gflops,
  value: point.values.top1[0], low: point.values.top1[1], high: point.values.top1[2] })));
const draw = () => box.replaceChildren(Plot.plot({
  width: box.clientWidth, height: 420,
  x: { type: "log", label: "GFLOPs a video" }, y: { label: metrics.top1 },
  color: { legend: true, domain: methods.map((method) => method.label) },
  style: { background: "none" },
  marks: [
    Plot.ruleX(rows, { x: "gflops", y1: "low", y2: "high", stroke: "method", strokeOpacity: 0.6 }),
    Plot.line(rows, { x: "gflops", y: "value", stroke: "method" }),
    Plot.dot(rows, { x: "gflops", y: "value", fill: "method", tip: true, ariaLabel: "method" }),
  ],
}));
new ResizeObserver(draw).observe(box);
draw();
"""
VEGA_SPEC = """
const rows = methods.flatMap((method) => method.points.map((point) => ({
  method: method.label, gflops: point.gflops,
  value: point.values.top1[0], low: point.values.top1[1], high: point.values.top1[2] })));
const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = () => (dark.matches ? "#e6eaef" : "#1c2128");
const spec = () => ({
  $schema: "https://vega.github.io/schema/vega-lite/v6.json",
  width: "container", height: 420, background: null,
  data: { values: rows },
  config: {
    axis: { labelColor: ink(), titleColor: ink() }, legend: { labelColor: ink(), titleColor: ink() },
  },
  encoding: {
    x: { field: "gflops", type: "quantitative", scale: { type: "log" }, title: "GFLOPs a video" },
    color: { field: "method", type: "nominal", legend: { orient: "bottom", columns: 3, symbolLimit: 0 } },
    opacity: { condition: { param: "shown", value: 1 }, value: 0.05 },
  },
  layer: [
    { mark: "rule", encoding: {
      y: { field: "low", type: "quantitative", title: metrics.top1 }, y2: { field: "high" } } },
    { mark: "line", encoding: { y: { field: "value", type: "quantitative" } } },
    { mark: { type: "point", filled: true, tooltip: true },
      params: [{ name: "shown", select: { type: "point", fields: ["method"] }, bind: "legend" }],
      encoding: { y: { field: "value", type: "quantitative" } } },
  ],
});

"""
VEGA_EMBED = (
    """
import embed from "vega-embed";
import { expressionInterpreter } from "vega-interpreter";
"""
    + VEGA_SPEC
    + """
const draw = () => embed(box, spec(), { actions: false, renderer: "svg", ...OPTIONS });
dark.addEventListener("change", draw);
draw();
"""
)
# The specification is compiled when the page is written, as Altair can; only Vega is embedded.
VEGA_ALONE = """
import { parse, View } from "vega";
import { expressionInterpreter } from "vega-interpreter";
import compiled from "./compiled.json";
const draw = () => {
  box.replaceChildren(document.createElement("div"));
  new View(parse(compiled, null, { ast: true }),
    { expr: expressionInterpreter, renderer: "svg", container: box.firstChild, hover: true }).runAsync();
};
draw();
"""
COMPILE = (
    """
import { compile } from "vega-lite";
import { writeFileSync } from "node:fs";
const matchMedia = () => ({ matches: false });
const { metrics, methods } = DATA;
"""
    + VEGA_SPEC
    + """
writeFileSync("compiled.json", JSON.stringify(compile(spec()).spec));
"""
)
PROGRAMS = {
    "Plotly, basic bundle": PLOTLY,
    "Observable Plot": PLOT,
    "Vega-Lite by vega-embed": VEGA_EMBED.replace("...OPTIONS", ""),
    "Vega-Lite by vega-embed, interpreter": VEGA_EMBED.replace(
        "...OPTIONS", "ast: true, expr: expressionInterpreter, defaultStyle: false"
    ),
    "Vega, compiled before, interpreter": VEGA_ALONE,
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src '{style_hash}'; script-src '{script_hash}'">
<link rel="icon" href="data:,">
<title>Curve</title>
<style>{style}</style>
</head>
<body>
<main>{body}</main>
<script type="application/json" id="data-curve">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""
READ = """
const { metrics, methods } = JSON.parse(document.getElementById("data-curve").textContent);
const box = document.getElementById("chart");
"""
LOOK = """
const box = document.getElementById("chart");
const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
  .map((part) => (part / 255 <= 0.03928 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const words = [...box.querySelectorAll("text")].filter((text) => /^[\\d.]+$/.test(text.textContent))[0];
const ground = luminance(getComputedStyle(document.body).backgroundColor);
const fill = words && luminance(getComputedStyle(words).fill);
return {
  drawn: box.querySelectorAll("svg path").length,
  wide: document.documentElement.scrollWidth - innerWidth,
  contrast: words ? (Math.max(fill, ground) + 0.05) / (Math.min(fill, ground) + 0.05) : null,
  focusable: document.querySelectorAll("main button, main input, main a[href], main [tabindex='0']").length,
};
"""


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _bundle(modules: Path, name: str, code: str, *, platform: str = "browser") -> str:
    """One script that holds the library, so that the page needs no network."""
    work = modules.parent
    (work / "entry.mjs").write_text(code)
    made = subprocess.run(
        [modules / ".bin" / "esbuild", "entry.mjs", "--bundle", "--minify", "--format=esm", "--charset=ascii",
         f"--platform={platform}", "--legal-comments=none"],
        cwd=work, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise SystemExit(f"{name}: {made.stderr}")
    return made.stdout.replace("</script", "<\\/script")


def _pages(modules: Path, out: Path) -> dict[str, Path]:
    summary = pd.read_csv(ROOT / "docs" / "results" / "study-all.csv")
    data = curve_data(summary, {})
    for method in data["methods"]:
        method["shows"] = {"all": True}  # every line, with every program
    text = json_text(data)
    compiler = _bundle(modules, "compile", COMPILE.replace("DATA", json.dumps(data)), platform="node")
    (modules.parent / "compile.mjs").write_text(compiler)
    subprocess.run(["node", "compile.mjs"], cwd=modules.parent, check=True)
    template = source("page.html")
    section = template[template.index('<section id="curve"') :]
    section = section[: section.index("</section>") + len("</section>")]
    body = jinja2.Template(section).render(metrics=["top1"])
    style = source("page.css")
    scripts = {
        "by hand, as it is": source("page.js") + "\n" + source("curve.js"),
        **{name: _bundle(modules, name, _imports_first(code)) for name, code in PROGRAMS.items()},
        "nothing": "",
    }
    pages = {}
    for name, script in scripts.items():
        by_hand = name == "by hand, as it is"
        pages[name] = out / f"{name.replace(' ', '-').replace(',', '')}.html"
        pages[name].write_text(
            PAGE.format(
                style=style, style_hash=_hash(style), script=script, script_hash=_hash(script), data=text,
                body=body if by_hand else '<div id="chart"></div>',
            ),
            encoding="utf-8",
        )  # fmt: skip
    return pages


def _imports_first(code: str) -> str:
    lines = code.strip().splitlines()
    imports = [line for line in lines if line.startswith("import ")]
    return "\n".join(imports) + READ + "\n".join(line for line in lines if not line.startswith("import "))


def _emulate(browser: Any, *, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def _open(file: Path, out: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(Path(profile))
        try:
            _emulate(browser, width=1280, scheme="light")
            browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
            browser.get(file.as_uri())
            browser.execute_async_script("setTimeout(arguments[0], 1500)")
            metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            own = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
            load = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
            messages = [entry["message"] for entry in browser.get_log("browser")]
            seen = {"load": load, "own": own, "messages": messages, **browser.execute_script(LOOK)}
            browser.save_screenshot(str(out / f"{file.stem}-light.png"))
            _emulate(browser, width=1280, scheme="dark")
            browser.execute_async_script("setTimeout(arguments[0], 800)")
            seen["contrast in the dark"] = browser.execute_script(LOOK)["contrast"]
            browser.save_screenshot(str(out / f"{file.stem}-dark.png"))
            _emulate(browser, width=375, scheme="light")
            browser.get(file.as_uri())
            browser.execute_async_script("setTimeout(arguments[0], 800)")
            seen["wider than a phone"] = browser.execute_script(LOOK)["wide"]
            browser.save_screenshot(str(out / f"{file.stem}-phone.png"))
            return seen
        finally:
            browser.quit()


def main() -> None:
    modules, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, file in _pages(modules, out).items():
        opened = [_open(file, out) for _ in range(OPENINGS)]
        last, text = opened[-1], file.read_bytes()
        refused = [words for words in last["messages"] if "Security Policy" in words or "EvalError" in words]
        rows.append(
            {
                "program": name,
                "page, kB": round(len(text) / 1000),
                "gzipped, kB": round(len(gzip.compress(text)) / 1000),
                "load event, ms": round(statistics.median(seen["load"] for seen in opened)),
                "main thread, ms": round(1000 * statistics.median(seen["own"] for seen in opened)),
                "paths drawn": last["drawn"],
                "refused by the policy": len(refused),
                "contrast, dark": round(last["contrast in the dark"] or 0, 1),
                "wider than a phone, px": last["wider than a phone"],
                "can be focused": last["focusable"],
            }
        )
        (out / f"{file.stem}.log").write_text("\n".join(last["messages"]))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(out / "interactive_curve.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
