"""logd at its limits: connections, times, memory, pipes that nobody reads, and what it says about Redis's settings."""
import os

import pytest

from pipeline import Logd


class Pipe:
    """A pipe whose reader does not read until it is told to."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.path = f"/proc/{os.getpid()}/fd/{self.writer}"

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

    def read(self):
        return os.read(self.reader, 1 << 20).decode()

    def close(self):
        for fd in (self.reader, self.writer):
            os.close(fd)


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.close()


class Redirected(Logd):
    """A logd with a shell's redirection."""

    def __init__(self, box, redis, *args, redirection):
        self.redirection = redirection
        super().__init__(box, redis, *args)

    def spawn(self):
        self.argv = ["sh", "-c", f'exec "$@" {self.redirection}', "sh", *self.argv]
        return super().spawn()


# ---- pipes that nobody reads ----

def test_full_stderr(box, redis, pipe):
    """logd loses diagnostics, says so once it can, and goes on all the while."""
    pipe.fill()
    logd = Redirected(box, redis, "--no-echo", redirection=f"2>{pipe.path}").start()
    redis.kill()
    logd.wait_unready()
    assert logd.get("/healthz") == 200
    pipe.read()
    redis.start()
    logd.wait_ready()
    assert logd.stop() == 0
    assert "logd: warning: messages lost while standard error took none: " in pipe.read()
