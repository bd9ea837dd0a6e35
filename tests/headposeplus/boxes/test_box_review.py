import base64
import json
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from headposeplus import images
from headposeplus.boxes.files import correct_boxes, read_boxes
from headposeplus.boxes.formats import FIRST_LINE, NOT_DETECTED
from headposeplus.boxes.geometry import iou, make_boxes
from headposeplus.boxes.review import write_review
from headposeplus.boxes.suspects import JUMPS, judge, project_sequence
from headposeplus.errors import DatasetError
from headposeplus.raw import biwi

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028\u2029&amp;"


def frames_of(*numbers, sequence="01"):
    return [biwi.Frame(sequence, number, Path(), Path()) for number in numbers]


def squares(*corners, side=100):
    return np.array([(x, y, side, side) for x, y in corners], np.float64)


def table_of(frames, rows, source="dlib-hog", checked=False):
    return make_boxes([frame.id for frame in frames], np.array(rows), source, checked)


def raw_frames(root):
    """The frames of a raw copy and their projected boxes."""
    sequences = [project_sequence((root, name, "")) for name in biwi.sequences(root)]
    frames = [frame for sequence in sequences for frame in sequence.frames]
    return frames, np.concatenate([sequence.boxes for sequence in sequences])


def content(page):
    return json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])


def words(finding):
    return [text for _, text in finding.reasons]


def test_worst_come_first_and_say_why():
    frames = frames_of(10, 20, 30, 40, 50, 60)
    projected = squares((200, 200), (200, 200), (200, 200), (200, 200), (200, 200), (200, 200))
    rows = projected.copy()
    rows[:, 0] += [0, 50, 80, 300, 20, 500]
    table = table_of(frames, rows)
    table.checked[5] = True
    suspicions = judge(frames, projected, table.where(np.array([0, 1, 2, 3, 5])), None)
    assert [frames[suspicion.row].number for suspicion in suspicions] == [50, 40, 30, 20, 10, 60]
    assert [suspicion.kinds for suspicion in suspicions] == [
        {"missing"},
        {"disagrees"},
        {"disagrees"},
        {"disagrees"},
        set(),
        {"disagrees"},
    ]
    assert [words(suspicion) for suspicion in suspicions[:5]] == [
        ["no box: the projection is proposed"],
        ["IoU 0.00 with the projection"],
        ["IoU 0.11 with the projection"],  # 20 of 180 columns
        ["IoU 0.33 with the projection"],
        ["IoU 1.00 with the projection"],
    ]
    assert suspicions[0].box.tolist() == [200, 200, 100, 100] and suspicions[0].other is None
    assert (suspicions[0].source, suspicions[-1].checked) == ("projected", True)


def test_the_other_file_judges_where_its_detector_found_a_face():
    frames = frames_of(10, 20, 30, 40)
    projected = squares((0, 0), (0, 0), (0, 0), (0, 0))
    table = table_of(frames, projected)
    against = table_of(frames[:3], projected[:3], "haar")
    against.boxes[:, 0] += [50, 0, 10]
    against = against._replace(sources=np.array(["haar", NOT_DETECTED, "haar"]))
    suspicions = judge(frames, projected, table, against)
    assert [suspicion.row for suspicion in suspicions] == [0, 1, 2, 3]
    assert words(suspicions[0]) == ["IoU 0.33 with haar"] and suspicions[0].other.tolist() == [50, 0, 100, 100]
    assert words(suspicions[1]) == ["IoU 1.00 with the projection", "the other file's detector found no face"]
    assert suspicions[1].kinds == {"undetected"} and suspicions[1].score == 0.5
    assert words(suspicions[3]) == ["IoU 1.00 with the projection"]

    suspicions = judge(frames, projected, table.where(np.array([1, 2, 3])), against)
    assert words(suspicions[0]) == ["no box: the projection is proposed", "dashed: haar"]
    assert suspicions[0].box.tolist() == [0, 0, 100, 100] and suspicions[0].other.tolist() == [50, 0, 100, 100]

    undetected = table_of(frames, projected, NOT_DETECTED)
    suspicions = judge(frames, projected, undetected, None)
    assert words(suspicions[0])[1] == "its detector found no face: this is the projection"


