"""The scoreboard as a static site: a board of all entries and a page for each, which ask for nothing from outside.

Entries come from strangers: their texts are escaped and cut, a link is one only if it leads to http or https, and a
page runs its own script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from benchmark.board import plots as score_plots
from benchmark.board.published import CAMERAS, belongs_to, beside
from benchmark.board.published import published as published_rows
from benchmark.scoring import protocols
from headposeplus.errors import SubmissionError
from headposeplus.files import content_hash, write_text
from headposeplus.rotations import Floats

INDEX, ENTRIES = "index.html", "entries"
SCORES = {"mae": "MAE", "pitch": "pitch", "yaw": "yaw", "roll": "roll", "geodesic": "geodesic", "maev": "MAEV"}
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_SHORT, _LONG = 120, 4_000  # characters of a stranger's text in a table, and on its own page


class Row(NamedTuple):
    """A row of the board. Values and deviation are in degrees by score; ``interval`` is that of the MAE.

    ``authors`` are the source of a published row, ``images`` is the number of its test images where it is known, and
    ``flag`` says what is odd about it. ``remark`` is a line below the name, ``whisker`` is where the lower end
    of the interval, the MAE and the upper end lie, in percent of the column.
    """

    name: str
    href: str
    published: bool
    values: dict[str, float | None]
    deviation: float | None
    interval: tuple[float, float] | None
    trained: str
    transductive: bool
    seeds: int | None
    authors: str
    link: str
    images: int | None
    remark: str = ""
    flag: str = ""
    best: frozenset[str] = frozenset()
    whisker: Sequence[float] = ()


class Section(NamedTuple):
    """The rows of one protocol, or published rows alone, which have no protocol but the facts of their papers.

    ``name`` is what the filter calls it, ``columns`` are those that any of its rows has.
    """

    name: str
    title: str
    facts: list[tuple[str, str]]
    badges: list[str]
    rows: list[Row]
    columns: list[str]
    level: str
    published_only: bool
    note: str = ""


def _clean(value: object) -> object:
    return "" if value is None else value


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


def number(value: object, digits: int = 2) -> str:
    """Return a number as text, or a dash where there is none."""
    known = _number(value)
    return "–" if known is None else f"{known:,.{digits}f}"


def _number(value: object) -> float | None:
    """Return a finite number, or None: an entry may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e12 and math.isfinite(value) else None


def _share(value: object) -> str:
    known = _number(value)
    return "–" if known is None else f"{100 * known:.1f} %"


def short(value: object, most: int = _SHORT) -> str:
    """Return a stranger's text in one line of ``most`` characters at most."""
    text = " ".join(str("" if value is None else value)[: 4 * most].split())
    return text if len(text) <= most else text[: most - 1] + "…"


def safe_link(value: object) -> str:
    """Return an address if it is one of http or https, else nothing."""
    text = str("" if value is None else value).strip()
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return text if valid and len(text) <= 2_000 and re.fullmatch(r"[!-~]+", text) else ""


def _entry_link(key: str, live: bool) -> str:
    return f"{'/' if live else ''}{ENTRIES}/{quote(key, safe='')}{'' if live else '.html'}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _pair(value: object) -> tuple[float, float] | None:
    ends = [_number(end) for end in _list(value)]
    return (ends[0], ends[1]) if len(ends) == 2 and ends[0] is not None and ends[1] is not None else None


def _level(entry: Mapping[str, Any]) -> str:
    known = _number(_mapping(entry.get("bootstrap")).get("level"))
    return "" if known is None else f"{100 * known:g} %"


def _entry_row(entry: Mapping[str, Any], live: bool) -> Row:
    scores = _mapping(entry.get("scores"))
    return Row(
        name=short(entry.get("name")) or "unnamed",
        href=_entry_link(str(entry["key"]), live),
        published=False,
        values={key: _number(scores.get(key)) for key in SCORES},
        deviation=_number(_mapping(entry.get("deviation")).get("mae")),
        interval=_pair(_mapping(entry.get("intervals")).get("mae")),
        trained=short(entry.get("training_data")),
        transductive=entry.get("uses_target_images") is True,
        seeds=len(_list(entry.get("seeds"))) or None,
        authors=short(entry.get("authors")),
        link=safe_link(entry.get("link")),
        images=None,
        flag="looks odd: see its page" if _list(entry.get("suspicions")) else "",
    )


def _published_row(row: Mapping[str, Any], frames: int | None) -> Row:
    """Return a published row beside a protocol of so many frames, or in a section of its own."""
    images = None if pd.isna(row["n_images"]) else int(row["n_images"])
    remark = str(row["backbone"])
    if row["crop"] not in ("Biwi+", "own"):
        remark += f", crops: {row['crop']}"
    if frames is not None and images != frames:
        remark += f", {images:,} images (protocol: {frames:,})"
    flag = f"as printed: the mean of the three angles is {row['mean_of_angles']:.3f}" if row["as_printed"] else ""
    return Row(
        name=str(row["method"]),
        href="",
        published=True,
        values={key: float(row[key]) if key in row else None for key in SCORES},
        deviation=None,
        interval=None,
        trained=str(row["train_set"]),
        transductive=row["transductive"] == "yes",
        seeds=None,
        authors=str(row["source"]),
        link="",
        images=images,
        remark=remark,
        flag=flag,
    )


