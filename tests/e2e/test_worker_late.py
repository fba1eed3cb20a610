"""A network between worker and Redis that delivers late."""
import socket
import threading

from pipeline import Worker, wait_until
from test_worker import fill, numbers


class Holding:
    """A proxy from TCP to the socket of Redis. What clients of the connections in `hold` send is kept back."""

    def __init__(self, path):
        self.path, self.connections, self.hold = path, [], set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            redis = socket.socket(socket.AF_UNIX)
            redis.connect(self.path)
            self.connections.append({"client": client, "redis": redis, "held": b""})
            n = len(self.connections) - 1
            for pump in (self._up, self._down):
                threading.Thread(target=pump, args=(n,), daemon=True).start()

    def _up(self, n):
        c = self.connections[n]
        while True:
            try:
                data = c["client"].recv(65536)
            except OSError:
                data = b""
            if n in self.hold:
                c["held"] += data
                if not data:
                    return
            elif not data:
                c["redis"].close()
                return
            else:
                c["redis"].sendall(data)

    def _down(self, n):
        c = self.connections[n]
        try:
            while data := c["redis"].recv(65536):
                c["client"].sendall(data)
            c["client"].close()
        except OSError:
            pass

    def held_reads(self):
        return sum(c["held"].count(b"XREADGROUP") for c in self.connections)

    def release(self):
        for n in self.hold:
            try:
                self.connections[n]["redis"].sendall(self.connections[n]["held"])
            except OSError:
                pass


def test_a_read_that_comes_late_loses_nothing(box):
    """It marked entries as delivered behind the replay; a later commit covered them."""
    redis = box.redis(appendonly=True)
    proxy = Holding(redis.socket)
    worker = Worker(box, f"redis://127.0.0.1:{proxy.port}").start()
    fill(redis, 0, 10)
    wait_until(redis.drained, "the first entries")
    proxy.hold = {0, 1}
    wait_until(lambda: proxy.held_reads() >= 1, "a read to be on its way")
    worker.kill()
    worker.start()
    fill(redis, 10, 20000)
    wait_until(lambda: len(worker.lines()) > 2000, "a part of the rest")
    proxy.release()
    worker_read = lambda: redis.length() == redis.pending()
    wait_until(worker_read, "all to be read", 30)
    worker.kill()
    worker.start()
    wait_until(redis.drained, "the stream to be drained", 30)
    proxy.listener.close()
    assert sorted(numbers(worker)) == list(range(20010))
    assert redis.length("logs-stream:dead") == 0


def test_fields_that_would_break_a_line_are_malformed(box):
    redis = box.redis()
    worker = box.worker(redis)
    for fields in (b'{"a":1\0}', b'{"a":1,"a":2}'):
        redis("XADD", "logs-stream", "*", "service", "s", "level", "warn", "message", "m", "timestamp",
              "2026-11-24T02:35:02.123Z", "fields", fields)
    wait_until(lambda: redis.length("logs-stream:dead") == 2 and redis.drained(), "the dead letters")
    assert worker.lines() == []
