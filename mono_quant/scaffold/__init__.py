"""A project for a new plugin: what ``monoquant plugin new`` writes, and whose tests pass as written."""

from mono_quant.scaffold.project import KINDS, write_project

__all__ = ["KINDS", "write_project"]
