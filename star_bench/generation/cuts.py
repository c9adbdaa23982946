"""What a model does not read of a text: found with its tokenizers alone, before weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import transformers

from star_bench.catalogue.model_parts import parts_of
from star_bench.errors import Refused


def cuts(folder: Path, texts: Sequence[str], max_sequence_length: int) -> Iterator[tuple[str, int, list[bool]]]:
    """For each tokenizer of a pipeline's folder its name, the tokens that are read at most, its own marks counted, and of
    each text whether it has more.

    CLIP's tokenizers say themselves how much is read; of the third of SD3, T5's, max_sequence_length is. Raises Refused for
    a tokenizer that can't be loaded.
    """
    for name, (_, kind) in parts_of(folder).items():
        if not name.startswith("tokenizer"):
            continue
        try:
            tokenizer = getattr(transformers, kind).from_pretrained(folder / name, local_files_only=True)
        except Exception as error:  # transformers raises nearly anything for files that it did not write
            reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            raise Refused(f"{folder / name} can't be loaded ({reason})", "fetch the model again") from error
        most = max_sequence_length if name == "tokenizer_3" else tokenizer.model_max_length
        yield name, most, [len(tokenizer(text, truncation=False)["input_ids"]) > most for text in texts]
