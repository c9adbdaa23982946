"""The suite $NAME: star-bench reads card.yaml beside this file, and runs nothing of it."""
