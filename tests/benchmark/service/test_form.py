"""The form in which people submit: what it asks for, what it says is wrong, and that nothing typed is lost."""

import html
import re
import sqlite3
from html.parser import HTMLParser

import msgspec
import pytest
from fastapi.testclient import TestClient
from msgspec.structs import replace

from benchmark.scoring.submission import FIELDS, REQUIRED, read_about
from benchmark.service import form
from benchmark.service.app import create_app
from headposeplus.rotations import to_matrix
from tests.benchmark.service.cases import (
    HOSTILE,
    LABELS,
    PROTOCOL,
    about,
    bearer,
    files,
    make_protocol,
    new_token,
    outcome,
    predictions,
    serving,
    settings,
)

PAGE = {"Accept": "text/html,application/xhtml+xml"}
TYPED = {
    "name": "My method", "authors": "A. Author", "link": "https://example.org/a", "training_data": "SynHead++",
    "initial_weights": "ImageNet", "selection": "last epoch", "uses_target_images": "true", "convention": "pyr",
    "camera": "rgb", "seed": "7", "notes": "Two\r\nlines", "publish": "true",
}  # fmt: skip
TABLE = {"predictions": ("p.csv", predictions())}
OTHER = replace(make_protocol(LABELS, "lab/others@1"), task="cross", training_data="any")


