"""Training states on disk: whole or not there, the last two kept, a damaged one told and passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from star_bench.errors import Refused
from star_bench.training import state as states
from star_bench.training.state import State, latest, optimiser_tensors, restore_optimiser, save


def some(epoch: int) -> State:
    return State(
        epoch, {"lora/a": torch.full((2, 3), float(epoch)), "ema/a": torch.zeros(1)}, {"rewards": [0.5] * epoch}
    )


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    save(tmp_path, some(3))
    found = latest(tmp_path, pytest.fail)
    assert found is not None
    assert (found.epoch, found.numbers) == (3, {"rewards": [0.5] * 3})
    assert torch.equal(found.tensors["lora/a"], some(3).tensors["lora/a"])


def test_none_before_the_first(tmp_path: Path) -> None:
    assert latest(tmp_path / "state", pytest.fail) is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for epoch in (8, 9, 10, 11):
        save(tmp_path, some(epoch))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000010", "000011"]


@pytest.mark.parametrize("damage", ["tensors torn", "a byte changed", "numbers gone", "numbers torn"])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path: Path, damage: str) -> None:
    save(tmp_path, some(1))
    save(tmp_path, some(2))
    tensors, numbers = tmp_path / "000002" / states.TENSORS, tmp_path / "000002" / states.NUMBERS
    if damage == "tensors torn":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif damage == "a byte changed":
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif damage == "numbers gone":
        numbers.unlink()
    else:
        numbers.write_text(numbers.read_text()[:20])
    notes: list[str] = []
    found = latest(tmp_path, notes.append)
    assert found is not None
    assert found.epoch == 1
    assert "000002" in notes[0]
    assert "going back" in notes[0]


def test_all_damaged_is_refused(tmp_path: Path) -> None:
    save(tmp_path, some(1))
    (tmp_path / "000001" / states.NUMBERS).unlink()
    with pytest.raises(Refused, match="no saved state"):
        latest(tmp_path, lambda _: None)


def test_an_unfinished_write_is_no_state(tmp_path: Path) -> None:
    save(tmp_path, some(1))
    (tmp_path / ".000002.partial").mkdir()
    (tmp_path / ".000002.partial" / states.TENSORS).write_bytes(b"half")
    found = latest(tmp_path, pytest.fail)
    assert found is not None
    assert found.epoch == 1
    save(tmp_path, some(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002"]


def test_optimiser_goes_on_exactly() -> None:
    def made() -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
        parameter = torch.nn.Parameter(torch.ones(4))
        return parameter, torch.optim.AdamW([parameter], lr=0.1)

    def steps(parameter: torch.nn.Parameter, optimiser: torch.optim.AdamW, count: int, start: int) -> None:
        for i in range(start, start + count):
            parameter.grad = torch.tensor([1.0, -2.0, 0.1 * i, 3.0])
            optimiser.step()

    straight, whole = made()
    steps(straight, whole, 6, 0)
    first, half = made()
    steps(first, half, 3, 0)
    second, rest = made()
    second.data.copy_(first.data)
    restore_optimiser(rest, {"p": second}, optimiser_tensors(half, ["p"]))
    steps(second, rest, 3, 3)
    assert torch.equal(straight, second)
