"""The stand-in for AWS's runtime image: a Debian with the template's Python and AWS's client."""

import hashlib
import json
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mayfly_local.application.template import parse
from tools.stand_in.errors import StandInError, output

__all__ = ["Image", "debian_mirror", "pinned"]

ROOT: Final = Path(__file__).parent.parent.parent
#: Debian's release that has a version of Python.
_SUITES: Final = {"python3.11": "bookworm", "python3.13": "trixie"}
#: The suffix of AWS's tags, and the platform of wheels, by this machine's architecture.
_ARCHITECTURES: Final = {
    "x86_64": ("x86_64", "manylinux2014_x86_64"),
    "aarch64": ("arm64", "manylinux2014_aarch64"),
}
#: The packages of AWS's Python runtime.
_PACKAGES: Final = (
    "awslambdaric", "simplejson", "snapshot-restore-py",
    "boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3",
)  # fmt: skip
#: AWS's emulator of the Runtime API, which sam brings, calls it with the handler in `_HANDLER`.
_BOOTSTRAP: Final = """#!/bin/sh
export PYTHONPATH=/var/task:/opt/python:/var/runtime LAMBDA_TASK_ROOT=/var/task
exec /usr/bin/python3 -m awslambdaric "$_HANDLER"
"""
_LABEL: Final = "mayfly.stand-in"


@dataclass(frozen=True)
class Image:
    """The image of one runtime, such as python3.13, for one architecture of machines."""

    runtime: str
    machine: str

    @classmethod
    def of_template(cls, template: Path = ROOT / "template.yaml") -> "Image":
        """Returns the image that a template's functions run in, on this machine.

        Raises StandInError if there is no stand-in for it.
        """
        runtime = parse(template)["Globals"]["Function"]["Runtime"]
        if runtime not in _SUITES or platform.machine() not in _ARCHITECTURES:
            raise StandInError(
                f"there is no stand-in for {runtime} on {platform.machine()}",
                f"it exists for {', '.join(_SUITES)} on {', '.join(_ARCHITECTURES)}",
            )
        return cls(runtime, platform.machine())

    @property
    def tag(self) -> str:
        """The name under which `sam local invoke` looks for the image."""
        architecture = _ARCHITECTURES[self.machine][0]
        return f"public.ecr.aws/lambda/python:{self.runtime.removeprefix('python')}-{architecture}"

    @property
    def recipe(self) -> str:
        """A digest of what the image is made of; it changes with the recipe and the packages."""
        parts = [self.runtime, self.machine, _BOOTSTRAP, *self._requirements()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def make(self, podman: list[str], say: Callable[[str], None]) -> None:
        """Makes the image in the storage of `podman`, unless it is there. Raises StandInError."""
        looked_up = json.loads(
            output([*podman, "images", "--format", "json"], "the images cannot be listed")
        )
        if any(
            self.tag in (image.get("Names") or ())
            and (image.get("Labels") or {}).get(_LABEL) == self.recipe
            for image in looked_up
        ):
            return
        listing = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"]
        mirror = debian_mirror(output(listing, "apt's sources cannot be listed"))
        suite = _SUITES[self.runtime]
        say(f"making {self.tag} of Debian {suite} from {mirror} (once, about two minutes) ...")
        with tempfile.TemporaryDirectory(prefix="mayfly-image-") as folder:
            root = Path(folder, "root")
            output(
                [
                    "debootstrap", "--variant=minbase",
                    "--include=python3,ca-certificates", suite, str(root), mirror,
                ],
                f"Debian {suite} cannot be installed from {mirror}",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **_apt_proxy()},
            )  # fmt: skip
            self._add_runtime(root)
            shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
            archive = str(Path(folder, "root.tar"))
            output(["tar", "-C", str(root), "-cf", archive, "."], "the image cannot be packed")
            changes = [
                "WORKDIR /var/task",
                "ENV PATH=/usr/local/bin:/usr/bin:/bin LAMBDA_TASK_ROOT=/var/task",
                f"LABEL {_LABEL}={self.recipe}",
            ]
            output(
                [
                    *podman,
                    "import",
                    *(f"--change={change}" for change in changes),
                    archive,
                    self.tag,
                ],
                "the image cannot be imported",
            )

    def _add_runtime(self, root: Path) -> None:
        runtime = root / "var/runtime"
        for path in (runtime, root / "var/task", root / "opt"):
            path.mkdir(parents=True, exist_ok=True)
        lock = root.parent / "requirements.txt"
        lock.write_text("\n".join(self._requirements()))
        output(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                "--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation=cp",
                "--platform", _ARCHITECTURES[self.machine][1],
                "--python-version", self.runtime.removeprefix("python"),
                "--target", str(runtime), "-r", str(lock),
            ],
            "the packages of AWS's runtime cannot be installed",
        )  # fmt: skip
        (runtime / "bootstrap").write_text(_BOOTSTRAP)
        (runtime / "bootstrap").chmod(0o755)

    def _requirements(self) -> list[str]:
        return pinned((ROOT / "requirements/local.txt").read_text(), _PACKAGES)


def debian_mirror(targets: str) -> str:
    """Returns the URL of Debian's main archive that apt uses here.

    `targets` is apt's own list of its sources, a line of origin, label and URL for each. Raises
    StandInError if Debian is not one of them.
    """
    for line in targets.splitlines():
        origin, label, url = [*line.split(" "), "", ""][:3]
        if (origin, label) == ("Debian", "Debian") and url:
            return url
    raise StandInError(
        "apt does not list a mirror of Debian", "run `apt-get update` first, on a Debian system"
    )


def pinned(lock: str, packages: tuple[str, ...]) -> list[str]:
    """Returns the entries of a lock file for some packages, with their hashes.

    An entry is a line `name==version`, and lines of hashes that are indented. Raises StandInError
    if a package is missing.
    """
    entries = {
        entry.partition("==")[0]: entry.strip()
        for entry in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
        if "==" in entry
    }
    if missing := [package for package in packages if package not in entries]:
        raise StandInError("the lock lacks packages of AWS's runtime", ", ".join(missing))
    return [entries[package] for package in packages]


def _apt_proxy() -> Mapping[str, str]:
    """Returns the variables that make debootstrap use the proxy of apt, if it has one."""
    printed = output(
        ["apt-config", "shell", "proxy", "Acquire::http::Proxy"], "apt's proxy is unknown"
    )
    found = re.fullmatch(r"proxy='([^']+)'", printed.strip())
    return {"http_proxy": found[1]} if found else {}
