"""Measurements: one module per question.

`make bench` runs them all, prints tables and stores the figures under bench/results. The machine is
shared and noisy. If possible, each figure is therefore a count, or a ratio of interleaved runs.
"""
