"""Plugins: what comes with the package is found, and what is wrong with a foreign one is said in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from star_bench.catalogue import plugins
from star_bench.errors import UsageError
from star_bench.evaluators.ocr.evaluator import Ocr

GROUP = "star_bench.recognisers"


def install(folder: Path, package: str, points: str, source: str | None = None) -> None:
    """What pip leaves behind for a package with entry points."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
    if source is not None:
        (folder / f"{package}.py").write_text(source)


def test_own_parts_are_registered_and_load():
    assert {"geneval", "ocr", "preference"} <= set(plugins.names(plugins.EVALUATORS))
    assert "transformers" in plugins.names(plugins.DETECTORS)
    assert "local" in plugins.names(plugins.ENGINES)
    assert plugins.load(plugins.EVALUATORS, "ocr") is Ocr


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="no evaluator named 'preferense': did you mean 'preference'"):
        plugins.load(plugins.EVALUATORS, "preferense")


def test_foreign_plugin_is_loaded(tmp_path, monkeypatch):
    install(tmp_path, "good_reader", "good = good_reader:Reader", "class Reader: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"good", "rapidocr"} <= set(plugins.names(GROUP))
    assert plugins.load(GROUP, "good").__name__ == "Reader"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "import a_module_that_is_not_there\n",
            "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
        ),
        ("raise RuntimeError('no licence key')\n", "RuntimeError: no licence key"),
        ("x = 1\n", "AttributeError"),
    ],
)
def test_broken_plugin_names_its_package_and_error(tmp_path, monkeypatch, source, says):
    package = f"broken_{abs(hash(source))}"
    install(tmp_path, package, f"broken = {package}:Reader", source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError) as caught:
        plugins.load(GROUP, "broken")
    assert says in str(caught.value)
    assert package in caught.value.remedy


def test_two_packages_with_one_name_are_refused(tmp_path, monkeypatch):
    install(
        tmp_path,
        "second_rapid",
        "rapidocr = second_rapid:Reader",
        "class Reader: pass\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"claimed by second_rapid and star-bench"):
        plugins.load(GROUP, "rapidocr")


def test_looking_up_evaluators_loads_no_torch():
    code = (
        "import sys; from star_bench.catalogue import plugins\n"
        "[plugins.load(plugins.EVALUATORS, n) for n in ('ocr', 'preference')]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
