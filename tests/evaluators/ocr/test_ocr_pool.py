"""Reading in other processes: the same readings, and what happens when one of them dies, hangs or is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from star_bench.catalogue import suites
from star_bench.errors import MissingWeights, UsageError
from star_bench.evaluators.ocr.evaluator import drawn_word
from star_bench.evaluators.ocr.pool import Pool, Reading
from star_bench.evaluators.ocr.rapid import RapidOcr
from star_bench.evaluators.ocr.reader import OcrJudge, Reader

EXIT, CRASH, HANG, RAISE, NO_WEIGHTS, NO_LIST, WHO, SYS_EXIT = range(1, 9)  # as in odd_reader.py
PLAIN = 50


def picture(code: int, width: int = 3) -> np.ndarray:
    return np.full((2, width, 3), code, np.uint8)


def plain(code: int, width: int = 3) -> Reading:
    """What the odd reader reads in picture(code, width)."""
    return Reading([f"{width}x2", str(code)])


def alive(pid: int) -> bool:
    """Running: neither gone nor a zombie that its new parent has not noticed."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(shown) and not shown.startswith("Z")


def gone(pids: list[int]) -> bool:
    """Soon, or the test never ends, and its time limit says so."""
    while any(map(alive, pids)):
        time.sleep(0.05)
    return True


def pids_of(pool: Pool) -> list[int]:
    return [each.process.pid for each in pool.workers if each.process]


def test_readings_are_those_of_this_process():
    settings = suites.load("ocr-miniature").judges["settings"]
    words = [drawn_word(word, side) for word, side in (("STAR", 96), ("Moon", 128), ("50%", 160), ("two words", 200))]
    here = RapidOcr(settings)
    assert Pool("rapidocr", settings, workers=2).read(words) == [Reading(here.read(word)) for word in words]


def test_order_is_kept_and_processes_start_late_and_once(odd):
    pool = Pool(odd, {}, workers=2)
    assert pool.read([]) == []
    assert pids_of(pool) == []
    codes = list(range(PLAIN, PLAIN + 40))
    assert pool.read([picture(code, code) for code in codes]) == [plain(code, code) for code in codes]
    started = pids_of(pool)
    readers = {tuple(reading.strings) for reading in pool.read([picture(WHO)] * 20)}
    assert readers <= {(str(pid), "1", "False") for pid in started}
    assert pids_of(pool) == started


def test_one_picture_starts_one_process(odd):
    pool = Pool(odd, {}, workers=4)
    for _ in range(3):
        pool.read([picture(PLAIN)])
    assert len(pids_of(pool)) == 1


