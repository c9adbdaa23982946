"""How long a judge is waited for."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from star_bench.runs.patience import DEFAULT, VARIABLE, Patience, limit


def test_the_limit_is_for_a_picture_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    patience = Patience(limit())
    assert (
        [patience.of(pictures) for pictures in (1, 8, 64)] == [DEFAULT, 8 * DEFAULT, 64 * DEFAULT] == [600, 4800, 38400]
    )
    monkeypatch.setenv(VARIABLE, "2.5")
    assert Patience(limit()).of(4) == 10


def test_a_limit_that_no_clock_has_is_the_longest_that_there_is() -> None:
    assert Patience(threading.TIMEOUT_MAX).of(8) == threading.TIMEOUT_MAX


def test_a_judge_that_was_lost_is_asked_no_more_and_the_limit_that_it_had_is_told() -> None:
    patience, gate, asked = Patience(0.01), threading.Event(), []
    with pytest.raises(TimeoutError, match=r"within 0\.02 s$"):
        patience(gate.wait, 2)
    with pytest.raises(TimeoutError, match=r"within 0\.02 s before$"):
        patience(lambda: asked.append(1), 1)
    gate.set()
    assert not asked


def test_all_work_is_done_in_one_thread_which_ends_with_what_waits_for_it() -> None:
    patience = Patience(60)
    thread = patience(threading.current_thread, 1)
    assert thread is patience(threading.current_thread, 1) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        patience(lambda: 1 // 0, 1)
    assert thread is patience(threading.current_thread, 1)
    del patience
    gc.collect()  # an error and its traceback hold each other
    thread.join(60)
    assert not thread.is_alive()


def test_nothing_of_the_last_work_is_held() -> None:
    class Held:
        pass

    patience, held = Patience(60), Held()
    alive = weakref.ref(held)
    assert patience(lambda held=held: 1, 1) == 1  # type: ignore[misc]
    del held
    patience(int, 1)
    assert alive() is None