def _marked(rows: list[Row]) -> list[Row]:
    """Return rows, best first, that know which of their values are the best among comparable ones.

    Those scored here compare with each other; published ones do where they stand alone, on as many images.
    """
    alone = all(row.published for row in rows)
    groups: dict[int | None, list[Row]] = {}
    for row in rows:
        if alone or not row.published:
            groups.setdefault(row.images, []).append(row)
    ends = [end for row in rows for end in _reach(row)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    marked = []
    for row in rows:
        group = groups.get(row.images, []) if alone or not row.published else []
        best = frozenset(key for key in SCORES if len(group) > 1 and _is_best(row, group, key))
        # A few percent at both ends leave room for the dot.
        places = [round(4 + 92 * (end - low) / (high - low), 1) for end in _reach(row)] if high > low else []
        marked.append(row._replace(best=best, whisker=places))
    return sorted(marked, key=lambda row: (math.inf if row.values["mae"] is None else row.values["mae"], row.name))


def _reach(row: Row) -> list[float]:
    """Return the lower end of a row's interval, its MAE and the upper end; the MAE thrice where it has none."""
    mae = row.values["mae"]
    if mae is None:
        return []
    return [mae, mae, mae] if row.interval is None else [row.interval[0], mae, row.interval[1]]


def _is_best(row: Row, group: list[Row], key: str) -> bool:
    """Tell whether a value is the best of a group, as far as the table shows."""
    known = [round(value, 2) for value in (other.values[key] for other in group) if value is not None]
    value = row.values[key]
    return value is not None and round(value, 2) == min(known)


def _columns(rows: list[Row]) -> list[str]:
    """Return the columns that any of the rows has."""
    present = {
        "interval": any(row.interval for row in rows),
        **{key: any(row.values[key] is not None for row in rows) for key in SCORES if key != "mae"},
        "trained": True,
        "transductive": True,
        "images": all(row.published for row in rows) and any(row.images for row in rows),
        "seeds": any(row.seeds for row in rows),
    }
    return [name for name, shown in present.items() if shown]


def _protocol_section(name: str, entries: list[Mapping[str, Any]], rows: list[Row]) -> Section:
    protocol = entries[0]["protocol"]
    facts = [
        ("test set", f"{short(protocol.get('test_set'))}, {number(protocol.get('frames'), 0)} frames"),
        ("convention", short(protocol.get("convention"))),
        ("camera", short(protocol.get("camera"))),
        ("selection", short(protocol.get("selection"))),
        ("target images", short(protocol.get("target_images"), _LONG)),
    ]
    levels = {_level(entry) for entry in entries if entry.get("intervals")} - {""}
    return Section(
        name=name,
        title=short(protocol.get("title"), 300),
        facts=[fact for fact in facts if fact[1]],
        badges=protocols.badges(protocols.Protocol(**protocol)),
        rows=_marked(rows),
        columns=_columns(rows),
        level=levels.pop() if len(levels) == 1 else "",
        published_only=False,
    )


def _published_section(rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    camera = CAMERAS[first["labels"]]
    found = [_published_row(row, None) for row in rows.to_dict("records")]
    images = sorted({row.images for row in found if row.images})
    convention = "own convention" if first["convention"] == "own" else f"convention {first['convention']}"
    return Section(
        name=f"published: {first['task']}, {first['test_set']}, {first['convention']}, {camera} camera",
        title=f"{first['task']}: {first['test_set']}, {convention}, {camera} camera",
        facts=[],
        badges=[],
        rows=_marked(found),
        columns=_columns(found),
        level="",
        published_only=True,
        note="Rows on different numbers of images do not compare to the last digit." if len(images) > 1 else "",
    )


def _sections(entries: Iterable[Mapping[str, Any]], live: bool, published: bool) -> list[Section]:
    """Return a section a protocol, then one for each kind of published rows that belongs to none of them."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        # Two that say the same id but not the same protocol never share a table.
        protocol = entry["protocol"]
        groups.setdefault((short(protocol.get("id")), content_hash(protocol)[:8]), []).append(entry)
    # Frozen protocols come first, and take the published rows before one's own that look like them.
    order = sorted(groups, key=lambda group: (group[0].startswith("local-"), group))
    left = published_rows() if published else pd.DataFrame()
    sections = []
    for name, digest in order:
        mine = groups[name, digest]
        rows = [_entry_row(entry, live) for entry in mine]
        protocol = mine[0]["protocol"]
        belongs = np.array([belongs_to(row, protocol) for row in left.to_dict("records")], bool)
        for row in left[belongs].to_dict("records") if belongs.any() else ():
            rows.append(_published_row(row, int(protocol["frames"])))
        left = left[~belongs] if belongs.any() else left
        unique = sum(other == name for other, _ in order) == 1
        sections.append(_protocol_section(name if unique else f"{name} ({digest})", mine, rows))
    if len(left):
        kinds = left.groupby(["task", "test_set", "labels", "convention"], sort=False, dropna=False)
        sections += [_published_section(rows) for _, rows in kinds]
    return sections


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
