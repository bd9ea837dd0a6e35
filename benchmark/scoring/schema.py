"""What ``entry.schema.json`` says of entries and protocols, checked."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from headposeplus.faults import said, shown

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator


@cache
def _validator(part: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # not needed to train

    text = (resources.files("benchmark.scoring") / "entry.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    return Draft202012Validator(schema if part == "entry" else {"$ref": f"#/$defs/{part}", "$defs": schema["$defs"]})


def fault(value: Any, part: str = "entry") -> str:
    """Return what keeps plain values from being an entry, or a ``protocol``; empty if nothing does."""
    try:
        error = next(_validator(part).iter_errors(value), None)
        # JSON and TOML can hold texts that no file can, such as half of a surrogate pair.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        place = "" if error is None else "/".join(shown(one)[1:-1] for one in error.absolute_path) or "the whole"
        return "" if error is None else f"{place}: {said(error.message, 200)}"
    except (ValueError, RecursionError) as broken:  # a number of thousands of digits cannot even be shown
        return said(broken, 200)
