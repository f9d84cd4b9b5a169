"""Runs in the interpreter that makes byte-code: natively, or in Pyodide.

It imports nothing of this repository. The arguments are a folder and the path that it has when it
is deployed. It compiles the folder's modules, and prints one line of JSON: `version`, such as
`3.13`; `magic`, the number that byte-code of this interpreter begins with, in hexadecimal; and
`failed`, whether a module has a syntax error. Without arguments it compiles nothing.
"""

import compileall
import importlib.util
import json
import py_compile
import sys

failed = False
if len(sys.argv) > 2:
    folder, deployed = sys.argv[1:3]
    failed = not compileall.compile_dir(
        folder,
        maxlevels=100,
        quiet=1,
        # Files have other times in a zip, so Python must not compare times. Errors show the path
        # that a module has on Lambda.
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=folder,
        prependdir=deployed,
    )
print(
    json.dumps(
        {
            "version": ".".join(str(part) for part in sys.version_info[:2]),
            "is_final": sys.implementation.name == "cpython"
            and sys.version_info.releaselevel == "final",
            "magic": importlib.util.MAGIC_NUMBER.hex(),
            "failed": failed,
        }
    )
)
