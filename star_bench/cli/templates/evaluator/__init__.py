"""The evaluator $NAME, and a suite that it judges: card.yaml beside this file."""
