"""Libraries that talk while they load."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Takes the loading bars off diffusers and transformers: progress is ours to show, once."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # what it would warn of when it loads, we refuse
