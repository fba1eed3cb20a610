"""A TCP proxy to the unix socket of a redis-server. Each of its two directions can be shut: what comes then is held back."""
import socket
import threading

from acceptor import Acceptor

UP, DOWN = "up", "down"  # to Redis, from Redis


class Gate:
    def __init__(self, path):
        self.path = path
        self.sockets = []
        self.passed = {UP: 0, DOWN: 0}  # bytes
        self.trap = None  # bytes on their way up with which that direction is shut
        self.open = {UP: threading.Event(), DOWN: threading.Event()}
        self.held = {UP: b"", DOWN: b""}
        for event in self.open.values():
            event.set()
        self.acceptor = Acceptor(self._serve)
        self.port = self.acceptor.port
        self.url = f"redis://127.0.0.1:{self.port}"

    def shut(self, *directions):
        for d in directions:
            self.held[d] = b""
            self.open[d].clear()

    def lift(self, *directions):
        for d in directions or self.open:
            self.open[d].set()

    def cut(self):
        """Breaks all connections. What was held back is gone."""
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.sockets.clear()
        self.lift()

    def close(self):
        self.acceptor.close()
        self.lift()

    def _serve(self, client):
        redis = socket.socket(socket.AF_UNIX)
        try:
            redis.connect(self.path)
        except OSError:
            client.close()
            return
        self.sockets += (client, redis)
        for direction, source, target in ((UP, client, redis), (DOWN, redis, client)):
            threading.Thread(target=self._pump, args=(direction, source, target), daemon=True).start()

    def _pump(self, direction, source, target):
        try:
            while data := source.recv(65536):
                if direction == UP and self.trap and self.trap in data:
                    self.trap = None
                    self.shut(UP)
                if not self.open[direction].is_set():
                    self.held[direction] += data
                    self.open[direction].wait()
                target.sendall(data)
                self.passed[direction] += len(data)
        except OSError:
            pass
        self.open[direction].wait()
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