class Controls(HTMLParser):
    """The elements of a page that hold what was typed, by id, with what names and describes them."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.labels, self.fields, self.said, self._open = [], set(), {}, {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self._open.append(found.get("id"))
        self.ids += [found["id"]] if "id" in found else []
        if tag == "label" and "for" in found:
            self.labels.add(found["for"])
        if tag in ("input", "select", "textarea") and found.get("type") != "radio":
            self.last = self.fields[found["id"]] = {"tag": tag, **found}
        if tag == "option" and "selected" in found:
            self.last["value"] = found["value"]
        if tag in ("input", "meta", "link", "path", "rect", "circle", "ellipse", "br"):
            self._open.pop()

    def handle_endtag(self, tag):
        if tag not in ("path", "rect", "circle", "ellipse"):
            self._open.pop()

    def handle_data(self, text):
        for name in filter(None, self._open):
            self.said[name] = self.said.get(name, "") + text
        if self._open and self._open[-1] in self.fields and self.last["tag"] == "textarea":
            self.last["value"] = self.last.get("value", "") + text


def post(client, typed, parts=TABLE, headers=PAGE):
    return client.post("/api/submissions", data=typed, files=parts, headers=headers)


def test_the_form_asks_for_facts_of_the_description_and_for_all_that_are_needed():
    asked = {field.name: field for field in form.fields([PROTOCOL])}
    assert set(asked) <= set(FIELDS) and {name for name, field in asked.items() if field.required} == set(REQUIRED)
    assert [value for value, _ in asked["convention"].choices][:3] == ["pyr", "biwi", "ypr"]
    assert PROTOCOL.training_data in asked["training_data"].help
    # With several protocols it says what none of them wants.
    assert PROTOCOL.training_data not in form.fields([PROTOCOL, OTHER])[3].help


def test_what_is_typed_is_scored_as_its_toml_would_be(lite):
    token = new_token(lite)
    with serving(lite) as client:
        sent = post(client, TYPED | {"token": token})
        assert sent.status_code == 303 and sent.headers["location"].startswith("/submissions/")
        found = client.get(f"/api{sent.headers['location']}?wait=60").json()
        program = post(client, TYPED | {"token": token, "name": "By a program"}, headers={})
        by_program = outcome(client, program)
    assert (found["status"], found["faults"], found["publish"]) == ("scored", [], True)
    told = {name: found["entry"][name] for name in ("name", "authors", "link", "seeds", "notes", "initial_weights")}
    assert told == {
        "name": "My method", "authors": "A. Author", "link": "https://example.org/a", "seeds": [7],
        "notes": "Two lines", "initial_weights": "ImageNet",
    }  # fmt: skip
    assert found["entry"]["uses_target_images"] is True and by_program["entry"]["name"] == "By a program"


def test_a_rotation_needs_no_convention_and_a_text_may_have_many_dots(lite):
    token = new_token(lite)
    rows = ["id," + ",".join(f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3))]
    turned = LABELS.rotations @ to_matrix([1.0, 2, 3])
    rows += [f"{name},{','.join(map(str, row.ravel()))}" for name, row in zip(LABELS.ids, turned, strict=True)]
    typed = TYPED | {"token": token, "convention": form.ROTATIONS, "notes": "." * 300}
    with serving(lite) as client:
        sent = post(client, typed, {"predictions": ("p.csv", "\n".join(rows).encode())})
        found = client.get(f"/api{sent.headers['location']}?wait=60").json()
        assert found["status"] == "scored" and found["entry"]["notes"] == "." * 300, found["faults"]
        # The table decides: angles without a convention are a fault, on the page by the form's word for it.
        sent = post(client, typed)
        found = client.get(f"/api{sent.headers['location']}?wait=60").json()
        assert [fault["where"] for fault in found["faults"]] == ["TOML, convention"]
        assert "Convention of the angles (convention)" in client.get(sent.headers["location"]).text


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("name", "", "Method: missing; fill it in"),
        ("name", "n" * 81, "Method: 81 characters; write 80 characters at most"),
        ("name", "n" * 17_000, "Method: 17,"),
        ("authors", "a\u202eb", "Authors: hidden characters in 'a\\u202eb'; write letters, digits and signs that"),
        ("link", "ftp://x", "Paper: 'ftp://x' is no link; begin it with http:// or https://"),
        ("convention", "", "Convention of the angles: missing; choose one"),
        ("convention", "xyz", "Convention of the angles: 'xyz' is unknown; write one of pyr, biwi, ypr"),
        ("camera", "depth", "Camera of the poses: poses in the depth camera, but lab/faces@1 scores those in the rgb"),
        ("uses_target_images", "perhaps", "Test images in training: 'perhaps' is no true or false"),
        ("seed", "abc", "Seed: 'abc' is no whole number from 0 on; write a whole number from 0 on, or nothing"),
        ("seed", "-1", "Seed: '-1' is no whole number"),
        ("seed", "1.5", "Seed: '1.5' is no whole number"),
        ("seed", "9" * 30, "Seed: '999999999999999999999999999999' is no whole number"),
    ],
)
def test_a_fault_is_told_at_its_field_and_the_others_stay_as_they_were_typed(lite, field, text, says):
    token = new_token(lite)
    typed = TYPED | {"token": token, "notes": HOSTILE, field: text, "publish": "false"}
    with serving(lite) as client:
        refused = post(client, typed)
        told = post(client, typed, headers={})
    assert refused.status_code == told.status_code == 422 and refused.headers["cache-control"] == "no-store"
    name = says.partition(":")[0]
    assert told.json()["detail"].startswith(says.replace(name, field, 1)) and "\n" not in told.json()["detail"]
    controls = Controls(refused.text)
    for key in TYPED.keys() - {"publish"} | {"token"}:
        wanted = typed[key] if key != "uses_target_images" or field != key else ""
        wanted = wanted if (key, text) != ("convention", "xyz") else ""  # no such choice
        assert controls.fields[key].get("value", "").strip("\n") == wanted.replace("\r\n", "\n"), key
    assert re.search(r'value="false" checked', refused.text) and "<script" not in refused.text
    assert [key for key, found in controls.fields.items() if "aria-invalid" in found] == [field]
    assert controls.said[f"{field}-fault"].startswith(says.partition(": ")[2])
    assert f'<a href="#{field}"><bdi>{name}: ' in refused.text and 'role="alert"' in refused.text
    assert "a browser does not keep it" in controls.said["predictions-help"]


def test_every_field_has_a_label_and_what_describes_it(lite):
    app = create_app(settings(lite)._replace(protocols=(PROTOCOL, OTHER)))
    with TestClient(app) as client:
        pages = [client.get("/submit").text, post(client, {"token": "x"}).text, post(client, {}, files()).text]
    for page in pages:
        controls = Controls(page)
        assert len(controls.ids) == len(set(controls.ids)) and set(controls.fields) == controls.labels
        for name, found in controls.fields.items():
            assert set(found["aria-describedby"].split()) <= set(controls.ids), name
        assert set(re.findall(r'href="#([^"]+)"', page)) <= set(controls.ids)
        assert "required" in controls.fields["name"] and "required" not in controls.fields["seed"]
        assert controls.fields["seed"]["inputmode"] == "numeric" and controls.fields["link"]["inputmode"] == "url"


def test_a_wrong_token_keeps_the_form_and_speaks_of_its_field(lite):
    token = new_token(lite)
    with serving(lite) as client:
        for word, says in (("wrong", "copy it once more"), ("", "give the one from the organisers")):
            refused = post(client, TYPED | {"token": word, "seed": "x"})
            controls = Controls(refused.text)
            assert refused.status_code == 401 and controls.fields["name"]["value"] == TYPED["name"]
            assert "Submissions are taken until the organisers close the challenge." in refused.text
            assert controls.said["token-fault"] == f"no valid token; {says}" + (
                " as the organisers gave it" if word else ""
            )
            assert controls.fields["token"]["value"] == "" and "'x' is no whole number" in controls.said["seed-fault"]
            assert "Authorization" not in refused.text.partition("<pre>")[0]
        refused = post(client, TYPED | {"token": token}, {"predictions": ("p.csv", b"")})
        assert Controls(refused.text).fields["token"]["value"] == token  # it was right
        assert "the file predictions is missing or empty" in refused.text


def test_a_toml_that_is_refused_opens_its_own_form(lite):
    token = new_token(lite)
    with serving(lite) as client:
        refused = post(client, {"token": token, "publish": "false"}, TABLE | {"about": ("", b"")})
        controls = Controls(refused.text)
        assert refused.status_code == 422 and '<details class="toml" open>' in refused.text
        assert (
            controls.fields["toml-token"]["value"] == token and "value" not in controls.fields["about-none"]
            if ("about-none" in controls.fields)
            else True
        )
        assert "about is missing or empty" in controls.said["toml-about-fault"]
        both = post(client, TYPED | {"token": token}, files(), headers={})
        assert both.status_code == 422 and "send one of both" in both.json()["detail"]
        sent = post(client, {"token": token}, files(text=about("By a TOML")))
        assert sent.status_code == 303


def test_of_several_protocols_the_form_wants_one(lite):
    token = new_token(lite)
    with TestClient(create_app(settings(lite)._replace(protocols=(PROTOCOL, OTHER))), follow_redirects=False) as client:
        refused = post(client, TYPED | {"token": token, "protocol": ""})
        assert refused.status_code == 422
        assert Controls(refused.text).said["protocol-fault"] == f"choose one of {PROTOCOL.id}, {OTHER.id}"
        refused = post(client, TYPED | {"token": token, "protocol": OTHER.id, "name": ""})
        assert Controls(refused.text).fields["protocol"]["value"] == OTHER.id
        sent = post(client, TYPED | {"token": token, "protocol": OTHER.id, "training_data": "any"})
        found = client.get(f"/api{sent.headers['location']}?wait=60").json()
        assert found["entry"]["protocol"]["id"] == OTHER.id


def test_the_page_says_what_is_scored(lite):
    with serving(lite) as client:
        page = client.get("/submit").text
    words = html.unescape(re.sub(r"<[^>]+>|\s+", " ", page))
    assert "Mean absolute error of pitch, yaw and roll in degrees" in words and "Degrees, not radians" in words
    assert "x points to the image's right, y down, z away from the camera" in words
    assert page.count("<svg") == 10 and page.count('role="img"') == 10 and "<script" not in page
    for told in ("looks up", "looks down", "looks to the image's left", "looks to the image's right"):
        assert told in words


def test_the_description_is_that_of_its_fields():
    toml, faults = form.described(TYPED, PROTOCOL)
    said, wrong = read_about(toml)
    assert not faults and not wrong and said.protocol == PROTOCOL.id and said.seed == 7
    assert {name for name, value in msgspec.structs.asdict(said).items() if value not in (None, "")} == {
        *TYPED.keys() - {"publish"}, "protocol"
    }  # fmt: skip


# ---- pages of errors


def refusals(client, token):
    """Requests that are refused: each with its status, and whether it was the form's."""
    many = {"predictions": ("p.csv", b"x" * 70_000)}
    yield client.get("/none", headers=PAGE), 404, "Not here"
    yield client.get("/entries/none", headers=PAGE), 404, "Not here"
    yield client.get("/api/submissions", headers=PAGE), 405, "No page is here"
    yield client.get("/api/submissions/none?wait=x", headers=PAGE), 422, "That address is wrong in a part"
    yield client.post("/", headers=PAGE), 405, "Nothing can be sent here"
    yield client.get("/api/template/x?format=y", headers=PAGE), 422, "That address is wrong in a part"
    yield post(client, TYPED | {"notes": "x" * 70_000}), 400, "That could not be read"
    yield client.post("/api/submissions", content=b"x", headers=PAGE), 415, "That is no form"
    declared = PAGE | {"Content-Length": str(1 << 30)}
    yield client.post("/api/submissions", content=b"x", headers=declared), 413, "That is too large"
    yield post(client, {}, {"predictions": ("p.csv", b"x" * (1 << 20))}), 413, "That is too large"
    yield post(client, TYPED | {"token": token}, many), 413, "Submit predictions"


