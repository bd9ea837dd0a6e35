"""Draws what the angles of each convention do, for ``docs/angles.md``: ``python -m benchmark.upkeep.angles_shown``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from benchmark.board import drawn, turns
from headposeplus.files import write_text
from headposeplus.poses.columns import ANGLE_COLUMNS

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "angles.svg"
_SIDE, _LEFT, _ROW, _COLUMN, _TOP = 116, 200, 166, 186, 34  # of a drawing, the names, rows, columns, header; pixels
_LINE, _LETTERS = 16, 26  # the height of a line of text, and how many letters it has at most


def draw() -> str:
    """Return the picture: a row a convention, below the names of the angles, in the colours of a light or dark page."""
    style = (drawn.PAGES / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = [
        " ".join(re.findall(r"--(?:page|card|ink|soft|line|accent|second): #\w+;", part)) for part in (light, dark)
    ]
    rules = (drawn.PAGES / "turns.css").read_text(encoding="utf-8")
    shown = turns.conventions()
    width, height = _LEFT + 3 * _COLUMN, _TOP + len(shown) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>svg {{ {colours[0]} }} @media (prefers-color-scheme: dark) {{ svg {{ {colours[1]} }} }}",
        "text { fill: var(--ink); font: 13px sans-serif; } .bold { font-weight: bold; } .soft { fill: var(--soft); }",
        f"{rules}</style>",
        # Its own ground: a site may be dark where the system is light.
        '<rect width="100%" height="100%" rx="8" fill="var(--page)"/>',
    ]
    middles = [_LEFT + _COLUMN * place + _COLUMN // 2 for place in range(3)]
    for middle, angle in zip(middles, ANGLE_COLUMNS, strict=True):
        parts += _text(f"{angle} +", middle, 24, "bold", "middle")
    for place, (name, convention) in enumerate(shown.items()):
        top = _TOP + place * _ROW
        parts += _text(name, 14, top + 40, "bold")
        parts += _text(f"{convention.used_by}; {convention.order}", 14, top + 58, "soft")
        for middle, turn in zip(middles, convention.turns, strict=True):
            placed = f'<svg x="{middle - _SIDE // 2}" y="{top}" width="{_SIDE}" height="{_SIDE}" '
            parts.append(str(turn.svg).replace("<svg ", placed, 1))
            parts += _text(turn.words, middle, top + _SIDE + 12, "words", "middle")
    return "\n".join([*parts, "</svg>", ""])


def _text(words: str, x: int, y: int, kind: str, anchor: str = "start") -> list[str]:
    """Return words as lines of text, the first of which stands at a point."""
    return [
        f'<text class="{kind}" x="{x}" y="{y + _LINE * line}" text-anchor="{anchor}">{text}</text>'
        for line, text in enumerate(textwrap.wrap(words, _LETTERS))
    ]


if __name__ == "__main__":
    write_text(PICTURE, draw())
