"""No secret leaves the machine in a log or a bug report."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_bench.files.scrub import HIDDEN, scrub, scrub_all

LETTERS = string.ascii_letters + string.digits
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(TEXT, st.text(LETTERS, min_size=20, max_size=40), TEXT)
def test_a_hub_token_is_hidden_wherever_it_stands(before: str, secret: str, after: str) -> None:
    told = scrub(f"{before} hf_{secret} {after}")
    assert f"hf_{secret}" not in told and HIDDEN in told


@given(st.text(LETTERS + "!$%^&*()+=[]{}", min_size=8, max_size=40), TEXT)
def test_a_secret_variables_value_is_hidden_whatever_it_is(secret: str, around: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "MY_API_KEY", "WANDB_API_KEY", "DB_PASSWORD", "aws_secret_access"):
            patch.setenv(name, secret)
        assert secret not in scrub(f"{around}{secret}{around}").replace(HIDDEN, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/x", f"https://{HIDDEN}@host/x"),
        ("https://host:8080/x?name=1&token=abc&b=2", f"https://host:8080/x?name=1&{HIDDEN}&b=2"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {HIDDEN}"),
        ("nothing to hide: seed 0, sha256 0123456789abcdef", "nothing to hide: seed 0, sha256 0123456789abcdef"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert scrub(text) == shown


def test_the_home_folder_has_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert scrub("/home/somebody/runs and /home/somebody-else") == "~/runs and /home/somebody-else"
    assert scrub_all({"/home/somebody": [1, None, ("/home/somebody/x", True)]}) == {"~": [1, None, ["~/x", True]]}
