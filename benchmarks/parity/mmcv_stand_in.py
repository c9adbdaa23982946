"""Lets mmdet run on mmcv-lite, which is mmcv without its compiled operators.

Importing mmdet imports all of mmcv's operators, and each looks itself up in the compiled module `mmcv._ext` at once,
whether or not it will ever be called. mmcv-lite has no such module, so mmdet cannot be imported. Mask2Former needs one
operator only, multi-scale deformable attention, and for that one mmcv carries a version in plain PyTorch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from star_bench.errors import UsageError

COMPILED = "mmcv._ext"


class StandIn(ModuleType):
    """Has an operator of every name, so that mmcv can be imported. Each raises UsageError when it is called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):  # Python's own questions to a module, such as __path__
            raise AttributeError(name)

        def operator(*_: Any, **__: Any) -> NoReturn:
            raise UsageError(
                f"mmcv's operator {name!r} was called, and the installed mmcv has no compiled operators",
                "install the full mmcv, built for this machine's torch",
            )

        return operator


def provide_operators() -> bool:
    """To be called before mmdet is imported. True where the stand-in serves, False where mmcv has its own operators.

    Raises ImportError where there is no mmcv, or where its operators were built for another torch.
    """
    try:
        compiled = importlib.import_module(COMPILED)
    except ModuleNotFoundError as error:
        if error.name != COMPILED:
            raise
        compiled = sys.modules[COMPILED] = StandIn(COMPILED)
        compiled.__spec__ = ModuleSpec(COMPILED, None)  # importlib refuses to look for a module that has none
        from mmcv.ops import multi_scale_deform_attn

        # On a CUDA device mmcv would call the compiled operator wherever it finds CUDA. Without CUDA, as it sees it, it
        # takes its version in plain PyTorch, which runs on the tensors' device all the same.
        multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
    return isinstance(compiled, StandIn)
