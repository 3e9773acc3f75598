"""The settings of Sphinx: Markdown pages, and a reference made from the docstrings.

The pages link to files outside this folder as GitHub needs it. Here such a link leads to the page
under project/ that shows the file, or to the file itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # on which treadle.keras runs
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the programs of learn/ are small

import treadle

ROOT = Path(__file__).resolve().parent.parent

project = "treadle"
author = "the treadle developers"
release = treadle.__version__

extensions = [
    "myst_nb",  # myst_parser, and the programs of learn/, which run as the pages are built
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_heading_anchors = 3
nb_execution_mode = "force"  # a page that is read is run: no result comes from another build
nb_execution_raise_on_error = True  # a false claim of a page ends the build
nb_execution_show_tb = True  # and says why
nb_execution_timeout = 600  # seconds for a cell, which takes a few unless the machine is busy
nb_merge_streams = True
default_role = "py:obj"  # `treadle.LSTM` in a docstring is a link
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings tell the shapes
smartquotes = False
napoleon_google_docstring = False
napoleon_use_ivar = True  # a property may be among the attributes of its class, too
exclude_patterns = ["out"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = "treadle"

# Files of the project that a page under project/ shows, by the name of that page.
SHOWN = {
    "architecture": "ARCHITECTURE.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
}
PAGE_OF = {path: f"docs/project/{page}.md" for page, path in SHOWN.items()}


def show_project_files(app, docname, source):
    """Put the text of a project file into its page, and give links out of this folder an end."""
    page = Path("docs") / f"{docname}.md"
    origin = page
    if docname.startswith("project/"):
        origin = Path(SHOWN[docname.removeprefix("project/")])
        source[0] = (ROOT / origin).read_text(encoding="utf-8")

    def link(match):
        label, target, anchor = match.groups()
        path = os.path.normpath(origin.parent / target)
        file = ROOT / path
        if file.is_dir():  # has no page
            return label
        path = PAGE_OF.get(path, path)
        return f"[{label}]({os.path.relpath(path, page.parent)}{anchor or ''})"

    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(([^):#]+)(#[^)]*)?\)", link, source[0])


def columns_to_definitions(app, what, name, subject, options, lines):
    """Turn a docstring's aligned columns, name and explanation, into a list of definitions."""
    found, at = [], 0
    while at < len(lines):
        head = re.match(r"(\S+(?: \S+)*) {2,}(?=\S)", lines[at])
        if head and head[1].strip("=") and (at == 0 or not lines[at - 1].strip()):
            width = _width(lines, at)
            while width and at < len(lines) and lines[at].strip():
                if lines[at][:width].strip():
                    found.append(lines[at][:width].strip())
                found.append("    " + lines[at][width:])
                at += 1
        if at < len(lines):
            found.append(lines[at])
            at += 1
    lines[:] = found


def _width(lines, at):
    """The column where all explanations of a paragraph begin; 0 when there is none."""
    rows = []
    while at < len(lines) and lines[at].strip():
        rows.append(lines[at])
        at += 1
    starts = [m.end() for row in rows if (m := re.match(r"\S+(?: \S+)* {2,}(?=\S)", row))]
    width = max(starts, default=0)
    kept = all(row[width - 2 : width].strip() == "" and row[width:].strip() for row in rows)
    return width if kept else 0


def setup(app):
    """Connect the functions above."""
    app.connect("source-read", show_project_files)
    app.connect("autodoc-process-docstring", columns_to_definitions)
