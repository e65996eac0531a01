"""How Sphinx builds the site: `make docs`."""

import importlib.metadata
import inspect
from typing import Any

import spacewarps

project = "Space Warps"
author = "The developers of Space Warps"
project_copyright = f"{author}, BSD-3-Clause"
version = release = importlib.metadata.version("spacewarps")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 100

# The site is built and read without the network, so it knows no other project's pages.
nitpick_ignore = [("py:data", "BLOCK_KINDS")]  # a table without a description of its own
nitpick_ignore_regex = [(r"py:.*", r"(abc|collections|contextlib|pathlib|typing|numpy|pandas|torch|PIL)\..*")]


def _begin_with() -> str:
    """Return a line for each name that the package itself offers: a link to where it is described, and what it is."""
    lines = []
    for name in spacewarps.__all__:
        found = getattr(spacewarps, name)
        role = "class" if inspect.isclass(found) else "func"
        summary = (inspect.getdoc(found) or "").splitlines()[0]
        lines.append(f"- {{py:{role}}}`{name} <{found.__module__}.{name}>`: {summary}")
    return "\n".join(lines)


myst_substitutions = {"begin_with": _begin_with()}


def _spell_factories(*event: Any) -> tuple[str, str] | None:
    """Write a default that a dataclass makes anew each time as stubs do: Sphinx cannot read Python's own way."""
    signature, returned = event[-2:]
    return (signature.replace("<factory>", "..."), returned) if signature else None


def setup(app: Any) -> None:
    """Tell Sphinx what the options above cannot say."""
    app.connect("autodoc-process-signature", _spell_factories)
