"""A small Hugging Face on this machine: repositories as huggingface_hub asks for them, so that its own code is tested with
ours. It keeps a record, and can break off in the middle of a file or answer nobody."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

COMMIT, LATER = "a" * 40, "b" * 40


@dataclass
class Hub:
    address: str = ""
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    """Name -> commit -> path -> content. The last commit is `main`."""
    asked: list[str] = field(default_factory=list)
    """What was looked at, whatever for: a path of the address."""
    fetched: list[str] = field(default_factory=list)
    """Files that were sent, by their paths in the repository."""
    cut: str = ""
    """A file of which a byte is sent, and then nothing."""

    def add(self, name: str, folder: Path, commit: str = COMMIT) -> None:
        """A commit with all files of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.repositories.setdefault(name, {})[commit] = files

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        place = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path)
        self.asked.append(place)
        organisation, repository, what, revision, *rest = place.removeprefix("/api/models").strip("/").split("/")
        name = f"{organisation}/{repository}"
        commits = self.repositories.get(name, {})
        commit = next(reversed(commits), "") if revision == "main" else revision
        if commit not in commits:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "RevisionNotFound" if commits else "RepoNotFound")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        files = commits[commit]
        match what:
            case "revision":
                siblings = [{"rfilename": path} for path in files]
                _send(handler, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())
            case "tree":
                _send(handler, json.dumps([_listed(path, content) for path, content in files.items()]).encode())
            case _:
                path = "/".join(rest)
                self._send_file(handler, path, files[path], commit)

    def _send_file(self, handler: http.server.BaseHTTPRequestHandler, path: str, content: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if handler.command == "GET" and path != self.cut:
            self.fetched.append(path)
        _send(handler, content[start:], headers, partial=start > 0, upto=1 if path == self.cut else None)


def _listed(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


def _send(
    handler: http.server.BaseHTTPRequestHandler,
    content: bytes,
    headers: dict[str, str] | None = None,
    *,
    partial: bool = False,
    upto: int | None = None,
) -> None:
    handler.send_response(206 if partial else 200)
    for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content[:upto])


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """huggingface_hub's hub, and an empty cache, until the block ends."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        hub.address = f"http://127.0.0.1:{listener.server_port}"
        constants = huggingface_hub.constants
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.address)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        listener.shutdown()
        thread.join()
