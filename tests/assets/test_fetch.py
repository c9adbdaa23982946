"""What a run lacks: told at once, and got by one command from a hub and addresses of the test's own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from fake_hub import COMMIT, serving
from typer.testing import CliRunner

from star_bench.assets.asset import Asset, Download, check_all_here, unique
from star_bench.catalogue.shipped import MINIATURE_FOLDER, SUITES_FOLDER
from star_bench.cli.main import app
from star_bench.errors import MissingWeights, UsageError
from star_bench.runs.run import Options, prepare


def nothing(here: int, total: int | None) -> None: ...


def lacking(what: str, name: str, *, by_hand: str = "") -> Asset:
    def locate() -> None:
        raise MissingWeights(f"{what} is not here", by_hand or "do this or that")

    return Asset(what, name, locate, None if by_hand else lambda advance: None)


def test_everything_that_is_lacking_is_one_sentence_with_one_command() -> None:
    check_all_here([Asset("what is here", "x", lambda: None)])
    assets = [lacking("the prompts", "ocr"), lacking("the judge", "geneval"), lacking("the model", "sdxl")]
    with pytest.raises(MissingWeights) as caught:
        check_all_here(assets)
    assert str(caught.value) == (
        "3 things are not on this machine: the prompts; the judge; the model: run 'star-bench fetch ocr geneval sdxl', "
        "which gets all of it."
    )
    with pytest.raises(MissingWeights, match=r"the judge: ask its makers\.") as caught:
        check_all_here([lacking("the prompts", "ocr"), lacking("the judge", "x", by_hand="ask its makers")])
    assert "run 'star-bench fetch ocr'" in str(caught.value)
    with pytest.raises(
        MissingWeights, match=r"^the prompts is not here: run 'star-bench fetch ocr', or do this or that\."
    ):
        check_all_here(assets[:1])
    assert unique([*assets, *assets]) == assets


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"file": "a"}, "either hub or address"),
        ({"file": "a", "hub": "x/y"}, "revision"),
        ({"file": "a", "address": "https://x.invalid/a"}, "sha256"),
        ({"file": "a", "address": "http://x.invalid/a", "sha256": "0" * 64}, "https"),
    ],
)
def test_a_download_says_where_from_and_what(said: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Download.model_validate(said)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address and the folder that lies there."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()


def test_a_file_is_fetched_with_its_size_and_kept(site: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = site
    (folder / "head.pth").write_bytes(b"x" * 1234)
    sha256 = hashlib.sha256(b"x" * 1234).hexdigest()
    # Cards name https alone; a server of the test's own has no certificate.
    file = Download.model_construct(
        hub=None, revision=None, address=f"{address}/head.pth", file="head.pth", sha256=sha256
    )
    assert file.size() == 1234
    path = file.fetch(tmp_path / "into", nothing)
    assert path.read_bytes() == b"x" * 1234
    (folder / "head.pth").unlink()
    assert file.fetch(tmp_path / "into", nothing) == path, "what is here is not asked for again"


MODEL = """
theirs:
  source: {{hub: someone/miniature, revision: {commit}}}
  precision: float16
  licence: theirs
  generation: {{height: 64, width: 64, steps: 2, guidance_scale: 1.0, negative_prompt: "", max_sequence_length: 16}}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model on the hub, and a suite whose judge is there too."""
    monkeypatch.chdir(tmp_path)
    for name in ("STAR_BENCH_WEIGHTS_DIR", "STAR_BENCH_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    Path("checkpoints.yaml").write_text(MODEL.format(commit=COMMIT))
    card = yaml.safe_load((SUITES_FOLDER / "preference-miniature" / "card.yaml").read_text())
    files = [
        {"hub": "someone/clip", "revision": COMMIT, "file": path.name}
        for path in sorted((MINIATURE_FOLDER / "clip").iterdir())
    ]
    card["judges"]["weights"] = {"local": "theirs/clip", "what": "their CLIP", "files": files}
    card |= {"name": "mine", "canaries": []}
    Path("suite").mkdir()
    Path("suite/card.yaml").write_text(yaml.safe_dump(card))
    Path("suite/prompts.txt").write_bytes((SUITES_FOLDER / "preference-miniature" / "prompts.txt").read_bytes())
    card["prompts"] = {**card["prompts"], "path": "prompts.txt"}
    Path("suite/card.yaml").write_text(yaml.safe_dump(card))
    return tmp_path


def star_bench(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(words))
    code = getattr(done.exception, "exit_code", done.exit_code)
    return code, done.stdout, done.stderr


def test_a_model_and_a_judge_are_got_by_the_command_that_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--model", "theirs", "--suite", "suite")
    with serving(monkeypatch, own / "hf") as hub:
        hub.add("someone/miniature", MINIATURE_FOLDER / "pipeline")
        hub.add("someone/clip", MINIATURE_FOLDER / "clip")
        code, out, err = star_bench("run", *words, "--dry-run", "--json")
        assert code == 0, err
        assert json.loads(out)["lacking"] == ["their CLIP", "the model theirs"]
        assert json.loads(out)["fetch"] == "star-bench fetch suite theirs"
        assert hub.asked == [], "a dry run asks no network"
        with pytest.raises(MissingWeights, match="2 things are not on this machine: their CLIP; the model theirs"):
            prepare(Options(suites=("suite",), model="theirs", device="cpu"))
        assert hub.fetched == [], "gigabytes are not brought for a run that can't begin"

        code, out, err = star_bench("fetch", "suite", "theirs", "--dry-run", "--json")
        assert code == 0, err
        assert {row["what"]: row["state"] for row in json.loads(out)}["their CLIP"] == "absent"
        assert not [name for name in hub.fetched if name.endswith(".safetensors")]
        code, out, err = star_bench("fetch", "suite", "theirs", "--json")
        assert code == 0, err
        assert {row["state"] for row in json.loads(out)} == {"here"}
        fetched = list(hub.fetched)
        code, _, err = star_bench("fetch", "suite", "theirs")
        assert code == 0 and hub.fetched == fetched, "what is here is not fetched again"
    code, out, err = star_bench("run", *words, "--limit", "1", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 2


def test_a_model_alone_is_fetched_by_the_run_itself(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, own / "hf") as hub:
        hub.add("someone/miniature", MINIATURE_FOLDER / "pipeline")
        options = Options(suites=("preference-miniature",), model="theirs", limit=1, device="cpu")
        assert prepare(options).local is not None
        assert any(name.endswith(".safetensors") for name in hub.fetched)


def test_slips(own: Path) -> None:
    for words, sentence in (
        ((), "nothing says what to fetch"),
        (("nobody",), "there is no checkpoint named 'nobody'"),
        (("--prompts", "nobody"), "there is no suite named 'nobody'"),
    ):
        done = CliRunner().invoke(app, ["fetch", *words])
        assert isinstance(done.exception, UsageError) and sentence in str(done.exception), done.output
