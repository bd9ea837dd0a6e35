"""The scoreboard's pages, made from random numbers and looked at in a browser."""

import base64
import html
import json
import re
import shutil
import time
from html.parser import HTMLParser

import cv2
import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET
from msgspec.structs import astuple, replace

from benchmark.board import drawn, site
from benchmark.board import entries as scoreboard
from benchmark.board import plots as score_plots
from benchmark.board.markdown import table
from benchmark.board.published import published_rows
from benchmark.board.sections import _ticks
from benchmark.board.words import safe_link, seeds_in_words, with_one_name
from benchmark.scoring import entry as entry_file
from benchmark.scoring import protocols
from benchmark.scoring.check import ON_HONOUR
from benchmark.scoring.entry import Listed, OtherStatistics, PartErrors, Subset
from benchmark.scoring.figures import Cell, Distribution, Group, Parts, Scores
from benchmark.scoring.metrics import bootstrap
from headposeplus.errors import SubmissionError

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
FORMULA = '=HYPERLINK("x")${{7*7}}$\\frac{1}{0}$ {{7*7}} {% raise %} @000@ \ud800\x00'
KEYS = ("mae", "pitch", "yaw", "roll", "geodesic", "maev")


def scores(rng, keys=KEYS, middle=4.0):
    found = {key: round(float(rng.uniform(0.8, 1.2) * middle), 4) for key in keys}
    return found | {"mae": round(float(np.mean([found[key] for key in ("pitch", "yaw", "roll")])), 4)}


def bins(rng, low, high):
    found = []
    for edge in range(low, high, 15):
        frames, mae = int(rng.integers(5, 900)), 3 + (edge / 40) ** 2 + rng.random()
        found.append({"from": edge, "to": edge + 15, "frames": frames, "mae": mae, "geodesic": 6 + (edge / 30) ** 2})
    return found


def plain_parts(rng, middle):
    """The errors of parts of the frames, around ``middle``."""
    names = {
        "sequence": [f"{i:02d}" for i in range(1, 25)],
        "subject": [f"{'FM'[i % 2]}{i:02d}" for i in range(1, 21)],
    }
    groups = {
        what: [{"name": name, "frames": int(rng.integers(300, 900)), **scores(rng, KEYS, middle)} for name in of_kind]
        for what, of_kind in names.items()
    }
    cells = [
        {"yaw": yaw, "pitch": pitch, "frames": 50, "mae": 2 + yaw**2 / 1600 + pitch**2 / 900, "geodesic": 7.0}
        for yaw in range(-75, 90, 15)
        for pitch in range(-75, 75, 15)
        if abs(yaw) + abs(pitch) < 110
    ]
    angles = {"pitch": bins(rng, -75, 75), "yaw": bins(rng, -75, 90), "roll": bins(rng, -45, 60)}
    return {**angles, "yaw_pitch": cells, **groups}


def plain_entry(seed, task):
    """The plain values of an entry as the toolkit writes it, of random numbers."""
    rng = np.random.default_rng(seed)
    protocol = protocols.find(f"biwi+/{task}@1")
    middle = float(rng.uniform(3, 6))
    mean = scores(rng, middle=middle)
    errors = np.sort(rng.gamma(2, middle / 2, 101))
    parts = plain_parts(rng, middle)
    return {
        "schema": 1,
        "protocol": protocols.plain(protocol),
        "protocol_sha256": "0f" * 32,
        "name": f"Method {seed}",
        "authors": f"A. Author {seed}",
        "link": "https://example.org/paper",
        "training_data": protocol.training_data,
        "selection": "last epoch of the fixed schedule",
        "uses_target_images": bool(seed % 2),
        "notes": "Trained with the default settings.",
        "command": "hpp benchmark --data DATA --task pda --method padaco --seed 0",
        "commit": "04b8f31",
        "seeds": [0, 1, 2],
        "predictions_sha256": ["ab" * 32, "cd" * 32, "ef" * 32],
        "convention": "pyr",
        "camera": "rgb",
        "scores": mean,
        "deviation": dict.fromkeys(KEYS, 0.12),
        "scores_of_seeds": [scores(rng, middle=middle) for _ in range(3)],
        "intervals": {key: [value - 0.41, value + 0.52] for key, value in mean.items()},
        "bootstrap": {"over": "subjects", "subjects": 20, "resamples": 2000, "seed": 0, "level": 0.95},
        "vectors": {"left": 4.4, "down": 5.5, "front": 6.6},
        "conventions": {name: scores(rng, KEYS[:4], middle) for name in ("pyr", "ypr", "biwi")},
        "distribution": {
            key: {"median": 3.1, "p95": 11.2, "within_5": 0.731, "within_10": 0.94, "within_15": 0.982}
            for key in ("mae", "geodesic")
        },
        "quantiles": {"mae": errors.tolist(), "geodesic": (1.7 * errors).tolist()},
        "by": parts,
        "suspicions": [],
        "toolkit": "0.1.0",
    }


def entry(seed=0, task="pda", **given):
    """An entry on a board; ``given`` replaces its fields, unchecked, ``on`` those of its protocol."""
    on, key = given.pop("on", {}), given.pop("key", f"biwi-plus-{task}-1-method-{seed}-{seed:08x}")
    made = entry_file.read(json.dumps(plain_entry(seed, task)).encode())
    return Listed(key, replace(made, protocol=replace(made.protocol, **on), **given))


def page_of(listed, *more, **options):
    return site.entry_page(listed.entry, *more, **options)


def random_scores(seed):
    return Scores(**scores(np.random.default_rng(seed)))


def pictures():
    """What a report has beyond its entry: worst frames, one without a picture, and the frames' label space."""
    rng = np.random.default_rng(5)
    png = cv2.imencode(".png", np.full((160, 320, 3), 128, np.uint8))[1]
    picture = "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
    frame = {"true": (-12.2, 60.1, 3.0), "predicted": [-2.0, 20.0, 1.0], "mae": 17.4, "geodesic": 41.0}
    worst = [site.WorstFrame(f"biwi/01/{i:05d}", "" if i == 3 else picture, **frame) for i in range(8)]
    yaw, pitch = rng.normal(0, 30, 15678), rng.normal(-10, 20, 15678)
    return site.Closeup(worst, score_plots.Points(yaw, pitch, 2 + (yaw / 30) ** 2 + rng.gamma(2, 1, 15678)))


