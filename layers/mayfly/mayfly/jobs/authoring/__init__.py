"""The names that the author of a task uses."""
