"""`mayfly docs`: the paths of the pages of the documentation on this machine."""

from pathlib import Path

import click

from mayfly_local.errors import LocalError

__all__ = ["docs"]


@click.command()
@click.argument("page", default="")
def docs(*, page: str) -> None:
    """Prints the path of PAGE, such as jobs; without one, the paths of all pages.

    The pages are those of the installed release.
    """
    folder = _folder()
    pages = {path.stem: path for path in sorted(folder.glob("*.md"))}
    name = page.removeprefix("docs/").removesuffix(".md")
    if name and name not in pages:
        raise LocalError(f"no page is called {page}; there are {', '.join(pages)}")
    for path in [pages[name]] if name else pages.values():
        click.echo(path)


def _folder() -> Path:
    """Returns the folder of the pages. In a checkout it is at the top."""
    own = Path(__file__).with_name("docs")
    return own if own.is_dir() else own.parent.parent / "docs"
