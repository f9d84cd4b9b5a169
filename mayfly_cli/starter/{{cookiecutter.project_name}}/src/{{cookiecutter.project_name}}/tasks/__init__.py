"""The tasks of jobs: the names and the retries of each are in its decorator."""
