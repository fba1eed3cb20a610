"""doc/protocol.md, section 2.3, and all that can go wrong below a request: framing, garbage, slow and vanishing clients."""
import socket
import struct

import pytest

from rawhttp import MAX_BODY, Connection, check_error, exchange, one, request


@pytest.fixture(autouse=True)
def serves_afterwards(server):
    yield
    assert server.get("/healthz") == 200
    assert server.get("/readyz") == 200


LENGTH = f"Content-Length: {len(one())}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(one()), one())
FRAMING = {
    "Content-Length twice": ([LENGTH, LENGTH], one()),
    "two Content-Lengths": ([LENGTH, "Content-Length: 3"], one()),
    "two Content-Lengths, smaller first": (["Content-Length: 3", LENGTH], one()),
    "list of Content-Lengths": ([f"{LENGTH}, {len(one())}"], one()),
    "signed Content-Length": ([LENGTH.replace(": ", ": +")], one()),
    "negative Content-Length": (["Content-Length: -1"], one()),
    "hexadecimal Content-Length": (["Content-Length: 0x10"], one()),
    "Content-Length with a letter": ([LENGTH + "x"], one()),
    "empty Content-Length": (["Content-Length:"], one()),
    "length and chunked": ([LENGTH, "Transfer-Encoding: chunked"], CHUNKED),
    "chunked and length": (["Transfer-Encoding: chunked", LENGTH], CHUNKED),
    "gzip, chunked": (["Transfer-Encoding: gzip, chunked"], CHUNKED),
    "chunked, identity": (["Transfer-Encoding: chunked, identity"], CHUNKED),
    "identity": (["Transfer-Encoding: identity"], one()),
    "xchunked": (["Transfer-Encoding: xchunked"], CHUNKED),
    "chunked twice": (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], CHUNKED),
    "space before the colon": ([LENGTH.replace(":", " :")], one()),
    "tab before the colon": ([LENGTH.replace(":", "\t:")], one()),
    "space before the colon of Transfer-Encoding": (["Transfer-Encoding : chunked", LENGTH], one()),
    "chunked on a continued line": (["Transfer-Encoding:\r\n chunked"], CHUNKED),
    "chunked after a vertical tab": (["Transfer-Encoding: \x0bchunked"], CHUNKED),
    "header without a name": ([": x", LENGTH], one()),
    "two Hosts": (["Host: other", LENGTH], one()),
}


@pytest.mark.parametrize("headers, body", FRAMING.values(), ids=FRAMING.keys())
def test_bad_framing(server, headers, body):
    """400, and the connection is closed, so that nothing after it is read as a request."""
    before = server.store.length()
    with Connection(server.port) as c:
        c.send(request(headers=headers, length=False, body=body) + request("GET", "/healthz", length=False))
        response = c.response()
        assert response.status == 400
        check_error(response.json())
        assert c.closed()
    assert server.store.length() == before


BAD_CHUNKS = {
    "signed size": b"+%x\r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "size with 0x": b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "negative size": b"-1\r\n%b\r\n0\r\n\r\n" % one(),
    "no size": b"\r\n%b\r\n0\r\n\r\n" % one(),
    "size that is no number": b"zz\r\n%b\r\n0\r\n\r\n" % one(),
    "size beyond 64 bits": b"%b%x\r\n%b\r\n0\r\n\r\n" % (b"0" * 20, len(one()), one()),
    "space before the size": b" %x\r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "space after the size": b"%x \r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "extension": b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "LF after the size": b"%x\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "LF after the data": b"%x\r\n%b\n0\r\n\r\n" % (len(one()), one()),
    "LF after the last size": b"%x\r\n%b\r\n0\n\r\n" % (len(one()), one()),
    "nothing after the data": b"%x\r\n%b0\r\n\r\n" % (len(one()), one()),
    "empty line before a size": b"%x\r\n%b\r\n\r\n0\r\n\r\n" % (len(one()), one()),
    "NUL after the size": b"%x\0\r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
    "CR CR LF": b"%x\r\r\n%b\r\n0\r\n\r\n" % (len(one()), one()),
}


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("first", [b"", request(body=one())], ids=["alone", "pipelined"])
@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_bad_chunks(server, chunks, first, pieces):
    """400, nothing is stored, and the connection is closed, whether they come at once or byte by byte."""
    before = server.store.length()
    with Connection(server.port) as c:
        data = first + request(headers=["transfer-encoding: Chunked"], length=False) + chunks
        if pieces:
            c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                c.send(data[i:i + 1])
        else:
            c.send(data + request("GET", "/healthz", length=False))
        if first:
            assert c.response().status == 200
        response = c.response()
        assert response.status == 400
        check_error(response.json())
        assert c.closed()
    assert server.store.length() == before + bool(first)


def test_length_beyond_64_bits(server):
    response = exchange(server.port, request(headers=["Content-Length: 99999999999999999999999"], length=False, body=one()))
    assert response.status in (400, 413)
    check_error(response.json())


def test_pipelined_chunks(server):
    """What follows the last chunk is the next request; CR, LF and digits in the data are only data."""
    bodies = [one(), b" \r\n 0\r\n\r\n "[:4] + one(), b"\n" * 70_000 + one(), one(message="zz")]
    requests = [request(headers=["Transfer-Encoding: chunked", "X: a"], length=False, body=b"%X\r\n%b\r\n0\r\nT: r\r\n\r\n" % (len(b), b))
                for b in bodies]
    with Connection(server.port) as c:
        c.send(b"".join(requests + [request(body=one())] + requests))
        assert [c.response().status for _ in range(9)] == [200] * 9


