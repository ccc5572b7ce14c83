"""The version, where build and package both read it."""

__version__ = "0.1.0"