def test_a_browser_gets_a_page_for_every_error(lite):
    token = new_token(lite)
    with serving(lite, max_bytes=60_000) as client:
        seen = list(refusals(client, token))
    for refused, status, heading in seen:
        assert refused.status_code == status and refused.headers["content-type"].startswith("text/html"), refused.text
        page = refused.text
        assert f"<h1>{heading}</h1>" in page and '<nav class="top">' in page and 'href="/submit"' in page
        assert "--accent" in page and "<script" not in page
        assert heading == "Submit predictions" or page.count('href="/submit"') == 1  # said once, above
        if refused.request.method == "POST" and heading not in ("Submit predictions", "Nothing can be sent here"):
            assert "what you typed is still in the form" in page
    assert "predictions has 70,000 bytes; at most 60,000" in seen[-1][0].text
    assert Controls(seen[-1][0].text).fields["name"]["value"] == "My method"


def test_a_fault_of_the_service_itself_is_a_page_too(lite, monkeypatch):
    def fail(*_):
        raise ValueError("secret")

    monkeypatch.setattr("benchmark.service.store.find_submission", fail)
    with serving(lite) as client:
        failed = client.get("/submissions/none", headers=PAGE)
        assert failed.status_code == 500 and "<h1>That did not work</h1>" in failed.text and "secret" not in failed.text
        assert failed.headers["x-request-id"] in failed.text and 'href="/submit"' in failed.text
        assert list(client.get("/submissions/none").json()) == ["detail"]


