"""Sessions, counters and background jobs that keep nothing in the process.

Each feature is a package of plain verbs over a store; `mayfly.resources` makes the stores from the
environment.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
