from xml.etree import ElementTree

from benchmark.upkeep import angles_shown


def test_the_picture_of_the_page_is_what_is_drawn_now():
    text = angles_shown.draw()
    assert angles_shown.PICTURE.read_text(encoding="utf-8") == text
    found = ElementTree.fromstring(text)
    assert int(found.get("width")) <= 846  # of a page on the web
    labels = [one.get("aria-label") for one in found.iter("{http://www.w3.org/2000/svg}svg") if one is not found]
    assert len(labels) == 9 and "yaw of 30 degrees, convention ypr: the head looks to the image's left" in labels
