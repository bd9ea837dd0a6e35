"""The service's log: a line of JSON an event."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path

_MOST = 1_000  # events that are remembered
_log = logging.getLogger("hpp.serve")


def event(name: str, **fields: object) -> None:
    """Log a line of the service."""
    _log.info(name, extra={"fields": fields})


def short_id(name: str) -> str:
    """Return the start of a submission's id, for the log: whoever knows all of it may read the submission."""
    return f"{name[:8]}..."


def place(error: BaseException) -> str:
    """Return the kind of an error and where it arose, for the log; its message may hold a label."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


class Lines(logging.Formatter):
    """Log records as lines of JSON. Of an exception only the kind and the place are told: its text may hold a label."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {"time": f"{stamp}.{int(record.msecs):03d}Z", "event": record.getMessage()[:500]}
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = place(record.exc_info[1])
        return json.dumps(line)


class Once(logging.Filter):
    """Passes an event at most once in ten seconds; when it comes again after that, ``again`` counts those between."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[tuple[object, ...], tuple[float, int]] = {}  # when an event was passed, and how often not

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        fields = getattr(record, "fields", {})
        event_of = (record.name, record.levelno, str(record.msg)[:500], json.dumps(fields, default=str))
        if len(self._last) >= _MOST:
            recent = ((key, held) for key, held in self._last.items() if held[0] > record.created - self._seconds)
            self._last = dict(list(recent)[-_MOST // 2 :])
        passed, left_out = self._last.pop(event_of, (0.0, 0))
        if abs(record.created - passed) < self._seconds:
            self._last[event_of] = passed, left_out + 1
            return False
        self._last[event_of] = record.created, 0
        if left_out:
            record.fields = fields | {"again": left_out}
        return True


def log_to_stderr() -> None:
    """Let the service and its server log lines of JSON on standard error, and nothing else there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Once())
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
