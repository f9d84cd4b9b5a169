"""Measurements: one module per question. `make bench` runs them all, prints tables and keeps the
figures under bench/results.

The machine is shared and noisy: each figure is a ratio of interleaved runs, or a count, wherever it
can be.
"""
