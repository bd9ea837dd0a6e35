"""Commands of the scoring service. They only call the library."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from benchmark.cli.common import CAMERA, CONVENTION, FILE, FOLDER, Real, labels_at, listing, say_listing
from benchmark.cli.groups import HelpfulGroup
from headposeplus import tables
from headposeplus.errors import HeadposeError

if TYPE_CHECKING:
    from benchmark.service.terms import Terms

DATABASE = click.option(
    "--database",
    default="sqlite:///hpp-serve.db",
    show_default=True,
    envvar="HPP_DATABASE",
    show_envvar=True,
    help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME.",
)
_NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "multipart", "jinja2", "markdown_it")


def check_installed() -> None:
    """Raise a HeadposeError if what the service needs is not installed."""
    import importlib

    try:
        for name in _NEEDED:
            importlib.import_module({"multipart": "python_multipart"}.get(name, name))
    except ImportError as error:
        raise HeadposeError(f"hpp serve needs more packages: pip install 'headposeplus[serve]' ({error})") from error


Challenge = Callable[[], "Terms"]
_CHALLENGE = (
    click.option(
        "--challenge", "file", type=FILE, help="TOML with what follows, words and rules (hpp serve template)."
    ),
    click.option("--title", help="Of the challenge, above its board."),
    click.option(
        "--deadline",
        metavar="TIME",
        help="Until when submissions are taken, such as 2030-01-31T18:00+01:00, in UTC where no zone is said; none for "
        "no such time.  [default: as it was]",
    ),
    click.option(
        "--stands",
        type=click.Choice(["all", "best", "last"]),
        help="Which of a team's published entries the board has; the best is that on the public part.  [default: all]",
    ),
    click.option(
        "--daily",
        type=click.IntRange(1),
        help="Submissions of one submitter that are scored on a UTC day; faulty ones do not count.  [default: 5]",
    ),
    click.option(
        "--private",
        type=Real(0, 0.9),
        help="Share of the subjects whose figures are told when the challenge is closed, 0.5 where it is opened "
        "without. With 0 there are none: nothing is left to rank by that submitters had no word of.",
    ),
    click.option(
        "--step",
        type=Real(0.01, 10),
        help="Degrees by which a submitter must be better to be told a new figure, 0.1 where it is opened without. "
        "The smaller, the more is told of the labels.",
    ),
)


def challenge_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what a challenge is; it gets them as ``challenge``, to be read when needed.

    Each of them counts before the same key of ``--challenge``.
    """

    @functools.wraps(command)
    def wrapped(*arguments: Any, file: Path | None, **options: Any) -> None:
        names = ("title", "deadline", "stands", "daily", "private", "step")
        given = {name: value for name in names if (value := options.pop(name)) is not None}

        def read() -> Terms:
            from msgspec.structs import replace

            from benchmark.service.terms import Terms, read_terms

            return replace(read_terms(file) if file else Terms(), **given)

        command(*arguments, challenge=read, **options)

    for option in reversed(_CHALLENGE):
        wrapped = option(wrapped)
    return wrapped


@click.group(cls=HelpfulGroup, invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]")
@click.option(
    "--protocol",
    "names",
    multiple=True,
    help="Id of a frozen protocol, or a TOML file of one's own; may be given several times.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="File of the labels: Biwi_plus.npz, or a CSV; or raw AFLW2000-3D.",
)
@click.option("--data", type=FOLDER, help="Folder of the built datasets, whose labels are taken.")
@CONVENTION
@CAMERA
@DATABASE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--behind-proxy",
    metavar="ADDRESS[,ADDRESS]",
    default="",
    help="Addresses or networks of proxies, whose X-Forwarded-For says for whom they ask; nobody else's is read.",
)
@click.option("--root-path", metavar="PATH", default="", help="Below which browsers see the service, such as /heads.")
@challenge_options
@click.option(
    "--per-minute",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Requests of one submitter, or of one address without a token; of pages, which many at one address look at, "
    "20 times as many.",
)
@click.option(
    "--max-mib", type=click.IntRange(1, 64), default=16, show_default=True, help="Largest file of predictions."
)
@click.pass_context
def serve(
    ctx: click.Context,
    names: tuple[str, ...],
    labels: Path | None,
    data: Path | None,
    labels_convention: str | None,
    labels_camera: str | None,
    database: str,
    host: str,
    port: int,
    behind_proxy: str,
    root_path: str,
    challenge: Challenge,
    per_minute: int,
    max_mib: int,
) -> None:
    """Score predictions that are sent by HTTP, with a live board.

    The labels stay here. Until hpp serve close, a submitter is told one figure, the MAE on some of the subjects, and a
    new one only when it is a step better. --private and --step are those with which a database's challenge is opened,
    and stay. The deadline may be moved at each start, and stays where none is given.

    Submitters need a token: hpp serve token add NAME. Put a server with TLS in front where others can listen, and name
    its address with --behind-proxy.

    \b
    Examples:
      hpp serve token add "Lab A"
      hpp serve --protocol biwi+/pda@1 --labels Biwi_plus.npz
      hpp serve --protocol class.toml --labels secret.csv \\
        --database postgresql://hpp@localhost/hpp
      hpp serve --protocol biwi+/pda@1 --labels Biwi_plus.npz \\
        --behind-proxy 127.0.0.1 --root-path /heads
      hpp serve --protocol class.toml --labels secret.csv \\
        --challenge challenge.toml --deadline 2030-01-31T18:00+01:00
    """
    if ctx.invoked_subcommand is not None:
        typed = [
            option.opts[0]
            for option in ctx.command.params
            if ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        ]
        if typed:
            raise click.UsageError(f"put {', '.join(typed)} after {ctx.invoked_subcommand}, not before it")
        return
    if not names:
        raise click.UsageError("name a protocol with --protocol, such as biwi+/pda@1 (hpp serve --help)")
    if bool(labels) == bool(data):
        raise click.UsageError("name the labels with either --labels or --data")
    check_installed()
    from benchmark.scoring import protocols
    from benchmark.scoring.labels import read_labels
    from benchmark.service import app
    from benchmark.service.settings import ServiceSettings, proxies_of, root_of
    from benchmark.service.terms import with_terms
    from headposeplus.raw.targets import of_protocol

    terms = challenge()
    root, proxies = root_of(root_path), proxies_of(behind_proxy) if behind_proxy else ()
    served = tuple(protocols.find(name) for name in dict.fromkeys(names))
    truth = read_labels(labels_at(data, labels, labels_convention, labels_camera), of_protocol(served[0].id))
    settings = ServiceSettings(
        database, served, truth, per_minute=per_minute, max_bytes=max_mib << 20, root=root, proxies=proxies
    )
    app.run(with_terms(settings, terms), host, port)


