"""The labels, the predictions and the service that the tests of this folder share."""

import json
import os
import signal
import ssl
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from msgspec.structs import replace

from benchmark.scoring import protocols
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import from_arrays, read_labels
from benchmark.service import store
from benchmark.service.app import create_app
from benchmark.service.database import open_database
from benchmark.service.settings import ServiceSettings
from benchmark.upkeep import postgres, soak_service
from headposeplus.raw.manifest import ids_sha256
from headposeplus.rotations import from_matrix, to_matrix

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
FRAMES = 400
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # or each client reads all certificates, which takes 20 ms


def make_labels():
    """Labels of four sequences, one of them of fewer frames than may be told of."""
    random = np.random.default_rng(7)
    angles = random.normal(0, (15, 25, 8), (FRAMES, 3))
    names = ["a"] * 150 + ["b"] * 120 + ["c"] * 100 + ["d"] * 30
    ids = np.array([f"{name}/{number:05d}" for number, name in enumerate(names)])
    return from_arrays(ids, to_matrix(angles), camera="rgb")


def make_protocol(labels, name="lab/faces@1"):
    angles = from_matrix(labels.rotations)
    return replace(
        protocols.find("biwi+/pda@1"),
        id=name,
        title="Faces of the lab",
        test_set="faces",
        frames=len(labels.ids),
        frames_sha256=ids_sha256(labels.ids),
        label_mean=tuple(angles.mean(axis=0).round(3).tolist()),
        label_std=tuple(angles.std(axis=0).round(3).tolist()),
    )


LABELS = make_labels()
PROTOCOL = make_protocol(LABELS)


def predictions(error=2.0, seed=0, labels=LABELS):
    """A CSV with these labels and noise, and a TOML."""
    angles = from_matrix(labels.rotations) + np.random.default_rng(seed).normal(0, error, (len(labels.ids), 3))
    rows = [f"{name},{','.join(f'{value:.4f}' for value in row)}" for name, row in zip(labels.ids, angles, strict=True)]
    return ("id,pitch,yaw,roll\n" + "\n".join(rows) + "\n").encode()


def about(name="My method", protocol=PROTOCOL.id, **others):
    fields = {
        "protocol": protocol, "name": name, "authors": "A. Author", "training_data": "SynHead++",
        "selection": "last epoch", "uses_target_images": True, "convention": "pyr", "camera": "rgb", **others,
    }  # fmt: skip
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items()).encode()


def files(data=None, text=None):
    return {"predictions": ("p.csv", data or predictions()), "about": ("p.toml", text or about())}


# What a child process runs in place of the scoring; it imports them from here.
def hang(*_args, **_kwargs):
    time.sleep(600)


def end(*_args, **_kwargs):
    os._exit(3)


def fill_memory(*_args, **_kwargs):
    return [bytes(1 << 28) for _ in range(64)]


def fail_with_a_label(_predictions, _about, _protocol, labels, **_kwargs):
    sys.stderr.write(f"label {labels.rotations[0]}\n")
    raise ValueError(f"label {labels.rotations[0, 0, 0]}")


def new_database(request, kind, file):
    if kind == "sqlite":
        return f"sqlite:///{file}"
    folder = request.getfixturevalue("postgres")
    name = f"hpp_{time.monotonic_ns()}"
    pytest.importorskip("psycopg")
    postgres.administer(folder, f"CREATE DATABASE {name}")
    return postgres.url(folder, name)


def settings(database, **others):
    return ServiceSettings(database, (PROTOCOL,), LABELS, **{"daily": 100, "per_minute": 1000, **others})


def new_token(database, name="lab"):
    engine = open_database(database)
    try:
        return store.add_token(engine, name)
    finally:
        engine.dispose()


@contextmanager
def serving(database, assess=None, **others):
    """A client of a service whose worker runs."""
    with TestClient(create_app(settings(database, **others), assess), follow_redirects=False) as client:
        yield client


@contextmanager
def closing_engine(database):
    engine = open_database(database)
    yield engine
    engine.dispose()


def visitor(url, address=None, timeout=60):
    """A client of a server, with an address of its own where one is given."""
    transport = httpx.HTTPTransport(verify=_NO_TLS, local_address=address)
    return httpx.Client(base_url=url, transport=transport, timeout=timeout)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def send(client, token, parts=None, **fields):
    return client.post("/api/submissions", files=parts or files(), data=fields, headers=bearer(token))


def outcome(client, sent, wait=60):
    assert sent.status_code == 202, sent.text
    response = client.get(f"/api/submissions/{sent.json()['id']}?wait={wait}", timeout=wait + 10)
    assert response.status_code == 200, response.text
    return response.json()


def upload(length):
    """The body of a form with a file, in chunks."""
    yield b'--b\r\nContent-Disposition: form-data; name="predictions"; filename="p"\r\n\r\n'
    for _ in range(length >> 16):
        yield b"x" * (1 << 16)


def rows_of(database):
    with closing_engine(database) as engine, engine.connect() as connection:
        return {
            table: [tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY 1"))]
            for table in ("hpp_schema", "hpp_submitters", "hpp_submissions", "hpp_predictions", "hpp_challenges")
        }


def make_older(database, version):
    """Leave the tables as this version had them."""
    bytes_type = "BYTEA" if database.startswith("postgresql") else "BLOB"
    held = "(SELECT p.predictions FROM hpp_predictions p WHERE p.submission = hpp_submissions.id)"
    statements = [
        f"ALTER TABLE hpp_submissions ADD COLUMN predictions {bytes_type}",
        f"UPDATE hpp_submissions SET predictions = {held}",
        "DROP TABLE hpp_predictions",
        "ALTER TABLE hpp_challenges DROP COLUMN changes",
    ]
    if version < 4:
        statements += ["ALTER TABLE hpp_challenges DROP COLUMN deadline"]
    if version < 3:
        statements += ["DROP INDEX hpp_submissions_key", "DROP INDEX hpp_told_looked"]
    if version < 2:
        statements += ["DROP TABLE hpp_told", "DROP TABLE hpp_challenges"]
    with closing_engine(database) as engine, engine.begin() as connection:
        for statement in (*statements, f"UPDATE hpp_schema SET version = {version}"):
            connection.execute(sa.text(statement))


class Server(soak_service.Server):
    """``hpp serve`` of a database, which listens at ``url``."""

    def __init__(self, database, folder, *options, files=None):
        super().__init__(folder, "--database", database, *options, files=files)
        self.url = self.listening()


@contextmanager
def servers(folder):
    """Start servers of the labels and the protocol; those that still run at the end are killed."""
    started = []
    labels, protocol = folder / "labels.csv", folder / "protocol.toml"
    labels.write_bytes(predictions(0))
    made = protocols.write(protocol, PROTOCOL.id, "pda", read_labels(LabelsAt(labels, "pyr", "rgb")), PROTOCOL.title)
    assert made.id == PROTOCOL.id

    def run(database, *options, files=None):
        started.append(Server(database, folder, "--protocol", protocol, "--labels", labels, *options, files=files))
        return started[-1]

    try:
        yield run
    finally:
        for server in started:
            if server.process.poll() is None:
                server.stop(signal.SIGKILL)
