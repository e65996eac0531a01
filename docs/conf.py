"""How Sphinx builds the site: `make docs`."""

import dataclasses
import importlib.metadata
import inspect
import typing
from typing import Any

from docutils import nodes
from sphinx.util.inspect import stringify_signature

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
# Tables without a description of their own.
nitpick_ignore = [("py:data", name) for name in ("BLOCK_KINDS", "EXECUTORS", "READERS", "STRATEGIES")]
# They stand for any type.
nitpick_ignore += [
    ("py:class", f"spacewarps.{name}") for name in ("settings._T", "survey.loaders.Item", "survey.loaders.Fetched")
]
_FOREIGN = [
    "abc",
    "astropy",
    "collections",
    "contextlib",
    "csv",
    "pathlib",
    "typing",
    "numpy",
    "pandas",
    "pd",
    "pyarrow",
    "ray",
    "sklearn",
    "torch",
    "PIL",
]
nitpick_ignore_regex = [(r"py:.*", rf"({'|'.join(_FOREIGN)})\..*")]


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


def _spell_settings(app: Any, what: str, name: str, found: Any, *event: Any) -> tuple[str, str] | None:  # noqa: ARG001
    """Write the types of settings without what checks their ranges, which the page of each says in words."""
    if not hasattr(found, "__pydantic_fields__") or not dataclasses.is_dataclass(found):
        return _spell_factories(*event)
    hints, parameters = typing.get_type_hints(found), []
    for field in dataclasses.fields(found):
        made = field.default_factory is not dataclasses.MISSING
        default = ... if made else inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))
    return stringify_signature(inspect.Signature(parameters)).replace("Ellipsis", "..."), ""


def _leave_out_plain_bases(app: Any, document: Any) -> None:  # noqa: ARG001
    """Say nothing of a class's bases where there is none but Python's own."""
    for paragraph in list(document.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def _leave_out_requests(app: Any, what: str, name: str, *event: Any) -> bool | None:  # noqa: ARG001
    """Leave out what scikit-learn adds to each estimator that takes more than X and y."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app: Any) -> None:
    """Tell Sphinx what the options above cannot say."""
    app.connect("doctree-read", _leave_out_plain_bases)
    app.connect("autodoc-process-signature", _spell_settings)
    app.connect("autodoc-skip-member", _leave_out_requests)
