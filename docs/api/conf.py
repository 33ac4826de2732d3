"""Pages of `ml`, made by Sphinx from its docstrings: `make docs`."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "microseg"
author = "the authors of microseg"
copyright = author
version = release = version_of("microseg")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `name` in a docstring is a link where it names an object of these pages
suppress_warnings = ["ref.python"]  # a short name such as `train` has several targets; the first is linked

autosummary_generate = True
autosummary_imported_members = True
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Array", "ArrayLike", "Input")}
autodoc_preserve_defaults = True
numpydoc_show_class_members = False  # autodoc shows them
numpydoc_xref_param_type = False

html_theme = "alabaster"
html_theme_options = {"description": "Customer micro-segmentation", "fixed_sidebar": True, "page_width": "1100px"}
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

FITTED = re.compile(r"(?<![`\w])([A-Za-z]\w*)_(?![`\w])")  # `alpha_` would be a link to a target called alpha


def escape_fitted(app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """Keep the underscore at the end of a fitted attribute's name."""
    lines[:] = [line if line.lstrip().startswith(">>>") else FITTED.sub(r"\1\_", line) for line in lines]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_fitted)
