"""Prompt in, picture out."""