class Page(HTMLParser):
    """What a browser would find in a page: elements with their attributes, and the visible text of each row."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self.text = [], [], ""
        self._row, self._silent = None, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._silent += tag in ("style", "script")
        if tag == "section" and "data-protocol" in dict(attributes):
            self._section = dict(attributes)["data-protocol"]
        if tag == "tr" and "row" in dict(attributes).get("class", "").split():
            self.rows.append([self._section, dict(attributes), ""])
            self._row = self.rows[-1]

    def handle_endtag(self, tag):
        self._silent -= tag in ("style", "script")
        if tag == "tr":
            self._row = None

    def handle_data(self, data):
        if not self._silent:
            self.text += data
            if self._row is not None:
                self._row[2] += data


def words(text):
    return " ".join(text.split())


def board_entries():
    """Five entries of two protocols; one has a single seed, one few subjects."""
    found = [entry(i, "pda", training_data=("SynHead++", "SynHead++ and more")[i == 2]) for i in range(3)]
    single = {"seeds": (None,), "predictions_sha256": ("ab" * 32,), "scores_of_seeds": (random_scores(0),)}
    found[1] = entry(1, "pda", training_data="SynHead++", deviation=None, **single)
    found[2] = found[2]._replace(entry=replace(found[2].entry, intervals=None))
    return [*found, entry(3, "da"), entry(4, "da")]


def test_the_entries_made_here_are_entries(tmp_path):
    for listed in board_entries():
        path = tmp_path / f"{listed.key}.json"
        path.write_bytes(entry_file.to_bytes(listed.entry))
        assert scoreboard.read_entry(path) == listed.entry


def test_rows_are_in_the_page_best_first():
    board = board_entries()
    page = Page(site.board_page(board, published=False))
    expected = sorted((listed.entry for listed in board), key=lambda e: (e.protocol.id, e.scores.mae))
    assert [(section, re.search(r"Method \d", text)[0]) for section, _, text in page.rows] == [
        (e.protocol.id, e.name) for e in expected
    ]
    for (_, _, text), e in zip(page.rows, expected, strict=True):
        shown = words(text)
        assert all(f"{value:.2f}" in shown for value in astuple(e.scores))
        assert ("± 0.12" in shown) == (e.deviation is not None)
        low, high = e.intervals.mae if e.intervals else (0, 0)
        assert (f"{low:.2f} to {high:.2f}" in shown) == (e.intervals is not None)
    links = {attributes.get("href") for tag, attributes in page.elements if tag == "a"}
    assert {f"entries/{listed.key}.html" for listed in board} <= links
    live = Page(site.board_page(board, root=""))
    links = {attributes.get("href") for tag, attributes in live.elements if tag == "a"}
    assert {f"/entries/{listed.key}" for listed in board} <= links and not any(
        str(link).endswith(".html") for link in links
    )


def test_the_best_of_each_column_is_marked_among_the_rows_scored_here():
    board = [entry(i, "pda") for i in range(4)]
    text = site.board_page(board)
    section = text.split('data-protocol="biwi+/pda@1"')[1].split("</section>")[0]
    marked = re.findall(r'class="(?:mae )?best"[^>]*>([\d.]+)<', section)
    assert sorted(marked) == sorted(f"{min(getattr(listed.entry.scores, key) for listed in board):.2f}" for key in KEYS)
    # Of a closed challenge both parts are columns, too, and the private one ranks.
    parts = [PartErrors(2.0 + place, 9.0 - place) for place in range(4)]
    closed = site.board_page([one._replace(parts=its) for one, its in zip(board, parts, strict=True)], published=False)
    assert 'class="best" data-value="6.0"' in closed and 'class="best" data-value="2.0"' in closed


def test_an_entry_says_where_its_epoch_was_not_chosen_officially():
    official, other = (entry(place, selection=said) for place, said in enumerate(("any", "oracle of the target")))
    official = official._replace(entry=replace(official.entry, selection=official.entry.protocol.selection))
    rows = [words(text) for _, _, text in Page(site.board_page([official, other], published=False)).rows]
    assert ["selection: oracle of the target" in row for row in rows] == ["selection:" in row for row in rows]
    assert sum("selection:" in row for row in rows) == 1


def test_seeds_are_told_by_number_and_name():
    assert [seeds_in_words(seeds) for seeds in ((0,), (None,), (0, 1, 2), (3, 7), (0, None))] == [
        "1 (0)", "1 (unknown)", "3 (0 to 2)", "2 (3, 7)", "2 (unknown)"
    ]  # fmt: skip


def test_the_augmentation_is_told_of_entries_that_have_one():
    plain, none, all_kinds = entry(1), entry(2, augment="none"), entry(3, augment="all")
    for rows in ([plain], [plain, none]):
        assert "augment" not in site.board_page(rows, published=False).partition("<script>")[0] + table(rows)
    assert "<dd><bdi>none</bdi></dd>" in page_of(none) and "augmentation" not in page_of(plain)
    page, text = site.board_page([plain, none, all_kinds], published=False), table([plain, none, all_kinds])
    told = {words(text).split(" A. ")[0].split()[-1]: words(text) for _, _, text in Page(page).rows}
    assert ["augmented: all" in told[name] for name in "123"] == [False, False, True]
    made = text.split("\n\n")[-1]
    header, _, *rows = [[cell.strip() for cell in line.split("|")] for line in made.splitlines()]
    assert [row[header.index("augmentation")] for row in rows] == ["", "", "all"]


def cells(page, section, of="tbody"):
    """The texts of a table's cells, a list a row, whatever is inside of them."""
    part = page.split(f'data-protocol="{section}"')[1].split(f"<{of}>")[1].split(f"</{of}>")[0]
    rows = re.findall(r"<tr.*?</tr>", part, re.DOTALL)
    return [
        [words(re.sub(r"<[^>]+>", " ", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def with_mae(seed, mae, **given):
    return entry(seed, scores=Scores(mae, 4.0, 4.0, 4.0, 8.0, 7.0), **given)


def test_equal_figures_have_equal_ranks_and_rows_that_do_not_compare_have_none():
    odd = with_mae(4, 3.0, suspicions=("yaw and roll look swapped",))
    honour = with_mae(5, 4.5, suspicions=(f"{ON_HONOUR} ('a:b'), which is code that training does not watch",))
    lost = with_mae(6, 3.1)._replace(unverified="its predictions are not beside it")
    board = [with_mae(0, 4.001), with_mae(1, 4.004), with_mae(2, 4.3), odd, honour, lost]
    rows = cells(site.board_page(board), "biwi+/pda@1")
    found = {row[1].partition(" A. ")[0]: row[0].partition(" ")[0] for row in rows if "published" not in row[1]}
    assert found == {"Method 4": "", "Method 6": "", "Method 0": "1", "Method 1": "1", "Method 2": "3", "Method 5": "4"}
    published_rows = [row for row in rows if "published" in row[1]]
    assert len(published_rows) == 5 and all(row[0] == "" for row in published_rows)
    # Green is the best of the ranked alone, and ties are both green.
    section = site.board_page(board).split('data-protocol="biwi+/pda@1"')[1].split("</section>")[0]
    assert re.findall(r'class="mae best" data-value="([^"]+)"', section) == ["4.001", "4.004"]


def of_subjects(seed, errors, frames=None, **given):
    """An entry that tells the MAE of each subject."""
    frames = frames or [15678 // len(errors)] * (len(errors) - 1) + [15678 - 15678 // len(errors) * (len(errors) - 1)]
    groups = tuple(
        Group(f"S{i}", count, mae, 1.0, 1.0, 1.0, 1.0, 1.0)
        for i, (mae, count) in enumerate(zip(errors, frames, strict=True))
    )
    mae = float(np.average(errors, weights=frames))
    one = with_mae(seed, mae, **given)
    drawn = replace(one.entry.bootstrap, subjects=len(errors))
    return one._replace(entry=replace(one.entry, bootstrap=drawn, by=replace(one.entry.by, subject=groups)))


def test_who_cannot_be_told_apart_from_the_first_is_marked():
    """Against the paired bootstrap of hpp compare: the same subjects drawn again, their frames with them."""
    rng = np.random.default_rng(1)
    base = rng.uniform(3, 6, 12)
    # Each is worse on average; what the first two lose is the same person by person, or differs wildly.
    errors = [base, base + 0.2, base + 0.2 + rng.normal(0, 2, 12), base + 3]
    board = [of_subjects(i, list(one)) for i, one in enumerate(errors)]
    page = site.board_page(board, published=False)
    ranked = {row[1].partition(" A. ")[0]: row[0] for row in cells(page, "biwi+/pda@1")}
    frames = [group.frames for group in board[0].entry.by.subject]
    people = np.repeat(np.arange(12), frames)
    for i in (1, 2, 3):
        difference = np.repeat(errors[i] - base, frames)[:, None]
        low, _ = bootstrap(difference, people, 2000, 0)
        assert ("≈ 1" in ranked[f"Method {i}"]) == (low[0] <= 0), i
    assert [("≈" in ranked[f"Method {i}"]) for i in range(4)] == [False, False, True, False]
    assert "Not told apart from the first (≈ 1): 1 of 3 other entries, by a paired bootstrap over 12 subjects" in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("few", "5 subjects are too few to tell entries apart."),
        ("one", "1 subject is too few to tell entries apart."),
        ("others", ""), ("missing", ""), ("private", ""),
    ],
)  # fmt: skip
def test_where_entries_cannot_be_compared_that_is_said_or_nothing(change, says):
    count = {"few": 5, "one": 1}.get(change, 12)
    board = [of_subjects(i, [4.0 + i / 10] * count) for i in range(2)]
    if change == "others":  # other people
        groups = tuple(replace(group, name=f"T{i}") for i, group in enumerate(board[1].entry.by.subject))
        board[1] = board[1]._replace(entry=replace(board[1].entry, by=replace(board[1].entry.by, subject=groups)))
    if change == "missing":  # a service leaves small groups out
        board = [
            one._replace(entry=replace(one.entry, by=replace(one.entry.by, subject=one.entry.by.subject[:-1])))
            for one in board
        ]
    if change == "private":
        board = [one._replace(parts=PartErrors(4.0, 4.0)) for one in board]
    page = site.board_page(board, published=False).partition("<footer>")[0]
    assert "≈" not in page and ("apart" in page) == bool(says) and says in page


def test_intervals_share_one_scale_with_ticks():
    board = [with_mae(0, 4.0, intervals=None), with_mae(1, 5.0), with_mae(2, 7.0)]
    ends = [(4.0, 4.0), *(listed.entry.intervals.mae for listed in board[1:])]
    page = site.board_page(board, published=False)
    drawn = [[float(end) for end in pair] for pair in re.findall(r'<path d="M([\d.]+) 6H([\d.]+)"', page)]
    ticks = re.findall(r'<text x="([\d.]+)" y="14">([\d.]+)°</text>', page)
    assert len(drawn) == 3 and len(ticks) >= 2
    # One line leads from degrees to places, through all ticks and all ends.
    known = [(float(value), float(place)) for place, value in ticks]
    found = [
        (value, place)
        for pair, places in zip(ends, drawn, strict=True)
        for value, place in zip(pair, places, strict=True)
    ]
    slope, offset = np.polyfit(*np.array(known).T, 1)
    assert all(abs(slope * value + offset - place) < 0.2 for value, place in found + known)
    assert cells(page, "biwi+/pda@1", "tfoot")[0][3] == " ".join(f"{value}°" for _, value in ticks)


@pytest.mark.parametrize("low", [0.0, 0.4, 3.97, 4.99, 6.04, 57.3])
@pytest.mark.parametrize("width", [0.02, 0.1, 0.25, 0.31, 1.0, 1.7, 2.4, 3.9, 7.0, 33.0, 120.0])
def test_ticks_are_round_inside_and_do_not_touch(low, width):
    texts = _ticks(low, low + width)
    ticks = np.array([float(text) for text in texts])
    assert 2 <= len(ticks) <= 5 and low - 1e-9 <= ticks[0] and ticks[-1] <= low + width + 1e-9
    assert np.allclose(np.diff(ticks, 2), 0) and len({text.partition(".")[2] == "" for text in texts}) == 1
    assert np.diff(ticks).min() / width * 88 > 6 * (max(map(len, texts)) + 1)  # pixels of the texts with their degrees


def test_one_dataset_has_one_name():
    for text, name in (
        ("synhead++", "SynHead++"), ("SYNHEAD++ and more", "SynHead++ and more"),
        ("synbiwi+, 300w_lp", "SynBiwi+, 300W-LP"),
        ("300W LP", "300W-LP"), ("aflw2000", "AFLW2000-3D"), ("AFLW2000-3D", "AFLW2000-3D"), ("biwi+", "Biwi+"),
        ("Biwi", "Biwi"), ("biwi/sequence-19", "biwi/sequence-19"), ("my-300w-lp", "my-300w-lp"),
    ):  # fmt: skip
        assert with_one_name(text) == name
    board = [entry(0, training_data="synhead++"), entry(1, training_data="SynHead++")]
    page = site.board_page(board, published=False)
    assert page.count("<option>SynHead++</option>") == 1 and "synhead++" not in page
    assert "synhead++" not in page_of(board[0]) and "synhead++" not in table(board)


def test_links_lead_to_paper_and_code_and_dates_are_shown():
    one = entry(0, code="https://example.org/code", date="2026-01-31")
    unsafe = entry(1, code="javascript:alert(1)", date="2026-01-30")
    for page in (site.board_page([one, unsafe], published=False), page_of(one)):
        links = [attributes for tag, attributes in Page(page).elements if tag == "a" and "rel" in attributes]
        addresses = [link["href"] for link in links]
        assert addresses.count("https://example.org/code") == 1 and "https://example.org/paper" in addresses
        assert all(link["rel"] == "noopener noreferrer nofollow ugc" for link in links)
        assert "2026-01-31" in Page(page).text and "javascript" not in page
    days = [entry(0)._replace(day="2026-02-01"), one._replace(day="2026-02-01")]
    page = site.board_page(days, published=False)
    assert sorted(row[-1] for row in cells(page, "biwi+/pda@1")) == ["2026-01-31", "2026-02-01"]
    rows = cells(site.board_page([]), "biwi+/da@1")
    assert [row[-1] for row in rows] == ["2019"] * 3


def test_a_published_row_stands_only_where_it_was_scored_alike():
    rows = pd.DataFrame(published_rows()).astype({"n_images": "Int64"})
    page = Page(site.board_page([entry(0, "pda"), entry(1, "da"), entry(2, "cross")]))
    shown = [(section, words(text)) for section, attributes, text in page.rows if "data-published" in attributes]
    assert len(shown) == len(rows)
    for task in ("da", "pda", "cross"):
        mine = rows[
            (rows["task"] == task) & (rows["test_set"] == "Biwi+") & (rows["convention"] == "pyr")
            & (rows["labels"] == "rgb-calibrated")
        ].sort_values("mae")  # fmt: skip
        found = [text for section, text in shown if section == f"biwi+/{task}@1"]
        assert len(found) == len(mine) > 0
        for (_, row), text in zip(mine.iterrows(), found, strict=True):
            assert text.startswith(f"{row['method']} published {row['source'].partition(', ')[0]}")
            assert row["source"] in page.text
            assert f"{row['mae']:.2f}" in text
            assert ("15,677 images (protocol: 15,678)" in text) == (row["n_images"] == 15677)
    # Nothing of the rest shares a section with an entry, or with what was scored otherwise.
    for _, row in rows[(rows["convention"] != "pyr") | (rows["labels"] == "depth-camera")].iterrows():
        camera = {"rgb-calibrated": "rgb", "depth-camera": "depth", "photograph": "rgb"}[row["labels"]]
        name = f"published: {row['task']}, {row['test_set']}, {row['convention']}, {camera} camera"
        if row["test_set"] == "AFLW2000-3D" and str(row["n_images"]) == "1969":
            name = "aflw2000/cross@1"
        assert any(section == name and f"{row['mae']:.2f}" in text for section, text in shown)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"frames": 768}, []), ({"test_set": "Biwi+, some"}, []), ({"subset": "some"}, []),
     ({"convention": "ypr"}, ["3.71", "4.05"]), ({"camera": "depth"}, ["3.55", "4.04"]),
     ({"convention": "ypr", "camera": "depth"}, ["3.44", "3.97"]), ({"convention": "biwi"}, [])],
)  # fmt: skip
def test_another_protocol_gets_its_own_published_rows_or_none(change, expected):
    page = Page(site.board_page([entry(0, "pda", on={"id": "lab/own@1", **change})]))
    mine = [
        text for section, attributes, text in page.rows if section == "lab/own@1" and "data-published" in attributes
    ]
    assert [re.findall(r"\d\.\d\d", text)[0] for text in mine] == expected
    assert len(page.rows) == 1 + len(published_rows())


