"""A logd that follows a script: what the library does with each answer that a real one gives rarely."""
import json
import socket
import threading

from acceptor import Acceptor


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.records = [json.loads(line) for line in body.split(b"\n") if line.strip()]
        self.answer = None

    @property
    def sequence(self):
        return int(self.headers["log-sequence"])

    @property
    def skip(self):
        return int(self.headers.get("log-skip", "0"))

    @property
    def messages(self):
        return [r["message"] for r in self.records]


def answer(status, body, headers=()):
    text = json.dumps(body, separators=(",", ":")).encode() if not isinstance(body, bytes) else body
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(text)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + text


def ok(request):
    return answer(200, {"accepted": len(request.records), "duplicates": 0})


def refuse(status, *headers, **body):
    return lambda request: answer(status, {"error": "as the script says", **body}, headers)


class FakeLogd:
    """`script` is called for each request, with the request and its number from 0, and returns bytes to answer with; None
    closes the connection without an answer, and bytes ending in CUT are cut off there. By default all is accepted."""

    CUT = b"<cut>"

    def __init__(self, script=lambda request, number: ok(request)):
        self.script = script
        self.requests = []
        self.connections = 0
        self.errors = []
        self.lock = threading.Lock()
        self.open = set()
        self.acceptor = Acceptor(self._take)
        self.port = self.acceptor.port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.acceptor.close()
        with self.lock:
            for s in self.open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        assert not self.errors, self.errors

    def accepted(self):
        """The records of requests that were answered with 200, in order."""
        with self.lock:
            return [r for q in self.requests if q.answer and q.answer.startswith(b"HTTP/1.1 200") for r in q.records]

    def stored(self):
        """(sequence, message) as a store that compares sequence numbers would hold them, per producer."""
        last, out = {}, []
        with self.lock:
            requests = [q for q in self.requests if q.answer and b"200" in q.answer[:20]]
        for q in requests:
            producer = q.headers["log-producer"]
            for n, message in enumerate(q.messages, q.sequence):
                if n > last.get(producer, 0):
                    last[producer] = n
                    out.append((n, message))
        return out

    def _take(self, s):
        with self.lock:
            self.connections += 1
            self.open.add(s)
        threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        try:
            with s, s.makefile("rb") as file:
                while self._one(s, file):
                    pass
        except (OSError, ValueError):
            pass
        except Exception as e:  # in a thread of its own: kept for the test to see
            self.errors.append(repr(e))
        finally:
            with self.lock:
                self.open.discard(s)

    def _one(self, s, file):
        line = file.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        headers = {}
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
        body = file.read(size)
        if len(body) != size:
            return False
        request = Request(method, path, headers, body)
        with self.lock:
            number = len(self.requests)
            self.requests.append(request)
        reply = self.script(request, number)
        request.answer = reply
        if reply is None:
            return False
        s.sendall(reply.removesuffix(self.CUT))
        return not reply.endswith(self.CUT) and b"Connection: close" not in reply