@serve.command()
def template() -> None:
    """Print what --challenge FILE may say, to be filled in.

    \b
    Example:
      hpp serve template > challenge.toml
    """
    check_installed()
    from benchmark.service.terms import TEMPLATE

    click.echo(TEMPLATE, nl=False)


@serve.group()
def token() -> None:
    """Say who may submit."""


@token.command()
@click.argument("name")
@DATABASE
def add(name: str, database: str) -> None:
    """Print a new token for a submitter.

    Only its hash is kept: it cannot be shown again.

    \b
    Example:
      hpp serve token add "Lab A"
    """
    check_installed()
    from benchmark.service import store
    from benchmark.service.database import open_database

    click.echo(store.add_token(open_database(database), name))


@token.command()
@click.argument("name")
@DATABASE
def revoke(name: str, database: str) -> None:
    """Make a token invalid; what was scored stays.

    \b
    Example:
      hpp serve token revoke "Lab A"
    """
    check_installed()
    from benchmark.service import store
    from benchmark.service.database import open_database

    store.revoke(open_database(database, create=False), name)
    click.echo(f"the token of {name} is revoked")


@token.command(name="list")
@DATABASE
@listing
def list_(database: str) -> None:
    """List who has a token, and how much each submitted.

    That is since when, and how many submissions were scored or faulty.

    \b
    Example:
      hpp serve token list
    """
    check_installed()
    from benchmark.service import store
    from benchmark.service.database import open_database

    submitters = store.list_submitters(open_database(database, create=False))
    rows = [
        {
            "name": who.name,
            "since": who.created[:10],
            "revoked": (who.revoked or "")[:10],
            "scored": who.scored,
            "faulty": who.faulty,
        }
        for who in submitters
    ]
    say_listing(tables.table(rows) or "nobody has a token", [who._asdict() for who in submitters])


@serve.command()
@DATABASE
def close(database: str) -> None:
    """Close the challenge: the board tells all figures.

    No more submissions are taken, and it stays closed.

    \b
    Example:
      hpp serve close --database sqlite:///hpp-serve.db
    """
    check_installed()
    from benchmark.service import challenge
    from benchmark.service.database import open_database

    challenge.close(open_database(database, create=False))
    click.echo("the challenge is closed: no more submissions are taken, and all figures are told")


@serve.command()
@click.argument("file", type=FILE, required=False)
@DATABASE
@listing
def results(file: Path | None, database: str) -> None:
    """List what came of every submission, or write it as CSV.

    That is all that the database knows of scores, also while the challenge is open: for the organisers alone.

    \b
    Examples:
      hpp serve results
      hpp serve results results.csv
    """
    check_installed()
    from benchmark.service import results as service
    from benchmark.service.database import open_database

    engine = open_database(database, create=False)
    found = service.write_results(engine, file) if file else service.results(engine)
    shown = ("team", "method", "status", "told", "public", "private", "mae")
    rows = [
        {"received": one.received[:16].replace("T", " ")}
        | {name: f"{value:.2f}" if isinstance(value := getattr(one, name), float) else value or "" for name in shown}
        for one in found
    ]
    text = f"{len(found):,} submissions\nresults {file}" if file else tables.table(rows) or "nothing was submitted"
    say_listing(text, [one._asdict() for one in found])


@serve.command()
@click.argument("key")
@DATABASE
def withdraw(key: str, database: str) -> None:
    """Take an entry off the board; its submission stays.

    The address of the entry's page ends in KEY.

    \b
    Example:
      hpp serve withdraw lab-faces-1-my-method-1a2b3c4d-5e6f70
    """
    check_installed()
    from benchmark.service import store
    from benchmark.service.database import open_database

    store.withdraw(open_database(database, create=False), key)
    click.echo(f"{key} is off the board")


@serve.command()
@click.argument("file", type=FILE)
@DATABASE
def backup(file: Path, database: str) -> None:
    """Write all of the database into a new SQLite file.

    FILE has it as it is at one moment; the service may run.

    \b
    Example:
      hpp serve backup hpp-serve-backup.db
    """
    check_installed()
    from benchmark.service.backup import write_backup

    click.echo(f"{write_backup(database, file):,} submissions\nbackup {file}")


@serve.command()
@click.argument("file", type=FILE)
@DATABASE
def restore(file: Path, database: str) -> None:
    """Copy a backup into an empty or new database.

    \b
    Example:
      hpp serve restore hpp-serve-backup.db --database sqlite:///hpp-serve.db
    """
    check_installed()
    from benchmark.service.backup import restore_backup

    click.echo(f"{restore_backup(file, database):,} submissions restored")