def test_chunked(server):
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (one()[:7], one()[7:])) + b"0\r\n\r\n"
    assert exchange(server.port, request(headers=["Transfer-Encoding: chunked"], length=False, body=body)).status == 200


GARBAGE = {
    "1 MB of bytes": bytes(range(256)) * 4096,
    "1 MB of one letter": b"A" * (1 << 20),
    "1 MB of line feeds": b"\r\n" * (1 << 19),
    "1 MB of NUL": bytes(1 << 20),
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "header of 1 MB": b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
    "100000 headers": b"GET /healthz HTTP/1.1\r\n" + b"X: a\r\n" * 100_000 + b"\r\n",
    "header without colon": b"GET /healthz HTTP/1.1\r\nnonsense\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "version 9.9": b"GET /healthz HTTP/9.9\r\n\r\n",
    "unknown method": b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
    "target that is no URI": b"GET /a b c HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_instead_of_a_request(server, data):
    """What is not HTTP gets an error or a closed connection, whichever evhttp chooses."""
    with Connection(server.port) as c:
        c.send(data)
        c.finish_sending()
        response = c.response()
        assert response is None or response.status >= 400


@pytest.mark.parametrize("half", [b"P", b"POST /api/log HTTP/1.1", b"POST /api/log HTTP/1.1\r\nHost: a\r\nContent-Le",
                                  request(body=one())[:-1], request(headers=["Transfer-Encoding: chunked"], length=False,
                                                                    body=b"5\r\nab")])
def test_half_a_request(server, half):
    """Others are served while one never ends its request; giving up stores nothing."""
    before = server.store.length()
    with Connection(server.port) as c:
        c.send(half)
        assert server.post(one())[0] == 200
    with Connection(server.port) as c:
        c.send(half)
        c.finish_sending()
        response = c.response()
        assert response is None or response.status == 400
    assert server.store.length() == before + 1


def test_many_half_requests(server):
    connections = [Connection(server.port) for _ in range(100)]
    try:
        for c in connections:
            c.send(request(body=one())[:-5])
        assert server.post(one())[0] == 200
        for c in connections:
            c.send(one()[-5:])
        assert [c.response().status for c in connections] == [200] * 100
    finally:
        for c in connections:
            c.__exit__()


def test_resets(server):
    """Connections that end with a RST, before, within and after a request."""
    for i in range(200):
        with Connection(server.port) as c:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.send(request(body=one())[:(None, 0, 30, -3)[i % 4]])


def test_keep_alive(server):
    with Connection(server.port) as c:
        for body, status in ((one(), 200), (b"{", 400), (one(level="x"), 400), (one(), 200)):
            c.send(request(body=body))
            assert c.response().status == status


def test_pipelined(server):
    """Answers come in the order of the requests, also when one waits for Redis and the next does not."""
    wanted = [(one(), 200), (b"{", 400), (one(), 200), (one(level="x"), 400)] * 5
    with Connection(server.port) as c:
        c.send(b"".join(request(body=body) for body, _ in wanted))
        assert [c.response().status for _ in wanted] == [status for _, status in wanted]


def test_connection_close(server):
    with Connection(server.port) as c:
        c.send(request(body=one(), headers=["Connection: close"]))
        assert c.response().status == 200
        assert c.closed()


def test_http_1_0(server):
    with Connection(server.port) as c:
        c.send(request(body=one(), version="1.0"))
        assert c.response().status == 200
        assert c.closed()


def test_expect_100_continue(server):
    with Connection(server.port) as c:
        c.send(request(headers=["Expect: 100-continue", LENGTH], length=False))
        assert c.response().status == 100
        c.send(one())
        assert c.response().status == 200


def test_expect_of_a_large_body(server):
    response = exchange(server.port, request(headers=["Expect: 100-continue", f"Content-Length: {MAX_BODY + 1}"],
                                             length=False))
    assert response.status == 413


def test_unknown_expect(server):
    response = exchange(server.port, request(headers=["Expect: 200-ok", LENGTH], length=False, body=one()))
    assert response.status == 417
    check_error(response.json())


def test_body_in_pieces(server):
    data = request(body=one())
    with Connection(server.port) as c:
        assert not c.trickle(data[:-1], pause=0.0)
        c.send(data[-1:])
        assert c.response().status == 200


@pytest.mark.parametrize("where", ["header", "body", "chunks"])
def test_slow_sender(box, where):
    """408 at the deadline, though bytes keep coming."""
    logd = box.logd(box.redis(), "--request-timeout", "700ms")
    header = request(headers=["Content-Length: 100000"], length=False)
    start, drip = {"header": (header[:20], b"X-Slow: " + b"a" * 1000),
                   "body": (header, b" " * 1000),
                   "chunks": (request(headers=["Transfer-Encoding: chunked"], length=False), b"1\r\na\r\n" * 200),
                   }[where]
    with Connection(logd.port) as c:
        c.send(start)
        assert c.trickle(drip, pause=0.05), "no answer within 50 s"
        response = c.response()
        assert response.status == 408
        assert response.header("connection") == "close"
        check_error(response.json())
        assert c.closed()
    assert logd.get("/healthz") == 200


def test_deadline_of_each_request(box):
    """The deadline counts from the first byte of each request, not of the connection."""
    logd = box.logd(box.redis(), "--request-timeout", "2s")
    data = request(body=one())
    with Connection(logd.port) as c:
        for _ in range(6):
            assert not c.trickle(data[:-1], pause=0.4 / len(data))
            c.send(data[-1:])
            assert c.response().status == 200
