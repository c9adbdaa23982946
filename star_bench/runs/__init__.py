"""Pictures, scores and what is made of them. Called, as `star_bench.runs()`, it is the function of that name of
`star_bench.api`: both have the name, and Python knows only one."""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from importlib import import_module

        return import_module("star_bench.api").runs(*args, **options)


sys.modules[__name__].__class__ = _Room
