"""Finds legacy tracking in Python sources, and rewrites what is safe to rewrite.

``sources`` reads files, ``patterns`` finds (standard library only), ``rewrite`` edits (libcst,
imported only then). Nothing here imports mlflow or runs the code it reads.
"""

from migrator.codemod.inspection import Inspection, inspect

__all__ = ["Inspection", "inspect"]
