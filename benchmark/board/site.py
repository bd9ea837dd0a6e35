"""The scoreboard as a static site: a board of all entries and a page for each, which ask for nothing from outside.

Entries come from strangers: their texts are escaped and cut, a link is one only if it leads to http or https, and a
page runs its own script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from benchmark.board import plots as score_plots
from benchmark.board.published import beside
from benchmark.board.sections import ENTRIES, _level, _sections
from benchmark.board.words import (
    _LONG,
    SCORES,
    _clean,
    _list,
    _mapping,
    _number,
    _pair,
    _share,
    number,
    safe_link,
    short,
)
from benchmark.scoring import protocols
from headposeplus.errors import SubmissionError
from headposeplus.files import write_text
from headposeplus.rotations import Floats

INDEX = "index.html"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmark.board", "pages"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_clean,
    )  # fmt: skip
    environment.filters |= {"number": number, "short": short, "share": _share}
    return environment


def _page_file(name: str) -> str:
    return (resources.files("benchmark.board") / "pages" / name).read_text(encoding="utf-8")


def render(template: str, script: str = "", **values: Any) -> str:
    """Return a page: a template of ``pages/`` with the style sheet and, if it is named, one script of that folder.

    The page's policy lets this script run and nothing else, and loads nothing from outside. ``live`` among the values
    tells the template that a service shows it.
    """
    code = _page_file(script) if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    text = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_page_file("style.css")),
            script=Markup(code),
            script_source=f"'sha256-{digest}'" if code else "'none'",
            **{"live": False, **values},
        )
    )
    # JSON may hold what no file of text can: lone surrogates and control characters.
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", text)
    return text.encode("utf-8", "replace").decode("utf-8")


def board_page(entries: Sequence[Mapping[str, Any]], live: bool = False, published: bool = True) -> str:
    """Return the board as one HTML page that needs nothing else, works from a file and can be read without a script.

    Each entry has its ``key``, by which its page is linked: ``entries/KEY.html``, or ``/entries/KEY`` with ``live``,
    where a service shows the page. Published rows stand in the section of the protocol that they were scored by, else
    in sections of their own.
    """
    sections = _sections(entries, live, published)
    rows = [row for section in sections for row in section.rows]
    return render(
        "board.html",
        "table.js",
        live=live,
        sections=sections,
        total=len(rows),
        scored=sum(not row.published for row in rows),
        trained=sorted({row.trained for row in rows}, key=str.lower),
        titles=SCORES,
    )


def _bins(entry: Mapping[str, Any], angle: str) -> tuple[score_plots.Bin, ...]:
    found = []
    for one in map(_mapping, _list(_mapping(entry.get("by")).get(angle))):
        values = [_number(one.get(key)) for key in ("from", "frames", "mae", "geodesic")]
        if None not in values:
            low, frames, mae, geodesic = (float(value or 0) for value in values)
            found.append(score_plots.Bin(low, int(frames), mae, geodesic))
    return tuple(sorted(found))


def _cells(entry: Mapping[str, Any]) -> tuple[score_plots.Cell, ...]:
    found = []
    for one in map(_mapping, _list(_mapping(entry.get("by")).get("yaw_pitch"))):
        values = [_number(one.get(key)) for key in ("yaw", "pitch", "frames", "mae")]
        if None not in values:
            yaw, pitch, frames, mae = (float(value or 0) for value in values)
            found.append(score_plots.Cell(yaw, pitch, int(frames), mae))
    return tuple(found)


def _groups(entry: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    found = map(_mapping, _list(_mapping(entry.get("by")).get(what)))
    return [one for one in found if _number(one.get("mae")) is not None]


def _quantiles(entry: Mapping[str, Any], key: str) -> tuple[float, ...]:
    values = [_number(value) for value in _list(_mapping(entry.get("quantiles")).get(key))]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) == 101 else ()


class _Plot(NamedTuple):
    title: str
    svg: Markup
    caption: str = ""


def _plots(entry: Mapping[str, Any], points: tuple[Floats, Floats, Floats] | None) -> tuple[list[_Plot], list[_Plot]]:
    """Return the plots against the three angles, and the others, as far as the entry has what they need."""
    bins = {angle: _bins(entry, angle) for angle in ("yaw", "pitch", "roll")}
    errors = [value for found in bins.values() for one in found for value in (one.mae, one.geodesic)]
    top = 1.22 * max(errors, default=1.0) or 1.0  # room for the legend
    angles = [
        _Plot(f"Error against true {angle}", Markup(score_plots.error_by_angle(found, angle, top)))
        for angle, found in bins.items()
        if found
    ]
    others = []
    mae, geodesic = (_quantiles(entry, key) for key in ("mae", "geodesic"))
    if mae and geodesic:
        caption = "Up to the error of the 99th frame in a hundred."
        others.append(_Plot("Share of frames below an error", Markup(score_plots.cumulative(mae, geodesic)), caption))
    cells = _cells(entry)
    if points is not None and len(points[0]):
        svg, shown = score_plots.scatter(*points)
        caption = f"{shown:,} of {len(points[0]):,} frames, drawn at random." if shown < len(points[0]) else ""
        others.append(_Plot("Label space, by error", Markup(svg), caption))
    elif cells:
        svg = score_plots.label_space(cells)
        others.append(_Plot("Label space, by error", Markup(svg), "Cells of 15 degrees that hold test frames."))
    mean = _number(_mapping(entry.get("scores")).get("mae"))
    for what in ("subject", "sequence"):
        groups = tuple(
            score_plots.Group(short(one.get("name")), int(_number(one.get("frames")) or 0), float(one["mae"]))
            for one in _groups(entry, what)
        )
        if len(groups) > 1 and mean is not None:
            caption = "" if len(groups) <= 40 else f"The 40 of {len(groups):,} with the largest error."
            others.append(_Plot(f"Error by {what}", Markup(score_plots.bars(groups, what, mean)), caption))
    return angles, others


def _facts(entry: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return what an entry says of itself: names, texts, and whether each is code."""
    protocol, subset = entry["protocol"], _mapping(entry.get("subset"))
    seeds = ["unknown" if seed is None else short(seed, 20) for seed in _list(entry.get("seeds"))[:50]]
    hashes = [short(one, 64) for one in _list(entry.get("predictions_sha256"))[:50]]
    uses = "yes (transductive)" if entry.get("uses_target_images") is True else "no"
    facts = [
        ("training data", entry.get("training_data"), False),
        ("target images used", uses, False),
        ("selection", entry.get("selection"), False),
        ("selected epoch", entry.get("selected_epoch"), False),
        ("seeds", ", ".join(seeds), False),
        ("batch statistics", entry.get("batch_statistics"), False),
        ("initial weights", entry.get("initial_weights"), False),
        ("preset", entry.get("preset"), False),
        ("command", entry.get("command"), True),
        ("commit", entry.get("commit"), True),
        ("notes", entry.get("notes"), False),
        ("SHA-256 of the predictions", " ".join(hashes), True),
        ("convention, camera", f"{short(entry.get('convention'))}, {short(entry.get('camera'))}", False),
        ("subset", subset.get("name"), False),
        ("source of the subset", subset.get("source"), False),
        ("SHA-256 of the subset", subset.get("frames_sha256"), True),
        ("protocol", f"{short(protocol.get('id'))}: {short(protocol.get('title'), 300)}", False),
        ("test set", f"{short(protocol.get('test_set'))}, {number(protocol.get('frames'), 0)} frames", False),
        ("official selection", protocol.get("selection"), False),
        ("rule on target images", protocol.get("target_images"), False),
        ("metric", protocol.get("metric"), False),
        ("SHA-256 of the test frames", protocol.get("frames_sha256"), True),
        ("SHA-256 of the protocol", entry.get("protocol_sha256"), True),
        ("toolkit", entry.get("toolkit"), False),
    ]
    return [(name, short(value, _LONG), code) for name, value, code in facts if short(value)]


