"""A judge's published checkpoint: found in its folder, read without running anything, fitted tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from star_bench.assets.weights import SUFFIXES, WEIGHTS_VARIABLE, WeightsReference
from star_bench.errors import MissingWeights, Refused
from star_bench.files.digests import sha256_of

if TYPE_CHECKING:
    from torch.nn import Module


def find(weights: WeightsReference) -> Path:
    """The only checkpoint in the folder, as it was published or as safetensors. `{folder}` in `fetch` is that folder.

    Raises MissingWeights where there is none, without touching the network, and Refused where there are two, or another than
    was published.
    """
    found = sorted(path for path in weights.folder.glob("*") if path.suffix in SUFFIXES)
    if len(found) == 1:
        return _checked(found[0], weights)
    if found:
        raise Refused(f"{weights.folder} holds both {found[0].name} and {found[1].name}", "leave only the right one")
    raise missing(weights, weights.what or "a judge's weights")


def _checked(path: Path, weights: WeightsReference) -> Path:
    """Raises Refused for another file than the published one; the same as safetensors has a sha256 of its own."""
    if weights.sha256 and path.suffix != ".safetensors" and (got := sha256_of(path)) != weights.sha256:
        raise Refused(
            f"{path} has the sha256 {got} and {weights.sha256} was expected", "fetch the published file again"
        )
    return path


def missing(weights: WeightsReference, what: str) -> MissingWeights:
    """What to say where `what` is not in the folder."""
    command = f"run '{weights.fetch.replace('{folder}', str(weights.folder))}', or " if weights.fetch else ""
    source = f" (from {weights.source})" if weights.source else ""
    return MissingWeights(
        f"{what} is not on this machine",
        f"{command}put the published file{source} in {weights.folder} ({WEIGHTS_VARIABLE} moves the weights folder)",
    )


def fit(module: Module, path: Path, *, name: Callable[[str], str] = str, unused: Collection[str] = ()) -> None:
    """Fills a module with the checkpoint's tensors, as float32.

    name: what the checkpoint calls a tensor of the module. unused: tensors that the checkpoint may hold besides.
    Raises Refused, in the checkpoint's own names, for a tensor that is missing, unknown or of another shape, and for a
    file that is damaged or asks for code.
    """
    from star_bench.evaluators.geneval.detection.checkpoint_file import read_tensors

    try:
        state = read_tensors(path)
    except Refused as error:
        raise Refused(error.problem, "fetch the published file again") from None
    wanted = {name(own): (own, tensor) for own, tensor in module.state_dict().items()}
    lost = sorted(wanted.keys() - state.keys())
    strange = sorted(state.keys() - wanted.keys() - set(unused))
    if lost or strange:
        problem = f"lacks the tensor {lost[0]!r}" if lost else f"holds a tensor {strange[0]!r} that has no place"
        raise Refused(f"{path} {problem}", "give the checkpoint that the suite's card names")
    for key, (_, tensor) in wanted.items():
        if state[key].shape != tensor.shape:
            raise Refused(
                f"the tensor {key!r} of {path} has the shape {tuple(state[key].shape)} and not {tuple(tensor.shape)}",
                "give the checkpoint that the suite's card names",
            )
    module.load_state_dict({own: state[key] for key, (own, _) in wanted.items()})
