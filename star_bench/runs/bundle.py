"""A run as one file: what another person needs to score its pictures again without generating them.

A zip of stored (not compressed) entries in the order of their names with a fixed time, so that the same run gives the
same bytes. SHA256SUMS holds every other entry's digest, in the form that `sha256sum -c` reads.

A bundle comes from a stranger. It is read entry by entry and never by extractall: each name, kind and size is checked
before the first byte is written, and each size and digest again while it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from star_bench.errors import Refused, UsageError
from star_bench.files.atomic import disk_error, replacing
from star_bench.files.digests import sha256_of
from star_bench.files.json import read_rows
from star_bench.runs.manifest import pictures_of, read_manifest
from star_bench.runs.pictures import IMAGES, SAMPLES, is_picture_path
from star_bench.runs.progress import Progress
from star_bench.runs.store import MANIFEST, Key, is_plain, key_of

FILES = ("manifest.json", "prompts.jsonl", "results.json", "samples.jsonl", "scores.jsonl", "values.jsonl")
DRAWN = "pictures.json"
"""The manifest of the pictures; bundles of 0.1.0 have none."""
SUMS = "SHA256SUMS"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
MODE = stat.S_IFREG | 0o644
CHUNK = 1 << 20
LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>.+)")
MAX_SUMS = 64 << 20  # chosen here: half a million pictures
REMEDY = "ask who made it for the file that 'star-bench export' wrote"


def check_picture_path(path: str) -> str:
    """The path of a picture as samples.jsonl has it. Raises Refused for one that could lie anywhere else."""
    if not is_picture_path(path):
        raise Refused(f"samples.jsonl names the picture {path!r}, which is not below {IMAGES}", REMEDY)
    return path


def newest(path: Path) -> dict[Key, dict[str, Any]]:
    """The newest row of each picture in a JSONL file that is only read. Raises Refused as `read_rows` does."""
    return {key_of(row, path): row for row in read_rows(path)}


def pack(run: Path, out: Path) -> list[str]:
    """Writes the bundle of a finished run with its pictures, atomically. Returns the pictures that it lacks, as the run
    lacks them. Raises UsageError where the run did not finish, Refused for a picture that is not what was stored, and
    DiskError.
    """
    for name in FILES:
        if name != SAMPLES and not (run / name).is_file():
            raise UsageError(f"{run / name} is not there", "let this version of 'star-bench run' finish the run first")
    manifest = read_manifest(run)
    pictures = pictures_of(run, manifest.pictures)
    if not (pictures / SAMPLES).is_file():
        raise UsageError(f"{pictures / SAMPLES} is not there", "fetch the pictures too, or draw them again")
    planned = {(prompt[0], k) for prompt in manifest.prompts for k in range(manifest.samples)}
    samples = [row for key, row in newest(pictures / SAMPLES).items() if key in planned]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples).encode()
    recorded = {row["path"]: row.get("sha256") for row in samples if row.get("path")}
    there = {path for path in recorded if (pictures / check_picture_path(path)).is_file()}
    sources = {name: run / name for name in FILES if name != SAMPLES} | {path: pictures / path for path in there}
    if manifest.pictures is not None and pictures != run:
        sources[DRAWN] = pictures / MANIFEST
    digests = {name: sha256_of(path) for name, path in sources.items()}
    digests[SAMPLES] = hashlib.sha256(lines).hexdigest()
    changed = [path for path in sorted(there) if digests[path] != recorded[path]]
    if changed:
        raise Refused(
            f"{pictures / changed[0]} is not the picture that was stored",
            "give the same 'star-bench run' again, which makes and scores it anew",
        )
    names = sorted(digests)
    sums = "".join(f"{digests[name]}  {name}\n" for name in names)
    with replacing(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(SUMS), sums)
        for name in names:
            if name == SAMPLES:
                archive.writestr(_entry(SAMPLES), lines)
                continue
            source = sources[name]
            with archive.open(_entry(name, source.stat().st_size), "w") as to, source.open("rb") as file:
                shutil.copyfileobj(file, to, CHUNK)
    return sorted(recorded.keys() - there)


def _entry(name: str, size: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # Unix, wherever it is written: the same bytes everywhere
    info.external_attr = MODE << 16
    info.file_size = size  # tells zipfile whether the entry needs 64-bit sizes
    return info


def unpack(bundle: Path, folder: Path, bar: Progress | None = None) -> None:
    """Writes a bundle's files into an empty folder. Raises Refused for all that is not as `pack` writes it, UsageError
    for no zip at all, and DiskError.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            entries = _checked(archive, bundle)
            sums = _sums(b"".join(_read(archive, entries[SUMS], bundle)), bundle)
            _same_names(sums, entries, bundle)
            if bar:
                bar.start("unpacking", len(sums), 0)
            for name, info in entries.items():
                if name != SUMS:
                    digest = _write(folder / name, _read(archive, info, bundle))
                    if digest != sums[name]:
                        raise Refused(f"{name} in {bundle} is not what {SUMS} says (sha256 {digest[:12]})", REMEDY)
                    if bar:
                        bar.advance(1)
    except FileNotFoundError:
        raise UsageError(f"{bundle} is not there", "give a bundle, or the directory of a run") from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, struct.error) as error:
        raise Refused(f"{bundle} can't be read as a bundle ({error})", REMEDY) from None


