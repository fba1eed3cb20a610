"""libevent's global state, which a program may have in use (logclient(3), "libevent")."""
from pipeline import messages, program


def test_hooks_that_are_set_before_the_first_call(box, redis, logd):
    """Debug mode ends a process that does anything wrong with an event."""
    p = box.run("hooks", [program("tests/hooks")], env={"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir})
    assert (p.popen.returncode, p.stderr()) == (0, "")
    assert p.stdout() == "hooked, 0 messages\n"
    assert messages(redis) == [f"record {i}" for i in range(100)]
