"""A browser for the tests of pages, wherever they stand, and compiled modules for all processes that tests start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from chromium import Browser, Tab, find, launch


def pytest_configure(config: pytest.Config) -> None:
    """Where a shell forbids bytecode beside the sources, pytest's cache keeps it: each process that loads torch would
    otherwise compile 4,000 modules again, which is more than half of its time."""
    if sys.dont_write_bytecode and not sys.pycache_prefix:
        folder = str(config.cache.mkdir("bytecode"))
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        sys.dont_write_bytecode, sys.pycache_prefix = False, folder


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
