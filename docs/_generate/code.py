"""What a page says of the code: the ``source`` role and the ``docstring`` directive.

The role, as in {source}`agents/ocsampler/networks.py::CandidatePolicy`, names a file of the repository and
something that is defined in it; one that is not there is a warning. The directive shows a docstring, which
is Markdown, as part of the page: ``{docstring} video_env.data.demo`` or ``{docstring} package.module:Name``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

ROOT = Path(__file__).parents[2]
LOGGER = logging.getLogger(__name__)


class Source(SphinxRole):
    """A file of the repository, or a name defined in one."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path, _, name = self.text.partition("::")
        file = ROOT / path
        if not file.exists():
            LOGGER.warning("source %s: no such file", path, location=self.get_location())
        elif name and not _defines(file, name):
            LOGGER.warning("source %s: defines no %s", path, name, location=self.get_location())
        else:
            self.env.note_dependency(str(file))
        shown = f"{name} in {path}" if name else path
        return [nodes.literal(shown, shown, classes=["source"])], []


class Docstring(SphinxDirective):
    """The docstring of a module, class or function, without its first paragraph if ``:rest:`` is given."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"rest": lambda argument: True}

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].partition(":")
        try:
            found = importlib.import_module(module)
            shown = getattr(found, name) if name else found
        except (ImportError, AttributeError) as error:
            LOGGER.warning("docstring %s: %s", self.arguments[0], error, location=self.get_location())
            return []
        text = inspect.cleandoc(shown.__doc__ or "")
        if "rest" in self.options:
            text = text.partition("\n\n")[2]
        if not text:
            LOGGER.warning("docstring %s: there is none", self.arguments[0], location=self.get_location())
        file = str(inspect.getsourcefile(shown))
        self.env.note_dependency(file)
        part = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), file), 0, part)
        return part.children


def _defines(file: Path, dotted: str) -> bool:
    """Whether a Python file defines ``Name`` or ``Class.name``."""
    body = ast.parse(file.read_text()).body
    for name in dotted.split("."):
        inside = next((node for node in body if name in _names(node)), None)
        if inside is None:
            return False
        body = getattr(inside, "body", [])
    return True


def _names(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_role("source", Source())
    app.add_directive("docstring", Docstring)
    return {"parallel_read_safe": True}
