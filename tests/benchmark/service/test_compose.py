"""``compose.yaml``: what it starts is what the command line and the service have. No container is started here."""

import ipaddress
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli.main import main
from benchmark.service.settings import proxies_of
from benchmark.service.terms import TEMPLATE
from benchmark.upkeep import soak_service
from tests.benchmark.service.cases import PROTOCOL, new_database, new_token, predictions

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSED = yaml.safe_load(TEXT)
SERVE, DATABASE, TLS = (COMPOSED["services"][name] for name in ("serve", "database", "tls"))


def parsed(words):
    """The parameters of ``hpp`` with these words, by its own parser."""
    command = main.commands[words[0]]
    return command.make_context(words[0], list(words[1:])).params


def test_the_command_of_the_service_is_one_of_hpp():
    given = parsed(SERVE["command"])
    assert (given["names"], given["host"], given["port"]) == (("protocol.toml",), "0.0.0.0", 8000)
    assert {str(given["labels"]), str(given["file"])} == {"labels.csv", "challenge.toml"}
    entry = re.search(r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert yaml.safe_load(entry) == ["hpp"] and "serve" in SERVE["build"]["args"]["EXTRAS"].split(",")
    assert re.search("^ARG EXTRAS", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_who_asks_is_told_by_the_proxy_alone():
    address = TLS["networks"]["front"]["ipv4_address"]
    assert proxies_of(parsed(SERVE["command"])["behind_proxy"]) == (address,)
    (network,) = (ipaddress.ip_network(one["subnet"]) for one in COMPOSED["networks"]["front"]["ipam"]["config"])
    assert ipaddress.ip_address(address) in network and network.is_private
    words = shlex.split(re.sub(r"\$\{(\w+):[?-][^}]*\}", r"\1", TLS["command"]))
    assert words == ["caddy", "reverse-proxy", "--from", "HPP_SITE", "--to", "serve:8000", "HPP_TLS"]
    # Nothing but the proxy is reached from outside, and the database by the service alone.
    assert [name for name, one in COMPOSED["services"].items() if "ports" in one] == ["tls"]
    assert TLS["ports"] == ["80:80", "443:443", "443:443/udp"]
    assert COMPOSED["networks"]["back"] == {"internal": True} and DATABASE["networks"] == ["back"]
    assert set(SERVE["networks"]) == {"front", "back"}


def test_versions_are_pinned_secrets_are_asked_for_and_data_outlives_containers():
    for one in (DATABASE, TLS):
        assert re.fullmatch(r"\w+:\d+\.\d+(\.\d+)?-alpine", one["image"])
    assert re.search(r"^FROM python:3\.\d+", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert all(sign in ":" for sign in re.findall(r"\$\{\w+(.)", TEXT)), "every variable is asked for, or has a default"
    asked = set(re.findall(r"\$\{(\w+):\?[^}]+\}", TEXT))
    assert asked == {"HPP_PASSWORD", "HPP_SITE"} and {f"{name}=" for name in asked} <= set(re.findall(r"\w+=", TEXT))
    assert SERVE["volumes"] == ["./challenge:/challenge:ro"] and SERVE["working_dir"] == "/challenge"
    assert {"/challenge/", ".env"} <= set((ROOT / ".gitignore").read_text().split())
    kept = {volume.partition(":")[0] for one in (DATABASE, TLS) for volume in one["volumes"]}
    assert kept == set(COMPOSED["volumes"])
    user, name = DATABASE["environment"]["POSTGRES_USER"], DATABASE["environment"]["POSTGRES_DB"]
    assert SERVE["environment"]["HPP_DATABASE"] == f"postgresql://{user}@database/{name}"
    assert SERVE["environment"]["PGPASSWORD"] == DATABASE["environment"]["POSTGRES_PASSWORD"]
    assert {f"--username={user}", f"--dbname={name}"} < set(DATABASE["healthcheck"]["test"])
    for one, waits_for in ((SERVE, "database"), (TLS, "serve")):
        assert one["depends_on"] == {waits_for: {"condition": "service_healthy"}}
        assert COMPOSED["services"][waits_for]["healthcheck"]["test"][0] == "CMD"


def test_its_commands_run_with_postgresql(request, tmp_path, hpp, monkeypatch):
    """The service's own words and its health check, in a folder as the container sees it."""
    database = new_database(request, "postgresql", None)
    monkeypatch.setenv("HPP_DATABASE", database)
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_bytes(predictions(0))
    Path("labels.toml").write_text('convention = "pyr"\ncamera = "rgb"\n')
    Path("challenge.toml").write_text(TEMPLATE)
    hpp("protocols", "new", "protocol.toml", "--id", PROTOCOL.id, "--title", "Faces", "--labels", "labels.csv")
    new_token(database)
    words = [word.replace("0.0.0.0", "127.0.0.1") for word in SERVE["command"][1:]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    server = soak_service.Server(tmp_path, *words)
    try:
        url = server.listening()
        program, *check = SERVE["healthcheck"]["test"][1:]
        assert program == "python" and "http://127.0.0.1:8000/healthz" in check[1]
        for address, status in ((url, 0), ("http://127.0.0.1:9", 1)):
            code = check[1].replace("http://127.0.0.1:8000", address)
            done = subprocess.run([sys.executable, check[0], code], capture_output=True, check=False)
            assert done.returncode == status, done.stderr
    finally:
        server.stop()


def test_compose_reads_it():
    docker = shutil.which("docker")
    command = [docker, "compose", "-f", ROOT / "compose.yaml", "config", "--quiet"]
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no docker compose")
    environment = os.environ | {"HPP_PASSWORD": "x", "HPP_SITE": "localhost"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
