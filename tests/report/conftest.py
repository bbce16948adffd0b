"""A real browser without a network, for the pages."""

import shutil
from pathlib import Path

import pytest

ARTIFACTS = Path(__file__).parents[2] / "build" / "screenshots"
_PART_PX = 4000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Root has no sandbox; three objectives are drawn by WebGL, here without a graphics card.
_OPTIONS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    assert path is not None, f"these tests need a browser, one of {_BROWSERS}: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        yield browser
        browser.close()


class Opened:
    """A page that was opened, what errors it had and what it asked for."""

    def __init__(self, browser, path, width):
        self.context = browser.new_context(offline=True, viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: message.type == "error" and self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(Path(path).resolve().as_uri())
        self.page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)

    def texts(self, selector):
        return self.page.locator(selector).all_text_contents()

    def undrawn(self):
        """Sections of plots that hold no mark of any data, or none that can be seen."""
        return self.page.evaluate(
            """[...document.querySelectorAll('.plot')].filter(plot => {
                const marks = plot.querySelectorAll(
                    '.scatterlayer .trace path, .barlayer path, .contour path, .gl-container canvas');
                return ![...marks].some(mark => {
                    const box = mark.getBoundingClientRect();
                    return box.width > 0 || box.height > 0;
                });
            }).map(plot => plot.closest('section').id)"""
        )

    def shoot(self, name):
        """Keep what it looks like, part by part: a browser takes no picture of a very high page as a whole."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        width, height = self.page.viewport_size["width"], self.page.evaluate("document.documentElement.scrollHeight")
        self.page.set_viewport_size({"width": width, "height": min(height, _PART_PX)})
        for number in range(-(-height // _PART_PX)):
            self.page.evaluate(f"window.scrollTo(0, {number * _PART_PX})")
            self.page.screenshot(path=ARTIFACTS / f"{name.replace(' ', '-')}-{width}-{number}.png")


@pytest.fixture
def opened(browser):
    pages = []

    def open_page(path, width=1280):
        pages.append(Opened(browser, path, width))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
