"""Calls of the C library fail, one after the other, and from one on: an error or success, and all is well when they succeed again."""
import re

import pytest

from pipeline import SANITIZED, program

pytestmark = pytest.mark.forks_threads  # ThreadSanitizer cannot start in a program that has its own malloc(3)

SETTINGS = {"LOGCLIENT_LINGER_MS": "1", "LOGCLIENT_BACKOFF_MIN_MS": "1", "LOGCLIENT_BACKOFF_MAX_MS": "10", "LOGCLIENT_RING_BYTES": "1m",
            "LOGCLIENT_REQUEST_TIMEOUT_MS": "300"}


@pytest.fixture
def fail(box, logd):
    """Runs a scenario of fail.c, in which nothing may go wrong, and nothing is printed but by the program itself."""
    def run(scenario, kind, mode, host="127.0.0.1"):
        p = box.run("fail", [program("tests/fail"), scenario, kind, mode, "0"], 300,
                    env={**SETTINGS, "LOGCLIENT_URL": f"http://{host}:{logd.port}", "LOGCLIENT_RING_DIR": box.ring_dir})
        # With a sanitizer, the sender's thread keeps standard error (table.c).
        printed = re.sub(r"^\[warn\] .*\n", "", p.stderr(), flags=re.M) if SANITIZED else p.stderr()
        assert (p.popen.returncode, printed) == (0, ""), p.stdout()
        assert p.stdout().startswith("all went well")
    return run


@pytest.mark.parametrize("mode", ["once", "lasting"])
@pytest.mark.parametrize("kind", ["memory", "map", "thread", "descriptor", "file"])
@pytest.mark.parametrize("scenario", ["default", "later", "client", "end"])
def test_calls_that_fail(fail, scenario, kind, mode):
    """libevent ended the process without a pipe, and crashed without memory."""
    fail(scenario, kind, mode)


@pytest.mark.parametrize("mode", ["once", "lasting"])
@pytest.mark.parametrize("kind", ["memory", "descriptor"])
def test_calls_that_fail_while_a_name_is_resolved(fail, kind, mode):
    fail("client", kind, mode, "localhost")


def test_few_descriptors(fail):
    """libevent ended the process with a message when it could not make a pipe."""
    fail("limit", "descriptor", "once")
