"""What make install puts there, and a service that is built against it as README.md says."""
import os
import re
import shutil
import subprocess

import pytest

from pipeline import BUILD, messages, program

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
LIBRARY = os.path.abspath(os.path.join(BUILD, "liblogclient.so.1"))


def tool(*argv, env=None, cwd=None):
    """Standard output of a command that must succeed."""
    p = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd, timeout=300)
    assert p.returncode == 0, f"{argv}: {p.stdout[-2000:]}\n{p.stderr[-4000:]}"
    return p.stdout


def make(*args):
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR", "PREFIX")}
    p = subprocess.run(["make", "--no-print-directory", "-C", ROOT, f"BUILD={os.path.abspath(BUILD)}", *args], capture_output=True,
                       text=True, env=clean, timeout=600)
    assert p.returncode == 0, p.stderr[-4000:]


def compiler():
    """The compiler, with the sanitizer that the library was built with."""
    symbols = tool("nm", "-D", LIBRARY)
    flags = [f for mark, f in (("__asan_init", "-fsanitize=address,undefined"), ("__tsan_init", "-fsanitize=thread")) if mark in symbols]
    return [os.environ.get("CC", "cc"), *flags]


def files_under(directory):
    return {os.path.relpath(os.path.join(at, name), directory) for at, _, names in os.walk(directory) for name in names}


@pytest.fixture(scope="module")
def installed(shared_box):
    prefix = shared_box.path("usr")
    make("install", f"PREFIX={prefix}")
    return prefix


@pytest.fixture
def pkg_config(installed):
    def ask(*args):
        return tool("pkg-config", *args, "liblogclient",
                    env={"PKG_CONFIG_PATH": f"{installed}/lib/pkgconfig:" + os.environ.get("PKG_CONFIG_PATH", "")}).split()
    return ask


def readme_example():
    """The first C block after the heading about linking."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        text = f.read()
    section = text[re.search(r"^#+ .*[Ll]inking", text, re.M).start():]
    return re.search(r"^```c\n(.*?)^```", section, re.M | re.S).group(1)


@pytest.mark.parametrize("link", ["shared", "static"])
def test_readme_example(box, redis, logd, installed, pkg_config, link):
    source = box.write("app.c", readme_example().encode())
    binary = box.path("app")
    flags = [*pkg_config("--cflags"), "-Wall", "-Wextra", "-Werror"]
    if link == "shared":
        libs, env = pkg_config("--libs"), {"LD_LIBRARY_PATH": f"{installed}/lib"}
    else:
        libs, env = [w.replace("-llogclient", "-l:liblogclient.a") for w in pkg_config("--static", "--libs")], {}
    tool(*compiler(), source, *flags, *libs, "-o", binary)
    app = box.run("app", [binary], env={"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir, **env})
    assert app.popen.returncode == 0, app.stderr()
    assert app.stderr() == ""
    assert messages(redis) == ["card refused", "2 attempts left"]
    linked = tool("ldd", binary)
    assert ("liblogclient.so.1" in linked) == (link == "shared")


def test_installed_files(installed):
    found = files_under(installed)
    wanted = {"bin/logd", "bin/logworker", "bin/logsend", "include/logclient.h", "lib/liblogclient.a", "lib/liblogclient.so",
              "lib/liblogclient.so.1", "lib/pkgconfig/liblogclient.pc", "share/man/man1/logsend.1", "share/man/man3/logclient.3",
              "share/man/man3/send_log.3"}
    assert wanted <= found
    assert all(f in wanted or f.startswith("share/man/") for f in found)
    assert os.readlink(f"{installed}/lib/liblogclient.so") == "liblogclient.so.1"
    assert "SONAME" in (dynamic := tool("readelf", "-d", f"{installed}/lib/liblogclient.so.1"))
    assert "[liblogclient.so.1]" in dynamic
    for name in ("logd", "logworker", "logsend"):
        assert re.search(r"\d+\.\d+\.\d+", tool(f"{installed}/bin/{name}", "--version"))


def test_destdir_and_uninstall(box):
    stage = box.path("stage")
    make("install", f"DESTDIR={stage}", "PREFIX=/opt/logs")
    with open(f"{stage}/opt/logs/lib/pkgconfig/liblogclient.pc") as f:
        text = f.read()
    assert "prefix=/opt/logs\n" in text and stage not in text
    make("uninstall", f"DESTDIR={stage}", "PREFIX=/opt/logs")
    assert files_under(stage) == set()


def exported(path, *options):
    names = {line.split()[-1].split("@")[0] for line in tool("nm", *options, "--defined-only", path).splitlines()
             if re.match(r"[0-9a-f]+ [A-Z] ", line)}
    return {n for n in names if not re.match(r"__(asan|tsan|ubsan|odr_asan|sanitizer)|LIBLOGCLIENT_|_init$|_fini$", n)}


@pytest.mark.parametrize("file, options", [("liblogclient.so.1", ["-D"]), ("liblogclient.a", ["-g"])])
def test_exported_symbols(file, options):
    with open(os.path.join(os.path.dirname(__file__), "exports.txt")) as f:
        wanted = set(f.read().split())
    assert exported(os.path.join(BUILD, file), *options) == wanted


def test_header_declares_what_is_exported():
    with open(os.path.join(ROOT, "liblogclient", "logclient.h"), encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    declared = set(re.findall(r"\b(send_v?logf?|logclient_\w+)\s*\(", text)) - {"logclient_error_cb"}
    with open(os.path.join(os.path.dirname(__file__), "exports.txt")) as f:
        assert declared == set(f.read().split())


@pytest.mark.parametrize("options", ["-std=c89", "-std=c99", "-std=gnu17", "-x c++ -std=c++98", "-x c++ -std=c++17"])
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_header_stands_alone(box, installed, cc, options):
    if shutil.which(cc) is None:
        assert not os.environ.get("CI"), f"{cc} is missing"
        pytest.skip(f"{cc} is missing")
    source = box.write("h.c", b"#include <logclient.h>\nint main(void) { return send_log(\"a\", \"info\", \"b\"); }\n")
    tool(cc, *options.split(), "-pedantic-errors", "-Wall", "-Wextra", "-Werror", f"-I{installed}/include", "-c", source, "-o", box.path("h.o"))


def test_library_needs_only_libevent():
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", tool("readelf", "-d", LIBRARY)))
    assert {n for n in needed if not re.match(r"lib(c|m|pthread|gcc_s|asan|tsan|ubsan)\.so|ld-linux", n)} <= {
        n for n in needed if n.startswith("libevent")}


def test_programs_do_not_use_the_library():
    """logd and logworker speak the protocol, not the library."""
    for name in ("logd", "logworker"):
        assert "liblogclient" not in tool("readelf", "-d", program(name))
