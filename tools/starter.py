"""`make starter`: writes the part of Mayfly in the application of `mayfly init`."""

from mayfly_cli.new_application import FOLDER, PART, part

__all__ = ["main"]


def main() -> None:
    """Writes the file from template.yaml."""
    (FOLDER / PART).write_text(part(), encoding="utf-8")


if __name__ == "__main__":
    main()
