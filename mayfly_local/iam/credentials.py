"""Access keys of one stack. The key of a request identifies its caller.

The emulator compares the key's id and does not check signatures, so the id is the secret. Ids are
random. People and tools have one, which is the same at every start. Each function and the runtime
have one that is new at every start.
"""

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mayfly_local.account import REGION
from mayfly_local.errors import LocalError

__all__ = ["FOREIGN", "Credentials", "Keys", "emulator_variables", "make_private", "people"]

_FILE: Final = "access-key"
#: Folders that the stack creates in its folders.
_INNER: Final = {"before-0.2.0", "inline", "logs", "s3", "sam", "store"}
#: Length of a random id in bytes: too long to be guessed.
_BYTES: Final = 20


@dataclass(frozen=True)
class Credentials:
    """An access key in the form that SDKs take."""

    id: str
    secret: str

    @classmethod
    def new(cls, owner: str) -> "Credentials":
        """Returns a random key. `owner` makes its id recognisable in a log."""
        return cls(f"{owner}{secrets.token_hex(_BYTES)}", secrets.token_hex(_BYTES))

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that make every AWS SDK use this key."""
        return {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}


#: For any other endpoint: every AWS client needs some credentials.
FOREIGN: Final = Credentials("local", "local")


@dataclass(frozen=True)
class Keys:
    """All keys of a running stack. `functions` are by function name."""

    people: Credentials
    runtime: Credentials
    functions: Mapping[str, Credentials] = field(default_factory=dict)

    @classmethod
    def foreign(cls) -> "Keys":
        """Returns the keys for an endpoint that does not know this stack's keys."""
        return cls(FOREIGN, FOREIGN)

    def of(self, function: str) -> Credentials:
        """Returns the key of a function, or the runtime's key if roles are not checked."""
        return self.functions.get(function, self.runtime)

    def for_functions(self, names: Iterable[str]) -> "Keys":
        """Returns these keys, with a new one for each function."""
        return Keys(
            self.people, self.runtime, {name: Credentials.new("function") for name in names}
        )


def people(folder: Path) -> Credentials:
    """Returns the key of people and tools, stored in `folder`; creates one if it is missing.

    Raises LocalError if the file cannot be read.
    """
    path = folder / _FILE
    try:
        kept = json.loads(path.read_text())
        return Credentials(str(kept["id"]), str(kept["secret"]))
    except FileNotFoundError:
        key = Credentials.new("people")
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise LocalError(
            f"the access key in {path} cannot be read ({problem}); delete the file, and the next "
            "start creates a new key"
        ) from None
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps({"id": key.id, "secret": key.secret}))
    unfinished.replace(path)
    return key


def make_private(folder: Path, *, is_own: bool) -> list[str]:
    """Closes a folder of secrets to other users: folder 700, its files 600.

    Returns the paths that were open to other users. With `is_own` False, as for a folder given with
    --work, the folder keeps its mode.
    """
    opened = []
    entries = (
        [entry for entry in folder.iterdir() if not entry.is_symlink()] if folder.is_dir() else []
    )
    modes = [(entry, 0o600) for entry in entries if entry.is_file()] + [
        (entry, 0o700) for entry in entries if entry.is_dir() and entry.name in _INNER
    ]
    for path, mode in [*modes, *([(folder, 0o700)] if is_own else [])]:
        if path.exists() and path.stat().st_mode & 0o077:
            path.chmod(mode)
            opened.append(str(path))
    return opened


def emulator_variables(endpoint: str, credentials: Credentials) -> Mapping[str, str]:
    """Returns variables that make every AWS SDK use this endpoint with these credentials."""
    return {
        **credentials.variables,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
