"""Data sets from nothing: structures, more structures, and an engine on all cores."""
