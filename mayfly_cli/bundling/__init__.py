"""The content of a function's folder, or of a layer with the library, for `sam build`.

tools/bundle.py has the steps for the functions of this repository, whose packages are locked, and
`application` those for the functions of an application that installs Mayfly. These modules use the
standard library only, since the `python3` of any machine runs them::

    application  the folder of a function of an application
    target     the runtime and the architecture of the template
    code       copies code: that of an application, the library, the handlers
    packages   installs packages, and removes what no function uses
    services   the list of AWS services whose data is deployed
    left_out   goes into the folder: finds the data of all other services
    bytecode   finds an interpreter of the template's version, and compiles with it
    compiled   runs in that interpreter
    cache      keeps finished folders, so that all functions share one
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the `python3` of a machine may be older
    sys.exit(
        f"the build needs Python 3.11 or newer, and {sys.executable} is older; name another one "
        "with PYTHON: make build PYTHON=python3.13"
    )
