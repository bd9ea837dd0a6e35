"""What the commands share: options, and errors as one line."""

from __future__ import annotations

import errno
import functools
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.groups import HelpfulGroup
from benchmark.cli.start import make_ready
from headposeplus.errors import ChoiceError, HeadposeError, SubmissionError
from headposeplus.faults import Fault, plural, shell_line

if TYPE_CHECKING:
    from benchmark.scoring.entry import Entry
    from benchmark.scoring.label_files import LabelsAt
    from benchmark.scoring.submission import About

FAULTS = 3  # exit status: done, but some raw files are damaged, or some files are not as they should be

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
JOBS = click.option("--jobs", type=click.IntRange(1), default=None, help="Processes.  [default: the cores at hand]")
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all random numbers."
)
MANIFEST = click.option(
    "--manifest", type=FILE, help="What a full raw copy holds.  [default: the real datasets' manifest]"
)
BIWI = click.option("--biwi", type=FOLDER, help="Raw Biwi: the folder with the sequences, or one above it.")
NEEDED_BIWI = click.option(
    "--biwi", type=FOLDER, required=True, help="Raw Biwi: the folder with the sequences, or one above it."
)
SYNHEAD = click.option("--synhead", type=FOLDER, help="Raw SynHead: the folder synhead2_release, or one above it.")
RAW_STILLS = {"aflw2000": "AFLW2000-3D"}  # headposeplus.raw.targets has them, but takes long to import
PDF = click.option("--pdf", is_flag=True, help="Write the diagrams as PDF, too, for a paper.")
OUT_FILE = click.option("--out", type=FILE, required=True, help="The file to write.")
SUBSET = click.option("--subset", help="A named subset (hpp subsets lists them), or a file with a frame a line.")

SEEDS = click.option(
    "--seeds", type=click.IntRange(0, 2**32 - 1), multiple=True, help="Several seeds, one run each: --seeds 0 1 2."
)

DATA = click.option("--data", type=FOLDER, help="Folder of the built datasets, of which the target has the labels.")
LABELS = click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Biwi_plus.npz, raw AFLW2000-3D, or a CSV with id, pitch, yaw, roll, subject.",
)
PROTOCOL = click.option(
    "--protocol", help="Id or file of the protocol.  [default: that of the TOML; without one, what fits is listed]"
)
RESAMPLES = click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=2000,
    show_default=True,
    help="Of the bootstrap over subjects.",
)
BOOTSTRAP_SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the bootstrap."
)
JSON = click.option("--json", "json_file", type=FILE, help="Write what is found here, as JSON.")
TASK = click.option(
    "--task",
    type=click.Choice(["da", "pda", "cross", *(f"{kind}-{name}" for name in RAW_STILLS for kind in ("pda", "cross"))]),
    help="Without a protocol: that of this task on all frames.",
)


class Real(click.FloatRange):
    """A number in a range; NaN, which is in none, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; raises click.BadParameter if it is none, or not in the range."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def stills_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for the raw copy of each dataset of stills; :func:`stills_of` reads them."""
    for name, title in reversed(RAW_STILLS.items()):
        text = f"Raw {title}: the folder with its images and labels, or one above it."
        command = click.option(f"--{name}", type=FOLDER, help=text)(command)
    return command


