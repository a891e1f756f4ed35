"""A real browser for the tests of the pages."""

import os
import pathlib
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MISSING = (
    "no browser for the tests of the pages: install Chromium (Debian and Ubuntu: apt-get install chromium),"
    " or run: playwright install chromium"
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    """A browser process; skips where there is none, fails on a CI machine."""
    absent = pytest.fail if os.environ.get("CI") else pytest.skip
    try:
        import fastapi  # noqa: F401
        from playwright import sync_api as api
    except ImportError as error:
        absent(f"the tests of the pages need the extras dev and server: {error}")
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next(filter(None, map(shutil.which, NAMES)), None) or (own if pathlib.Path(own).exists() else None)
        if found is None:
            absent(MISSING)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """Open pages: `tab(url, width=..., locale=...)`; at the end none of them may have complained."""
    from annotate_page import AnnotatePage

    contexts, pages = [], []

    def open_tab(url, *, same=None, silent=True, expected=(), wait=True, width=1280, height=800, **options):
        if same is None:
            options = {"locale": "en-US", **options}
            context = chromium.new_context(viewport={"width": width, "height": height}, **options)
            context.set_default_timeout(15_000)
            contexts.append(context)
        else:
            context = same.page.context
        page = AnnotatePage(context.new_page())
        page.expected.update(expected)
        if silent:
            pages.append(page)
        page.page.goto(url)
        if wait:
            page.ready()
        return page

    yield open_tab
    for page in pages:
        assert page.complaints == []
    for context in contexts:
        context.close()
