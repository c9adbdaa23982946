"""Takes out of a text what must not leave this machine with it: tokens, passwords, and the name of the user's home."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

HIDDEN = "[hidden]"
SECRET_NAMES = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Environment variables of such names hold secrets."""
SHORTEST = 8
"""Characters of a variable's value that is looked for (chosen here: a value such as "1" or "none" stands in every text)."""
PATTERNS = (
    re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"),  # Hugging Face
    re.compile(r"\b(?:gh[pousr]|github_pat)_\w{16,}"),  # GitHub
    re.compile(r"\bsk-[\w-]{16,}"),  # OpenAI and others
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),  # AWS
    re.compile(r"(?<=bearer )\s*[^\s\"',;]+", re.IGNORECASE),
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),  # user:password@ of an address; host:port has no @ behind it
    re.compile(r"(?<=[?&])(?:[\w-]*(?:token|key|secret|signature|passw)[\w-]*=)[^&\s\"']+", re.IGNORECASE),
)


def scrub(text: str) -> str:
    """The text with every secret that is known or looks like one replaced by HIDDEN, and the home folder by ~."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and SECRET_NAMES.search(name):
            text = text.replace(value, HIDDEN)
    for pattern in PATTERNS:
        text = pattern.sub(HIDDEN, text)
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text


def scrub_all(data: Any) -> Any:
    """Plain data with every string in it scrubbed, keys too."""
    if isinstance(data, str):
        return scrub(data)
    if isinstance(data, dict):
        return {scrub(str(key)): scrub_all(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [scrub_all(value) for value in data]
    return data