def test_two_protocols_of_one_id_never_share_a_table():
    false = entry(1, "pda", on={"frames": 10})
    page = Page(site.board_page([entry(0, "pda"), false], published=False))
    sections = [section for section, _, _ in page.rows]
    assert len(set(sections)) == 2 and all(section.startswith("biwi+/pda@1 (") for section in sections)


def test_the_one_row_whose_mean_misses_is_flagged():
    for board in ([], [entry(0, "pda")]):
        page = Page(site.board_page(board))
        flagged = [words(text) for _, _, text in page.rows if "as printed" in text]
        assert len(flagged) == 1
        assert flagged[0].startswith("BaselinePDA published") and "as printed: the mean" in flagged[0]
        # Below the method, where a phone has room for it.
        assert flagged[0].index("as printed") < flagged[0].index("4.53 4.97")
        assert "the mean of the three angles is 4.517" in flagged[0]


def test_badges_say_what_the_protocol_says():
    silent = entry(0, "pda", on={"target_images": "no image of the test set may be used", "id": "lab/own@1"})
    page = site.board_page([silent], published=False)
    assert 'class="badge"' not in page and "no image of the test set may be used" in page
    page = site.board_page([entry(0, "pda")], published=False)
    assert re.findall(r'class="badge">([^<]+)<', page) == ["transductive", "honour system"]
    # An entry that used no target images is not transductive, whatever its protocol allows.
    for uses, expected in ((True, ["transductive", "honour system"]), (False, ["honour system"])):
        page = page_of(entry(0, "pda", uses_target_images=uses))
        assert re.findall(r'class="badge">([^<]+)<', page) == expected


