"""What requests to the service ask of its database, timed in a process of its own: once for each line that it reads.

An earlier release can be put in the place of this one: nothing is imported that it may lack.
"""

from __future__ import annotations

import inspect
import json
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

from sqlalchemy.engine import Engine

from benchmark.scoring.entry import PartErrors
from benchmark.service import store
from benchmark.service.challenge import is_open
from benchmark.service.database import QUEUED, RUNNING, open_database
from benchmark.service.settings import Stands
from benchmark.service.standing import stands_there
from benchmark.service.verdict import Verdict, read_verdict

TEAM = 100  # submissions of a team
FILE = 4_000  # bytes of predictions
NO_LIMIT = 10**9  # submissions a day: late in the day, a small database holds those of one day alone
Given = TypeVar("Given")
Found = TypeVar("Found")


def name_of(number: int) -> str:
    """Return the id of a submission by its number: spread like those that follow from what was sent."""
    return Random(number).randbytes(16).hex()


def team_of(number: int) -> str:
    """Return a team by its number."""
    return f"team {number:05d}"


def token_of(number: int) -> str:
    """Return the token of a team by its number."""
    return f"token {number}"


def measure(engine: Engine, rows: int, times: int, random: Random, verdict: Verdict) -> dict[str, float]:
    """Return how many milliseconds each look-up takes in a database of so many submissions; medians.

    What is added is scored, and stays.
    """
    published = random.sample([number for number in range(rows) if number % 3], times)
    teams = random.choices(range(rows // TEAM), k=times)
    took: dict[str, float] = {}

    def timed(what: str, do: Callable[[Given], Found], given: Iterable[Given]) -> list[Found]:
        seconds, found = [], []
        for one in given:
            began = time.perf_counter()
            found.append(do(one))
            seconds.append(time.perf_counter() - began)
        took[what] = round(1000 * statistics.median(seconds), 4)
        return found

    def accept(team: int) -> str:
        return store.add_submission(engine, team_of(team), secrets.token_bytes(FILE), b"about", "", True, NO_LIMIT)

    def claim(_number: int) -> store.Job:
        job = store.claim(engine)
        assert job is not None, "it was queued"
        return job

    def finish(job: store.Job) -> None:
        parts = PartErrors(random.uniform(3, 9), random.uniform(3, 9))
        store.finish(engine, job, verdict, f"key-{job.id}", parts=parts)

    def show(number: int, stands: Stands) -> bool:
        """Ask what the page of a submission does."""
        state, open_now = store.find_submission(engine, name_of(number)), is_open(engine)
        assert state is not None, "it is there"
        return stands_there(engine, state, open_now, stands)

    # Before this release all were counted, whatever was asked.
    waiting = ((QUEUED, RUNNING),) if len(inspect.signature(store.counts).parameters) > 1 else ()
    timed("whose token it is", lambda team: store.find_submitter(engine, token_of(team)), teams)
    timed("accept a submission", accept, teams)
    jobs = timed("claim the next that is queued", claim, teams)
    timed("write what came of it", finish, jobs)
    timed("the next to look at beside the labels", lambda _: store.claim_unlooked(engine), teams)
    for job in jobs:
        store.add_suspicions(engine, job.id, Verdict())
    timed("the page of a submission", lambda number: show(number, "all"), published)
    timed("the same where one of a team stands", lambda number: show(number, "best"), published)
    timed("whether the board changed", lambda _: store.board_state(engine), teams)
    timed("/healthz", lambda _: store.counts(engine, *waiting), teams)
    return took


def main(database: str, rows: int, times: int, seed: int, verdict: str) -> None:
    """Measure once for each line on standard input, and print a line of JSON each time."""
    engine, random, told = open_database(database, create=False), Random(seed), read_verdict(verdict)
    for _ in sys.stdin:
        print(json.dumps(measure(engine, rows, times, random, told)), flush=True)
    engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
