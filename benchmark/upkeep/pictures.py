"""The pictures of ``docs/``: pages as a browser shows them, and all of them no larger than a page has use for.

``python -m benchmark.upkeep.pictures FILES`` makes PNG files so.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from headposeplus.drawing import WIDTH
from headposeplus.errors import HeadposeError
from headposeplus.faults import Fault
from headposeplus.files import write_bytes

# Pages on GitHub show a picture 846 pixels wide; screens with fine pixels have two for each of these.
_WIDEST = round(200 * WIDTH)
_PHONE = 500  # a window that is narrower is a phone's, whose screen has two pixels for each of a page's
_COMMON = 64  # colours
_PHOTOGRAPH = 1 << 14  # colours: what has more is no drawing, and in 256 of them its surfaces would show edges
# What a picture does not end in the middle of. Where it would, it ends above.
_WHOLE = "tr, p, h1, h2, h3, li, dl, pre, svg, img, figure, label, input, button, summary, .tile"
_FITTING = """
const most = arguments[1];
const all = [...document.querySelectorAll(arguments[0])].map(one => {
  const {top, bottom, width, height} = one.getBoundingClientRect();
  return {top, bottom, width, height, heading: /^H[1-6]$/.test(one.tagName)};
}).filter(one => one.height && one.width && one.height < most);
let end = most;
for (let before = 0; before !== end;) {
  before = end;
  for (const one of all) if (one.top < end && one.bottom > end) end = Math.floor(one.top);
  // A heading that nothing follows says nothing.
  const last = all.filter(one => one.bottom <= end).sort((a, b) => a.bottom - b.bottom).pop();
  if (end < most && last && last.heading) end = Math.floor(last.top);
}
return end;
"""


def photograph(page: Path, size: str, picture: Path) -> None:
    """Take a picture, PNG, of an HTML file as a window of a size such as ``1280x900`` shows it.

    The picture is as high as that at most: it ends where nothing is cut. A window of less than 500 pixels is a
    phone's, and its picture has two pixels for each of them.

    Raises
    ------
    HeadposeError
        If the page is not there, or there is no Chromium or Chrome with a driver.
    """
    if not page.exists():
        raise HeadposeError(Fault("no such page", file=page))
    width, height = map(int, size.split("x"))
    scale = 2 if width < _PHONE else 1
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        raise HeadposeError(Fault("no Chromium with a chromedriver to show it in", file=page))
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run",
                 "disable-background-networking", "disable-component-update"):  # fmt: skip
        options.add_argument(f"--{word}")
    chrome = webdriver.Chrome(options, Service(driver))
    try:
        # A window itself is never narrower than 500 pixels.
        window = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": scale > 1}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        chrome.get(page.resolve().as_uri())
        end = chrome.execute_script(_FITTING, _WHOLE, height)
        clip = {"x": 0, "y": 0, "width": width, "height": max(int(end), 1), "scale": 1}
        taken = chrome.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})["data"]
    finally:
        chrome.quit()
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(picture, base64.b64decode(taken))
    shrink(picture)


def shrink(picture: Path) -> None:
    """Make a PNG no wider than a page has use for, and write it with 256 colours; other files stay as they are."""
    data = picture.read_bytes()
    if not data.startswith(b"\x89PNG"):
        return
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if image.width > _WIDEST:
        image = image.resize((_WIDEST, round(image.height * _WIDEST / image.width)), Image.Resampling.LANCZOS)
    codes = np.array(image).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, counts = np.unique(codes, return_counts=True)
    # Those of most pixels stay what they are, such as a page's white; the others are shared out.
    common = colours[np.argsort(-counts, kind="stable")[:_COMMON]]
    kept = np.stack([common >> 16, common >> 8 & 255, common & 255], axis=1).ravel().tolist()
    palette = Image.new("P", (1, 1))
    palette.putpalette(kept + (image.quantize(256 - _COMMON).getpalette() or []))
    dither = Image.Dither.FLOYDSTEINBERG if len(colours) > _PHOTOGRAPH else Image.Dither.NONE
    places = np.array(image.quantize(palette=palette, dither=dither))
    for place, code in enumerate(common):  # Pillow takes one that is near, too
        places[codes == code] = place
    few = Image.fromarray(places)
    few.putpalette(palette.getpalette() or [])
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    write_bytes(picture, buffer.getvalue())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        shrink(Path(name))
