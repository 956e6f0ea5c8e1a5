"""A real Chromium for tests. conftest.py takes the fixtures from here:

    from browser import browser, offline_page, open_page, page, screenshot  # noqa: F401

`page` has `.errors` (stacks of uncaught exceptions in the page); `offline_page` reaches files only and has `.requests`
(every address it asked for elsewhere). Mark such tests with `pytest.mark.browser`.
"""

import os
import pathlib
import shutil

import pytest

ARGS = ("--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync").split()
SCREENSHOTS = pathlib.Path(__file__).resolve().parent / "screenshots"


def chromium():
    "Path of a Chromium, or None. SKELNB_CHROMIUM names one that is elsewhere."
    names = os.environ.get("SKELNB_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
    return next(filter(None, (shutil.which(n) for n in names if n)), None)


@pytest.fixture(scope="session")
def browser():
    "One headless Chromium for the session."
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright: pip install -e '.[dev]'")
    path = chromium()
    if not path:
        pytest.skip("browser tests need chromium (apt-get install chromium, or set SKELNB_CHROMIUM)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    "open_page(offline=False, **context options of playwright) -> a fresh page, closed after the test."
    contexts = []

    def new(offline=False, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.errors, page.requests = [], []
        page.on("pageerror", lambda error: page.errors.append(error.stack or str(error)))

        def only_files(route):
            if route.request.url.startswith(("file:", "data:", "blob:", "about:")):
                return route.continue_()
            page.requests.append(route.request.url)
            return route.abort()

        if offline:
            context.route("**/*", only_files)
        return page

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def offline_page(open_page):
    return open_page(offline=True)


@pytest.fixture
def screenshot():
    "screenshot(page, name): keep a picture in tests/screenshots (ignored by git) to look at."
    def take(page, name, **options):
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", **options)
    return take
