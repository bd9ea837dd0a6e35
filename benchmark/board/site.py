"""The scoreboard as a static site: a board of all entries and a page for each, which ask for nothing from outside.

Entries come from strangers: their texts are escaped and cut, a link is one only if it leads to http or https, and a
page runs its own script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup
from msgspec import UNSET
from msgspec.structs import asdict, replace

from benchmark.board import drawn, plots
from benchmark.board.published import beside, cited
from benchmark.board.sections import ENTRIES, level, sections
from benchmark.board.words import LONG, SCORES, number, safe_link, seeds_in_words, share, short, with_one_name
from benchmark.scoring import protocols
from benchmark.scoring.entry import Entry, Headline, Listed, ListedHeadline
from benchmark.scoring.evaluation import describe_plain
from benchmark.scoring.figures import Group, Interval, withheld_percent
from benchmark.scoring.protocols import Protocol
from headposeplus.errors import SubmissionError
from headposeplus.faults import Fault, plural
from headposeplus.files import escaped, listing, sweep, write_bytes, write_text
from headposeplus.tables import rounded

INDEX = "index.html"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PICTURE = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+")
_MANY = 50  # seeds, hashes and suspicions that a page shows


class WorstFrame(NamedTuple):
    """A frame with a large error: a picture as a data URI or empty, and pitch, yaw, roll and errors in degrees."""

    id: str
    picture: str
    true: Sequence[float]
    predicted: Sequence[float]
    mae: float
    geodesic: float


class Closeup(NamedTuple):
    """What a report shows beyond its entry: the worst frames, and all of them as points of the label space.

    Fields that its entry ``lacks`` are not shown.
    """

    worst: list[WorstFrame]
    points: plots.Points | None
    lacks: Sequence[str] = ()


class Tile(NamedTuple):
    """A score in large figures, as ``tiles.html`` shows it."""

    name: str
    value: float
    deviation: float | None
    interval: Interval | None


class _Plot(NamedTuple):
    title: str
    svg: Markup
    caption: str = ""


_IMAGES = "target images used"


class _Fact(NamedTuple):
    name: str
    text: str
    code: bool = False


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(drawn.PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters |= {"number": number, "short": short, "share": share}
    return environment


def _page_file(name: str) -> str:
    return (drawn.PAGES / name).read_text(encoding="utf-8")


def render(template: str, script: str = "", **values: Any) -> str:
    """Return a page: a template of ``pages/`` with the style sheet and, if it is named, one script of that folder.

    The page's policy lets this script run and nothing else, and loads nothing from outside. ``root`` among the values
    tells the template that a service shows it, and below which path: empty, or such as ``/heads``; ``ended`` that it
    takes no more submissions.
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
            **{"root": None, "ended": False, **values},
        )
    )
    # JSON may hold what no file of text can: lone surrogates and control characters.
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", text)
    return text.encode("utf-8", "replace").decode("utf-8")


def board_page(
    board: Sequence[Listed | ListedHeadline],
    root: str | None = None,
    published: bool = True,
    announcement: object = None,
) -> str:
    """Return the board as one HTML page that needs nothing else, works from a file and can be read without a script.

    An entry's key is its page's address: ``entries/KEY.html``, or ``ROOT/entries/KEY`` where a service shows the page
    below the path ``root``. Published rows stand in the section of the protocol that they were scored by, else in
    sections of their own. ``announcement`` is what a service says of its challenge, as ``challenge.html`` shows it.
    """
    parts = sections(board, root, published)
    rows = [row for section in parts for row in section.rows]
    return render(
        "board.html",
        "table.js",
        root=root,
        sections=parts,
        total=len(rows),
        scored=sum(not row.published for row in rows),
        announcement=announcement,
        trained=sorted({row.trained for row in rows}, key=lambda name: (name.lower(), name)),
        titles=SCORES,
    )


def _angle_plots(entry: Entry) -> list[_Plot]:
    """Return the plots of the error against each true angle that has any bins."""
    bins = {"yaw": entry.by.yaw, "pitch": entry.by.pitch, "roll": entry.by.roll}
    errors = [error for parts in bins.values() for part in parts for error in (part.mae, part.geodesic)]
    top = 1.22 * max(errors, default=1.0) or 1.0  # room for the legend
    shown = []
    for angle, parts in bins.items():
        if parts:
            svg = plots.error_by_angle(tuple(sorted(parts, key=lambda part: part.low)), angle, top)
            shown.append(_Plot(f"Error against true {angle}", Markup(svg)))
    return shown