def test_a_box_that_jumps_where_the_head_does_not():
    frames = frames_of(11, 12, 13, 14, 15, 30)
    projected = squares((0, 0), (40, 0), (80, 0), (120, 0), (160, 0), (900, 0))  # a fast head, and a gap
    steady = table_of(frames, projected + np.array([8, 4, 0, 0]))
    assert not [suspicion for suspicion in judge(frames, projected, steady, None) if suspicion.kinds]

    rows = steady.boxes.copy()
    rows[2, 1] += 60
    suspicions = judge(frames, projected, table_of(frames, rows), None)
    jumping = [suspicion for suspicion in suspicions if JUMPS in suspicion.kinds]
    assert [suspicion.row for suspicion in jumping] == [2]  # its neighbours are not to blame
    assert suspicions[0] == jumping[0]
    assert "jumps 0.6 widths from 00012" in words(jumping[0])

    rows = steady.boxes.copy()
    rows[1] += [-35, -35, 70, 70]  # about the same middle
    suspicions = judge(frames, projected, table_of(frames, rows), None)
    jumping = [suspicion for suspicion in suspicions if "jumps" in suspicion.kinds]
    assert [suspicion.row for suspicion in jumping] == [1] and "1.7 times as wide as in 00011" in words(jumping[0])

    rows = steady.boxes.copy()
    rows[:2, 1] += 60  # a step: nothing tells which side is wrong
    suspicions = judge(frames, projected, table_of(frames, rows), None)
    assert {suspicion.row for suspicion in suspicions if "jumps" in suspicion.kinds} == {1, 2}


def test_page_holds_the_worst_and_counts_the_rest(tiny, tmp_path):
    root = tiny / "hpdb"
    frames, projected = raw_frames(root)
    rows = projected.copy()
    rows[7, 0] += 40
    table = table_of(frames, rows)
    table.checked[20:25] = True
    table = table.where(np.arange(len(frames)) != 30)
    page = tmp_path / "review.html"
    review = write_review(table, root, page, limit=5)
    assert (review.frames, review.shown, review.missing, review.checked) == (len(frames), 5, 1, 5)
    assert review.disagreeing == 1 and not review.unreadable and not review.strays
    held = content(page)
    assert [card["id"] for card in held["cards"][:2]] == [frames[30].id, frames[7].id]
    assert len(held["cards"]) == held["counts"]["shown"] == 5 and held["counts"]["frames"] == len(frames)
    assert held["cards"][0]["box"] == projected[30].tolist() and held["cards"][0]["source"] == "projected"
    assert not any(card["checked"] for card in held["cards"])

    review = write_review(table, root, page, limit=1000)
    assert review.shown == len(frames)
    assert [card["checked"] for card in content(page)["cards"]] == [False] * (len(frames) - 5) + [True] * 5
    assert "://" not in page.read_text()  # nothing from outside


def test_thumbnails_show_the_raw_pixels_of_their_region(tiny, tmp_path):
    root = tiny / "hpdb"
    frames, projected = raw_frames(root)
    rows = projected.copy()
    rows[0] = [-30, -20, 40, 40]  # partly outside
    rows[1] = [5000, 5000, 10, 10]
    write_review(table_of(frames, rows), root, tmp_path / "a.html", limit=1000)
    for card in content(tmp_path / "a.html")["cards"]:
        left, top, side = card["region"]
        data = np.frombuffer(base64.b64decode(card["jpeg"]), np.uint8)
        shown = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert shown.shape == (min(side, 240),) * 2 + (3,)
        frame = next(frame for frame in frames if frame.id == card["id"])
        padded = np.pad(images.read_image(frame.image)[..., :3], ((999, 999), (999, 999), (0, 0)), constant_values=72)
        expected = padded[top + 999 : top + 999 + side, left + 999 : left + 999 + side]
        if side <= 240:
            assert np.abs(shown.astype(int) - expected).mean() < 8  # JPEG's loss
        for box in [card["other"]] + ([card["box"]] if card["box"][0] < 1000 else []):
            assert left <= box[0] and box[0] + box[2] <= left + side and top <= box[1] and box[1] + box[3] <= top + side