def test_an_entry_page_has_all_that_the_entry_says():
    other, frames = OtherStatistics(source=random_scores(1)), Subset("some frames", "77" * 32, "a paper")
    more = {"selected_epoch": 17, "scores_of_other_statistics": other, "subset": frames}
    listed = entry(3, suspicions=("yaw and roll look swapped",), **more)
    text, one = page_of(listed), listed.entry
    shown = words(Page(text).text)
    said = [one.authors, one.training_data, one.selection, one.command, one.commit, one.notes, one.protocol_sha256]
    said += [one.toolkit, *one.predictions_sha256, "some frames", "77" * 32, "17", "3 (0 to 2)"]
    said += [one.protocol.id, one.protocol.title, one.protocol.metric, one.protocol.target_images]
    said += ["yaw and roll look swapped", "95 % intervals: bootstrap over 20 subjects, 2,000 resamples."]
    assert [what for what in said if what not in shown] == []
    numbers = [v for angles in astuple(one.conventions) for v in astuple(angles)] + list(astuple(one.vectors))
    numbers += [v for values in (*one.scores_of_seeds, other.source) for v in astuple(values)]
    numbers += [getattr(group, key) for group in (*one.by.subject, *one.by.sequence) for key in KEYS]
    numbers += [v for pair in astuple(one.intervals) for v in pair]
    assert [number for number in numbers if f"{number:.2f}" not in shown] == []
    assert "73.1 %" in shown and "98.2 %" in shown
    assert ("a", {"href": one.link, "rel": "noopener noreferrer nofollow ugc"}) in Page(text).elements
    assert "../index.html" in text and "../index.html" not in page_of(listed, root="")


