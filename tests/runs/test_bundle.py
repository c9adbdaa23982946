"""A bundle holds what a run holds, the same bytes each time; and a stranger's bundle can do no harm."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from star_bench.errors import Refused, UsageError
from star_bench.files.digests import digest_of
from star_bench.files.pictures import encode_png
from star_bench.runs.bundle import FILES, SUMS, pack, unpack
from star_bench.runs.pictures import open_pictures

PICTURES = ["images/00000/0.png", "images/00000/1.png", "images/00001/0.png"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory with a run's files, as 0.1.0 kept them: three pictures, one image that never was, and what is no part of a
    bundle. tests/cli/test_export.py has one whose pictures lie apart."""
    folder = tmp_path / "run"
    with open_pictures(folder) as store:
        rng = np.random.default_rng(0)
        for name in PICTURES:
            _, prompt_id, file = name.split("/")
            content = encode_png(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
            store.add([store.save_image((prompt_id, int(file[0])), content)])
        store.add([{"prompt_id": "00001", "k": 1, "path": None, "sha256": None, "status": "missing"}])
        for name in set(FILES) - {"samples.jsonl"}:
            store.write(name, {"name": name})
        asked = [[prompt_id, "a cat", {}] for prompt_id in ("00000", "00001", "00002")]
        planned = {
            "model": "m",
            "suite": {},
            "metric": "",
            "judges": {},
            "protocol": None,
            "samples": 2,
            "prompts": asked,
        }
        store.write("manifest.json", {"schema": 1, "digest": digest_of(planned), **planned})
        store.write("results.jsonl", [])
    (folder / "images" / "00000" / ".2.png.partial").write_bytes(b"half")
    return folder


@pytest.fixture
def bundle(run: Path, tmp_path: Path) -> Path:
    pack(run, tmp_path / "bundle.zip")
    return tmp_path / "bundle.zip"


def contents(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(bundle: Path, change: Callable[[dict[str, bytes]], None], *, summed: bool = True) -> Path:
    """A bundle with other content; `summed`: its SHA256SUMS says so."""
    files = contents(bundle)
    change(files)
    if summed:
        digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files) if name != SUMS}
        files[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
    out = bundle.with_name("changed.zip")
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out


def refused(bundle: Path, folder: Path) -> str:
    """The sentence; nothing may lie outside the folder."""
    before = {path for path in folder.parent.rglob("*") if folder not in path.parents}
    with pytest.raises(Refused) as error:
        unpack(bundle, folder)
    assert {path for path in folder.parent.rglob("*") if folder not in path.parents} - {folder} == before - {folder}
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_holds_the_run_and_nothing_else(run: Path, bundle: Path, tmp_path: Path) -> None:
    assert sorted(contents(bundle)) == sorted([*FILES, SUMS, *PICTURES])
    unpack(bundle, tmp_path / "out")
    there = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert there == {*FILES, *PICTURES}
    assert all((tmp_path / "out" / name).read_bytes() == (run / name).read_bytes() for name in there)


def test_only_the_pictures_that_were_judged_are_in_it(run: Path, tmp_path: Path) -> None:
    """A set of pictures may have more of each prompt, drawn for another suite."""
    with open_pictures(run) as store:
        store.add([store.save_image(("00000", 2), encode_png(np.zeros((8, 8, 3), np.uint8)))])
    pack(run, tmp_path / "bundle.zip")
    assert sorted(contents(tmp_path / "bundle.zip")) == sorted([*FILES, SUMS, *PICTURES])
    assert b'"k": 2' not in contents(tmp_path / "bundle.zip")["samples.jsonl"]


def test_the_same_run_gives_the_same_bytes(run: Path, bundle: Path, tmp_path: Path) -> None:
    (run / "manifest.json").touch()
    pack(run, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_a_person_can_check_it_with_sha256sum(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "by hand")
    done = subprocess.run(
        ["sha256sum", "-c", SUMS], cwd=tmp_path / "by hand", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == len(FILES) + len(PICTURES)


def test_packing_leaves_the_run_as_it_was(run: Path, tmp_path: Path) -> None:
    with (run / "samples.jsonl").open("a") as file:
        file.write('{"prompt_id": "0000')  # torn by a kill
    before = (run / "samples.jsonl").read_bytes()
    pack(run, tmp_path / "out.zip")
    assert (run / "samples.jsonl").read_bytes() == before


def test_a_picture_that_is_gone_is_named_and_one_that_changed_is_refused(run: Path, tmp_path: Path) -> None:
    (run / PICTURES[0]).unlink()
    assert pack(run, tmp_path / "out.zip") == [PICTURES[0]]
    assert PICTURES[0] not in contents(tmp_path / "out.zip")
    (run / PICTURES[1]).write_bytes(b"another")
    with pytest.raises(Refused, match=r"images/00000/1\.png is not the picture that was stored"):
        pack(run, tmp_path / "other.zip")
    assert not (tmp_path / "other.zip").exists()


def test_an_unfinished_run_is_no_bundle(run: Path, tmp_path: Path) -> None:
    (run / "results.json").unlink()
    with pytest.raises(UsageError, match=r"results\.json is not there"):
        pack(run, tmp_path / "out.zip")


def test_a_run_that_names_a_file_elsewhere_gives_nothing_away(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    row = {"prompt_id": "00002", "k": 0, "path": "images/../../secret", "sha256": "0" * 64, "status": "ok"}
    with (run / "samples.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(Refused, match=r"'images/\.\./\.\./secret'"):
        pack(run, tmp_path / "out.zip")


@pytest.mark.parametrize("name", ["results.json", PICTURES[0]])
def test_a_changed_file_is_found(bundle: Path, tmp_path: Path, name: str) -> None:
    changed = rewritten(bundle, lambda files: files.update({name: files[name] + b" "}), summed=False)
    assert f"{name} in {changed} is not what SHA256SUMS says" in refused(changed, tmp_path / "out")


def test_a_picture_that_lacks_or_is_too_many_is_found(bundle: Path, tmp_path: Path) -> None:
    lacking = rewritten(bundle, lambda files: files.pop(PICTURES[0]) and None, summed=False)
    assert f"lacks {PICTURES[0]}" in refused(lacking, tmp_path / "out")
    added = rewritten(bundle, lambda files: files.update({"images/x/0.png": b""}), summed=False)
    assert "holds images/x/0.png, which its SHA256SUMS does not name" in refused(added, tmp_path / "other")


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_every_file_of_a_run_must_be_there(bundle: Path, tmp_path: Path, name: str) -> None:
    changed = rewritten(bundle, lambda files: files.pop(name) and None, summed=name != SUMS)
    assert f"holds no {name}" in refused(changed, tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png",
        "images/../../outside.png",
        "/etc/outside",
        "images//0.png",
        "images/./0.png",
        "images\\..\\..\\outside.png",
        "images/C:outside.png",
        "images/a\nb.png",
        "images/",
    ],
)
def test_no_name_leads_out_of_the_folder(bundle: Path, tmp_path: Path, name: str) -> None:
    evil = rewritten(bundle, lambda files: files.update({name: b"x"}))
    said = refused(evil, tmp_path / "out")
    assert "could lead out of the bundle" in said
    assert not (tmp_path / "out").exists(), "nothing is written before all names are checked"


def test_what_is_no_part_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    evil = rewritten(bundle, lambda files: files.update({"setup.py": b"x"}))
    assert "'setup.py', which is no part of a bundle" in refused(evil, tmp_path / "out")


def test_a_symlink_is_refused(bundle: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("images/x/0.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "'images/x/0.png', which is no plain file" in refused(bundle, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", [PICTURES[0], PICTURES[0].upper().replace("IMAGES", "images")])
def test_two_entries_of_one_name_are_refused(bundle: Path, tmp_path: Path, twin: str) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(zipfile.ZipInfo(twin), b"x")
    assert "twice" in refused(bundle, tmp_path / "out")


def test_a_bomb_is_refused_before_it_is_read(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/x/0.png", bytes(50_000_000))
    assert bundle.stat().st_size < 1_000_000
    assert "which is compressed" in refused(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def central(bundle: Path, name: str) -> int:
    """Where the entry's record in the zip's directory begins."""
    content = bundle.read_bytes()
    return content.rindex(name.encode()) - 46


def test_entries_that_share_their_bytes_are_refused(bundle: Path, tmp_path: Path) -> None:
    big = rewritten(bundle, lambda files: files.update({"images/x/0.png": bytes(3_000_000), "images/y/0.png": b""}))
    content = bytearray(big.read_bytes())
    x, y = central(big, "images/x/0.png"), central(big, "images/y/0.png")
    for start, end in ((16, 28), (42, 46)):  # crc and sizes; where the local header is
        content[y + start : y + end] = content[x + start : x + end]
    big.write_bytes(content)
    assert "say that they are larger than the file is" in refused(big, tmp_path / "out")


def test_an_entry_that_lies_about_its_size_is_refused(bundle: Path, tmp_path: Path) -> None:
    content, at = bytearray(bundle.read_bytes()), central(bundle, PICTURES[0])
    size = int.from_bytes(content[at + 20 : at + 24], "little")
    for start in (20, 24):
        content[at + start : at + start + 4] = (size - 1).to_bytes(4, "little")
    bundle.write_bytes(content)
    assert PICTURES[0] in refused(bundle, tmp_path / "out")


def test_broken_bytes_are_refused(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 1
    bundle.write_bytes(content)
    assert "can't be read as a bundle" in refused(bundle, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_no_zip_and_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert str(tmp_path / "x.zip") in refused(tmp_path / "x.zip", tmp_path / "out")


def test_a_bundle_cut_short_is_refused(bundle: Path, tmp_path: Path) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-100])
    refused(bundle, tmp_path / "out")


def test_a_broken_inventory_names_its_line(bundle: Path, tmp_path: Path) -> None:
    changed = rewritten(bundle, lambda files: files.update({SUMS: b"xyz\n"}), summed=False)
    assert "line 1 of SHA256SUMS" in refused(changed, tmp_path / "out")
