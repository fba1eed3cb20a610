"""Fixtures: a box of processes for a test, or for all tests of a module."""
import os
import signal

import pytest

import pipeline
import rawhttp

BOXES = ("box", "shared_box")


def _box():
    box = pipeline.Box()
    try:
        yield box
        faults = box.close()
        assert not faults, "\n".join(faults) + "\n" + box.report()
    finally:
        box.close()
        box.remove()


@pytest.fixture
def box():
    """A directory and processes of one test. At its end all is stopped, and stopping must go as promised."""
    yield from _box()


@pytest.fixture(scope="module")
def shared_box():
    """The same for all tests of a module."""
    yield from _box()


@pytest.fixture
def redis(box):
    return box.redis()


@pytest.fixture
def logd(box, redis):
    return box.logd(redis, "--no-echo")


@pytest.fixture(scope="module")
def server(shared_box):
    """A logd with small limits, for the many cases of one request each."""
    redis = shared_box.redis()
    logd = shared_box.logd(redis, "--max-body", str(rawhttp.MAX_BODY), "--max-records", str(rawhttp.MAX_RECORDS), "--no-echo")
    logd.store = redis
    return logd


def pytest_configure(config):
    config.addinivalue_line("markers", "forks_threads(also): forks a process with threads, which ThreadSanitizer cannot follow, nor those named")
    # Started in the background by a shell, we inherit signals as ignored, and so would all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config, items):
    """What a sanitizer cannot do is not run under it, and counted as deselected."""
    build = os.path.basename(os.path.abspath(pipeline.BUILD))
    impossible = [i for i in items if any(name in build for m in i.iter_markers("forks_threads") for name in ("tsan", *m.args))]
    items[:] = [i for i in items if i not in impossible]
    config.hook.pytest_deselected(items=impossible)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    result = outcome.get_result()
    if result.failed and result.when == "call":
        for box in (item.funcargs[name] for name in BOXES if name in item.funcargs):
            result.sections.append(("processes", box.report()))
    # On continuous integration nothing may be skipped: a missing server or tool is an error there.
    if result.skipped and os.environ.get("CI"):
        result.outcome = "failed"
        result.longrepr = f"skipped, which is an error when CI is set: {result.longrepr}"
