"""What is wrong with what a user gave, as opposed to what is wrong with the package."""

from __future__ import annotations


class HothamError(Exception):
    """Base of the package's errors that input, files or the machine cause.

    A subclass also derives from the built-in error that a caller without knowledge of the package
    would expect (``ValueError``, ``RuntimeError``, …). The command line prints these as a sentence;
    everything else is a fault of ours and keeps its traceback.
    """


class UsageError(HothamError, ValueError):
    """An argument, an option or a setting that cannot be, or that does not go with the others."""


class NotSupportedError(HothamError, NotImplementedError):
    """What is asked for makes sense, and the package cannot do it yet."""
