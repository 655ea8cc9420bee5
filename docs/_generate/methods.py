"""The directive ``methods``: the table of methods that ``video-env compare`` takes by their ids."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from _generate.tables import table
from video_env.evaluation import registry


class Methods(SphinxDirective):
    """Ids, and what they stand for."""

    def run(self) -> list[nodes.Node]:
        registry.load()
        rows = [[nodes.literal(one.id, one.id), one.about] for one in registry.methods().values()]
        return [table(["id", "what it does"], rows, texts=2)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("methods", Methods)
    return {"parallel_read_safe": True}
