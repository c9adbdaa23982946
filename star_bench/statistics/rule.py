"""What the gate asks of a checkpoint: two questions with opposite burdens of proof. Loads nothing, so that the command line
can name them.
"""

from __future__ import annotations

from enum import StrEnum

ALPHA = 0.05  # the share of false alarms (NO_REGRESSION) or of worse checkpoints let pass (NON_INFERIOR); chosen here


class Rule(StrEnum):
    """NO_REGRESSION fails where the checkpoint is shown to be worse, so a small suite lets much pass; NON_INFERIOR passes
    only where it is shown not to be worse, so a small suite stops much.
    """

    NO_REGRESSION = "no-regression"
    NON_INFERIOR = "non-inferior"


METHODS = {
    Rule.NO_REGRESSION: "fails where a one-sided test shows the difference to be below minus the margin",
    Rule.NON_INFERIOR: "passes where a one-sided test shows the difference to be above minus the margin",
}