def _other_plots(entry: Entry, points: plots.Points | None, few: int) -> list[_Plot]:
    """Return the other plots, as far as the entry has what they need."""
    shown = []
    if entry.quantiles is not UNSET:
        withheld = withheld_percent(entry.protocol.frames, few)
        svg = plots.cumulative(entry.quantiles.mae, entry.quantiles.geodesic, withheld)
        ends = f"The {few} frames with the least error and the {few} with the largest are not shown."
        caption = ends if few else "Up to the error of the 99th frame in a hundred."
        shown.append(_Plot("Share of frames below an error", Markup(svg), caption))
    if points is not None and len(points.error):
        count = len(points.error)
        svg, drawn = plots.scatter(points)
        caption = f"{drawn:,} of {count:,} frames, drawn at random." if drawn < count else ""
        shown.append(_Plot("Label space, by error", Markup(svg), caption))
    elif entry.by.yaw_pitch:
        svg = plots.label_space(entry.by.yaw_pitch)
        shown.append(_Plot("Label space, by error", Markup(svg), "Cells of 15 degrees that hold test frames."))
    for what, groups in _groups(entry).items():
        if len(groups) > 1:
            named = tuple(replace(group, name=short(group.name)) for group in groups)
            caption = "" if len(groups) <= 40 else f"The 40 of {len(groups):,} with the largest error."
            svg = plots.bars(named, what, entry.scores.mae)
            shown.append(_Plot(f"Error by {what}", Markup(svg), caption))
    return shown


def _groups(entry: Entry) -> dict[str, tuple[Group, ...]]:
    """Return the groups; one of all frames has the entry's own scores, which are not rounded as groups are."""
    whole = {name: getattr(entry.scores, name) for name in SCORES}

    def exact(groups: tuple[Group, ...]) -> tuple[Group, ...]:
        frames = entry.protocol.frames
        return tuple(replace(group, **whole) if group.frames == frames else group for group in groups)

    return {"subject": exact(entry.by.subject), "sequence": exact(entry.by.sequence)}


def _facts(entry: Entry | Headline, lacks: Sequence[str] = ()) -> list[_Fact]:
    """Return what an entry says of itself, as far as it says it; of those fields that it ``lacks``, nothing."""
    facts = [*_facts_of_run(entry), *_facts_of_frames(entry)]
    if "uses_target_images" in lacks:
        facts = [fact for fact in facts if fact.name != _IMAGES]
    shortened = (fact._replace(text=short(fact.text, LONG)) for fact in facts)
    return [fact for fact in shortened if fact.text]


def _facts_of_run(entry: Entry | Headline) -> list[_Fact]:
    known = isinstance(entry, Entry) and entry.selected_epoch is not UNSET
    epoch = str(entry.selected_epoch) if isinstance(entry, Entry) and known else ""
    hashes = " ".join(short(digest, 64) for digest in entry.predictions_sha256[:_MANY])
    return [
        _Fact("date", "" if entry.date is UNSET else entry.date),
        _Fact("training data", with_one_name(entry.training_data)),
        _Fact(_IMAGES, "yes (transductive)" if entry.uses_target_images else "no"),
        _Fact("selection", entry.selection),
        _Fact("selected epoch", epoch),
        _Fact("seeds", seeds_in_words(entry.seeds)),
        _Fact("batch statistics", entry.batch_statistics),
        _Fact("initial weights", entry.initial_weights),
        _Fact("preset", entry.preset),
        _Fact("changed in the preset", "" if entry.preset_changes is UNSET else entry.preset_changes),
        _Fact("augmentation", "" if entry.augment is UNSET else entry.augment),
        _Fact("command", entry.command, code=True),
        _Fact("commit", entry.commit, code=True),
        _Fact("notes", entry.notes),
        _Fact("SHA-256 of the predictions", hashes, code=True),
    ]