def test_limits_closing_and_a_lost_database_keep_the_form_where_it_helps(lite, hpp):
    token = new_token(lite)
    typed = TYPED | {"token": token}
    with serving(lite, daily=1, per_minute=6) as client:
        assert post(client, typed).status_code == 303
        late = post(client, typed, {"predictions": ("p.csv", predictions(seed=1))})
        assert late.status_code == 429 and "1 submissions a day are scored" in late.text
        assert Controls(late.text).fields["name"]["value"] == "My method"
        hpp("serve", "close", "--database", lite)
        another = typed | {"name": "Another"}  # what was sent before is answered as it was then
        closed = [client.get("/submit", headers=PAGE), post(client, another)]
        assert [page.status_code for page in closed] == [200, 403]
        assert all("The challenge is closed" in page.text and "<form" not in page.text for page in closed)
        assert post(client, another, headers={}).json()["detail"].startswith("the challenge is closed")
        client.get("/healthz")
        for page in (client.get("/", headers=PAGE), client.get("/", headers=PAGE)):
            assert "How to submit" not in page.text and 'href="/submit"' not in page.text
        # Pages are looked at by a whole class behind one address, and do not count with what is sent.
        assert {client.get("/submit", headers=PAGE).status_code for _ in range(10)} == {200}
        codes = [client.get("/api/protocols", headers=PAGE) for _ in range(7)]
        assert codes[-1].status_code == 429 and "<h1>Too many requests</h1>" in codes[-1].text
        assert re.search(r"try again in \d+ s", codes[-1].text) and codes[-1].headers["retry-after"]
    with serving(lite) as client:
        with sqlite3.connect(lite.removeprefix("sqlite:///")) as connection:
            connection.execute("ALTER TABLE hpp_submitters RENAME TO elsewhere")
        connection.close()
        away = post(client, typed)
        assert away.status_code == 503 and Controls(away.text).fields["name"]["value"] == "My method"
        away = client.get("/", headers=PAGE | bearer(token))
        assert away.status_code == 503 and "<h1>Not at the moment</h1>" in away.text
        assert list(client.get("/", headers=bearer(token)).json()) == ["detail"]
