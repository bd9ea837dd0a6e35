"""Scoring in child processes: nothing brings the service down."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from msgspec.structs import replace

from benchmark.scoring.labels import Labels
from benchmark.service.app import create_app
from benchmark.service.log import Lines
from benchmark.service.worker import find_protocol
from headposeplus.errors import SubmissionError
from tests.benchmark.service.cases import (
    FRAMES,
    LABELS,
    PROTOCOL,
    about,
    end,
    fail_with_a_label,
    files,
    fill_memory,
    hang,
    new_token,
    outcome,
    predictions,
    send,
    serving,
    settings,
)


@pytest.mark.parametrize(
    ("assess", "says", "event"),
    [
        (hang, "more than 1.5 seconds", "killed"),
        (end, "ended 3 times without an answer", "ended"),
        (fill_memory, "more than 2 GiB of memory", "failed"),
        (fail_with_a_label, "the scoring itself failed", "failed"),
    ],
)
def test_a_scoring_that_goes_wrong_is_a_fault_and_the_service_goes_on(lite, assess, says, event, caplog, capfd):
    token = new_token(lite)
    caplog.set_level("INFO", "hpp.serve")
    with serving(lite, assess, seconds=1.5 if assess is hang else 30) as client:
        submission = outcome(client, send(client, token))
        assert submission["status"] == "faulty" and says in submission["faults"][0]["what"]
        assert submission["counts"]  # against the limit of a day: labels may have been looked at
        assert event in [record.message for record in caplog.records]
        health = client.get("/healthz").json()
        assert (health["status"], health["queued"], health["running"]) == ("ok", 0, 0)
    lines = [Lines().format(record) for record in caplog.records]
    shown = "\n".join(lines) + json.dumps(submission) + "".join(capfd.readouterr())
    assert "label" not in shown and f"{LABELS.rotations[0, 0, 0]:.4f}" not in shown


def test_two_scorings_run_at_once(lite):
    token = new_token(lite)
    with serving(lite, hang, seconds=30) as client:
        for number in range(4):
            send(client, token, files(predictions(seed=number)))
        end = time.monotonic() + 20
        while (health := client.get("/healthz").json())["running"] < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert (health["queued"], health["running"]) == (2, 2)


def test_a_description_names_its_protocol():
    other = replace(PROTOCOL, id="lab/b@1", task="da")
    both = (PROTOCOL, other)
    find = find_protocol
    assert find("lab/b@1", about(), both) == other and find("", about(), both) == PROTOCOL
    assert find("", about(protocol="", task="da"), both) == other
    assert find("", about(protocol=""), both) is None and find("", b"\xff[[[", both) is None
    assert find("", b"x = " + b"[" * 60_000, (PROTOCOL,)) == PROTOCOL
    assert find("", about(protocol="none@1"), (PROTOCOL,)) is None


def test_labels_of_another_protocol_are_refused(lite):
    other = LABELS._replace(rotations=LABELS.rotations[::-1])
    turned = Labels(*other[:5]).take(np.arange(FRAMES - 1))
    with pytest.raises(SubmissionError, match="not the test set of lab/faces@1"):
        create_app(settings(lite)._replace(labels=turned))


def test_answers_are_known_to_msgspec_before_threads_convert_to_them():
    """It looks a type up when it first needs it, and two threads that do so at once end the process by a signal."""
    code = (
        "import json, sys, msgspec, benchmark.service.worker as worker, msgspec._utils as utils\n"
        "class Asked(Exception): pass\n"
        "def ask(*given): raise Asked\n"
        "class Other(msgspec.Struct): value: 'int | None'\n"
        "utils._eval_type = ask\n"
        "told = [{'where': 'a', 'what': 'b', 'mend': 'c'}]\n"
        "found = msgspec.convert({'verdict': {'faults': told}}, worker.Answer)\n"
        "print(found.verdict.faults[0].what)\n"
        "try: msgspec.convert({'value': 1}, Other)\n"
        "except Asked: print('asked')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b", "asked"]
