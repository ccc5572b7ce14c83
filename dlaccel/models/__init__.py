"""The networks of the papers."""

from . import coordinate

__all__ = ["coordinate"]
