"""What a user installs: a command that starts quickly, parts that can be found, a wheel that holds everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import distribution
from pathlib import Path

import pytest

import star_bench
from star_bench.catalogue.shipped import MINIATURE_FOLDER, PACKAGE

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDS_TORCH = {"torch", "torchvision", "diffusers", "transformers", "open_clip", "peft", "accelerate"}
SLOW_TO_IMPORT = NEEDS_TORCH | {
    *("rapidocr", "onnxruntime", "pandas", "numpy", "scipy", "cv2", "PIL", "huggingface_hub"),
}


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """stdout of this Python with `arguments`; fails with its stderr."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(code: str) -> set[str]:
    """The packages that are loaded after `code` ran in a fresh interpreter."""
    report = "\nimport json, sys\nprint()\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(run("-c", code + report).splitlines()[-1]))


def command(*arguments: str) -> str:
    return f"import sys\nsys.argv = {['star-bench', *arguments]!r}\nfrom star_bench.cli.main import main\nmain()"


def test_import_loads_nothing_slow() -> None:
    assert not imported_by("import star_bench") & SLOW_TO_IMPORT


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help")], ids=" ".join)
def test_help_loads_nothing_slow(arguments: tuple[str, ...]) -> None:
    assert not imported_by(command(*arguments)) & SLOW_TO_IMPORT


@pytest.mark.parametrize("what", ["models", "suites", "recipes", "runs"])
def test_listing_loads_no_torch(what: str) -> None:
    assert not imported_by(command("ls", what, "--json")) & NEEDS_TORCH


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("verify", __file__), "can't be read as a bundle"),
        (("verify", "nowhere"), "is not there"),
        (("geneval", "detect", ".", __file__), "holds no safetensors"),
        (("run", "--model", "miniature", "--suite", "geneval-miniature", "--size", "65"), "use multiples of"),
        (("run", "--images", ".", "--suite", "geneval-miniature"), "neither NNNNN/metadata.jsonl nor prompts.txt"),
        (("train", "--recipe", "nothing"), "there is no recipe"),
    ],
)
def test_a_refusal_loads_no_torch(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """Loading it would make a person wait for a no."""
    lines = (
        f"import os; os.chdir({str(tmp_path)!r})",
        command(*arguments).removesuffix("main()"),
        "import contextlib, io",
        "err = io.StringIO()",
        "with contextlib.suppress(SystemExit), contextlib.redirect_stderr(err): main()",
        f"assert {sentence!r} in err.getvalue(), err.getvalue()",
    )
    code = "\n".join(lines)
    assert not imported_by(code) & NEEDS_TORCH
    assert not list(tmp_path.iterdir())


def test_console_script_and_module_are_the_same_command() -> None:
    script = Path(sysconfig.get_path("scripts")) / "star-bench"
    assert run(script, "--version") == run("-m", "star_bench", "--version") == f"star-bench {star_bench.__version__}\n"


def test_installed_entry_points_are_those_of_pyproject() -> None:
    declared = {
        (group, name, value) for group, points in PROJECT["entry-points"].items() for name, value in points.items()
    }
    installed = {
        (point.group, point.name, point.value)
        for point in distribution("star-bench").entry_points
        if point.group.startswith("star_bench.")
    }
    assert installed == declared


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, points in PROJECT["entry-points"].items() for name in points]
)
def test_entry_point_resolves(group: str, name: str) -> None:
    (point,) = distribution("star-bench").entry_points.select(group=group, name=name)
    assert callable(point.load())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built offline with the hatchling that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_wheel_holds_the_whole_package(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    assert {path.relative_to(ROOT).as_posix() for path in files_below(PACKAGE)} <= inside
    assert "star_bench/py.typed" in inside
    assert {"run.html.j2", "run.css", "viewer.js"} <= {Path(n).name for n in inside if "/reporting/templates/" in n}


def test_wheel_holds_checkpoints_and_suites_byte_for_byte(wheel: zipfile.ZipFile) -> None:
    suites = ROOT / "benchmarks" / "suites"
    shipped = {path: f"star_bench/data/suites/{path.relative_to(suites).as_posix()}" for path in files_below(suites)}
    assert len(shipped) > 6
    for path, name in {**shipped, ROOT / "checkpoints.yaml": "star_bench/data/checkpoints.yaml"}.items():
        assert wheel.read(name) == path.read_bytes()


@pytest.mark.parametrize("part", ["pipeline/transformer", "pipeline/vae", "detector", "clip"])
def test_wheel_holds_the_miniatures_weights(wheel: zipfile.ZipFile, part: str) -> None:
    inside = [name for name in wheel.namelist() if Path(name).parent == Path("star_bench/miniature/weights") / part]
    assert any(name.endswith(".safetensors") for name in inside)
    assert any(name.endswith(".json") for name in inside)
    for name in inside:
        assert wheel.getinfo(name).file_size == (MINIATURE_FOLDER / part / Path(name).name).stat().st_size


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    about = message_from_string(wheel.read(name).decode())
    assert about["Version"] == star_bench.__version__
    assert about["License-Expression"] == "Apache-2.0"
    info = name.removesuffix("METADATA")
    assert "star-bench = star_bench.cli.main:main" in wheel.read(f"{info}entry_points.txt").decode()
    assert "Apache License" in wheel.read(f"{info}licenses/LICENSE").decode()


def test_unpacked_wheel_finds_its_own_files(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Away from a checkout: the files inside the package are the ones that count."""
    wheel.extractall(tmp_path)
    code = (
        "import json; from star_bench.catalogue import checkpoints, shipped, suites; "
        "print(json.dumps([str(shipped.PACKAGE), suites.names(), checkpoints.names()]))"
    )
    package, suites, models = json.loads(run("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path)))
    assert Path(package) == tmp_path / "star_bench"
    assert suites == sorted(path.name for path in (ROOT / "benchmarks" / "suites").iterdir())
    assert "miniature" in models


@pytest.mark.parametrize("model", ["miniature", "sd3.5-medium"])
def test_a_dry_run_loads_no_torch(model: str, tmp_path: Path) -> None:
    words = ("run", "--model", model, "--suite", "geneval-miniature", "--device", "cpu", "--dry-run", "--runs")
    assert not imported_by(command(*words, str(tmp_path))) & NEEDS_TORCH
