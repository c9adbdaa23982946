"""What several fault tests compare with."""

from __future__ import annotations

from pathlib import Path

import pytest
from figures import FULL
from stored import run_to_the_end


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of a run that nothing happened to, and the seconds that it took."""
    if FULL:  # the first process may have to compile its modules, and others are killed at a share of this time
        run_to_the_end(tmp_path_factory.mktemp("first"))
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run_to_the_end(folder)