def test_a_group_of_all_frames_scores_what_the_entry_does():
    one = entry(1).entry
    scores, rounded = replace(one.scores, mae=5.4446), dict.fromkeys(KEYS, 1.0) | {"mae": 5.445}
    everybody = (Group("M11", one.protocol.frames, **rounded),)
    one = replace(one, scores=scores, by=replace(one.by, subject=everybody, sequence=()))
    page = site.entry_page(one)
    assert "5.44" in page and "5.45" not in page


def test_what_an_entry_lacks_is_left_out():
    single = {"seeds": (None,), "scores_of_seeds": (random_scores(0),), "deviation": None, "intervals": None}
    texts, unset = dict.fromkeys(("notes", "command", "commit"), ""), {"quantiles": UNSET, "distribution": UNSET}
    full = page_of(entry(1))
    text = page_of(entry(1, by=Parts((), (), (), (), (), ()), **single, **texts, **unset))
    assert full.count('<svg class="plot"') == 7 and '<svg class="plot"' not in text
    for gone in ("Where the errors are", "By subject", "By sequence", "By seed", "bootstrap over", "±", "None", "nan"):
        assert gone not in Page(text).text
    assert "unknown" in Page(text).text and "UNSET" not in text
    assert "Distribution over the frames" in full and "Distribution over the frames" not in text
    by = replace(entry(1).entry.by, roll=(), yaw_pitch=(), sequence=())
    assert page_of(entry(1, by=by)).count('<svg class="plot"') == 4
    spread = replace(entry(1).entry.distribution.mae, p95=UNSET)
    text = page_of(entry(1, distribution=Distribution(spread, spread)))
    assert text.count('<td class="n">–</td>') == 2 and "UNSET" not in text


def test_a_report_shows_the_worst_frames_and_a_scatter():
    closeup = pictures()
    text = page_of(entry(0), closeup)
    page = Page(text)
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [image["alt"] for image in images] == [f"Frame biwi/01/{i:05d}" for i in range(8) if i != 3]
    assert "no picture" in page.text and "-12°, 60°, 3°" in page.text and "1,200 of 15,678 frames" in page.text
    assert "index.html" not in text  # it stands alone
    first, *others = closeup.worst
    worst = [first._replace(picture="https://example.org/x.png"), *others]
    text = page_of(entry(0), site.Closeup(worst, None))
    assert text.count("<img ") == 6 and "example.org/x.png" not in text and "Cells of 15 degrees" in text


def test_plots_are_small_the_same_each_time_and_share_no_id():
    listed, closeup = entry(0), pictures()
    text = page_of(listed, closeup)
    for plot in (score_plots.error_by_angle, score_plots.cumulative, score_plots.label_space, score_plots.bars):
        plot.cache_clear()
    assert text == page_of(listed, closeup)
    plots = re.findall(r'<svg class="plot".*?</svg>', text, re.DOTALL)
    assert len(plots) == 7 and max(map(len, plots)) < 40_000
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    for plot in plots:
        own = set(re.findall(r' id="([^"]+)"', plot))
        assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', plot)) <= own
        assert 'role="img" aria-label="' in plot[:200]
        # No colour of its own but those that follow the page's scheme, no font and no style for the whole page.
        assert not re.search(r"#[0-9a-f]{6}|DejaVu|<style|<metadata", plot)
    assert all(f"--{name}:" in text for name in set(re.findall(r"var\(--([a-z0-9-]+)\)", "".join(plots))))


