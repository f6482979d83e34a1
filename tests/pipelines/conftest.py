"""Fixtures of this room."""

from clips import clip, options, tiny_model

__all__ = ["clip", "options", "tiny_model"]
