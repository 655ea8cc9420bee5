"""The papers' claims with our measurements, of several comparisons side by side: the directive ``claims``.

Each line names a file of ``docs/results``, and after a bar what stands above its column:
``study-all-claims.csv | all videos``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from compare.claims_page import claims_page
from video_env.evaluation.tables import read_table

RESULTS = Path(__file__).parents[1] / "results"
LOGGER = logging.getLogger(__name__)


class Claims(SphinxDirective):
    """A table with a column for each file."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        tables = {}
        for line in filter(None, map(str.strip, self.content)):
            name, _, title = (part.strip() for part in line.partition("|"))
            file = RESULTS / name
            if not file.is_file():
                LOGGER.warning("claims: no file docs/results/%s", name, location=self.get_location())
                continue
            self.env.note_dependency(str(file))
            tables[title or name] = read_table(file)
        if not tables:
            return []
        found = nodes.container()
        lines = StringList(claims_page(tables).splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, found)
        return found.children


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True}
