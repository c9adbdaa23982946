"""A browser for the tests of pages, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import Browser, Tab, find, launch


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if find() is None:
        pytest.skip("NO PAGE WAS LOOKED AT: install chromium (Debian: apt-get install chromium) for the tests of pages")
    with launch(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A new empty page."""
    made = browser.tab()
    yield made
    browser.close(made)
