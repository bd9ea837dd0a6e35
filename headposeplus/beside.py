"""The packages beside this one, ``baselines`` and ``benchmark``, in projects that have folders of these names, too.

Python knows one package of a name. Where another ``benchmark`` comes first on the path, ours is imported as
``headposeplus.beside.benchmark``: Python finds it there through ``__path__``, and its own ``import benchmark...`` is
read as ``import headposeplus.beside.benchmark...``. Both then live in one process, and neither sees the other.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_BESIDE = ("baselines", "benchmark")
__path__ = [str(_ROOT)]


def load(name: str) -> ModuleType:
    """Return a module of the packages beside this one, such as ``benchmark.scoring.evaluation``.

    It is the one that ``import`` gives, unless that would be taken from another project's folder.
    """
    theirs = any(_is_another(name, find_spec(name)) for name in _BESIDE)
    return importlib.import_module(f"{__name__}.{name}" if theirs else name)


def come_first() -> None:
    """Let our packages come before all others of their names, in this process and in those that it starts."""
    if any(_is_another(name, PathFinder.find_spec(name)) for name in _BESIDE):
        sys.path.insert(0, str(_ROOT))


def found_afresh() -> bool:
    """Return whether a Python that starts in this folder finds our packages, and not others of their names there."""
    path = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return not any(_is_another(name, PathFinder.find_spec(name, path)) for name in (__package__, *_BESIDE))


def python(code: str) -> list[str]:
    """Return the words that run Python code which imports our packages, in whatever folder they are typed."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(_ROOT)!r}); {code}"]


def main() -> None:
    """Run the command line ``hpp``."""
    come_first()
    importlib.import_module("benchmark.cli.main").main()


def _is_another(name: str, spec: ModuleSpec | None) -> bool:
    """Whether a package was found that is not ours; a mere folder, which has no origin, is none."""
    return spec is not None and (spec.origin is None or Path(spec.origin).resolve().parent != _ROOT / name)


class _Loader(SourceFileLoader):
    """Executes a module of ours so that what it imports of ours is found beside this package."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module with an ``import`` of its own."""
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals: dict[str, Any] | None = None,
    locals: dict[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    top = name.partition(".")[0]
    if level or top not in _BESIDE:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    found = builtins.__import__(f"{__name__}.{name}", globals, locals, fromlist or (), 0)
    return found if fromlist else sys.modules[f"{__name__}.{top}"]


class _Finder:
    """Finds ``headposeplus.beside.benchmark...`` in the folders of ``benchmark``."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where a module is, or None if it is none of these."""
        if not name.startswith(tuple(f"{__name__}.{package}" for package in _BESIDE)):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder)
