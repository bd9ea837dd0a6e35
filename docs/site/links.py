"""Checks the built site: every link leads somewhere in it, nothing is loaded from elsewhere, nothing is missing."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pages import modules, public

_LOADED = {
    "script",
    "img",
    "source",
    "iframe",
    "audio",
    "video",
    "embed",
    "object",
}  # and <link>, but for rel=canonical


class _Page(HTMLParser):
    """The anchors of a page, and where it leads to: (target, whether it is loaded)."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what an element names and where it leads to."""
        of = dict(attrs)
        self.anchors |= {of[key] or "" for key in ("id", "name") if key in of}
        loaded = tag in _LOADED or (tag == "link" and of.get("rel") != "canonical")
        self.links += [(target, loaded) for key in ("href", "src") if (target := of.get(key))]


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and for what a page would load from elsewhere."""
    faults = set()
    for path in sorted(site.rglob("*.html")):
        for target, loaded in _read(path).links:
            if fault := _fault(path, target, loaded):
                faults.add(f"{path.relative_to(site)}: {target} {fault}")
    return sorted(faults)


def _fault(path: Path, target: str, loaded: bool) -> str:
    """Return what is wrong with a link of a page, or nothing."""
    parts = urlsplit(target)
    if parts.scheme == "data":
        return ""
    if parts.scheme or parts.netloc:
        return "is loaded from elsewhere: copy it into the site" if loaded else ""
    leads_to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not leads_to.is_file():
        return "leads to a folder: name a file" if leads_to.is_dir() else "leads to no file"
    anchor = unquote(parts.fragment)
    if anchor and leads_to.suffix == ".html" and anchor not in _read(leads_to).anchors:
        return "leads to no such heading"
    return ""


def left_out(site: Path) -> list[str]:
    """Return the public functions and classes that the site's inventory lacks."""
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        kinds = InventoryFile.load(file, "", lambda base, target: target)
    listed = {name for kind, names in kinds.items() if kind.startswith("py:") for name in names}
    return [
        name for module in modules() for one in public(module) if (name := f"{module.__name__}.{one}") not in listed
    ]
