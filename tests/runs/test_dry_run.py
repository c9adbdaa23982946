"""`run --dry-run` of every shipped name: nobody is asked, nothing is fetched, and what is lacking has a command."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from audit import heard

from star_bench.catalogue import checkpoints, suites
from star_bench.runs.cost import unready
from star_bench.runs.run import Options


def test_every_model_on_every_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "STAR_BENCH_CACHE", "STAR_BENCH_WEIGHTS_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    claimed = {name for name in checkpoints.names() if checkpoints.resolve(name).status == "claimed"}
    with heard("socket.connect") as asked:
        for model, suite in itertools.product(checkpoints.names(), suites.names()):
            found = unready(Options(suites=(suite,), model=model, runs=tmp_path / "runs"))
            if found is None:
                assert model.startswith("miniature") and suite.endswith("miniature")
                continue
            named = str(found["fetch"]).split()
            assert (f"the model {model}" in found["lacking"]) == (not model.startswith("miniature"))
            assert (model in named) == (model not in claimed and not model.startswith("miniature"))
            assert found["protocol"]["steps"] and found["protocol"]["height"]
            assert (suite in named) == (not suite.endswith("miniature")), (model, suite, found)
    assert asked == []
    assert not (tmp_path / "runs").exists()