def _facts_of_frames(entry: Entry | Headline) -> list[_Fact]:
    protocol, facts = entry.protocol, []
    if isinstance(entry, Entry) and entry.subset is not UNSET:
        facts = [
            _Fact("subset", entry.subset.name),
            _Fact("source of the subset", entry.subset.source),
            _Fact("SHA-256 of the subset", entry.subset.frames_sha256, code=True),
        ]
    return [
        _Fact("convention, camera", f"{short(entry.convention)}, {short(entry.camera)}"),
        *facts,
        _Fact("protocol", f"{short(protocol.id)}: {short(protocol.title, 300)}"),
        _Fact("test set", f"{with_one_name(short(protocol.test_set))}, {plural(protocol.frames, 'frame')}"),
        _Fact("official selection", protocol.selection),
        _Fact("rule on target images", protocol.target_images),
        _Fact("metric", protocol.metric),
        _Fact("SHA-256 of the test frames", protocol.frames_sha256, code=True),
        _Fact("SHA-256 of the protocol", entry.protocol_sha256, code=True),
        _Fact("toolkit", entry.toolkit),
    ]


def tiles(entry: Entry | Headline) -> list[Tile]:
    """Return the scores of an entry as ``tiles.html`` shows them."""
    if isinstance(entry, Headline):
        return [Tile(f"{SCORES['mae']}, public part", entry.scores.mae, None, None)]
    deviation = {} if entry.deviation is None else asdict(entry.deviation)
    intervals = {} if entry.intervals is None else asdict(entry.intervals)
    scores = asdict(entry.scores)
    return [Tile(title, scores[name], deviation.get(name), intervals.get(name)) for name, title in SCORES.items()]


def _worst(frame: WorstFrame) -> dict[str, object]:
    return {
        "id": short(frame.id),
        "picture": frame.picture if _PICTURE.fullmatch(frame.picture) else "",
        "true": ", ".join(f"{rounded(angle, 0)}°" for angle in frame.true),
        "predicted": ", ".join(f"{rounded(angle, 0)}°" for angle in frame.predicted),
        "mae": frame.mae,
        "geodesic": frame.geodesic,
    }


def _bootstrap(entry: Entry) -> str:
    if not entry.intervals:
        return ""
    drawn = entry.bootstrap
    over = plural(drawn.subjects, drawn.over[:-1])
    return f"{level(entry)} intervals: bootstrap over {over}, {number(drawn.resamples, 0)} resamples."


def _figures(entry: Entry, closeup: Closeup | None, unverified: str, few: int) -> dict[str, object]:
    """Return the figures of an entry's page beside its tiles, by the names that its template calls them."""
    warnings = [f"Nobody can score this entry again: {unverified}."] if unverified else []
    return {
        "bootstrap": _bootstrap(entry),
        "plain": "" if entry.plain_angles is UNSET else describe_plain(entry.plain_angles),
        "suspicions": warnings + [short(suspicion, 1_000) for suspicion in entry.suspicions[:_MANY]],
        "angles": _angle_plots(entry),
        "plots": _other_plots(entry, closeup.points if closeup else None, few),
        "withheld": _WITHHELD.format(few) if few else "",
        **_tables(entry),
    }


_WITHHELD = (
    "Figures of fewer than {0} frames are not shown, since they would tell of the labels: of subjects, sequences, bins "
    "and cells only those with as many stand here, and where none has, no plot or table of them does. A percentile or "
    "a share that leaves fewer frames on one side is a dash."
)
_NO_FIGURES: dict[str, object] = dict.fromkeys(
    ("bootstrap", "plain", "suspicions", "angles", "plots", "withheld"), ""
) | dict.fromkeys(("conventions", "vectors", "ray", "statistics", "distribution", "seeds"), ())


def _tables(entry: Entry) -> dict[str, object]:
    """Return what the tables of an entry's page show, by the names that its template calls them."""
    other, spreads = entry.scores_of_other_statistics, entry.distribution
    statistics = [] if other is UNSET else [("source", other.source), ("target", other.target)]
    seeds = zip(entry.seeds, entry.scores_of_seeds, strict=False)
    return {
        "conventions": list(asdict(entry.conventions).items()),
        "vectors": [(name, {"angle": angle}) for name, angle in asdict(entry.vectors).items()],
        "ray": [] if entry.ray is UNSET else [("none", entry.scores), ("the viewing ray", entry.ray)],
        "statistics": [(kind, scores) for kind, scores in statistics if scores is not UNSET],
        "distribution": [] if spreads is UNSET else [("MAE", spreads.mae), ("geodesic", spreads.geodesic)],
        "seeds": list(seeds) if len(entry.scores_of_seeds) > 1 else [],
        "groups": _groups(entry),
    }