def _checked(archive: zipfile.ZipFile, bundle: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, after every check that needs none of their bytes."""
    infos = archive.infolist()
    for info in infos:
        problem = _problem(info)
        if problem:
            raise Refused(f"{bundle} holds {info.orig_filename!r}, {problem}", REMEDY)
    seen: dict[str, str] = {}
    for info in infos:
        twin = seen.setdefault(info.filename.casefold(), info.filename)
        if seen[info.filename.casefold()] is not info.filename:
            raise Refused(f"{bundle} holds {twin!r} twice", REMEDY)
    # What is stored can't be larger than the file it is stored in; entries that share bytes can.
    if sum(info.file_size for info in infos) > bundle.stat().st_size:
        raise Refused(f"the entries of {bundle} say that they are larger than the file is", REMEDY)
    lacking = [name for name in (*FILES, SUMS) if name not in seen.values()]
    if lacking:
        raise Refused(f"{bundle} holds no {lacking[0]}", REMEDY)
    if archive.getinfo(SUMS).file_size > MAX_SUMS:
        raise Refused(f"{SUMS} in {bundle} is larger than {MAX_SUMS >> 20} MiB", REMEDY)
    return {info.filename: info for info in infos}


def _problem(info: zipfile.ZipInfo) -> str | None:
    """What is wrong with an entry, for a sentence that begins with its name."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    if name != info.filename or not is_plain(name):
        return "a name that could lead out of the bundle"
    if kind not in (0, stat.S_IFREG) or info.is_dir():
        return "which is no plain file"
    if name not in (*FILES, DRAWN, SUMS) and not name.startswith(IMAGES):
        return "which is no part of a bundle"
    if info.flag_bits & 1:
        return "which is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        return (
            "which is compressed: a bundle's entries are stored as they are, so that none can be larger than it looks"
        )
    return None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, bundle: Path) -> Iterator[bytes]:
    """An entry in parts, never more of it than its size says."""
    left = info.file_size
    with archive.open(info) as file:
        while chunk := file.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise Refused(f"{info.filename} in {bundle} has not the size that it says", REMEDY)


def _sums(content: bytes, bundle: Path) -> dict[str, str]:
    """Name -> sha256."""
    out = {}
    for number, line in enumerate(content.decode().splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None:
            raise Refused(f"line {number} of {SUMS} in {bundle} is no digest and name", REMEDY)
        out[match["name"]] = match["digest"]
    return out


def _same_names(sums: Mapping[str, str], entries: Iterable[str], bundle: Path) -> None:
    here = set(entries) - {SUMS}
    if lacking := sums.keys() - here:
        raise Refused(f"{bundle} lacks {min(lacking)}, which its {SUMS} names", REMEDY)
    if added := here - sums.keys():
        raise Refused(f"{bundle} holds {min(added)}, which its {SUMS} does not name", REMEDY)


def _write(path: Path, chunks: Iterable[bytes]) -> str:
    """Returns the sha256 of what was written."""
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
    except OSError as error:
        raise disk_error(path, error) from None
    return digest.hexdigest()
