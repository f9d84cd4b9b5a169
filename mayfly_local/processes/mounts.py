"""The folders that a function sees on Lambda, in a mount namespace of its own.

Every file system is read-only except /tmp, which is private and limited. The code is at /var/task
as well, and layers are at /opt. Nothing changes outside this process and its children, and all
of it goes when they end. Linux only: https://man7.org/linux/man-pages/man7/mount_namespaces.7.html

`bootstrap.py` loads this module in each process of a function, so it imports very little.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["enter"]

# linux/sched.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
# linux/mount.h
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MS_NOSUID_NODEV = 0x2 | 0x4
_MOUNT_ATTR_RDONLY = 0x1
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
#: The number of mount_setattr(2), one for all architectures. Linux 5.12 and later have it.
_SYS_MOUNT_SETATTR = 442


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def enter(text: str) -> None:
    """Gives this process the folders of `folders.Folders`.

    Raises OSError if the system refuses.
    """
    folders: Mapping[str, Any] = json.loads(text)
    system = _System()
    system.leave_namespace()
    task, writable = folders["task"], folders["writable"]
    layers = [
        (os.open(layer, os.O_PATH), "" if os.path.isdir(f"{layer}/python") else "python")
        for layer in folders["layers"]
    ]
    needed = _topmost([task, writable, sys.prefix, sys.base_prefix, *folders["needed"]])
    system.show(writable, writable)
    system.set_read_only("/", recursive=True)
    system.set_writable(writable)
    code = os.open(task, os.O_PATH)
    system.replace("/tmp", [path for path in needed if _is_below(path, "/tmp")], folders["tmp_mb"])
    system.extend("/var", "task", f"/proc/self/fd/{code}")
    if layers and os.path.isdir("/opt"):
        system.replace("/opt", [path for path in needed if _is_below(path, "/opt")], 1)
        system.merge([(f"/proc/self/fd/{layer}", place) for layer, place in layers], "/opt")
        system.set_read_only("/opt")
    for opened in [code, *(layer for layer, _ in layers)]:
        os.close(opened)
    os.chdir(task)


class _System:
    """Calls of the kernel that Python has no names for."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def leave_namespace(self) -> None:
        """Gives this process a mount namespace; a user who may not has a user namespace as well."""
        user, group = os.getuid(), os.getgid()
        if self._libc.unshare(_CLONE_NEWNS) != 0:
            self._check(self._libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER), "unshare")
            for name, value in (
                ("setgroups", "deny"),
                ("uid_map", f"{user} {user} 1"),
                ("gid_map", f"{group} {group} 1"),
            ):
                with open(f"/proc/self/{name}", "w", encoding="ascii") as written:
                    written.write(value)
        self._mount("none", "/", None, _MS_REC | _MS_PRIVATE)

    def show(self, source: str, target: str) -> None:
        """Shows a file or folder at a second path, with all that is mounted below it."""
        self._mount(source, target, None, _MS_BIND | _MS_REC)

    def set_read_only(self, path: str, *, recursive: bool = False) -> None:
        """Makes a mount read-only, or all mounts below a path."""
        attributes = _MountAttributes(attr_set=_MOUNT_ATTR_RDONLY)
        self._set(path, attributes, _AT_RECURSIVE if recursive else 0)

    def set_writable(self, path: str) -> None:
        """Makes a mount writable."""
        self._set(path, _MountAttributes(attr_clr=_MOUNT_ATTR_RDONLY), 0)

    def replace(self, folder: str, kept: Sequence[str], megabytes: int) -> None:
        """Puts an empty folder of this size over another one, of which some paths are kept."""
        opened = [(path, os.open(path, os.O_PATH)) for path in kept]
        self._cover(folder, megabytes)
        for path, number in opened:
            if os.path.isdir(f"/proc/self/fd/{number}"):
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            self.show(f"/proc/self/fd/{number}", path)
            os.close(number)

    def extend(self, folder: str, name: str, source: str) -> None:
        """Adds an entry to a folder that this user cannot write to."""
        real = os.open(folder, os.O_PATH)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        self._cover(folder, 1)
        for entry in entries:
            if entry.name == name:
                continue
            target = f"{folder}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(f"/proc/self/fd/{real}/{entry.name}"), target)
            elif entry.is_dir():
                os.mkdir(target)
                self.show(f"/proc/self/fd/{real}/{entry.name}", target)
        os.close(real)
        os.mkdir(f"{folder}/{name}")
        self.show(source, f"{folder}/{name}")
        self.set_read_only(folder)

    def merge(self, layers: Sequence[tuple[str, str]], target: str) -> None:
        """Shows the entries of several folders in one; of files with one path, the last wins.

        `layers` are folders, each with the name of the entry that it is to be, or with an empty
        text if its own entries are meant.
        """
        for name in sorted({name for path, place in layers for name in _entries(path, place)}):
            found = [
                (path if place else f"{path}/{name}", "")
                for path, place in layers
                if name in _entries(path, place)
            ]
            folders = [(path, place) for path, place in found if os.path.isdir(path)]
            last, path = found[-1][0], f"{target}/{name}"
            if len(folders) > 1:
                os.makedirs(path, exist_ok=True)
                self.merge(folders, path)
            elif os.path.islink(last):
                os.symlink(os.readlink(last), path)
            elif os.path.isdir(last):
                os.makedirs(path, exist_ok=True)
                self.show(last, path)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                self.show(last, path)

    def _cover(self, folder: str, megabytes: int) -> None:
        self._mount("tmpfs", folder, "tmpfs", _MS_NOSUID_NODEV, f"size={megabytes}m,mode=1777")

    def _mount(
        self, source: str, target: str, kind: str | None, flags: int, options: str = ""
    ) -> None:
        self._check(
            self._libc.mount(
                source.encode(), os.fsencode(target), kind.encode() if kind else None,
                ctypes.c_ulong(flags), options.encode(),
            ),
            target,
        )  # fmt: skip

    def _set(self, path: str, attributes: _MountAttributes, flags: int) -> None:
        self._check(
            self._libc.syscall(
                ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), os.fsencode(path),
                ctypes.c_uint(flags), ctypes.byref(attributes),
                ctypes.c_size_t(ctypes.sizeof(attributes)),
            ),
            path,
        )  # fmt: skip

    @staticmethod
    def _check(result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)


def _entries(path: str, place: str) -> list[str]:
    return [place] if place else os.listdir(path)


def _topmost(paths: Iterable[str]) -> list[str]:
    """Returns the paths, without those that are below another one.

    A path with a link in it stays, and so does the path that it leads to.
    """
    kept: list[str] = []
    every = {found for path in paths for found in (os.path.abspath(path), os.path.realpath(path))}
    for path in sorted(every, key=len):
        if not any(_is_below(path, other) for other in kept):
            kept.append(path)
    return kept


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


if __name__ == "__main__":
    enter(sys.argv[1])