def entry_page(
    entry: Entry | Headline,
    closeup: Closeup | None = None,
    root: str | None = None,
    unverified: str = "",
    team: str = "",
    few: int = 0,
    ended: bool = False,
) -> str:
    """Return the page of an entry as one HTML page that needs nothing else; what an entry lacks is left out.

    Of a headline it has the one figure, and the authors' words.

    With ``closeup`` it is a report that stands alone; ``root`` is that of :func:`board_page`, ``unverified`` why nobody
    can score the entry again, ``team`` who sent it where a token says that. Figures of fewer than ``few`` frames are
    withheld, and the page says so. ``ended`` is that of :func:`render`.
    """
    told = None if isinstance(entry, Headline) else _figures(entry, closeup, unverified, few)
    figures = told or {"groups": {}, **_NO_FIGURES}
    badges = protocols.badges(entry.protocol)
    return render(
        "entry.html",
        "table.js",
        root=root,
        ended=ended,
        report=closeup is not None,
        name=short(entry.name) or "unnamed",
        team=short(team),
        authors=short(entry.authors, 600),
        link=safe_link(entry.link),
        code="" if entry.code is UNSET else safe_link(entry.code),
        protocol=short(entry.protocol.id),
        badges=[word for word in badges if word != "transductive" or entry.uses_target_images],
        tiles=tiles(entry),
        open=isinstance(entry, Headline),
        titles=SCORES,
        facts=_facts(entry, closeup.lacks if closeup else ()),
        worst=[_worst(frame) for frame in closeup.worst] if closeup else [],
        **_beside(entry.protocol if closeup else None),
        **figures,
    )


def _beside(protocol: Protocol | None) -> dict[str, object]:
    """Return the published results under a protocol and their sources, by the names that the template calls them."""
    results = beside(protocol) if protocol else []
    works, sources = cited(results)
    return {"beside": list(zip(results, works, strict=True)), "sources": sources}


def build(folder: Path, board: Sequence[Listed], published: bool = True) -> Path:
    """Write the site into a folder: ``index.html`` and ``entries/KEY.html``; return the path of the first.

    Pages in ``entries/`` that stand as they would be drawn now are left alone; those whose entry is gone are removed.

    Raises
    ------
    SubmissionError
        If an entry's key cannot be the name of a page.
    HeadposeError
        If the folder cannot be written to.
    """
    for listed in board:
        if not _KEY.fullmatch(listed.key):
            what = (
                f"an entry's key is {short(listed.key, 60)!r}: expected letters, digits, dots, dashes and underscores"
            )
            raise SubmissionError(Fault(what, "rename its file, or add it again with hpp scoreboard add"))
    sweep(folder, deep=True)
    _draw_pages(folder, board)
    kept = {f"{listed.key}.html" for listed in board}
    for path in listing(folder / ENTRIES, ".html") if (folder / ENTRIES).is_dir() else ():
        if path.name not in kept:
            path.unlink()
    write_text(folder / INDEX, board_page(board, published=published))
    return folder / INDEX


def _draw_pages(folder: Path, board: Sequence[Listed]) -> None:
    """Write the pages of entries that do not stand as they would be drawn now."""
    before = drawn.read_record(folder)
    seals = {listed.key: before[listed.key] for listed in board if listed.key in before}
    try:
        for listed in board:
            path = folder / ENTRIES / f"{listed.key}.html"
            if listed.key not in seals or not drawn.is_current(path, listed, seals[listed.key]):
                page = escaped(entry_page(listed.entry, unverified=listed.unverified)).encode()
                write_bytes(path, page)
                seals[listed.key] = drawn.seal(listed, page)
    finally:  # who stops it begins where it was stopped
        if seals != before:
            drawn.write_record(folder, seals)
