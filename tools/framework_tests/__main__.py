"""`python -m tools.framework_tests` runs session tests of Flask, Starlette and Django on Mayfly.

It downloads the sources of all by pip, and runs their own tests twice: with the frameworks'
sessions, and with Mayfly's. Each test that passes only with the former is printed with the reason.
The command fails if these tests are others than DIFFERENCES lists.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["DIFFERENCES", "main"]

ROOT: Final = Path(__file__).parent.parent.parent
#: Packages that the tests of a framework need, and the tests that are run. Flask's do not run on
#: newer versions of pytest.
FRAMEWORKS: Final = {
    "flask==3.1.3": (["pytest==8.3.5"], ["tests"]),
    "starlette==1.10.0": ([], ["tests/middleware/test_session.py"]),
    "django==5.2.19": (
        [],
        [
            "sessions_tests.tests.CacheSessionTests",
            "sessions_tests.tests.SessionMiddlewareTests",
            *("auth_tests", "csrf_tests", "messages_tests", "test_client", "test_client_regress"),
        ],
    ),
}
#: Tests that Mayfly's sessions fail, each with the reason.
DIFFERENCES: Final = {
    "test_session_using_session_settings": "SESSION_COOKIE_HTTPONLY=False is refused",
    "test_session_using_samesite_attribute": "SESSION_COOKIE_SAMESITE=None is Lax",
    "test_missing_session": "no SECRET_KEY is needed",
    "test_session_transactions_no_null_sessions": "no SECRET_KEY is needed",
    "test_session_secret_key_fallbacks": "nothing is signed, so another SECRET_KEY ends no session",
    "test_session_expiration": "the cookie has Max-Age, and no Expires",
    "test_session_cookie_setting": "a use moves the end in the store, and sends no cookie",
    "test_session_refresh_vary": "a view that does not use the session has no Vary",
    "test_session": "the test searches for Max-Age before another attribute; it is the last one",
    "test_partitioned_session": "the test searches for partitioned in small letters",
    "test_session_expires": "max_age=-1 is refused",
    "test_session_zero_max_age": "max_age=0 is refused",
    "test_session_cookie_subpath": "the test searches for path= in small letters",
    "test_session_cookie": "the test deletes the cookie session; it is __Host-session",
    "test_domain_cookie": "the test searches for domain=.example.com; the dot means nothing",
    "test_create_and_save": "the test asks Django's cache for the session",
    "test_create_and_save_async": "the test asks Django's cache for the session",
    "test_default_cache": "the test asks Django's cache for the session",
    "test_non_default_cache": "SESSION_CACHE_ALIAS is refused",
    "test_empty_session_saved": "the test asks Django's database for the session",
    "test_no_httponly_session_cookie": "SESSION_COOKIE_HTTPONLY=False is refused",
}


def main() -> int:
    """Runs the tests of all frameworks. Returns 1 if other tests fail than those listed."""
    failed: set[str] = set()
    for framework, (packages, tests) in FRAMEWORKS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = _download(framework, packages, Path(place))
            name = framework.partition("==")[0]
            passing = _passing_of_django if name == "django" else _passing
            own = passing(folder, tests)
            lost = own - passing(folder, tests, sessions=name)
        print(f"{framework}: {len(own) - len(lost)} of {len(own)}")
        for test in sorted(lost):
            short = test.rpartition("::")[2].partition("[")[0]
            print(f"  {test}: {DIFFERENCES.get(short, 'a fault')}")
            failed.add(short)
    return int(failed != set(DIFFERENCES))


def _download(framework: str, packages: list[str], folder: Path) -> Path:
    """Returns the framework's sources. `packages` are installed next to them."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    sources = ["download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), framework]
    subprocess.run([*pip, *sources], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (made,) = (each for each in folder.iterdir() if each.is_dir())
    if packages:
        subprocess.run([*pip, "install", "--target", str(folder / "with"), *packages], check=True)
    return made


def _passing(folder: Path, tests: list[str], sessions: str = "") -> set[str]:
    """Returns the tests that pass; with Mayfly's sessions if a framework is named."""
    plugins = ["schemathesis", "timeout", "xdist", "hypothesispytest", "cacheprovider"]
    paths = [str(folder.parent / "with"), str(ROOT)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "--tb=no", "--ignore=tests/test_cli.py"),
            *(part for plugin in plugins for part in ("-p", f"no:{plugin}")),
            *(("-p", "tools.framework_tests.plugin") if sessions else ()),
            *tests,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MAYFLY_SESSIONS": sessions},
        capture_output=True,
        text=True,
        check=False,
    )
    return set(re.findall(r"^(\S+::\S.*?) PASSED", done.stdout, re.MULTILINE))


def _passing_of_django(folder: Path, tests: list[str], sessions: str = "") -> set[str]:
    """Returns the tests of Django that pass; it has a program of its own to run them."""
    runner, settings = f"{__package__}.django_runner", f"{__package__}.django_settings"
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", runner, str(folder / "tests"), "--parallel=1", "-v2"),
            *("--settings", settings if sessions else "test_sqlite", *tests),
        ],
        cwd=folder / "tests",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    # A test's docstring is on a line of its own.
    passed = re.findall(r"^\w+ \((\S+)\)(?:\n.*)? \.\.\. ok$", done.stderr, re.MULTILINE)
    return {test.replace(".", "::") for test in passed}


if __name__ == "__main__":
    sys.exit(main())
