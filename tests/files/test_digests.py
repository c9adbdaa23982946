"""Digests: the two kinds agree with the tools that make them."""

from __future__ import annotations

import hashlib

import pytest

from star_bench.files.digests import Digest

CONTENT = b"hello\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_BLOB = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


@pytest.mark.parametrize(("kind", "value"), [("sha256", SHA256), ("git-blob", GIT_BLOB)])
def test_a_file_has_the_digest_that_its_tool_gives(tmp_path, kind, value):
    (tmp_path / "file").write_bytes(CONTENT)
    digest = Digest.parse(f"{kind}:{value}")
    assert digest.of(tmp_path / "file") == digest
    (tmp_path / "file").write_bytes(CONTENT + b"\n")
    assert digest.of(tmp_path / "file") != digest
    assert str(digest) == f"{kind} {value}"


@pytest.mark.parametrize("text", ["", SHA256, f"sha256:{GIT_BLOB}", f"git-blob:{SHA256}", f"md5:{SHA256}", "sha256:XY"])
def test_anything_else_is_no_digest(text):
    with pytest.raises(ValueError, match="sha256:<64"):
        Digest.parse(text)
