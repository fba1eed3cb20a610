"""HTTP by hand: bytes out, responses in. For requests that no client library would send."""
import json
import select
import socket
import time

import pipeline

# The limits of the logd that most tests of HTTP share.
MAX_BODY = 300_000
MAX_RECORDS = 100
ANY = object()  # what the contract leaves open


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        """All values of a header, joined as RFC 9110 joins them; None when there is none."""
        values = [v for k, v in self.headers if k == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        assert self.header("content-type").startswith("application/json"), self
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:500]!r}>"


class Connection:
    def __init__(self, port, timeout=20.0):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout * pipeline.SCALE)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()
        self.sock.close()

    def send(self, data):
        """Sends all of it, or as much as the peer takes before it closes."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def finish_sending(self):
        self.sock.shutdown(socket.SHUT_WR)

    def trickle(self, data, pause):
        """Sends byte by byte until all is sent or the peer says something. Returns whether it said something."""
        begin = time.monotonic()
        for i in range(len(data)):
            due = begin + (i + 1) * pause  # so that late wake-ups do not add up
            if select.select([self.sock], [], [], max(0, due - time.monotonic()))[0]:
                return True
            self.send(data[i:i + 1])
        return False

    def response(self, head=False):
        """The next response, or None when the connection was closed instead."""
        try:
            line = self.file.readline()
            if not line:
                return None
            status = int(line.split(b" ", 2)[1])
            headers = self._headers()
            bodyless = head or status in (100, 204, 304)
            return Response(status, headers, b"" if bodyless else self._body(dict(headers)))
        except ConnectionResetError:
            return None

    def _headers(self):
        headers = []
        while True:
            line = self.file.readline()
            if line in (b"\r\n", b"\n", b""):
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.strip().lower(), value.strip()))

    def _body(self, headers):
        if "content-length" in headers:
            return self.file.read(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return self.file.read()
        body = b""
        while True:
            size = int(self.file.readline().split(b";")[0], 16)
            body += self.file.read(size)
            self.file.readline()
            if size == 0:
                return body

    def closed(self):
        """Waits for the peer to close; fails when it sends more instead, or neither."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True


def request(method="POST", path="/api/log", body=b"", headers=(), version="1.1", length=True):
    """The bytes of a request. `headers` are (name, value) pairs or lines."""
    lines = [f"{method} {path} HTTP/{version}", "Host: logd.test"]
    lines += [h if isinstance(h, str) else f"{h[0]}: {h[1]}" for h in headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def exchange(port, data, head=False):
    """Sends bytes on a fresh connection; returns the response or None."""
    with Connection(port) as c:
        c.send(data)
        return c.response(head)


def one(**members):
    """A record as JSON bytes, with members replaced (None: left out)."""
    r = {"service": "test", "level": "info", "message": "m", "timestamp": "2026-11-24T02:35:02.123Z", **members}
    return json.dumps({k: v for k, v in r.items() if v is not None}).encode()


def check_error(answer, index=ANY, field=ANY):
    """An error is one sentence; index and field are there for a bad record."""
    assert isinstance(answer["error"], str) and len(answer["error"]) > 8
    if index is not ANY:
        assert (answer["index"], answer["field"]) == (index, field)
    if field not in (ANY, ""):
        assert field in answer["error"]
