"""Fixtures of tests/hosts. All of it needs root: it mounts file systems, and changes users."""
import ctypes
import gzip
import os
import re
import shutil
import subprocess

import pytest

import hosts  # first: it knows the way to pipeline.py
import pipeline

CLONE_NEWNS = 0x00020000


def pytest_configure(config):
    config.addinivalue_line("markers", "kernel(option): the kernel must have been built with CONFIG_option")


def kernel_options():
    """Those that are set, or None when the kernel does not tell."""
    try:
        with gzip.open("/proc/config.gz", "rt") as f:
            text = f.read()
    except OSError:
        text = pipeline.read_text(f"/boot/config-{os.uname().release}")
    return set(re.findall(r"^CONFIG_(\w+)=[ym]$", text, re.M)) or None


def pytest_collection_modifyitems(config, items):
    """What this kernel cannot do is counted as deselected."""
    options = kernel_options()
    lacking = [i for i in items for m in i.iter_markers("kernel") if options and m.args[0] not in options]
    items[:] = [i for i in items if i not in lacking]
    config.hook.pytest_deselected(items=lacking)
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="mounting file systems needs root"))


@pytest.fixture(scope="session", autouse=True)
def own_mounts():
    """A mount namespace for the tests, with directories of its own where the library has its default places."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm"], check=True)
    os.makedirs("/run/user", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "runtime", "/run/user"], check=True)


@pytest.fixture(autouse=True)
def empty_places(own_mounts):
    """Each test finds the default places empty."""
    for place in ("/dev/shm", "/run/user"):
        for name in os.listdir(place):
            path = os.path.join(place, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


@pytest.fixture
def box():
    """A directory and processes of one test, whose programs any user can run."""
    box = pipeline.Box()
    mounted = []
    try:
        hosts.copy_into(box)
        box.file_system = lambda *a, **kw: mounted.append(hosts.FileSystem(box, *a, **kw)) or mounted[-1]
        yield box
        faults = box.close()
        assert not faults, "\n".join(faults) + "\n" + box.report()
    finally:
        box.close()
        for m in mounted:
            m.close()
        box.remove()


@pytest.fixture
def logd():
    with hosts.Logd() as logd:
        yield logd


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    result = outcome.get_result()
    if result.failed and result.when == "call" and "box" in item.funcargs:
        result.sections.append(("processes", item.funcargs["box"].report()))
    # On continuous integration nothing may be skipped.
    if result.skipped and os.environ.get("CI"):
        result.outcome = "failed"
        result.longrepr = f"skipped, which is an error when CI is set: {result.longrepr}"
