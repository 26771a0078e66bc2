"""Engines: who computes H and S of a structure, called from Python."""

from hotham_ase.engines.engine import Engine, EngineError, read_engine

__all__ = ["Engine", "EngineError", "read_engine"]
