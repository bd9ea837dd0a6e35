"""Groups of commands: help in whole sentences, and what may be meant by a word that is no command."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any

import click

# Words that people try, and the commands that do it.
_MEANT = {
    "board": ("scoreboard",),
    "build": ("build-datasets",),
    "eval": ("score",),
    "evaluate": ("score",),
    "fit": ("benchmark",),
    "generate": ("miniature",),
    "leaderboard": ("scoreboard",),
    "list": ("protocols", "methods", "subsets"),
    "submit": ("score", "scoreboard add"),
    "test": ("score",),
    "train": ("benchmark", "reproduce"),
    "validate": ("check", "verify"),
}
_REMARKS = {
    "download": "Nothing is downloaded: raw Biwi and SynHead come from their authors, and hpp miniature writes a "
    "stand-in for them.",
}
_LONGEST = 1_000  # characters of a summary: all of them, so that none ends in dots


class HelpfulGroup(click.Group):
    """A group that tells its commands in sections and whole sentences, and what a wrong word may have meant.

    With a ``default``, a first word that is no command, nor nearly one, is that command's argument.
    """

    group_class = type  # groups below are of this class, too

    def __init__(self, *arguments: Any, default: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.default = default
        self.sections: dict[str, list[str]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands, which the help lists below a title."""
        for command in commands:
            self.add_command(command)
            self.sections.setdefault(title, []).append(str(command.name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, section by section, each with its whole summary."""
        listed = {name for names in self.sections.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in listed]
        sections = {**self.sections, "Commands": others}
        widest = max(map(len, self.commands), default=0)
        for title, names in sections.items():
            shown = [(name, self.commands[name]) for name in names if not self.commands[name].hidden]
            if shown:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(widest), one.get_short_help_str(_LONGEST)) for name, one in shown])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word; say what may be meant where there is none."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            near = difflib.get_close_matches(word, self.commands)
            if self.default and not (near and not os.path.exists(word)):
                return super().resolve_command(ctx, [self.default, *args])
            if not ctx.resilient_parsing:
                raise click.UsageError(f"No such command {word!r}.{self._meant(ctx, word, near)}", ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, word: str, near: list[str]) -> str:
        """Return what may be meant by a word, as a sentence; empty if nothing is like it."""
        if ctx.parent is None and word in _REMARKS:
            return f" {_REMARKS[word]}"
        names = [*(_MEANT.get(word, ()) if ctx.parent is None else ()), *near]
        names += [name for name in self.commands if name.startswith(word)]
        names += [" ".join(path) for path in _below(self) if len(path) > 1 and path[-1] == word]
        names = list(dict.fromkeys(names))
        *first, last = names or [""]
        before = f"{', '.join(first)} or " if first else ""
        return f" Did you mean {before}{last}?" if last else ""


def _below(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield the words that call each command below a group."""
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from _below(command, *before, name)
