"""The generator $NAME: `draw` beside this file makes its pictures."""
