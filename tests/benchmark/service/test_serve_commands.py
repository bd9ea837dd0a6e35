"""The commands of ``hpp serve``."""

import re
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from benchmark.scoring import protocols
from benchmark.scoring.label_files import LabelsAt
from benchmark.scoring.labels import read_labels
from benchmark.service import store
from tests.benchmark.service.cases import PROTOCOL, closing_engine, predictions, rows_of


def test_tokens_are_shown_once_and_kept_as_a_hash(database, tmp_path, hpp):
    token = hpp("serve", "token", "add", "Lab A", "--database", database).output.strip()
    assert re.fullmatch(r"[\w-]{43}", token)
    assert token not in str(rows_of(database))
    assert "has a token already" in hpp("serve", "token", "add", "Lab A", "--database", database, expect=1).output
    listed = hpp("serve", "token", "list", "--database", database).output
    assert "Lab A" in listed and token not in listed
    assert "revoked" in hpp("serve", "token", "revoke", "Lab A", "--database", database).output
    with closing_engine(database) as engine:
        assert store.find_submitter(engine, token) is None
        assert store.list_submitters(engine)[0].revoked
    again = hpp("serve", "token", "revoke", "Lab A", "--database", database, expect=1).output
    assert "has no valid token" in again
    for name in ("", " ", "x" * 81, "a\nb"):
        assert "expected a name" in hpp("serve", "token", "add", name, "--database", database, expect=1).output


SERVED = ["--protocol", "biwi+/pda@1", "--labels", "{labels}"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "name a protocol with --protocol"),
        (["--protocol", "biwi+/pda@1"], 2, "either --labels or --data"),
        (["--protocol", "none@1", "--labels", "{labels}"], 1, "none@1: no such protocol"),
        (["--protocol", "biwi+/pda@1", "--labels", "{labels}"], 1, "not the test set of biwi+/pda@1"),
        (["--protocol", "biwi+/pda@1", "--labels", "{tmp}/none.csv"], 1, "none.csv: cannot be read: No such file"),
        (["--protocol", "biwi+/pda@1", "token", "list"], 2, "put --protocol after token"),
        ([*SERVED, "--behind-proxy", "proxy.lab"], 1, "'proxy.lab' is no address and no network"),
        ([*SERVED, "--behind-proxy", "10.0.0.5/8"], 1, "(10.0.0.5/8 has host bits set); give --behind-proxy such as"),
        ([*SERVED, "--behind-proxy", "10.0.0.5,"], 1, "'' is no address and no network"),
        ([*SERVED, "--behind-proxy", "::1,0.0.0.0/0"], 1, "0.0.0.0/0 is everybody, who could then give any address"),
        ([*SERVED, "--root-path", "heads"], 1, "'heads' is no path of letters, digits, dots, hyphens"),
        ([*SERVED, "--root-path", "/a/../b"], 1, "give --root-path such as /heads"),
        ([*SERVED, "--root-path", "//evil"], 1, "'//evil' is no path"),
        ([*SERVED, "--root-path", '/"x'], 1, "is no path"),
        ([*SERVED, "--root-path", "/api/heads"], 1, "the service itself has something below /api; give another --root"),
        (["token", "list", "--database", "mysql://a:secret@b/c"], 1, "names 'mysql'; expected sqlite:///FILE"),
        (["token", "list", "--database", "sqlite://"], 1, "names no file"),
        (["token", "list", "--database", "no url: secret"], 1, "is not the URL of a database"),
        (["token", "list", "--database", "postgresql://a:secret@127.0.0.1:1/c"], 1, "cannot be opened"),
        (["token", "add", "x", "--database", "sqlite:////none/none/x.db"], 1, "cannot be opened: unable to open"),
    ],
)
def test_what_a_user_can_mend_is_one_line(tmp_path, hpp, arguments, status, says):
    (tmp_path / "labels.csv").write_bytes(predictions(0))
    words = [word.format(labels=tmp_path / "labels.csv", tmp=tmp_path) for word in arguments]
    output = hpp("serve", *words, expect=status).output
    assert len([line for line in output.splitlines() if line.startswith("Error: ")]) == 1
    assert says in output and "secret" not in output.replace("no url: secret", "") and "Traceback" not in output


def test_an_address_in_use_is_one_line(lite, tmp_path, hpp):
    labels = tmp_path / "labels.csv"
    labels.write_bytes(predictions(0))
    protocols.write(tmp_path / "p.toml", PROTOCOL.id, "pda", read_labels(LabelsAt(labels, "pyr", "rgb")), "Faces")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        output = hpp("serve", "--protocol", tmp_path / "p.toml", "--labels", labels, "--database", lite,
                     "--port", port, expect=1).output  # fmt: skip
    assert f"Error: cannot listen at 127.0.0.1, port {port}" in output
    assert re.search("; choose another (`port` or `host`|--port or --host)$", output.strip())


def test_what_is_not_installed_is_named():
    code = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name.split(".")[0] == "fastapi":
            raise ModuleNotFoundError("No module named 'fastapi'", name=name)
sys.meta_path.insert(0, Absent())
from benchmark.cli.common import Commands
from benchmark.cli.serve import serve
main = Commands("hpp", commands={"serve": serve})
main(["serve", "token", "list"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install 'headposeplus[serve]' (No module named 'fastapi')" in done.stderr
