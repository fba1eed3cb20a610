"""logd at its limits: connections, times, memory, pipes that nobody reads, and what it says about Redis's settings."""
import os

import pytest

from pipeline import Logd, messages, record, wait_until


class Pipe:
    """A pipe, or a terminal, whose reader reads only when it is asked to."""

    def __init__(self, ends, path):
        self.reader, self.writer = ends
        self.path = path
        self.got = b""
        os.set_blocking(self.reader, False)

    def fill(self):
        """Lets nothing more in."""
        writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, b"." * 4095 + b"\n")
        except BlockingIOError:
            pass
        finally:
            os.close(writer)

    def text(self):
        """All that has come so far."""
        try:
            while True:
                self.got += os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return self.got.decode()

    def close(self):
        for fd in (self.reader, self.writer):
            os.close(fd)


@pytest.fixture
def pipe():
    ends = os.pipe()
    pipe = Pipe(ends, f"/proc/{os.getpid()}/fd/{ends[1]}")
    yield pipe
    pipe.close()


@pytest.fixture
def terminal():
    ends = os.openpty()
    terminal = Pipe(ends, os.ttyname(ends[1]))
    yield terminal
    terminal.close()


class Redirected(Logd):
    """A logd whose standard output, 1, or error, 2, is a pipe or a terminal."""

    def __init__(self, box, redis, *args, fd, to):
        self.fd, self.to = fd, to
        super().__init__(box, redis, *args)

    def spawn(self):
        self.argv = ["sh", "-c", f'exec "$@" {self.fd}>{self.to.path}', "sh", *self.argv]
        return super().spawn()

    def stdout(self):
        return self.to.text() if self.fd == 1 else super().stdout()


# ---- pipes that nobody reads ----

def test_full_stderr(pipe, box, redis):
    """logd loses diagnostics, says so once it can, and goes on all the while."""
    pipe.fill()
    logd = Redirected(box, redis, "--no-echo", fd=2, to=pipe).start()
    redis.kill()
    logd.wait_unready()
    assert logd.get("/healthz") == 200
    pipe.text()
    redis.start()
    logd.wait_ready()
    assert logd.stop() == 0
    assert "logd: warning: messages lost while standard error took none: " in pipe.text()


def test_echo_to_a_terminal(terminal, box, redis):
    """The default there; what a terminal could take for a command is escaped, and only there."""
    logd = Redirected(box, redis, fd=1, to=terminal).start()
    message = "a\x7f\u009b31mred\u0080\u009f\u00a0\u00e9"
    assert logd.post(record(message))[0] == 200
    wait_until(lambda: "31mred" in terminal.text(), "the echo")
    assert '"a\\u007f\\u009b31mred\\u0080\\u009f\u00a0\u00e9"' in terminal.text()
    assert messages(redis) == [message]


def test_echo_to_a_file(box, redis):
    logd = box.logd(redis, "--echo")
    assert logd.post(record("a\x7f\u009b31mred"))[0] == 200
    wait_until(lambda: '"a\x7f\u009b31mred"' in logd.stdout(), "the echo")


def test_echo_is_of_what_arrives(box, redis):
    """Whether it is stored or not, and each time; but nothing of a body that is refused."""
    logd = box.logd(redis, "--echo")
    redis("CONFIG", "SET", "maxmemory", "1")
    producer = {"Log-Producer": "0" * 32, "Log-Sequence": "1"}
    assert logd.post(record("again"), producer)[0] == 503
    redis("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: logd.post(record("again"), producer)[0] == 200, "Redis to take it")
    assert logd.post([record("bad"), record(level="none")])[0] == 400
    assert logd.stop() == 0
    assert logd.stdout().count('"again"') >= 2 and '"bad"' not in logd.stdout()
    assert messages(redis) == ["again"]
