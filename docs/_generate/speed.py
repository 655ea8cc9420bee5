"""Tables of measured speed: the directive ``speed``, and a warning for every measurement that no page shows.

``{speed} FILE.json`` shows results of a benchmark, with its command and its machine. A line is
``description | name of the result in the file | unit``; the unit may be missing. The line ``*`` shows all
results that no earlier line names, under their own names. A name that is not in the file is a warning, and
so is a file that no page shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from _generate.tables import Cell, figure, table

RESULTS = Path(__file__).parents[1] / "results"
LOGGER = logging.getLogger(__name__)


class Speed(SphinxDirective):
    """Results of one benchmark."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        file = RESULTS / self.arguments[0]
        if not file.is_file():
            self.warn(f"no file docs/results/{file.name}")
            return []
        self.env.note_dependency(str(file))
        _shown(self.env).setdefault(self.env.docname, set()).add(file.name)
        report = json.loads(file.read_text())
        rows = list(self.rows(report["results"]))
        if not rows:
            self.warn("no row is shown")
            return []
        aims = any(row[2] for row in rows)
        cells = [row if aims else row[:2] for row in rows]
        header = ["what", "measured", "aim"] if aims else ["what", "measured"]
        command, name = report["command"], f"docs/results/{file.name}"
        caption: list[Cell] = [nodes.literal(command, command), f" on {_machine(report['machine'])}; ",
                               nodes.literal(name, name)]  # fmt: skip
        return [table(header, cells, caption=caption)]

    def rows(self, results: dict[str, Any]) -> Iterator[list[Cell]]:
        """Description, figure with its unit, aim."""
        left = dict(results)
        for line in filter(None, map(str.strip, self.content)):
            if line == "*":
                for name, value in left.items():
                    yield _row(nodes.Text(name), name, value, "")
                return
            description, name, unit = [*(part.strip() for part in line.split("|")), "", ""][:3]
            if name not in results:
                self.warn(f"no result {name!r}; it has {', '.join(results)}")
                continue
            words, _ = self.state.inline_text(description, self.lineno)
            yield _row(nodes.inline("", "", *words), name, results[name], unit)
            left.pop(name, None)

    def warn(self, message: str) -> None:
        LOGGER.warning("speed %s: %s", self.arguments[0], message, location=self.get_location())


def _row(description: nodes.Node, name: str, value: Any, unit: str) -> list[Cell]:
    aim = re.search(r"\(aim ([^)]*)\)", name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = figure(value) if number else str(value)
    return [description, f"{text} {unit}".strip(), aim[1] if aim else ""]


def _machine(facts: dict[str, Any]) -> str:
    """In words."""
    words = [f"{facts['processor']}, {facts['cores']} cores"]
    if facts.get("gpu"):
        words.append(str(facts["gpu"]))
    words += [f"{name} {facts[name]}" for name in ("python", "torch") if name in facts]
    return ", ".join(words)


def _shown(env: BuildEnvironment) -> dict[str, set[str]]:
    """By page, the files that it shows."""
    if not hasattr(env, "speed_shown"):
        env.speed_shown = {}  # type: ignore[attr-defined]
    return env.speed_shown  # type: ignore[attr-defined,no-any-return]


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget what a page showed, because it is read again."""
    _shown(env).pop(docname, None)


def join(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    """Add what another process has read."""
    _shown(env).update({name: files for name, files in _shown(other).items() if name in docnames})


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of measurements that no page shows."""
    shown = set().union(*_shown(env).values())
    for file in sorted(RESULTS.glob("*.json")):
        if file.name not in shown:
            LOGGER.warning("docs/results/%s: no page shows it (speed.md is the place)", file.name)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("speed", Speed)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", join)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "version": "1"}
