"""A process that reads pictures for another one, for as long as that one lives. pool.py starts it.

    python -m star_bench.evaluators.ocr.worker RECOGNISER SETTINGS     (settings as JSON)

On stdin a line of JSON, the picture's shape, then its bytes; on stdout, for each, one line of JSON: {"read": [...]},
{"error": "..."} where this picture failed, or {"refused": [class, problem, remedy]} for an error that concerns all.
"""

from __future__ import annotations

import functools
import json
import math
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from star_bench import errors
from star_bench.catalogue import plugins
from star_bench.errors import StarBenchError
from star_bench.evaluators.base import Image
from star_bench.evaluators.ocr.recogniser import Recogniser


def send_picture(stream: IO[bytes], image: Image) -> None:
    """Writes uint8 (H, W, 3). Raises BrokenPipeError where nobody reads any more."""
    stream.write(json.dumps(image.shape).encode() + b"\n" + image.tobytes())
    stream.flush()


def _receive_pictures(stream: IO[bytes], pictures: queue.SimpleQueue[Image]) -> None:
    """Waits for pictures even while one is being read: the end of the stream is the end of whom we work for."""
    try:
        while line := stream.readline():
            shape = json.loads(line)
            content = stream.read(math.prod(shape))
            pictures.put(np.frombuffer(content, np.uint8).reshape(shape).copy())  # a copy may be written to
    finally:
        os._exit(0)


def _answer(make: Callable[[], Recogniser], image: Image) -> dict[str, Any]:
    try:
        strings = make().read(image)
        if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
            raise TypeError(f"the recogniser gave {strings!r} and no list of strings")
        return {"read": strings}
    except StarBenchError as error:
        kind = next(c.__name__ for c in type(error).__mro__ if c.__module__ == errors.__name__)
        return {"refused": [kind, error.problem, error.remedy]}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - plugins raise anything, PaddleOCR exits: it costs a picture
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    """Answers until stdin ends."""
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not stand between the answers
    pictures: queue.SimpleQueue[Image] = queue.SimpleQueue()
    threading.Thread(target=_receive_pictures, args=(sys.stdin.buffer, pictures), daemon=True).start()
    make = functools.cache(lambda: plugins.load(plugins.RECOGNISERS, name)(settings))
    while True:
        answers.write(json.dumps(_answer(make, pictures.get())).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
