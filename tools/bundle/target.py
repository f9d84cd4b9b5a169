"""The runtime and the architecture that a template asks for."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.bundle.errors import BundleError

__all__ = ["Target", "target_of"]

# The standard library cannot read YAML. These lines are in the template's Globals.
_RUNTIME: Final = re.compile(r"^ *Runtime: *python(3\.\d+) *(?:#.*)?$", re.MULTILINE)
_ARCHITECTURE: Final = re.compile(
    r"""^ *Architectures: *(?:\n *- *|\[ *)["']?(\w+)["']? *\]? *(?:#.*)?$""", re.MULTILINE
)
#: The tag of wheels for Lambda, by architecture.
_PLATFORMS: Final = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}


@dataclass(frozen=True)
class Target:
    """A Python version such as `3.13`, and the platform tag of its wheels."""

    version: str
    platform: str


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
    if len(architectures) != 1 or architectures[0] not in _PLATFORMS:
        raise BundleError(
            f"{template} must have one architecture for all functions, in a line such as "
            f"`Architectures: [arm64]`; it has {', '.join(architectures)}"
        )
    return Target(versions[0], _PLATFORMS[architectures[0]])
