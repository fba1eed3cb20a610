"""A network between worker and Redis that delivers late (doc/protocol.md, section 3.5)."""
import socket
import threading

from acceptor import Acceptor
from pipeline import Worker, wait_until
from resp import encode
from test_worker import drain, fill, numbers


class Holding:
    """A proxy from TCP to the socket of Redis. What clients of the connections in `hold` send is kept back."""

    def __init__(self, path):
        self.path, self.connections, self.hold = path, [], set()
        self.acceptor = Acceptor(self._serve)
        self.port = self.acceptor.port

    def _serve(self, client):
        redis = socket.socket(socket.AF_UNIX)
        redis.connect(self.path)
        self.connections.append({"client": client, "redis": redis, "held": b"", "reads": False})
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
            c["reads"] |= b"XREAD" in data
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

    def held(self, command):
        return sum(c["held"].count(command) for c in self.connections)

    def release(self):
        """Sends what was held back, and behind it a command that sets the key "released"."""
        for n in self.hold:
            self.connections[n]["redis"].sendall(self.connections[n]["held"] + encode(["SET", "released", n]))


def test_a_commit_that_comes_late_is_none(box, redis):
    """The worker was killed after it had sent it; the next one has committed the same batch, and the stream has gone on."""
    proxy = Holding(redis.socket)
    worker = Worker(box, f"redis://127.0.0.1:{proxy.port}").start()
    fill(redis, 0, 10)
    drain(redis)
    proxy.hold = {n for n, c in enumerate(proxy.connections) if not c["reads"]}
    redis("XADD", "logs-stream", "*", "x", "y")
    fill(redis, 10, 5)
    wait_until(lambda: proxy.held(b"unknown field") == 1, "the commit to be on its way")
    worker.kill()
    worker.start()
    wait_until(lambda: redis.length("logs-stream:dead") == 1 and redis.drained(), "the dead letter")
    account = redis("HGETALL", "logs-stream:account")
    proxy.release()
    wait_until(lambda: redis("EXISTS", "released"), "the late commit")
    proxy.acceptor.close()
    assert redis.length("logs-stream:dead") == 1 and redis("HGETALL", "logs-stream:account") == account
    assert numbers(worker) == list(range(15))
