"""A real TensorBoard in a real browser, and what it has drawn."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, which `make test-browser` installs")

from selenium.common.exceptions import StaleElementReferenceException, TimeoutException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = which("chromium"), which("chromedriver")

# Three charts stand in a row of a window this wide, and no page has to be scrolled to be drawn.
WINDOW = 1480, 1900

# TensorBoard's elements lie in shadow trees, which selectors do not look into.
FIND = """
const [selector, root] = arguments, found = [];
const search = node => { for (const child of node.querySelectorAll('*')) {
  if (child.matches(selector)) found.push(child);
  if (child.shadowRoot) search(child.shadowRoot);
} };
search(root || document);
if (root && root.shadowRoot) search(root.shadowRoot);
return found;
"""


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard that shows a folder."""
    # Without TensorFlow it says so on stderr, then where it is served
    command = [sys.executable, "-W", "ignore", "-m", "tensorboard.main", "--logdir", folder.name, "--port", "0"]
    with subprocess.Popen(command, cwd=folder.parent, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if address := re.search(r"http://\S+", line):
                    yield address[0]
                    return
            raise AssertionError(f"TensorBoard did not start: {''.join(said)}")
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def browser() -> Iterator[WebDriver]:
    """Debian's chromium, without a window."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # Containers have no room for its sandbox, and little in /dev/shm; it sees no page but ours
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument("--window-size={},{}".format(*WINDOW))
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Dashboard:
    """The pages of a TensorBoard."""

    def __init__(self, driver: WebDriver, address: str) -> None:
        self._driver, self._address = driver, address

    def open(self, page: str, wanted: str, count: int, tag_filter: str = "", tries: int = 6) -> None:
        """Opens a page anew, until so many elements of a kind are on it: TensorBoard reads files after it starts."""
        options = f"&_smoothingWeight=0&tagFilter={quote(tag_filter)}"
        for _ in range(tries):
            self._driver.get("about:blank")  # or only what is behind the # would change
            self._driver.get(f"{self._address}#{page}{options}")
            try:
                self.wait(lambda: len(self.all(wanted)) >= count, 15)
            except TimeoutException:
                continue
            return
        raise AssertionError(f"{page} has {len(self.all(wanted))} of {count} {wanted}: {self.words()}")

    def resize(self, height: int) -> None:
        """Makes the window higher or lower."""
        self._driver.set_window_size(WINDOW[0], height)

    def all(self, selector: str, root: WebElement | None = None) -> list[WebElement]:
        """The elements that a selector finds, in TensorBoard's shadow trees too."""
        found: list[WebElement] = self._driver.execute_script(FIND, selector, root)
        return found

    def words(self) -> str:
        """What is written on the page."""
        return " ".join(element.text for element in self.all("body > *"))

    def click(self, element: str, words: str) -> None:
        """Clicks what bears these words."""
        (found,) = (one for one in self.all(element) if words.lower() in one.text.lower())
        found.click()

    def tick(self, words: str, on: bool) -> None:
        """Ticks a box or not; the browser remembers from page to page what was ticked."""
        (box,) = (one for one in self.all("paper-checkbox") if words in one.text)
        if (box.get_attribute("aria-checked") == "true") != on:
            box.click()

    def wait(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Waits until something is so."""
        waiting = WebDriverWait(self._driver, seconds, ignored_exceptions=[StaleElementReferenceException])
        waiting.until(lambda _: ready())

    def settled(self) -> None:
        """Waits until nothing moves any more."""
        seen = [b""]

        def same() -> bool:
            seen.append(self._driver.get_screenshot_as_png())
            return seen[-1] == seen[-2]

        self.wait(same)

    def paths(self, kind: str, root: WebElement) -> int:
        """How many paths of a class lead anywhere."""
        return sum(len(path.get_attribute("d") or "") > 20 for path in self.all(f"path.{kind}", root))


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The red, green and blue of a picture."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def coloured(element: WebElement) -> int:
    """How many pixels of an element are neither white nor grey."""
    seen = pixels(element.screenshot_as_png).astype(int)
    return int((seen.max(axis=2) - seen.min(axis=2) > 60).sum())


def save(png: bytes, path: Path, most_bytes: int = 150_000) -> None:
    """Saves what is seen, in colours few enough for a small file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of all ways to choose a palette, this one keeps the colours of thin lines and even those of a heat map
    image = Image.fromarray(pixels(png))
    small = image.quantize(method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    assert path.stat().st_size < most_bytes
