"""Refuses a name or a runtime that `mayfly init` refuses, too; cookiecutter then writes nothing."""

import keyword
import re
import sys

NAME = "{{ cookiecutter.project_name }}"
RUNTIME = "{{ cookiecutter.runtime }}"

if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", NAME) or keyword.iskeyword(NAME):
    sys.exit(f"{NAME} is not a name of a package: use lower-case letters, digits and _")
if not re.fullmatch(r"python3\.1[1-4]", RUNTIME):
    sys.exit(f"{RUNTIME} is not a runtime that Mayfly supports: python3.11 to python3.14")
