"""A listener on loopback, for the servers and proxies that tests run in threads of their own."""
import socket
import threading


class Acceptor:
    """Calls serve(client) for each connection, in one thread, until it is closed. `receive_bytes`: the receive buffer of the
    connections, so that senders feel how fast it is read."""

    def __init__(self, serve, receive_bytes=None):
        self.serve = serve
        self.listener = socket.socket()
        if receive_bytes is not None:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.serve(client)