def stills_of(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the raw copies of datasets of stills that are given, by name."""
    return {name: options[name] for name in RAW_STILLS if options.get(name) is not None}


def manifest_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the option ``--manifest``; without it, a manifest beside its raw folders is taken, and said."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(*arguments: Any, manifest: Path | None, **options: Any) -> Any:
            named = {"biwi": options.get("biwi") or options.get("biwi_folder"), "synhead": options.get("synhead")}
            given = {name: folder for name, folder in named.items() if folder} | stills_of(options)
            return command(*arguments, manifest=manifest or _manifest_beside(given), **options)

        return click.option("--manifest", type=FILE, help=text)(wrapped)

    return decorate


def _manifest_beside(given: Mapping[str, Path]) -> Path | None:
    if not given:
        return None
    from headposeplus.raw.source import manifest_beside

    path = manifest_beside(given)
    if path:
        click.echo(f"manifest {path}, which lies beside the raw folders")
    return path


RAW_MANIFEST = manifest_option(
    "What a full raw copy holds.  [default: data_manifest.csv beside the raw folders, else that of the real datasets]"
)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_WORDS = "headposeplus.words"  # of the command line, in the context
_PARAMETER = re.compile(r"`(\w+)`")


def _flags(command: click.Command) -> dict[str, str]:
    """Return how each parameter of a command, or of those below it, is typed: as an option, or in capitals."""
    flags: dict[str, str] = {}
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        flags |= _flags(below)
    for parameter in command.params:
        option = isinstance(parameter, click.Option)
        flags[str(parameter.name)] = max(parameter.opts, key=len) if option else str(parameter.name).upper()
    return flags


def as_typed(text: str, command: click.Command, words: Sequence[str] = ()) -> str:
    """Return a library's text, which names its parameters between backticks, with the flags of the command line.

    ``words`` are those that were typed: where two commands have a parameter of one name, theirs counts.
    """
    flags = _flags(command)
    for word in words:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]
        flags |= _flags(command)
    return _PARAMETER.sub(lambda match: flags.get(match[1], match[0]), text)


def _show_whole_rows(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from headposeplus.tables import whole_rows

        ctx.with_resource(whole_rows())


WIDE = click.option(
    "--wide",
    is_flag=True,
    expose_value=False,
    callback=_show_whole_rows,
    help="Every row of a table on one line, however wide.",
)
_AS_JSON = "headposeplus.json"  # whether the listing shall be, in the context


def _ask_json(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.meta[_AS_JSON] = True


def listing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that lists something the options ``--wide`` and ``--json``; :func:`say_listing` heeds them."""
    text = "Print all that is known as JSON instead."
    as_json = click.option("--json", is_flag=True, expose_value=False, callback=_ask_json, help=text)
    return WIDE(as_json(command))


def say_listing(text: str, values: object) -> None:
    """Print a listing as text, or what it is made of where ``--json`` asks for it."""
    if not click.get_current_context().meta.get(_AS_JSON):
        click.echo(text)
        return
    import json

    import msgspec

    click.echo(json.dumps(msgspec.to_builtins(values), indent=2, ensure_ascii=False))


def say(*lines: object) -> None:
    """Print lines of text; those longer than the terminal is wide go on in the next."""
    from headposeplus.tables import prose

    for line in prose(*(part for text in lines for part in str(text).split("\n"))):
        click.echo(line)


def tell(text: object) -> None:
    """Print a library's text with the flags of the command that runs."""
    root = click.get_current_context().find_root()
    click.echo(as_typed(str(text), root.command, root.meta[_WORDS]))


class _Asked(click.ClickException):
    """What a command has to be told, with what it may be told: a fault of its use."""

    exit_code = click.UsageError.exit_code


class Commands(HelpfulGroup):
    """Shows what a user can mend as one line, without a traceback; ``--seeds`` takes several values."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line, wherever it was started."""
        make_ready(alone=options.get("standalone_mode", True))
        return super().main(*arguments, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let ``--seeds 0 1 2`` stand for ``--seeds 0 --seeds 1 --seeds 2``."""
        spread: list[str] = []
        for word in args:
            if word.isdecimal() and spread[-2:-1] == ["--seeds"]:
                spread.append("--seeds")
            spread.append(word)
        ctx.meta[_WORDS] = list(spread)
        return super().parse_args(ctx, spread)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raise what a user can mend as a ClickException."""
        try:
            return super().invoke(ctx)
        except ChoiceError as error:
            lines = [f"{error.fault}:", *error.lines, error.also] if error.lines else [str(error.fault)]
            raise _Asked(as_typed("\n  ".join(filter(None, lines)), self, ctx.meta[_WORDS])) from error
        except HeadposeError as error:
            text = as_typed(" ".join(map(str.strip, str(error).splitlines())), self, ctx.meta[_WORDS])
            raise click.ClickException(_of_rank() + text) from error
        except MemoryError as error:
            raise click.ClickException("out of memory; lower --jobs or --batch") from error
        except OSError as error:
            if error.errno in _NO_ROOM and error.filename is None:  # of an open file, or of what is printed
                raise click.ClickException(f"{error.strerror}; make room, or write elsewhere") from error
            if isinstance(error, BrokenPipeError) or not error.strerror:
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror}") from error


def _of_rank() -> str:
    """Return who speaks, of several processes that train: it may be the only one that has the error."""
    from benchmark.loaders.launch import ranks_here

    try:
        ranks = ranks_here()
    except HeadposeError:  # the very thing that is told
        return ""
    return "" if ranks.first else f"rank {ranks.rank}: "


def keep_inputs(inputs: Iterable[Path | None], *outputs: Path | None) -> None:
    """Raise HeadposeError if a file that is to be written is one that is read, or the TOML beside it."""
    from headposeplus.files import beside

    read = {path.resolve() for given in inputs if given for path in (given, beside(given, ".toml"))}
    for output in filter(None, outputs):
        if output.resolve() in read:
            raise HeadposeError(Fault("is read by this command", "choose another name to write to", output))


def typed_command() -> str:
    """Return the command line as it was typed."""
    return shell_line("hpp", *sys.argv[1:])


_CONVENTIONS, _CAMERAS = click.Choice(["pyr", "biwi", "ypr"]), click.Choice(["rgb", "depth"])
_IN_FILE = "  [default: what the file or a TOML beside it says]"


def _of_labels(name: str, kind: click.Choice[str], what: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return an option that says what labels are; and with a second, short name, where no predictions have it."""
    names, text = (f"labels_{name}", f"--labels-{name}"), f"{what} in --labels.{_IN_FILE}"
    return click.option(*names, type=kind, help=text), click.option(*names, f"--{name}", type=kind, help=text)


_LABELS_CONVENTION, CONVENTION = _of_labels("convention", _CONVENTIONS, "Of the angles")
_LABELS_CAMERA, CAMERA = _of_labels("camera", _CAMERAS, "Of the poses")


def truth_options(needed: bool, alone: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that say where the labels are and what they are; it gets them as ``truth``.

    Where they are not ``needed``, ``truth`` may be None. Where labels are ``alone``, no predictions with them, their
    convention and camera have short names, too.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(
            *arguments: Any,
            data: Path | None,
            labels: Path | None,
            labels_convention: str | None,
            labels_camera: str | None,
            **options: Any,
        ) -> None:
            at = (data, labels, labels_convention, labels_camera)
            command(*arguments, truth=labels_at(*at) if needed or data or labels else None, **options)

        said = (CAMERA, CONVENTION) if alone else (_LABELS_CAMERA, _LABELS_CONVENTION)
        for option in (*said, LABELS, DATA):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def labels_at(data: Path | None, labels: Path | None, convention: str | None, camera: str | None) -> LabelsAt:
    """Return where the labels are, and what is said of them; raises SubmissionError if not just one place is given."""
    from benchmark.scoring.label_files import LabelsAt

    if data and labels:
        raise SubmissionError("give the labels once: either --data or --labels, not both")
    if not (data or labels):
        raise SubmissionError("give the labels: either --data FOLDER of built datasets, or --labels Biwi_plus.npz")
    if data and (convention or camera):
        what = "built datasets say their convention and camera"
        raise SubmissionError(f"{what}: leave out `labels_convention` and `labels_camera`")
    return LabelsAt(data or labels or Path(), convention or "", camera or "")


_TARGET_IMAGES = "Whether training saw test images, without their labels."
_FACTS = (
    click.option("--name", help="Of the method."),
    click.option("--authors", help="Who made it."),
    click.option("--training-data", help="What the network was trained on, such as 300W-LP."),
    click.option("--selected-by", help="How the epoch was chosen, such as: released weights."),
    click.option("--target-images/--no-target-images", default=None, help=_TARGET_IMAGES),
    click.option("--convention", type=_CONVENTIONS, help="Of the predicted angles; rotations have none."),
    click.option("--camera", type=_CAMERAS, help="Of the predicted poses: that whose images the network saw."),
)


def facts_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what the TOML beside predictions does not; it gets them as ``facts``."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        from benchmark.scoring.submission import About

        facts = About(
            name=options.pop("name") or "",
            authors=options.pop("authors") or "",
            training_data=options.pop("training_data") or "",
            selection=options.pop("selected_by") or "",
            uses_target_images=options.pop("target_images"),
            convention=options.pop("convention") or "",
            camera=options.pop("camera") or "",
        )
        command(*arguments, facts=facts, **options)

    for option in reversed(_FACTS):
        wrapped = option(wrapped)
    return wrapped


def say_suspicions(entry: Entry, facts: About) -> None:
    """Print what looks odd about an entry whose facts options gave."""
    from benchmark.scoring.choice import by_parameter

    for suspicion in entry.suspicions:
        tell(f"suspicion: {by_parameter(suspicion, facts)}")


def count(things: Sequence[object], word: str) -> str:
    """Return how many things there are, in words."""
    return plural(len(things), word)


def say_board(entry: Path, page: Path) -> None:
    """Print what adding an entry to a scoreboard wrote, from the paths of it and of its Markdown, and how to look."""
    from benchmark.board.site import ENTRIES, INDEX

    folder = page.parent
    click.echo(f"entry  {entry}")
    click.echo(f"page   {page}")
    click.echo(f"site   {folder / INDEX}")
    click.echo(f"with   {folder / ENTRIES / entry.stem}.html")
    click.echo(f"To look: open {folder / INDEX} in a browser, or {shell_line('hpp', 'scoreboard', folder)}")


def say_protocol(entry: Entry, found: str = "") -> None:
    """Print under which protocol an entry was scored, and how it was found where nobody named it."""
    protocol = entry.protocol
    say(
        f"{protocol.id}, {plural(protocol.frames, 'frame')}, convention {protocol.convention}, {protocol.camera} camera"
    )
    if found:
        say(f"no protocol was named; this is {found}")


def say_lacking(predictions: Path, lacks: Sequence[str]) -> None:
    """Print which of the authors' words an entry of a scoreboard still needs."""
    from benchmark.scoring.submission import about_path, given

    if lacks:
        tell(f"a scoreboard still needs {given(lacks)}; or write them into {about_path(predictions).name}")
