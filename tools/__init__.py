"""Programs that targets of the Makefile run."""
