"""Is this machine fit to judge? Versions, devices, weights that are here, canaries run."""

from __future__ import annotations

from typing import Any

from star_bench.assets import model_files
from star_bench.catalogue import checkpoints, suites
from star_bench.errors import MissingWeights, StarBenchError
from star_bench.evaluators.base import check_canaries
from star_bench.runs.environment import LIBRARIES, check_torchvision, environment
from star_bench.runs.run import choose_device
from star_bench.runs.workers import make_evaluator


def _row(check: str, state: str, detail: str) -> dict[str, str]:
    return {"check": check, "state": state, "detail": detail}


def _torchvision() -> dict[str, str]:
    try:
        return _row("torchvision operators", "ok", check_torchvision())
    except Exception as error:  # noqa: BLE001 - a broken install fails in any way it likes
        return _row("torchvision operators", "failed", f"{error}: install torch and torchvision from the same place")


def _weights(name: str) -> dict[str, str]:
    checkpoint = checkpoints.resolve(name)
    if checkpoint.status == "claimed":
        return _row(f"model {name}", "absent", "claimed, weights not released")
    try:
        local = model_files.locate(checkpoint, fetch=False)
    except MissingWeights as error:
        return _row(f"model {name}", "absent", str(error))
    except StarBenchError as error:
        return _row(f"model {name}", "failed", str(error))
    return _row(f"model {name}", "ok", f"sha256 {local.digest[:16]}")


def _suite(name: str, device: str) -> dict[str, str]:
    try:
        evaluator = make_evaluator(suites.load(name), device)
        evaluator.judges()
        prompts = len(evaluator.prompts())
        canaries = check_canaries(evaluator)
    except MissingWeights as error:
        return _row(f"suite {name}", "absent", str(error))
    except StarBenchError as error:
        return _row(f"suite {name}", "failed", str(error))
    return _row(f"suite {name}", "ok", f"{prompts} prompts, {canaries} canaries judged as expected")


def examine(device: str) -> dict[str, Any]:
    """{"healthy": nothing failed, "checks": rows}. Weights that are absent are no failure."""
    chosen = choose_device(device)
    about = environment(chosen)
    versions = {name: about[name] for name in LIBRARIES}
    listed = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    checks = [
        _row("python", "ok", f"{about['python']}, {about['system']}"),
        _row("packages", "ok" if all(versions.values()) else "failed", listed),
        _row("device", "ok", chosen),
        _torchvision(),
        *(_weights(name) for name in checkpoints.names()),
        *(_suite(name, chosen) for name in suites.names()),
    ]
    return {"healthy": all(c["state"] != "failed" for c in checks), "checks": checks}
