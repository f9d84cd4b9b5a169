"""The tasks of this stack: one file each, found by its `@task` declaration.

A new file here is a new task.
"""
