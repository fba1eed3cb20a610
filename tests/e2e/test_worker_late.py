"""A network between worker and Redis that delivers late (doc/protocol.md, section 3.3)."""
import re
import socket
import threading

from acceptor import Acceptor
from pipeline import Worker, wait_until
from test_worker import add, drain, fill, numbers


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
            c["reads"] |= b"XREADGROUP" in data
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
    wait_until(lambda: proxy.held(b"XREADGROUP") >= 1, "a read to be on its way")
    worker.kill()
    worker.start()
    fill(redis, 10, 20000)
    wait_until(lambda: len(worker.lines()) > 2000, "a part of the rest")
    proxy.release()
    wait_until(lambda: redis.length() == redis.pending(), "all to be read", 30)
    worker.kill()
    worker.start()
    drain(redis, 30)
    proxy.acceptor.close()
    assert numbers(worker) == list(range(20010))


def calls(redis, command):
    found = re.search(rf"^cmdstat_{command}:calls=(\d+)", redis("INFO", "commandstats"), re.M)
    return int(found.group(1)) if found else 0


def test_a_move_to_the_dead_letters_that_comes_late_is_none(box, redis):
    """The next connection moved the entry meanwhile."""
    proxy = Holding(redis.socket)
    worker = Worker(box, f"redis://127.0.0.1:{proxy.port}").start()
    fill(redis, 0, 10)
    drain(redis)
    proxy.hold = {n for n, c in enumerate(proxy.connections) if not c["reads"]}
    redis("XADD", "logs-stream", "*", "x", "y")
    wait_until(lambda: proxy.held(b"XADD") == 1, "the move to be on its way")
    worker.kill()
    worker.start()
    wait_until(lambda: redis.length("logs-stream:dead") == 1 and redis.drained(), "the dead letter")
    before = calls(redis, "eval")
    proxy.release()
    wait_until(lambda: calls(redis, "eval") > before, "the late move")
    proxy.acceptor.close()
    assert redis.length("logs-stream:dead") == 1 and redis.drained()


def test_an_account_that_may_not_close_connections_goes_on(box, redis):
    redis("ACL", "SETUSER", "default", "-client")
    worker = box.worker(redis)
    add(redis, "0")
    drain(redis)
    assert numbers(worker) == [0]
    assert worker.stderr().count("can be lost") == 1 and "NOPERM" in worker.stderr()