def test_unreadable_frames_are_told_and_make_room(tiny_copy, tmp_path):
    root = tiny_copy / "hpdb"
    frames, projected = raw_frames(root)
    rows = projected.copy()
    rows[4, 0] += 60  # the worst
    data = frames[4].image.read_bytes()
    frames[4].image.write_bytes(data[: len(data) // 2])
    frames[5].pose.write_text("damaged\n")
    shutil.rmtree(tiny_copy / "db_annotations")
    frames[6].pose.unlink()
    review = write_review(table_of(frames, rows), root, tmp_path / "a.html", limit=10)
    assert (review.frames, review.shown, review.disagreeing) == (len(frames) - 3, 10, 0)
    told = "\n".join(map(str, review.unreadable))
    assert (len(review.unreadable), review.strays) == (3, 2)
    assert all(words in told for words in ("truncated image", "no frame_", "expected three rows"))
    held = content(tmp_path / "a.html")
    assert held["unreadable"] == list(map(str, review.unreadable)) and frames[4].id not in [
        card["id"] for card in held["cards"]
    ]


def test_boxes_of_other_frames(tiny, tmp_path):
    root = tiny / "hpdb"
    frames, projected = raw_frames(root)
    other = make_boxes(["biwi/99/00001"], projected[:1], "imported")
    with pytest.raises(DatasetError, match=r"the file under review holds no box .* 'biwi/99/00001'; expected ids such"):
        write_review(other, root, tmp_path / "a.html")
    with pytest.raises(DatasetError, match="the file to compare with holds no box"):
        write_review(table_of(frames, projected), root, tmp_path / "a.html", against=other)
    assert not (tmp_path / "a.html").exists()
    none = make_boxes([], np.empty((0, 4)), "imported")
    assert write_review(none, root, tmp_path / "a.html").missing == len(frames)


def test_same_input_same_bytes_and_nothing_hostile(tiny, tmp_path):
    root = tiny / "hpdb"
    frames, projected = raw_frames(root)
    table = make_boxes([*(frame.id for frame in frames), HOSTILE], np.vstack((projected, projected[:1])), HOSTILE)
    for jobs in (1, 2):
        review = write_review(table, root, tmp_path / f"{jobs}.html", limit=40, jobs=jobs)
    page = (tmp_path / "1.html").read_bytes()
    assert page == (tmp_path / "2.html").read_bytes() and review.strays == 1
    text = page.decode()
    assert (
        text.count("</script>") == 2 and "hacked=1<" not in text and "\u2028" not in text and "<img src=x" not in text
    )
    held = content(tmp_path / "1.html")
    assert held["strays"] == [HOSTILE] and held["cards"][0]["source"] == HOSTILE
    moved = table._replace(boxes=table.boxes + np.array([1, 0, 0, 0]))
    write_review(moved, root, tmp_path / "b.html", limit=40)
    assert content(tmp_path / "b.html")["key"] != held["key"]  # other boxes, other work to keep


def saved_file(folder, count):
    """The ``count``-th download, once it is complete."""
    for _ in range(100):
        files = sorted(folder.glob("*.csv"), key=lambda path: path.stat().st_mtime_ns) if folder.exists() else []
        if len(files) >= count and not list(folder.glob("*.crdownload")):
            return files[-1]
        time.sleep(0.1)
    raise AssertionError(f"no download in {folder}")


def card(browser, name):
    return browser.find_element("css selector", f'[data-id="{name}"]')


def part(browser, name, selector):
    """An element of a card, brought into sight."""
    element = card(browser, name).find_element("css selector", selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return element


def numbers(browser, name):
    return [int(field.get_attribute("value")) for field in card(browser, name).find_elements("tag name", "input")]


def fill(browser, name, column, text):
    """Type into one of a card's four fields."""
    from selenium.webdriver.common.keys import Keys

    field = part(browser, name, f"label:nth-child({column + 1}) input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text or Keys.BACKSPACE)
    return field


def drag(browser, page, name, selector, x, y):
    """Drag a part of a box with the mouse, by raw pixels."""
    from selenium.webdriver.common.action_chains import ActionChains

    grip, picture = part(browser, name, selector), card(browser, name).find_element("class name", "picture")
    side = next(stored["region"][2] for stored in content(page)["cards"] if stored["id"] == name)
    scale = browser.execute_script("return arguments[0].getBoundingClientRect().width", picture) / side
    moves = ActionChains(browser).move_to_element(grip).click_and_hold()
    moves.move_by_offset(round(x * scale), round(y * scale)).release().perform()


def unsaved(browser):
    return browser.execute_script("return !dispatchEvent(new Event('beforeunload', {cancelable: true}))")


def text_of(browser, name):
    return browser.find_element("id", name).text


def visible(browser, choice):
    """The ids of the cards that a filter leaves."""
    browser.find_element("css selector", f"[data-filter={choice}]").click()
    return {shown.get_attribute("data-id") for shown in browser.find_elements("css selector", ".card:not([hidden])")}


@pytest.fixture
def review(tiny, tmp_path):
    """A page on the miniature without the box of frame 5, its raw boxes, and those projected, by id."""
    frames, projected = raw_frames(tiny / "hpdb")
    rows = projected + np.array([3, 2, 0, -4])
    table = table_of(frames, rows, "imported").where(np.arange(len(frames)) != 5)
    page = tmp_path / "review.html"
    write_review(table, tiny / "hpdb", page, against=table_of(frames, projected))
    return page, table, [frame.id for frame in frames], rows.astype(int), projected.astype(int)


@pytest.mark.slow
def test_a_person_drags_types_confirms_and_saves(review, tmp_path, browser):
    page, table, ids, rows, projected = review
    browser.get(page.as_uri())
    assert text_of(browser, "looked") == f"0 of {len(ids)} looked at" and not unsaved(browser)
    assert not browser.find_element("id", "save").is_enabled()
    drag(browser, page, ids[0], ".box", -22, 6)
    assert numbers(browser, ids[0]) == (rows[0] + [-22, 6, 0, 0]).tolist() and unsaved(browser)
    drag(browser, page, ids[1], ".handle[data-side=se]", 5, -3)
    drag(browser, page, ids[1], ".handle[data-side=w]", -4, 9)
    fill(browser, ids[2], 2, "47")
    part(browser, ids[3], ".confirm").click()
    part(browser, ids[4], ".take").click()
    part(browser, ids[5], ".confirm").click()  # the proposal for the frame without a box
    assert text_of(browser, "looked") == f"6 of {len(ids)} looked at"
    assert visible(browser, "missing") == {ids[5]}
    assert visible(browser, "changed") == {ids[0], ids[1], ids[2], ids[4]}
    assert visible(browser, "left") == set(ids[6:]) and visible(browser, "all") == set(ids)

    browser.get("about:blank")  # to leave loses nothing
    browser.get(page.as_uri())
    assert text_of(browser, "looked") == f"6 of {len(ids)} looked at" and unsaved(browser)
    browser.find_element("id", "save").click()
    path = saved_file(tmp_path / "saved", 1)
    assert not unsaved(browser)
    expected = [
        (rows[0] + [-22, 6, 0, 0], "corrected"),
        (rows[1] + [-4, 0, 9, -3], "corrected"),
        ([*rows[2, :2], 47, rows[2, 3]], "corrected"),
        (rows[3], "imported"),
        (projected[4], "corrected"),
        (projected[5], "projected"),
    ]
    lines = [f"{ids[i]},{','.join(map(str, box))},{source},yes" for i, (box, source) in enumerate(expected)]
    assert path.read_text().splitlines() == [FIRST_LINE, "id,x,y,width,height,source,checked", *lines]

    result, changed, added = correct_boxes(table, read_boxes(path))
    assert (changed, added, result.checked.sum()) == (4, 1, 6)
    at = result.positions(np.array(ids[:6]))
    assert result.boxes[at].tolist() == [list(box) for box, _ in expected]
    assert result.sources[at].tolist() == ["corrected"] * 3 + ["imported"] + ["corrected"] * 2

    part(browser, ids[7], ".confirm").click()
    assert unsaved(browser)
    browser.find_element("id", "save").click()
    assert len(read_boxes(saved_file(tmp_path / "saved", 2)).ids) == 7
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_a_box_is_drawn_where_it_is_and_keeps_its_area(review, browser):
    from selenium.webdriver.common.keys import Keys

    page, _, ids, rows, _ = review
    browser.get(page.as_uri())
    for stored in content(page)["cards"][:6]:
        drawn = browser.execute_script(
            "const [p, b] = ['.picture', '.box'].map((name) => arguments[0].querySelector(name))"
            "  .map((part) => part.getBoundingClientRect());"
            "return [(b.x - p.x) / p.width, (b.y - p.y) / p.height, b.width / p.width, b.height / p.height]",
            part(browser, stored["id"], ".picture").find_element("xpath", ".."),
        )
        left, top, side = stored["region"]
        assert np.array(drawn) * side == pytest.approx(np.array(stored["box"]) - [left, top, 0, 0], abs=0.05)

    drag(browser, page, ids[0], ".handle[data-side=nw]", 45, 45)  # past the other corner
    assert numbers(browser, ids[0]) == [*(rows[0, :2] + rows[0, 2:] - 1), 1, 1]
    part(browser, ids[0], ".reset").click()
    assert numbers(browser, ids[0]) == rows[0].tolist() and not unsaved(browser)
    for text in ("0", "-3", "", "1.5", "99999"):
        assert fill(browser, ids[1], 3, text).get_attribute("aria-invalid") == "true"
    part(browser, ids[1], ".confirm").click()
    assert numbers(browser, ids[1]) == rows[1].tolist()

    box = part(browser, ids[2], ".box")
    box.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.SHIFT, Keys.ARROW_DOWN)
    part(browser, ids[2], ".box").send_keys(Keys.ENTER)
    assert numbers(browser, ids[2]) == (rows[2] + [2, -1, 0, 1]).tolist()
    assert "right" in card(browser, ids[2]).get_attribute("class")
    assert browser.switch_to.active_element.get_attribute("class") == "box"  # the next one's
    assert browser.switch_to.active_element != box


@pytest.mark.slow
def test_a_hostile_file_is_shown_as_text_and_a_phone_needs_no_sideways_scrolling(tiny, tmp_path, browser):
    frames, projected = raw_frames(tiny / "hpdb")
    ids = [*(frame.id for frame in frames), HOSTILE]
    table = make_boxes(ids, np.vstack((projected, projected[:1])), HOSTILE)
    page = tmp_path / "review.html"
    write_review(table, tiny / "hpdb", page)
    browser.get(page.as_uri())
    assert HOSTILE in card(browser, ids[0]).get_attribute("textContent")
    assert HOSTILE in browser.find_element("id", "footer").get_attribute("textContent")
    # Not even a script that found its way into the page would run.
    browser.execute_script(
        "document.body.append(document.createRange().createContextualFragment(arguments[0]))", HOSTILE
    )
    browser.execute_script("document.body.lastChild.textContent = ''")
    assert browser.execute_script("return window.hacked") is None
    refused = browser.get_log("browser")
    assert refused and all("Content Security Policy" in entry["message"] for entry in refused)

    browser.get(page.as_uri())
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    script = "return [innerWidth, document.documentElement.scrollWidth <= innerWidth]"
    assert browser.execute_script(script) == [390, True]
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith("data:") for name in asked)
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_a_page_that_may_keep_nothing_still_works(tiny, tmp_path, browser):
    frames, projected = raw_frames(tiny / "hpdb")
    page = tmp_path / "review.html"
    write_review(table_of(frames, projected), tiny / "hpdb", page, limit=3)
    denied = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied'); }})"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": denied})
    browser.get(page.as_uri())
    assert browser.find_element("id", "unkept").is_displayed()
    browser.find_element("class name", "confirm").click()
    browser.find_element("id", "save").click()
    saved = read_boxes(saved_file(tmp_path / "saved", 1))
    assert saved.ids.tolist() == [content(page)["cards"][0]["id"]] and saved.checked.all()
    assert iou(saved.boxes, projected[table_of(frames, projected).positions(saved.ids)]) == 1
    assert browser.get_log("browser") == []
