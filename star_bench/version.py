"""The version, for those below the package's own door."""

__version__ = "0.1.0"
