"""Take the picture of a report that the README and the gallery show; needs Chromium and its driver.

    joint-st report runs/quickstart --utterances 8
    python docs/screenshot.py runs/quickstart/report.html docs/drawings/report.webp

The browser is found as in the tests of the page (`.ci/browser` installs it), and asked for light colours.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
WIDTH, HEIGHT = 1280, 1000
"""Size of the window."""
LEFT_OUT = "#summary, #results .caption, #training, #layers, #groups, #words"
"""Parts that the picture is made without, so that it shows the main results and an utterance at once."""
SHOWN = """
    for (const part of document.querySelectorAll(arguments[0])) part.style.display = 'none';
    byId('heard').click();
    list.window.style.height = '16em';
    list.choose(0);
    list.draw();
    window.scrollTo(0, 0)"""
SCALE = 0.8
QUALITY = 70
"""Quality of the picture, 0 to 100."""


def take(page: Path, picture: Path) -> None:
    """Write the picture of a page, in the format of the name's ending: webp, png or jpeg."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        sys.exit("no Chromium with its driver (Debian: chromium, chromium-driver)")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for switch in (*SWITCHES, f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={profile}"):
            options.add_argument(switch)
        with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as chrome:
            light = [{"name": "prefers-color-scheme", "value": "light"}]
            chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": light})
            chrome.get(page.resolve().as_uri())
            chrome.execute_script(SHOWN, LEFT_OUT)
            time.sleep(1)  # until nothing moves any more
            height = chrome.execute_script("return document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": SCALE}
            form = {"format": picture.suffix[1:]} | ({} if picture.suffix == ".png" else {"quality": QUALITY})
            form |= {"clip": clip, "captureBeyondViewport": True}
            picture.write_bytes(base64.b64decode(chrome.execute_cdp_cmd("Page.captureScreenshot", form)["data"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="the report, an HTML file")
    parser.add_argument("picture", type=Path, help="file to write, such as report.webp")
    options = parser.parse_args()
    take(options.page, options.picture)


if __name__ == "__main__":
    main()
