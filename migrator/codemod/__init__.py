"""Finds legacy tracking code in Python sources, and rewrites the places that are safe.

``sources`` reads files, ``patterns`` finds (standard library only), ``rewrite`` edits (libcst,
imported only then). Nothing here imports mlflow or runs the code it reads.
"""

from migrator.codemod.inspection import Inspection, inspect

__all__ = ["Inspection", "inspect"]