def test_plots_show_the_numbers_that_they_are_given():
    rng = np.random.default_rng(0)
    groups = tuple(Group(f"S{i}", 50, float(rng.uniform(2, 9)), 1.0, 1.0, 1.0, 1.0, 1.0) for i in range(12))
    text = score_plots.bars(groups, "subject", 4.321)
    order = sorted(groups, key=lambda group: -group.mae)
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", text)
    # The largest stands on top.
    heights = {m[2]: float(m[1]) for m in re.finditer(r' y="([\d.]+)"[^>]*>(S\d+)</text>', text)}
    assert sorted(heights, key=lambda name: heights[name]) == [group.name for group in order]
    assert "all frames 4.32" in texts and all(f"{group.mae:.2f}" in texts for group in groups)
    cells = tuple(Cell(yaw, pitch, 9, 1 + abs(yaw) / 20, 1.0) for yaw in (-30, 0, 15) for pitch in (-15, 0))
    text = score_plots.label_space(cells)
    drawn = re.findall(r'<path d="([^"]+)"[^>]*fill: var\(--scale-(\d)\)', text)
    squares = {level: outline.count("z") for outline, level in drawn if outline.count("z") > 1}
    assert sum(squares.values()) == 6 and sorted(squares.values()) == [2, 2, 2]
    points = score_plots.Points(rng.normal(0, 30, 50), rng.normal(0, 20, 50), rng.gamma(2, 2, 50))
    text, shown = score_plots.scatter(points)
    assert shown == 50 and text.count("h0") == 50


def hostile_entry(text, seed=9):
    """An entry each of whose texts is hostile, whether or not an entry could be read with it."""
    said = ("id", "title", "test_set", "target_images", "selection", "metric", "training_data")
    fields = ("name", "authors", "link", "training_data", "selection", "notes", "batch_statistics", "initial_weights",
              "preset", "augment", "command", "commit", "protocol_sha256", "convention", "camera",
              "toolkit")  # fmt: skip
    by = entry(seed).entry.by
    groups = {
        what: (replace(getattr(by, what)[0], name=text), *getattr(by, what)[1:]) for what in ("subject", "sequence")
    }
    return entry(
        seed,
        on=dict.fromkeys(said, text),
        by=replace(by, **groups),
        predictions_sha256=(text,),
        suspicions=(text,),
        subset=Subset(text, text, text),
        scores_of_other_statistics=OtherStatistics(source=random_scores(1)),
        **dict.fromkeys(fields, text),
    )


@pytest.mark.parametrize("text", [HOSTILE, FORMULA, "javascript:alert(1)", "x" * 100_000, "\u202edlrow"])
def test_hostile_texts_stay_texts(text):
    one = hostile_entry(text)
    for page in (site.board_page([one]), page_of(one), page_of(one, pictures(), root="")):
        page.encode()
        elements = Page(page).elements
        assert sum(tag == "script" for tag, _ in elements) == 1
        assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
        links = [attributes.get("href") for tag, attributes in elements if tag == "a"]
        assert all(
            re.match(r"(\.\./|/)?(entries/|index.html|submit|$)|#|https://(github\.com|doi\.org)/", link)
            for link in links
        )
        assert len(page) < 400_000
        assert html.escape(words(text)[:20].replace("\ud800", "?")) in page.replace("&#34;", "&quot;").replace(
            "&#39;", "&#x27;"
        )


@pytest.mark.parametrize(
    ("link", "kept"),
    [("https://example.org/a?b=c#d", True), ("http://example.org", True), ("", False), ("javascript:alert(1)", False),
     ("JaVaScRiPt:alert(1)//http://x", False), ("data:text/html,<b>", False), ("//example.org", False),
     ("https://", False), ("http://[::1", False), ("https://exa mple.org", False), ("file:///etc/passwd", False),
     ('https://x/"onclick="y', True)],
)  # fmt: skip
def test_a_link_leads_to_http_or_nowhere(link, kept):
    assert safe_link(link) == (link if kept else "")
    assert Page(site.board_page([entry(0, link=link)])).elements.count(
        ("a", {"href": link, "rel": "noopener noreferrer nofollow ugc"})
    ) == int(kept)


def test_build_writes_a_page_an_entry_and_removes_what_is_gone(tmp_path):
    board = board_entries()
    path = site.build(tmp_path / "site", board)
    assert path == tmp_path / "site" / "index.html" and path.read_text() == site.board_page(board)
    pages = sorted((tmp_path / "site" / "entries").iterdir())
    assert [page.name for page in pages] == sorted(f"{listed.key}.html" for listed in board)
    assert pages[0].read_text() == page_of(min(board, key=lambda listed: listed.key))
    other = tmp_path / "site" / "entries" / "notes.txt"
    other.write_text("not ours")
    site.build(tmp_path / "site", board[1:], published=False)
    assert not (tmp_path / "site" / "entries" / f"{board[0].key}.html").exists() and other.exists()
    assert len(list((tmp_path / "site" / "entries").glob("*.html"))) == 4
    assert "data-published" not in path.read_text().partition("<script>")[0]
    for key in ("../x", "a/b", "", ".hidden", "a b", "x" * 300):
        with pytest.raises(SubmissionError, match="expected letters, digits, dots, dashes and underscores"):
            site.build(tmp_path / "other", [entry(0, key=key)])
    assert not (tmp_path / "other").exists() and not (tmp_path / "x.html").exists()


@pytest.fixture
def templates(tmp_path, monkeypatch):
    """Copies of the pages' templates, which draw them; a test may change them, and say so."""
    shutil.copytree(drawn.PAGES, tmp_path / "pages")
    assert drawn.PAGES.parent in drawn._SOURCES
    monkeypatch.setattr(drawn, "_SOURCES", (tmp_path / "pages",))
    monkeypatch.setattr(drawn, "PAGES", tmp_path / "pages")

    def forget():
        drawn.toolkit_sha256.cache_clear()
        site._environment.cache_clear()

    forget()
    yield tmp_path / "pages", forget
    monkeypatch.undo()
    forget()


def change_template(folder, board, pages, forget):
    (pages / "tiles.html").write_text((pages / "tiles.html").read_text() + "<p>new</p>\n")
    forget()
    return board, {listed.key for listed in board}


def change_entry(folder, board, pages, forget):
    first = board[0]._replace(entry=replace(board[0].entry, notes="Trained anew."))
    return [first, *board[1:]], {first.key}


def take_predictions_away(folder, board, pages, forget):
    return [*board[:2], board[2]._replace(unverified="its predictions are not beside it")], {board[2].key}


def cut_page_off(folder, board, pages, forget):
    page = folder / "entries" / f"{board[1].key}.html"
    page.write_bytes(page.read_bytes()[:-100])
    return board, {board[1].key}


