"""Builds the site into ``site/`` and checks it: ``python docs/site``, or ``make docs``.

A warning of Sphinx, a link that leads nowhere, and a public function that is not in the reference are errors.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

if not find_spec("sphinx"):
    sys.exit("Sphinx is not installed: make docs needs Python 3.11 or newer, or pip install -e '.[docs]'")

import links
import pages
from sphinx.cmd.build import build_main

SOURCE = pages.ROOT / "build" / "site"
SITE = pages.ROOT / "site"
OPTIONS = ("--quiet", "--fail-on-warning", "--fresh-env")


def main() -> int:
    """Build the site and return the exit status."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    pages.write_source(SOURCE)
    doctrees = str(SOURCE.with_name("doctrees"))
    if build_main([*OPTIONS, "-c", str(Path(__file__).parent), "-d", doctrees, str(SOURCE), str(SITE)]):
        return 1
    pages.copy_files(SITE)
    faults = [*links.broken(SITE), *(f"{name} is not in the reference" for name in links.left_out(SITE))]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{SITE / 'index.html'}: {len(list(SITE.rglob('*.html')))} pages, every link leads somewhere")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
