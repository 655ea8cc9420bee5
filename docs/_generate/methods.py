"""The directive ``methods``: the table of the methods that ``video-env compare`` takes by id."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from _generate.tables import table
from video_env.evaluation import registry


class Methods(SphinxDirective):
    """Ids, titles, and what the methods do."""

    def run(self) -> list[nodes.Node]:
        registry.load()
        rows = [[nodes.literal(one.id, one.id), one.title, one.about] for one in registry.methods().values()]
        return [table(["id", "title", "what it does"], rows, texts=3)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("methods", Methods)
    return {"parallel_read_safe": True}
