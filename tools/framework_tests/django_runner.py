"""`python -P -m tools.framework_tests.django_runner FOLDER ...` runs Django's tests of a folder.

moto is imported before: it uses a package `responses`, and so is one of Django's tests called.
"""

import runpy
import sys

import moto

__all__ = ["main"]


def main(folder: str) -> None:
    """Runs the program of Django's tests, with the arguments after the folder."""
    sys.path.insert(0, folder)
    sys.argv = [moto.__name__, *sys.argv[2:]]
    runpy.run_path(f"{folder}/runtests.py", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
