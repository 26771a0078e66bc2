"""What is wrong with what a user gave, as opposed to what is wrong with the package."""

from __future__ import annotations


class HothamError(Exception):
    """Base of the package's errors that input, files or the machine cause.

    A subclass also derives from the built-in error that a caller without knowledge of the package
    would expect (``ValueError``, ``RuntimeError``, …). The command line prints these as a sentence;
    everything else is a fault of ours and keeps its traceback.
    """
