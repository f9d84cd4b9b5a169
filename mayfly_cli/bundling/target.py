"""The runtime and the architecture that a template asks for."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mayfly_cli.bundling.errors import BundleError

__all__ = ["PLATFORMS", "Target", "target_of"]

# The standard library cannot read YAML. These lines are in the template's Globals.
_RUNTIME: Final = re.compile(r"^ *Runtime: *python(3\.\d+) *(?:#.*)?$", re.MULTILINE)
_ARCHITECTURE: Final = re.compile(
    r"""^ *Architectures: *(?:\n *- *|\[ *)["']?(\w+)["']? *\]? *(?:#.*)?$""", re.MULTILINE
)
#: The tag of wheels for Lambda, by architecture.
PLATFORMS: Final = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}


@dataclass(frozen=True)
class Target:
    """A Python version such as `3.13`, and the platform tag of its wheels."""

    version: str
    platform: str

    @property
    def platforms(self) -> tuple[str, ...]:
        """The tags of all wheels that Lambda can load: those up to the glibc of its system.

        Python 3.11 runs on Amazon Linux 2, later ones on Amazon Linux 2023:
        https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
        """
        machine = self.platform.partition("_")[2]
        if not machine:
            return (self.platform,)
        newest = 26 if int(self.version.partition(".")[2]) < 12 else 34
        return (*(f"manylinux_2_{n}_{machine}" for n in range(newest, 16, -1)), self.platform)


def target_of(template: Path) -> Target:
    """Returns the target of all functions of a template.

    Raises BundleError if the template names no runtime, or several: all functions share one folder.
    """
    text = template.read_text(encoding="utf-8")
    versions = sorted(set(_RUNTIME.findall(text)))
    found = _ARCHITECTURE.findall(text)
    if len(found) != len(re.findall(r"^ *Architectures:", text, re.MULTILINE)):
        raise BundleError(
            f"{template} has Architectures in a form that is not read here; write "
            "`Architectures: [arm64]`"
        )
    architectures = sorted(set(found)) or ["x86_64"]
    if len(versions) != 1:
        raise BundleError(
            f"{template} must have one Python runtime for all functions, in a line such as "
            f"`Runtime: python3.13`; it has {', '.join(versions) or 'none'}"
        )
    if len(architectures) != 1 or architectures[0] not in PLATFORMS:
        raise BundleError(
            f"{template} must have one architecture for all functions, in a line such as "
            f"`Architectures: [arm64]`; it has {', '.join(architectures)}"
        )
    return Target(versions[0], PLATFORMS[architectures[0]])
