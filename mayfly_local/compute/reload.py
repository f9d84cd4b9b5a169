"""Hot reload: when code is saved, the next invocation of its functions runs the new code."""

from collections.abc import Callable, Mapping
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from mayfly_local.application.model import Application
from mayfly_local.compute.pool import Pool

__all__ = ["watch"]


async def watch(
    app: Application, template: Path, pools: Mapping[str, Pool], say: Callable[[str], None]
) -> None:
    """Watches the template, and the folders of all functions, libraries and layers.

    All paths are resolved.
    """
    users: dict[Path, set[str]] = {}
    for name, function in app.functions.items():
        for folder in (function.code, *function.libraries, *function.layers):
            if folder is not None:
                users.setdefault(folder, set()).add(name)
    async for changes in awatch(*users, template, watch_filter=_Saved(), debounce=100, step=20):
        changed = {Path(path) for _, path in changes}
        if template in changed:
            say("the template has changed: stop and start again to apply it")
        touched = {
            name
            for folder, names in users.items()
            if any(folder in path.parents for path in changed)
            for name in names
        }
        for name in sorted(touched):
            await pools[name].replace_all()
        if touched:
            say(f"reloaded {', '.join(sorted(touched))}")


class _Saved(DefaultFilter):
    """Passes the files that people save, and not the files that tools write."""

    def __call__(self, change: Change, path: str) -> bool:
        return (
            super().__call__(change, path)
            and not path.endswith((".pyc", "~"))
            and "/.mayfly/" not in path
        )
