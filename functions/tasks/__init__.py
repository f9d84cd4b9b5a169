"""The tasks of this stack: one file each, found by their `@task` declaration.

A new file here is a new task.
"""
