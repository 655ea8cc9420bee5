"""The documentation site, built without network: ``sphinx-build -W --keep-going -n -b html docs build/docs``.

What a page shows of the code or of a saved result is read from there when the site is built; see the
extensions in ``_generate``.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import video_env  # noqa: E402

project = "video-env"
author = "The video-env authors"
project_copyright = f"{author}, MIT licence"
version = release = video_env.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "_generate.claims",
    "_generate.code",
    "_generate.environments",
    "_generate.methods",
    "_generate.results",
    "_generate.speed",
]
exclude_patterns = ["_generate", "results", "images", "examples"]
# Every heading can be linked to, and a link to one that is not there is a warning.
myst_heading_anchors = 3
myst_links_external_new_tab = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
maximum_signature_line_length = 90
# Types and exceptions in signatures and docstrings: those of other packages are documented on the web only.
nitpick_ignore_regex = [(r"py:(class|exc|obj|data)", r".*")]

html_theme = "furo"
html_title = f"video-env {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_copy_source = False