def take_page_away(folder, board, pages, forget):
    (folder / "entries" / f"{board[1].key}.html").unlink()
    return board, {board[1].key}


def garble_record(folder, board, pages, forget):
    (folder / drawn.RECORD).write_text("<<<<<<< HEAD\n")
    return board, {listed.key for listed in board}


CHANGES = (change_template, change_entry, take_predictions_away, cut_page_off, take_page_away, garble_record)


@pytest.mark.parametrize("change", [None, *CHANGES], ids=lambda change: change and change.__name__)
def test_a_page_is_drawn_again_when_it_would_be_another(tmp_path, templates, monkeypatch, change):
    folder, board = tmp_path / "site", [entry(seed, "pda") for seed in range(3)]
    site.build(folder, board)
    changed = set()
    if change:
        board, changed = change(folder, board, *templates)
    drawn_again = []
    draw = site.entry_page
    monkeypatch.setattr(site, "entry_page", lambda one, **more: drawn_again.append(one.name) or draw(one, **more))
    site.build(folder, board)
    assert sorted(drawn_again) == sorted(listed.entry.name for listed in board if listed.key in changed)
    for listed in board:
        page = (folder / "entries" / f"{listed.key}.html").read_text()
        assert page == draw(listed.entry, unverified=listed.unverified)