def test_a_large_picture_passes_the_pipe(odd):
    large = np.full((2000, 1500, 3), PLAIN, np.uint8)
    assert Pool(odd, {}, workers=1).read([large]) == [Reading(["1500x2000", str(PLAIN)])]
    assert large[0, 0, 1] == PLAIN, "the reader's picture is a copy"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (EXIT, "the reader's process ended with exit code 7"),
        (CRASH, "the reader's process ended with SIGSEGV"),
        (RAISE, "RuntimeError: segments went missing"),
        (SYS_EXIT, "SystemExit: 0"),
        (NO_LIST, "TypeError: the recogniser gave 'text' and no list of strings"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_costs_its_picture_only(odd, code, says, workers):
    codes = [PLAIN, code, PLAIN + 1, code, PLAIN + 2, PLAIN + 3]
    expected = [Reading(None, says) if c == code else plain(c) for c in codes]
    assert Pool(odd, {}, workers=workers).read([picture(c) for c in codes]) == expected


def test_a_reader_that_hangs_is_replaced(odd):
    pool = Pool(odd, {}, workers=1)
    (worker,) = pool.workers
    assert pool.read([picture(PLAIN)]) == [plain(PLAIN)]
    patience, worker.timeout = worker.timeout, 0.5
    assert pool.read([picture(HANG)] * 2) == [Reading(None, "the reader took over 0.5 s")] * 2
    worker.timeout = patience
    assert pool.read([picture(PLAIN + 1)]) == [plain(PLAIN + 1)]


def test_a_process_that_was_killed_between_readings_costs_nothing(odd):
    pool = Pool(odd, {}, workers=1)
    pool.read([picture(PLAIN)])
    (pid,) = pids_of(pool)
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    assert pool.read([picture(PLAIN)]) == [plain(PLAIN)]


def test_errors_that_concern_every_picture_are_raised_here(odd):
    pool = Pool(odd, {}, workers=2)
    with pytest.raises(MissingWeights, match="the odd reader's weights are not here: put them there"):
        pool.read([picture(PLAIN), picture(NO_WEIGHTS), picture(PLAIN)])
    assert pool.read([picture(PLAIN)]) == [plain(PLAIN)], "and the pool still reads"


def test_construction_that_fails(odd):
    with pytest.raises(UsageError, match="odd reader: unknown key 'refuse'"):
        Reader(OcrJudge(recogniser=odd, settings={"refuse": True}))
    with pytest.raises(UsageError, match="odd reader: unknown key 'refuse'"):
        Pool(odd, {"refuse": True}).read([picture(PLAIN)])
    broken = Reader(OcrJudge(recogniser=odd, settings={"fail": True}))
    assert broken.read([picture(PLAIN)]) == [Reading(None, "RuntimeError: no licence key")]


def test_several_threads_share_a_pool(odd):
    pool, found = Pool(odd, {}, workers=2), {}

    def read(code):
        found[code] = pool.read([picture(code)] * 5)

    threads = [threading.Thread(target=read, args=(code,)) for code in range(PLAIN, PLAIN + 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {code: [plain(code)] * 5 for code in range(PLAIN, PLAIN + 5)}
    assert len(pids_of(pool)) == 2


def test_a_dropped_pool_leaves_nothing(odd):
    pool = Pool(odd, {}, workers=2)
    pool.read([picture(PLAIN)] * 4)
    pids = pids_of(pool)
    del pool
    assert gone(pids)


class Interrupted(list):
    """Ctrl-C comes once the first picture was handed out, before any process can have started for it."""

    def __iter__(self):
        yield picture(HANG)
        raise KeyboardInterrupt


@pytest.mark.parametrize("warm", [False, True])
def test_ctrl_c_before_the_processes_have_started_waits_for_none(odd, warm):
    pool = Pool(odd, {}, workers=1)
    if warm:
        pool.read([picture(PLAIN)])
    with pytest.raises(KeyboardInterrupt):
        pool.read(Interrupted([0]))
    assert pids_of(pool) == []
    assert pool.read([picture(PLAIN)]) == [plain(PLAIN)], "and the pool still reads"


SCRIPT = """
    import sys, threading, time
    import numpy as np
    from star_bench.evaluators.ocr.pool import Pool

    pool = Pool("odd", {}, workers=2)
    who, hang = np.full((2, 3, 3), 7, np.uint8), np.full((2, 3, 3), 3, np.uint8)
    pids = set()
    while len(pids) < 2:
        pids |= {reading.strings[0] for reading in pool.read([who] * 8)}
    print(*pids, flush=True)
    if sys.argv[1] == "hanging":
        pool.read([hang] * 2)
"""


@pytest.mark.parametrize(
    ("doing", "how", "code"),
    [
        ("nothing", None, 0),
        ("hanging", signal.SIGINT, -signal.SIGINT),
        ("hanging", signal.SIGTERM, -signal.SIGTERM),
        ("hanging", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_no_process_outlives_its_parent(odd_path, doing, how, code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(odd_path)}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), doing]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        pids = [int(pid) for pid in child.stdout.readline().split()]
        assert len(pids) == 2
        if how is not None:
            time.sleep(0.5)  # so that both hang
            assert all(map(alive, pids))
            child.send_signal(how)
        assert child.wait() == code
    assert gone(pids)
