"""Reading in processes of its own: a recogniser that crashes or hangs costs its picture, never the run.

Recognisers are native code; PaddleOCR is known to end the process when it stands beside torch (flow_grpo issue 199).
concurrent.futures' process pool breaks as a whole when one of its processes dies, and multiprocessing would import
the user's script again in each, so these are plain subprocesses.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from star_bench import errors
from star_bench.evaluators.base import Image
from star_bench.evaluators.ocr import worker

MOST_WORKERS = 8  # chosen here: rapidocr takes 0.3 GB in each
TIMEOUT_S = 300.0  # chosen here: a thousand words take seconds, and the first picture waits for the models too


@dataclass(frozen=True)
class Reading:
    """The strings in a picture, from top to bottom; None where it could not be read, and then why."""

    strings: list[str] | None
    error: str = ""


class _Worker:
    """One process with one recogniser on one thread. It starts at its first picture, and anew after it ended."""

    def __init__(self, recogniser: str, settings: Mapping[str, Any], timeout: float) -> None:
        self.arguments = recogniser, json.dumps(settings)
        self.timeout = timeout
        self.process: subprocess.Popen[bytes] | None = None

    def read(self, image: Image, interrupted: threading.Event) -> Reading:
        """Raises the StarBenchError that the recogniser raised."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.process = self._start()
        if interrupted.is_set():  # whoever set it may have come before this process, and killed none
            self.kill()
        process = self.process
        assert process.stdin and process.stdout
        begun = time.monotonic()
        alarm = threading.Timer(self.timeout, self.kill)
        alarm.start()
        try:
            worker.send_picture(process.stdin, image)
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            alarm.cancel()
            alarm.join()  # it has killed by now, or never will
        late = time.monotonic() - begun >= self.timeout
        if not late and answer.endswith(b"\n"):
            return _understood(json.loads(answer))
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)  # its own end says more than ours
        self.stop()
        return Reading(None, f"the reader took over {self.timeout:g} s" if late else _ended(process.returncode))

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", worker.__name__, *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; and a group of its own, with whatever it starts
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),  # what is a plugin here is one there
                "OMP_NUM_THREADS": "1",
            },
        )

    def kill(self) -> None:
        """From any thread: a reading that goes on then ends as one whose process died."""
        process = self.process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # both mean that it has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        """Leaves nothing behind. Only while nothing is being read."""
        if self.process is None:
            return
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):  # half a picture was left to send
                assert pipe
                pipe.close()
        self.process = None


def _understood(answer: dict[str, Any]) -> Reading:
    if "refused" in answer:
        kind, problem, remedy = answer["refused"]
        raise getattr(errors, kind)(problem, remedy)
    return Reading(answer.get("read"), answer.get("error", ""))


def _ended(code: int) -> str:
    """In words; codes below 0 are signals."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the reader's process ended with {how}"


def _stop(workers: Sequence[_Worker]) -> None:
    for each in workers:
        each.stop()


class Pool:
    """Reads pictures one by one in each of several processes, so that no reading depends on another picture.

    The processes start when they are first needed and stay until the pool is dropped, the interpreter ends, or is
    killed. How many there are changes no reading; None: one per core that may be used, at most MOST_WORKERS.
    """

    def __init__(
        self, recogniser: str, settings: Mapping[str, Any], *, workers: int | None = None, timeout: float = TIMEOUT_S
    ) -> None:
        count = workers or min(_cores(), MOST_WORKERS)
        self.workers = [_Worker(recogniser, settings, timeout) for _ in range(count)]
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()  # the last one used is warm
        for each in self.workers:
            self._idle.put(each)
        weakref.finalize(self, _stop, self.workers)

    def read(self, images: Sequence[Image]) -> list[Reading]:
        """One per image, uint8 (H, W, 3), in order. From any number of threads at once.

        Raises the StarBenchError of a recogniser, such as MissingWeights: it concerns every picture.
        """
        if not images:
            return []
        interrupted = threading.Event()
        with ThreadPoolExecutor(min(len(self.workers), len(images))) as threads:
            try:
                return list(threads.map(partial(self._read, interrupted), images))
            except (KeyboardInterrupt, SystemExit):
                interrupted.set()
                for each in self.workers:  # Ctrl-C does not wait for what is being read
                    each.kill()
                raise

    def _read(self, interrupted: threading.Event, image: Image) -> Reading:
        free = self._idle.get()
        try:
            return Reading(None, "interrupted") if interrupted.is_set() else free.read(image, interrupted)
        finally:
            self._idle.put(free)


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
