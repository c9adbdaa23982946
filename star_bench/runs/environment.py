"""What a session was run with, and what is said of a run whose sessions were run with different things."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from star_bench.runs.notices import Notice

LIBRARIES = ("torch", "diffusers", "transformers", "open-clip-torch", "rapidocr", "numpy", "pillow", "star-bench")
"""Packages that draw or judge: what a page shows."""
DRIVER = Path("/proc/driver/nvidia/version")


def environment(device: str) -> dict[str, Any]:
    """What numbers are made with: Python, system, device, the versions of LIBRARIES (None: not installed), and on CUDA the
    GPU's name and compute capability, torch's CUDA and the driver."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        **(_gpu(device) if device.startswith("cuda") else {}),
        **versions,
    }


def packages() -> dict[str, str]:
    """The version of every installed package, by name."""
    return dict(sorted((each.metadata["Name"].lower(), each.version) for each in metadata.distributions()))


def check_torchvision() -> str:
    """Their versions. A CPU torch beside PyPI's torchvision imports and then fails in its operators, far from the cause:
    raises whatever that is."""
    import torch
    import torchvision

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}"


def _gpu(device: str) -> dict[str, Any]:
    torch = sys.modules["torch"]  # it said that there is one
    major, minor = torch.cuda.get_device_capability(device)
    found = re.search(r"\d+\.\d+(\.\d+)?", DRIVER.read_text()) if DRIVER.is_file() else None
    return {
        "gpu": torch.cuda.get_device_name(device),
        "capability": f"{major}.{minor}",
        "cuda": torch.version.cuda,
        "driver": found[0] if found else "unknown",
    }


def of_mixture(what: str, manifest: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> list[Notice]:
    """A notice where the rows of a store, of `what`, were made by sessions with different environments. A row that names
    no session, of before they did, is of the manifest's own environment."""
    sessions: Sequence[Mapping[str, Any]] = manifest.get("sessions", [])
    made: dict[int | None, Mapping[str, Any]] = {}
    for row in rows:
        number = row.get("session")
        if number not in made:
            own = sessions[number].get("environment") if isinstance(number, int) and number < len(sessions) else None
            made[number] = own or manifest.get("environment", {})
    names = dict.fromkeys(name for each in made.values() for name in each if name != "packages")
    values = {name: sorted({str(each.get(name, "unknown")) for each in made.values()}) for name in names}
    if differing := [f"{name} ({', '.join(found)})" for name, found in values.items() if len(found) > 1]:
        text = f"MIXED: {what} were made by sessions that differ in {', '.join(differing)}"
        return [Notice("mixed_environments", text)]
    return []
