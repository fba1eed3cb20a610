"""A network that loses nothing, but is slow."""
import socket
import threading
import time

from acceptor import Acceptor
from pipeline import messages, record, wait_until

CHUNK = 4096


class Slow:
    """A proxy to a port or the path of a unix socket, which passes so many bytes a second each way."""

    def __init__(self, target, rate):
        self.target, self.rate, self.connections = target, rate, 0
        self.acceptor = Acceptor(self._serve, CHUNK)
        self.port = self.acceptor.port

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.acceptor.close()

    def _serve(self, client):
        self.connections += 1
        server = socket.socket(socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK)
        server.connect(self.target if isinstance(self.target, str) else ("127.0.0.1", self.target))
        for a, b in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, a, b):
        try:
            while data := a.recv(CHUNK):
                time.sleep(len(data) / self.rate)
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_a_batch_that_takes_longer_than_a_request_may(box, redis, logd):
    """The same batch was sent again, for ever."""
    text = box.write("message", b"x" * 40000)
    with Slow(logd.port, 300_000) as slow:
        producer = box.producer(f"http://127.0.0.1:{slow.port}", "--records", 20, "--message-file", text, "--flush-ms", 60000,
                                env={"LOGCLIENT_REQUEST_TIMEOUT_MS": "1000", "LOGCLIENT_BACKOFF_MAX_MS": "100"})
        stats = producer.finish()
    assert stats["delivered"] == 20 and stats["retries"] >= 1
    assert len(messages(redis)) == 20


def test_a_reply_of_redis_that_takes_longer_than_it_may(box, redis, logd):
    """The worker gave the connection up in the midst of the reply, and asked for the same again, for ever."""
    assert logd.post([record("x" * 60000) for _ in range(40)])[0] == 200
    with Slow(redis.socket, 200_000) as slow:
        worker = box.worker(f"redis://127.0.0.1:{slow.port}", "--redis-timeout", "3s")
        wait_until(lambda: len(worker.lines()) == 40, "all lines", 60)
        wait_until(redis.drained, "the stream to be empty", 60)
        assert slow.connections <= 2
        assert worker.stop() == 0
