"""How Sphinx builds the site."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache, reduce
from html import escape
from pathlib import Path
from textwrap import shorten
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc, download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.inspect import stringify_signature

sys.path.insert(0, str(Path(__file__).parent))

from pages import FOREIGN, PACKAGES, contents, modules, public

from headposeplus import __version__

logger = logging.getLogger(__name__)
_NOTHING = object()
_VERBATIM = (nodes.literal, nodes.literal_block)
_FIND_BASE = """<script>
document.write('<base href="' + location.pathname.replace(/(docs|reference|results|_modules)[/].*|[^/]*$/, "") + '">')
</script>
"""

project = "headposeplus"
author = "the authors of headposeplus"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]  # what a command prints below it is in no language
smartquotes = False  # --option would become a dash
highlight_language = "text"
add_module_names = False
maximum_signature_line_length = 88
toc_object_entries = False  # each page would carry those of all others: half the time of a build
python_display_short_literal_types = True

myst_heading_anchors = 4

autodoc_mock_imports = FOREIGN
autodoc_member_order = "bysource"
viewcode_follow_imported_members = False  # the face would take the links back from sources to their rooms
napoleon_google_docstring = False
napoleon_attr_annotations = False  # the signature has them
napoleon_custom_sections = [("Attributes", "params_style")]  # a list of names with what they mean

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False


class LinkedFiles(SphinxTransform):
    """Links to files lead to their copies, which lie in the site where they lie in the repository."""

    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        """Turn each download into a link."""
        for node in list(self.document.findall(download_reference)):
            node.replace_self(nodes.reference("", "", *node.children, refuri=node["reftarget"], internal=True))


class Dashes(SphinxPostTransform):
    """Sphinx sets two hyphens between a name and what it means."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Make them a dash on the pages of the reference."""
        for text in list(self.document.findall(nodes.Text)):
            if " -- " in text and self.env.docname.startswith("reference/") and not isinstance(text.parent, _VERBATIM):
                text.parent.replace(text, nodes.Text(text.replace(" -- ", " – ")))


class _Otherwise:
    """A default that has no short form."""

    def __repr__(self) -> str:
        return "..."


def as_written(
    app: Sphinx, what: str, name: str, value: Any, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Return a signature with the annotations as the code has them: ``Floats`` rather than what it stands for."""
    try:
        written = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    shown = []
    for one in written.parameters.values():
        odd = one.default is not one.empty and "<" in repr(one.default)  # an object's address, a factory
        shown.append(one.replace(default=_Otherwise()) if odd else one)
    if what == "method" and shown and shown[0].name in ("self", "cls"):
        del shown[0]
    returned = written.empty if what in ("class", "exception") else written.return_annotation
    written = written.replace(parameters=shown, return_annotation=returned)
    text, arrow, after = stringify_signature(written, unqualified_typehints=True).rpartition(" -> ")
    return (text, after) if arrow else (after, "")


def add_contents(app: Sphinx, what: str, name: str, value: Any, options: object, lines: list[str]) -> None:
    """Let the description of a module end in what it holds."""
    if what == "module":
        lines += ["", *contents(value), ""]


def skip_fields(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: object) -> bool | None:
    """Leave out the fields of a tuple: they stand in its signature."""
    return True if str(getattr(value, "__doc__", "")).startswith("Alias for field number") else None


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Give a page its description; the one for what is not found is shown under any address, and finds its base."""
    first = next(doctree.findall(nodes.paragraph), None) if doctree else None
    if first is not None:
        words = " ".join(first.astext().split())
        context["metatags"] += f'<meta name="description" content="{escape(shorten(words, 160, placeholder=" …"))}">\n'
    if page == "404":
        context["metatags"] += _FIND_BASE


class OwnNames(SphinxPostTransform):
    """A name in a docstring or an annotation means what it means in its module, or in its class.

    Sphinx would guess: of a name without a dot it takes whatever object ends like that. A constant leads to its
    module, what is others' to nothing, and a name that means nothing is a warning.
    """

    default_priority = 5  # before Sphinx resolves

    def run(self, **kwargs: Any) -> None:
        """Resolve the names of this page."""
        for node in list(self.document.findall(pending_xref)):
            if node.get("refdomain") == "py" and node["reftype"] != "mod":
                node.replace_self(self.resolve(node) or node.children)

    def resolve(self, node: pending_xref) -> nodes.Node | None:
        """Return the link, or None for what is others'."""
        target = node["reftarget"]
        name = next((name for name in meanings(node, target) if find(name) is not _NOTHING), "")
        if not name and target[0] not in "'\"0123456789":
            logger.warning("nothing is called %s here", target, location=node, type="ref")
        objects = self.env.domains.python_domain.objects
        own = full_name(name)
        place = next((objects[one] for one in (name, own, own.rpartition(".")[0]) if one in objects), None)
        if not place:
            return None
        page = self.app.builder.get_relative_uri(self.env.docname, place.docname)
        return nodes.reference("", "", *node.children, internal=True, refuri=f"{page}#{place.node_id}")


def meanings(node: pending_xref, target: str) -> Iterator[str]:
    """Return the full names that a name may stand for, the likeliest first."""
    module = node.get("py:module") or ""
    yield f"{module}.{node.get('py:class')}.{target}"
    for scope in (module, *origins(node)):
        yield f"{scope}.{target}"
        first, dot, rest = target.partition(".")
        yield imports(scope).get(first, "") + dot + rest
    if node["reftype"] == "exc":
        yield from (name for name in exceptions() if name.endswith(f".{target}"))
    yield from (f"builtins.{target}", target)


def origins(node: nodes.Node) -> Iterator[str]:
    """Return the modules that what a node describes is from, and its bases."""
    while node := node.parent:
        if isinstance(node, desc):
            value = find(f"{node[0]['module']}.{node[0]['fullname']}")
            yield from (one.__module__ for one in getattr(value, "__mro__", (value,)) if hasattr(one, "__module__"))


@cache
def imports(module: str) -> dict[str, str]:
    """Return what a module imports by name, for type checkers alone, too."""
    if not module.startswith(PACKAGES):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in found for alias in node.names}


@cache
def exceptions() -> list[str]:
    """Return the full names of our exceptions: a docstring names those that what it calls raises."""
    found = [value for module in modules() for value in public(module).values() if isinstance(value, type)]
    return [f"{one.__module__}.{one.__name__}" for one in found if issubclass(one, Exception)]


@cache
def find(name: str) -> Any:
    """Return what a full name means, or nothing."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        if value := sys.modules.get(".".join(parts[:cut])):
            return reduce(lambda value, part: getattr(value, part, _NOTHING), parts[cut:], value)
    return _NOTHING


def full_name(name: str) -> str:
    """Return the name under which what a name means was defined; for a value that knows none, the same."""
    value = find(name)
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}.{own}" if module and own else name


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.add_transform(LinkedFiles)
    app.add_post_transform(OwnNames)
    app.add_post_transform(Dashes)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-process-docstring", add_contents)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("html-page-context", describe)