def test_who_stops_a_build_begins_where_it_was_stopped(tmp_path, monkeypatch):
    board, draw, asked = [entry(seed, "pda") for seed in range(3)], site.entry_page, []

    def stopped(one, **more):
        asked.append(one.name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return draw(one, **more)

    monkeypatch.setattr(site, "entry_page", stopped)
    with pytest.raises(KeyboardInterrupt):
        site.build(tmp_path, board)
    site.build(tmp_path, board)
    assert asked[3:] == asked[2:3]


def test_a_board_of_a_thousand_entries_is_less_than_a_megabyte():
    links = {"code": "https://example.org/code", "date": "2026-01-31"}
    one = entry(0, "pda", **links)
    many = [
        one._replace(key=f"biwi-plus-pda-1-method-{i}-ab12cd34", entry=replace(one.entry, name=f"Method {i}"))
        for i in range(1_000)
    ]
    assert len(site.board_page(many).encode()) < 1_000_000


def test_no_entries_is_a_page_too():
    page = Page(site.board_page([]))
    assert "No entries yet" in page.text and len(page.rows) == len(published_rows())
    assert Page(site.board_page([], published=False)).rows == []


# In a browser.


@pytest.fixture
def board(tmp_path, browser):
    """The entries of a board that the browser shows."""
    found = board_entries()
    browser.get(site.build(tmp_path / "site", found).as_uri())
    return found


def visible(browser):
    """The rows that can be seen: their sections, names and MAE."""
    found = browser.execute_script("""
      return [...document.querySelectorAll('tr.row')].filter((row) => row.checkVisibility()).map((row) =>
        [row.closest('[data-protocol]').dataset.protocol, row.querySelector('th bdi').textContent,
         row.querySelector('.mae').dataset.value]);
    """)
    return [(section, name, float(mae)) for section, name, mae in found]


def column(browser, place, section="biwi+/pda@1"):
    """What the rows of a table are sorted by, in a column."""
    return browser.execute_script(
        """
        const rows = document.querySelectorAll(`[data-protocol="${arguments[1]}"] tbody tr`);
        return [...rows].map((row) => row.cells[arguments[0]])
          .map((cell) => cell.dataset.value ?? cell.querySelector('bdi')?.textContent ?? cell.textContent.trim());
        """,
        place,
        section,
    )


def choose(browser, name, text):
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", name)).select_by_visible_text(text)


def shown(browser):
    return browser.find_element("id", "shown").text


@pytest.mark.slow
def test_a_click_on_a_header_sorts_and_a_second_one_reverses(board, browser):
    from selenium.webdriver.common.keys import Keys

    heads = browser.find_elements("css selector", '[data-protocol="biwi+/pda@1"] thead th')
    names = [head.text for head in heads]
    assert heads[2].get_attribute("aria-sort") == "ascending" and names[:3] == ["#", "method", "MAE"]
    for place in range(len(heads)):
        numeric = "n" in heads[place].get_attribute("class").split()
        found = []
        for turn, direction in enumerate(("ascending", "descending")):
            button = heads[place].find_element("tag name", "button")
            button.send_keys(Keys.ENTER) if turn and place % 2 else button.click()
            assert [head.get_attribute("aria-sort") for head in heads if head.get_attribute("aria-sort")] == [direction]
            assert heads[place].get_attribute("aria-sort") == direction
            found.append(column(browser, place))
        if numeric:
            values = [[float(text) for text in texts if text] for texts in found]
            assert values == [sorted(values[0]), sorted(values[0], reverse=True)]
            missing = [texts.index("") if "" in texts else len(texts) for texts in found]
            assert missing == [len(values[0])] * 2  # rows without a value stay last
        else:
            assert found[0] == sorted(found[0], key=str.lower) and [t.lower() for t in found[1]] == sorted(
                (text.lower() for text in found[0]), reverse=True
            )
    assert len(set(column(browser, 1, "biwi+/da@1"))) == 5  # the other tables are as they were
    assert column(browser, 2, "biwi+/da@1") == sorted(column(browser, 2, "biwi+/da@1"), key=float)
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_filters_narrow_the_board_and_the_address_keeps_them(board, tmp_path, browser):
    everything = visible(browser)
    assert len(everything) == 5 + len(published_rows())
    assert shown(browser) == f"{len(everything)} of {len(everything)} rows shown"
    clear = browser.find_element("id", "reset")
    assert not clear.is_enabled()

    choose(browser, "protocol", "biwi+/da@1")
    assert {section for section, _, _ in visible(browser)} == {"biwi+/da@1"}
    assert shown(browser) == f"{len(visible(browser))} of {len(everything)} rows shown"
    browser.find_element("id", "published").click()
    assert {name for _, name, _ in visible(browser)} == {"Method 3", "Method 4"}
    jumps = [jump for jump in browser.find_elements("css selector", ".jump li") if jump.is_displayed()]
    assert [" ".join(jump.text.split()) for jump in jumps] == ["biwi+/da@1 2"]
    address = browser.current_url
    jumps[0].find_element("tag name", "a").click()
    assert {name for _, name, _ in visible(browser)} == {"Method 3", "Method 4"}  # the filters stay
    browser.execute_script("history.replaceState(null, '', arguments[0])", address)
    choose(browser, "transductive", "yes")
    assert {name for _, name, _ in visible(browser)} == {"Method 3"}
    choose(browser, "transductive", "no")
    assert {name for _, name, _ in visible(browser)} == {"Method 4"}
    address = browser.current_url

    clear.click()
    assert visible(browser) == everything and browser.current_url.endswith("#")
    choose(browser, "trained", "SynHead++ and more")
    assert [name for _, name, _ in visible(browser)] == ["Method 2"]
    clear.click()
    browser.find_element("id", "search").send_keys("iccv PADACO")
    assert {name for _, name, _ in visible(browser)} == {"PADACO"} and len(visible(browser)) == 2
    browser.find_element("id", "search").send_keys(" nobody")
    assert visible(browser) == [] and browser.find_element("id", "none").is_displayed()
    assert not any(one.is_displayed() for one in browser.find_elements("tag name", "h2")[:-1])

    browser.get("about:blank")
    browser.get(address)
    assert [name for _, name, _ in visible(browser)] == ["Method 4"]
    assert not browser.find_element("id", "published").is_selected()
    assert browser.execute_script("return document.getElementById('protocol').value") == "biwi+/da@1"
    browser.execute_script("location.hash = '#search=method+1&protocol=gone&transductive=%3Cb%3E'")
    wait(lambda: [name for _, name, _ in visible(browser)] == ["Method 1"])
    assert browser.get_log("browser") == []


def wait(condition):
    """Wait until the browser has done what it was told."""
    for _ in range(50):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened")


@pytest.mark.slow
def test_hostile_texts_never_run(tmp_path, browser):
    entries = [hostile_entry(text, i) for i, text in enumerate((HOSTILE, "javascript:window.hacked=1", FORMULA))]
    index = site.build(tmp_path, entries)
    report = tmp_path / "report.html"
    report.write_text(page_of(entries[0], pictures()))
    pages = [index, report, *(tmp_path / "entries").glob("*.html")]
    assert len(pages) == 5
    for page in pages:
        browser.get(page.as_uri())
        assert browser.execute_script("return window.hacked") is None
        assert HOSTILE in browser.find_element("tag name", "body").text or page not in (index, report)
        assert browser.find_elements("css selector", "a[href^=javascript], img[src=x]") == []
        asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert [name for name in asked if not name.startswith("data:")] == []
        assert browser.get_log("browser") == []
    browser.get(index.as_uri())
    browser.find_element("css selector", "tr.row a").click()
    assert "/entries/" in browser.current_url
    # Not even a script that found its way into the page would run.
    browser.execute_script(
        "document.body.append(document.createRange().createContextualFragment(arguments[0]))",
        "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>",
    )
    assert browser.execute_script("return window.hacked") is None
    refused = browser.get_log("browser")
    assert refused and all("Content Security Policy" in one["message"] for one in refused)


@pytest.mark.slow
def test_a_phone_needs_no_sideways_scrolling(tmp_path, browser):
    entries = [*board_entries(), hostile_entry("x" * 5_000), entry(7, "cross", name="Method " * 30)]
    index = site.build(tmp_path, entries)
    report = tmp_path / "report.html"
    report.write_text(page_of(entries[-1], pictures()))
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for page in (index, report, *(tmp_path / "entries" / f"{listed.key}.html" for listed in entries[-3:])):
        browser.get(page.as_uri())
        assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
        # No name is broken letter by letter: each has room for one of a score.
        narrow = "return [...document.querySelectorAll('tbody th.name')].map((name) => name.clientWidth)"
        assert min(browser.execute_script(narrow)) > 90
    # A wide table scrolls in its own box, where its names stay in sight.
    browser.get(index.as_uri())
    box = browser.find_element("css selector", ".scroll")
    browser.execute_script("arguments[0].scrollLeft = 300", box)
    name = box.find_element("css selector", "tbody th")
    assert browser.execute_script("return arguments[0].scrollLeft", box) == 300 and 0 <= name.rect["x"] < 20


def luminance(colour):
    """The relative luminance of ``rgb(r, g, b)``, after WCAG 2."""
    values = np.array([int(one) for one in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(tmp_path, browser, scheme):
    one = entry(0, suspicions=("look at this",))
    site.build(tmp_path, [one, entry(1)])
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    # The background of the nearest ancestor that has one, and the colour, of every element with a text of its own.
    script = """
      const back = (e) => { const c = getComputedStyle(e).backgroundColor;
        return c !== 'rgba(0, 0, 0, 0)' || !e.parentElement ? c : back(e.parentElement); };
      return [...document.querySelectorAll('body *')].filter((e) => !e.closest('script, option, [hidden], :disabled'))
        .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
        .map((e) => [e instanceof SVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color, back(e),
                     e.textContent.slice(0, 40)]);
    """
    for page in ("index.html", f"entries/{one.key}.html"):
        browser.get((tmp_path / page).as_uri())
        page_colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert luminance(page_colour) < 0.03 if scheme == "dark" else luminance(page_colour) > 0.9
        found = browser.execute_script(script)
        assert len(found) > 100
        faint = []
        for colour, back, text in found:
            light, dark = sorted((luminance(colour), luminance(back)), reverse=True)
            if (light + 0.05) / (dark + 0.05) < 4.5:
                faint.append((text, colour, back))
        assert faint == []


@pytest.mark.slow
def test_the_board_can_be_read_without_a_script(tmp_path, browser):
    board = board_entries()
    index = site.build(tmp_path, board)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(index.as_uri())
    rows = browser.find_elements("css selector", "tr.row")
    assert len(rows) == 5 + len(published_rows()) and all(row.is_displayed() for row in rows)
    assert not browser.find_element("id", "filters").is_displayed()
    assert browser.find_elements("css selector", "thead button") == []
    total = len(rows)
    assert shown(browser) == f"{total} rows: 5 scored here, {total - 5} published"
