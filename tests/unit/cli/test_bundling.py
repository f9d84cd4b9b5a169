"""The steps of the build, on small folders. tests/integration/test_build.py builds the real one."""

import os
import re
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from mayfly_cli.bundling import application
from mayfly_cli.bundling.bytecode import compile_modules, find_compiler
from mayfly_cli.bundling.cache import Cache, digest, link, settle
from mayfly_cli.bundling.code import check_names, copy_handlers
from mayfly_cli.bundling.errors import BundleError
from mayfly_cli.bundling.packages import (
    PROGRAMS,
    TESTS,
    install_locked,
    prune_services,
    remove_page,
    remove_programs,
    remove_unneeded,
)
from mayfly_cli.bundling.target import Target, target_of

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, *names: str, text: str = "") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Runtime: python3.13\nArchitectures:\n  - arm64\n",
         Target("3.13", "manylinux2014_aarch64")),
        ("Runtime: python3.13\nArchitectures: [ arm64 ]\n",
         Target("3.13", "manylinux2014_aarch64")),
        ("Runtime: python3.13\nArchitectures: [\"arm64\"]\n",
         Target("3.13", "manylinux2014_aarch64")),
        ("Runtime: python3.13\nArchitectures:\n- 'arm64' # cheap\n",
         Target("3.13", "manylinux2014_aarch64")),
        ("Globals:\n  Runtime: python3.13\n  Architectures: [arm64]\n",
        Target("3.13", "manylinux2014_aarch64")),
        ("  Runtime: python3.9  # old\n", Target("3.9", "manylinux2014_x86_64")),
        ("  Runtime: python3.13\n  Runtime: python3.13\n", Target("3.13", "manylinux2014_x86_64")),
    ],
)  # fmt: skip
def test_target_is_the_templates_runtime_and_architecture(
    tmp_path: Path, text: str, target: Target
) -> None:
    assert target_of(write(tmp_path, "template.yaml", text=text) / "template.yaml") == target


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Resources: {}\n", "it has none"),
        ("Runtime: python3.12\nRuntime: python3.13\n", "it has 3.12, 3.13"),
        ("Runtime: python3.12\nArchitectures: !If [a, b]\n", "write `Architectures: .arm64.`"),
        ("Runtime: python3.12\nArchitectures: [m68k]\n", "it has m68k"),
        ("Runtime: python3.12\nArchitectures: [arm64]\nArchitectures: [x86_64]\n",
        "it has arm64, x86_64"),
    ],
)  # fmt: skip
def test_template_with_several_targets_cannot_be_built(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        target_of(write(tmp_path, "template.yaml", text=text) / "template.yaml")


def test_what_no_function_uses_is_removed(tmp_path: Path) -> None:
    kept = {
        "six.py",
        "shop/__init__.py",
        "shop/testing/__init__.py",
        "shop/examples.py",
        "shop/data.json",
        "shop-1.0.dist-info/METADATA",
        "shop-1.0.dist-info/entry_points.txt",
        "shop-1.0.dist-info/licenses/LICENSE",
        "shop-1.0.dist-info/NOTICE.txt",
    }
    write(
        tmp_path,
        *kept,
        "bin/shop",
        "shop/tests/test_shop.py",
        "shop/test/__init__.py",
        "shop/examples/one.rst",
        "shop/__pycache__/data.cpython-313.pyc",
        "shop/__init__.pyi",
        "shop/py.typed",
        "shop-1.0.dist-info/RECORD",
        "shop-1.0.dist-info/INSTALLER",
        "shop-1.0.dist-info/top_level.txt",
        "aws_lambda_powertools/event_handler/openapi/swagger_ui/swagger-ui.min.css",
    )
    remove_unneeded(tmp_path, *TESTS)
    remove_page(tmp_path)
    assert files(tmp_path) == kept


def test_data_of_services_is_pruned_to_the_list(tmp_path: Path) -> None:
    kept = {
        "botocore/data/endpoints.json",
        "botocore/data/_retry.json",
        "botocore/data/s3/2006-03-01/service-2.json.gz",
        "boto3/data/s3/2006-03-01/resources-1.json",
    }
    write(
        tmp_path,
        *kept,
        "botocore/data/s3/2006-03-01/examples-1.json",
        "botocore/data/ses/2010-12-01/service-2.json.gz",
        "boto3/data/ec2/2016-11-15/resources-1.json",
    )
    prune_services(tmp_path, ["s3"])
    assert files(tmp_path) == kept
    with pytest.raises(BundleError, match="botocore has no service dynamo: correct the name"):
        prune_services(tmp_path, ["s3", "dynamo"])


def test_error_of_pip_names_the_lock_and_the_target(tmp_path: Path) -> None:
    lock = write(tmp_path, "lock.txt", text="no package\n") / "lock.txt"
    with pytest.raises(BundleError, match=r"(?s)lock\.txt for Python 3\.13 on any:\n.*no package"):
        install_locked(lock, tmp_path / "packages", Target("3.13", "any"))


def test_handlers_may_not_have_the_name_of_a_package(tmp_path: Path) -> None:
    handlers = write(tmp_path / "functions", "mayfly/main.py", "hello/main.py", "Makefile")
    with pytest.raises(BundleError, match="mayfly is the name of code of a function"):
        copy_handlers(handlers, write(tmp_path / "made", "mayfly/__init__.py"))
    copy_handlers(handlers, write(tmp_path / "other"))
    assert files(tmp_path / "other") == {"mayfly/main.py", "hello/main.py"}
    check_names(handlers, write(tmp_path / "packages", "six.py"))


def test_packages_of_handlers_are_refused_since_they_would_not_be_deployed(tmp_path: Path) -> None:
    handlers = write(tmp_path / "functions", "hello/main.py", "requirements.txt")
    with pytest.raises(BundleError, match=r"Add yours to layers/mayfly/requirements\.in"):
        copy_handlers(handlers, tmp_path / "made")


def test_programs_of_the_wheel_are_removed_and_the_rest_is_kept(tmp_path: Path) -> None:
    write(tmp_path, "mayfly/__init__.py", *(f"{name}/__init__.py" for name in PROGRAMS))
    remove_programs(tmp_path)
    assert files(tmp_path) == {"mayfly/__init__.py"}


@pytest.mark.parametrize(
    ("target", "newest"),
    [
        (Target("3.11", "manylinux2014_x86_64"), "manylinux_2_26_x86_64"),
        (Target("3.12", "manylinux2014_aarch64"), "manylinux_2_34_aarch64"),
    ],
)
def test_wheels_up_to_the_glibc_of_lambdas_system_are_taken(target: Target, newest: str) -> None:
    assert (target.platforms[0], target.platforms[-1]) == (newest, target.platform)


# ---------------------------------------------------------------- a function of an application


def wheel(folder: Path, name: str, *modules: str) -> None:
    """Writes a wheel with these modules."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    texts = {
        **dict.fromkeys(modules, "x = 1\n"),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of code whose packages come from a folder of wheels. Nothing makes byte-code."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    wheel(tmp_path / "wheels", "orders", "orders/__init__.py", "orders/tests/__init__.py",
          "mayfly_local/__init__.py")  # fmt: skip
    code = tmp_path / "src"
    write(code, "shop/page.py", "Makefile", "shop/Makefile", ".git/HEAD", ".venv/lib/a.py")
    write(code, "requirements.txt", text="orders\n")
    return code


def build_shop(
    code: Path, folder: Path, clock: Clock, services: tuple[str, ...] = ("s3",)
) -> set[str]:
    application.build(
        code, folder, Target("3.13", "manylinux2014_aarch64"), services=services, bytecode=False,
        cache=Cache(code.parent / "cache", clock),
    )  # fmt: skip
    return files(folder)


def test_function_is_its_code_and_its_packages_without_programs(shop: Path, tmp_path: Path) -> None:
    assert build_shop(shop, tmp_path / "Page", Clock()) == {
        "shop/page.py", "shop/Makefile", "requirements.txt",
        # A folder of tests may be imported by a package that Mayfly does not know.
        "orders/__init__.py", "orders/tests/__init__.py", "orders-1.0.dist-info/METADATA",
    }  # fmt: skip


def test_code_without_packages_is_a_function_too(tmp_path: Path) -> None:
    code = write(tmp_path / "src", "page.py", "Makefile")
    assert build_shop(code, tmp_path / "Page", Clock()) == {"page.py"}


def test_program_of_an_application_stays_executable(tmp_path: Path) -> None:
    code = write(tmp_path / "src", "page.py", "tool")
    (code / "tool").chmod(0o700)
    build_shop(code, tmp_path / "Page", Clock())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "Page").iterdir()}
    assert modes == {"page.py": 0o444, "tool": 0o555}


def test_functions_of_a_build_share_packages_and_the_next_build_installs_them_again(
    shop: Path, tmp_path: Path
) -> None:
    clock = Clock()
    build_shop(shop, tmp_path / "A", clock)
    wheel(tmp_path / "wheels", "orders", "orders/__init__.py", "orders/new.py")
    for seconds, function in ((59, "B"), (59, "C"), (60, "D")):
        clock.seconds += seconds
        has_new = "orders/new.py" in build_shop(shop, tmp_path / function, clock)
        assert has_new == (function == "D")
    assert (tmp_path / "A/shop/page.py").samefile(tmp_path / "C/shop/page.py")


def test_saved_code_is_in_the_next_function_of_a_build(shop: Path, tmp_path: Path) -> None:
    clock = Clock()
    build_shop(shop, tmp_path / "A", clock)
    write(shop, "shop/page.py", text="changed = 1\n")
    build_shop(shop, tmp_path / "B", clock)
    assert (tmp_path / "B/shop/page.py").read_text() == "changed = 1\n"
    assert (tmp_path / "A/shop/page.py").read_text() == ""


def test_data_of_botocore_is_pruned_to_the_services_and_others_are_found_elsewhere(
    shop: Path, tmp_path: Path
) -> None:
    data = "botocore/data/{}/2010-12-01/service-2.json"
    wheel(tmp_path / "wheels", "botocore", "botocore/loaders.py",
          *(data.format(name) for name in ("s3", "ses", "ec2")))  # fmt: skip
    write(shop, "requirements.txt", text="botocore\n")
    held = build_shop(shop, tmp_path / "A", Clock(), ("s3", "ses"))
    assert {name for name in held if "/data/" in name} == {data.format("s3"), data.format("ses")}
    assert "botocore/left_out.py" in held
    with pytest.raises(BundleError, match="botocore has no service sss: correct the name"):
        build_shop(shop, tmp_path / "B", Clock(), ("s3", "sss"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("requirements.txt", "nothing\n", r"(?s)src/requirements\.txt for Python 3\.13.*nothing"),
        ("orders.py", "", None),
        ("orders/__init__.py", "", "orders is the name of code of a function and of a package"),
    ],
    ids=["no-such-package", "other-name", "name-of-a-package"],
)
def test_code_that_does_not_fit_is_named(
    shop: Path, tmp_path: Path, name: str, text: str, said: str | None
) -> None:
    write(shop, name, text=text)
    if said is None:
        assert name in build_shop(shop, tmp_path / "A", Clock())
        return
    with pytest.raises(BundleError, match=said):
        build_shop(shop, tmp_path / "A", Clock())
    (tmp_path / "B").mkdir()
    (tmp_path / "B" / "old.py").touch()
    with pytest.raises(BundleError, match="B is not empty"):
        build_shop(shop, tmp_path / "B", Clock())


# ---------------------------------------------------------------- the cache


@pytest.mark.parametrize(("idle", "is_same"), [(0, True), (59, True), (60, False), (-1, False)])
def test_generation_is_the_same_while_it_is_asked_for(
    tmp_path: Path, idle: int, *, is_same: bool
) -> None:
    clock = Clock()
    cache = Cache(tmp_path, clock)
    first = cache.generation("a", 60)
    clock.seconds += idle
    assert (cache.generation("a", 60) == first) is is_same


def test_finished_folder_is_made_once_and_replaces_older_ones(tmp_path: Path) -> None:
    cache, made = Cache(tmp_path), []

    def make(folder: Path) -> None:
        made.append(folder)
        write(folder, "a.py")

    with cache.locked():
        first = cache.made("functions", "1", make)
        assert cache.made("functions", "1", make) == first
        other = cache.made("functions-of", "1", make)
        second = cache.made("functions", "2", make)
    assert len(made) == 3
    assert (first.exists(), second.exists(), other.exists()) == (False, True, True)


def test_folder_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def die(folder: Path) -> None:
        write(folder, "half.py")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), cache.locked():
        cache.made("functions", "1", die)
    with cache.locked():
        folder = cache.made("functions", "1", lambda made: (made / "a.py").touch())
    assert files(folder) == {"a.py"}


def test_key_changes_with_each_name_and_content(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", "one.py", text="1")
    keys = [digest("x", folder)]
    keys.append(digest("y", folder))
    write(folder, "one.py", text="2")
    keys.append(digest("x", folder))
    (folder / "one.py").rename(folder / "two.py")
    keys.append(digest("x", folder))
    keys.append(digest("x", folder, ""))
    assert len(set(keys)) == len(keys)
    write(folder, "__pycache__/two.cpython-313.pyc")
    assert digest("x", folder) == keys[3]


def test_files_are_linked_with_one_time_and_readable_modes(tmp_path: Path) -> None:
    source = write(tmp_path / "made", "a/b.py", text="1")
    (source / "a/b.py").chmod(0o600)
    settle(source)
    for name in ("Hello", "Jobs"):
        link(source, tmp_path / name)
    linked = tmp_path / "Jobs" / "a" / "b.py"
    assert (linked.stat().st_nlink, stat.S_IMODE(linked.stat().st_mode)) == (3, 0o444)
    assert linked.stat().st_mtime == (source / "a").stat().st_mtime == 315_619_200


# ---------------------------------------------------------------- byte-code


def program(folder: Path, name: str, text: str) -> None:
    """Writes a program for a PATH of its own."""
    write(folder, name, text=f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def no_pyodide(_: object) -> Path:
    raise AssertionError


def test_error_without_an_interpreter_names_the_three_ways_and_the_fourth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleError) as caught:
        find_compiler("3.13", no_pyodide)
    assert str(caught.value) == (
        "no Python 3.13 is here to compile byte-code for Lambda. These were tried:\n"
        "  python3.13 on PATH: is not installed\n"
        "  uv python find 3.13: uv is not installed\n"
        "  Pyodide under Node: node is not installed\n"
        "Install one of them, or build with BYTECODE=off: "
        "without byte-code, a cold start takes about twice as long."
    )


def test_interpreter_that_does_not_run_or_has_another_version_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "python3.2", f"exec '{sys.executable}' \"$@\"")
    program(
        tmp_path,
        "uv",
        f"test \"$*\" = 'python find --no-python-downloads 3.2' && echo '{tmp_path}/shim'",
    )
    program(tmp_path, "shim", "echo 'shim: command not found' >&2; exit 127")
    program(tmp_path, "node", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleError) as caught:
        find_compiler("3.2", no_pyodide)
    assert str(caught.value).splitlines()[1:4] == [
        f"  python3.2 on PATH: it is Python {HERE}",
        f"  uv python find 3.2: {tmp_path}/shim ended with 127: shim: command not found",
        "  Pyodide under Node: npm is not installed",
    ]


@pytest.mark.parametrize("way", ["python", "uv"])
def test_modules_are_compiled_for_lambda_by_the_interpreter_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    bin_ = tmp_path / "bin"
    if way == "python":
        program(bin_, f"python{HERE}", f"exec '{sys.executable}' \"$@\"")
    else:
        program(bin_, "uv", f"echo '{sys.executable}'")
    monkeypatch.setenv("PATH", str(bin_))
    compiler = find_compiler(HERE, no_pyodide)
    folder = write(tmp_path / "made", "shop/orders.py", text="def f(): raise LookupError\n")
    compile_modules(compiler, folder, "/var/task")
    (compiled,) = folder.rglob("*.pyc")
    assert compiled.name == f"orders.cpython-{HERE.replace('.', '')}.pyc"
    content = compiled.read_bytes()
    assert (content[:4], content[4:8]) == (compiler.magic, b"\1\0\0\0")
    assert b"/var/task/shop/orders.py" in content
    assert os.fsencode(tmp_path) not in content


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("shop/orders.py", "def f(:\n", r"(?s)a module cannot be compiled:\n.*orders\.py"),
        ("shop/__pycache__/orders.cpython-27.pyc", "old", "no byte-code that Lambda will use"),
    ],
)
def test_module_without_the_right_byte_code_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    program(tmp_path / "bin", f"python{HERE}", f"exec '{sys.executable}' \"$@\"")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    compiler = find_compiler(HERE, no_pyodide)
    folder = write(tmp_path / "made", "shop/orders.py", text="x = 1\n")
    write(folder, name, text=text)
    with pytest.raises(BundleError) as caught:
        compile_modules(compiler, folder, "/var/task")
    assert re.search(said, str(caught.value))


def test_module_of_a_package_that_cannot_be_compiled_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", f"python{HERE}", f"exec '{sys.executable}' \"$@\"")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    compiler = find_compiler(HERE, no_pyodide)
    folder = write(tmp_path / "made", "shop/template.py", text="def {{ name }}(:\n")
    write(folder, "shop/orders.py", text="x = 1\n")
    compile_modules(compiler, folder, "/var/task", every=False)
    assert len(list(folder.rglob("*.pyc"))) == 1
    assert (folder / "shop/template.py").exists()