def tiles(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scores of an entry as ``tiles.html`` shows them."""
    scores, deviation, intervals = (_mapping(entry.get(key)) for key in ("scores", "deviation", "intervals"))
    return [
        {
            "name": name, "value": scores.get(key), "deviation": _number(deviation.get(key)),
            "interval": _pair(intervals.get(key)),
        }
        for key, name in SCORES.items()
        if _number(scores.get(key)) is not None
    ]  # fmt: skip


def _angles(value: object) -> str:
    found = [_number(angle) for angle in (value if isinstance(value, Sequence | np.ndarray) else ())]
    return ", ".join("–" if angle is None else f"{angle:.0f}°" for angle in found)


def _worst(extra: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for one in extra.get("worst") or ():
        picture = str(one.get("picture") or "")
        found.append(
            {
                "id": short(one.get("id")),
                "picture": picture if re.match(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+\Z", picture) else "",
                "true": _angles(one.get("true")),
                "predicted": _angles(one.get("predicted")),
                "mae": one.get("mae"),
                "geodesic": one.get("geodesic"),
            }
        )
    return found


def _bootstrap(entry: Mapping[str, Any]) -> str:
    about = _mapping(entry.get("bootstrap"))
    if not _mapping(entry.get("intervals")) or not about:
        return ""
    over = f"{number(about.get('subjects'), 0)} {short(about.get('over'), 20)}"
    return f"{_level(entry)} intervals: bootstrap over {over}, {number(about.get('resamples'), 0)} resamples."


def entry_page(entry: Mapping[str, Any], extra: Mapping[str, Any] | None = None, live: bool = False) -> str:
    """Return the page of an entry as one HTML page that needs nothing else; what an entry lacks is left out.

    With ``extra`` it is a report that stands alone. That holds ``worst``, a list of frames, each with ``id``,
    ``picture`` (a data URI of an image, or None), ``true`` and ``predicted`` (pitch, yaw, roll), ``mae`` and
    ``geodesic`` in degrees; and ``scatter``, the true yaw (n,) and pitch (n,) and the error (n,) of the frames, or
    None.
    """
    points = (extra or {}).get("scatter")
    if points is not None:
        points = tuple(np.asarray(values, np.float64) for values in points)
    angles, plots = _plots(entry, points)
    conventions = [(short(name, 20), _mapping(values)) for name, values in _mapping(entry.get("conventions")).items()]
    statistics = [
        (short(name, 20), _mapping(values))
        for name, values in _mapping(entry.get("scores_of_other_statistics")).items()
    ]
    scores_of_seeds = [_mapping(values) for values in _list(entry.get("scores_of_seeds"))]
    seeds = _list(entry.get("seeds"))
    badges = protocols.badges(protocols.Protocol(**entry["protocol"]))
    return render(
        "entry.html",
        "table.js",
        live=live,
        report=extra is not None,
        name=short(entry.get("name")) or "unnamed",
        authors=short(entry.get("authors"), 600),
        link=safe_link(entry.get("link")),
        entry=entry,
        protocol=short(entry["protocol"].get("id")),
        badges=[word for word in badges if word != "transductive" or entry.get("uses_target_images") is True],
        tiles=tiles(entry),
        bootstrap=_bootstrap(entry),
        suspicions=[short(one, 1_000) for one in _list(entry.get("suspicions"))[:50]],
        angles=angles,
        plots=plots,
        titles=SCORES,
        conventions=conventions,
        statistics=statistics,
        vectors=_mapping(entry.get("vectors")),
        distribution={SCORES[k]: _mapping(_mapping(entry.get("distribution")).get(k)) for k in ("mae", "geodesic")},
        seeds=list(zip(seeds, scores_of_seeds, strict=False)) if len(scores_of_seeds) > 1 else [],
        groups={what: _groups(entry, what) for what in ("subject", "sequence")},
        facts=_facts(entry),
        worst=_worst(extra or {}),
        beside=[] if extra is None else beside(entry["protocol"]),
    )


def build(folder: Path, entries: Sequence[Mapping[str, Any]], published: bool = True) -> Path:
    """Write the site into a folder: ``index.html`` and ``entries/KEY.html``; return the path of the first.

    Pages in ``entries/`` whose entry is gone are removed.

    Raises
    ------
    SubmissionError
        If an entry's key cannot be the name of a page.
    HeadposeError
        If the folder cannot be written to.
    """
    for entry in entries:
        if not _KEY.fullmatch(str(entry["key"])):
            raise SubmissionError(
                f"an entry's key is {short(entry['key'], 60)!r}: expected letters, digits, dots, dashes and "
                "underscores; rename its file, or add it again with hpp score --scoreboard"
            )
    for entry in entries:
        write_text(folder / ENTRIES / f"{entry['key']}.html", entry_page(entry))
    kept = {f"{entry['key']}.html" for entry in entries}
    for path in (folder / ENTRIES).glob("*.html"):
        if path.name not in kept:
            path.unlink()
    write_text(folder / INDEX, board_page(entries, published=published))
    return folder / INDEX
