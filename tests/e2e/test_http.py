"""doc/protocol.md, section 2: what logd answers to whatever is sent to it. After each case it must still serve."""
import json
import re
import signal
import threading

import pytest

from pipeline import read_text, record
from rawhttp import ANY, MAX_BODY, MAX_RECORDS, Connection, check_error, exchange, one, request


@pytest.fixture(autouse=True)
def serves_afterwards(server):
    yield
    assert server.get("/healthz") == 200
    assert server.get("/readyz") == 200


def text(s):
    """A record whose text has this after the message."""
    return b'{"service":"s","level":"info","message":"m"' + s + b"}"


def nested(depth):
    return text(b',"x":' + b"[" * depth + b"]" * depth)


GOOD = {
    "one object": one(),
    "without a timestamp": one(timestamp=None),
    "white space around": b" \r\n\t" + one() + b"\n ",
    "empty message": one(message=""),
    "largest message": one(message="x" * 65536),
    "largest service": one(service="x" * 128),
    "largest service in UTF-8": one(service="ä" * 64),
    "escaped NUL in the message": one(message="a\u0000b"),
    "all escapes": text(b',"x":"\\u00e4\\ud83d\\ude00\\n\\/\\b\\f\\"\\\\"'),
    "escaped member name": b'{"s\\u0065rvice":"s","level":"info","message":"m"}',
    "other members": one(a=1, b=[1, {"c": None}], d="x"),
    "numbers of many digits": text(b',"x":123456789012345678901234567890,"y":0.1234567890123456789e-5'),
    "nested 50 deep": nested(50),
    "DEL in the message": one(message="\u007f"),
    "noncharacters": one(message="\ufffe\uffff"),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_good_record(server, body):
    before = server.store.length()
    status, _, answer = server.post(body)
    assert (status, answer) == (200, {"accepted": 1})
    assert server.store.length() == before + 1


# body, index, field; ANY where the contract leaves it open.
BAD = {
    "empty body": (b"", ANY, ANY),
    "only white space": (b" \n", ANY, ANY),
    "empty array": (b"[]", ANY, ANY),
    "1 MB garbage": (bytes(range(256)) * 1000, ANY, ANY),
    "not JSON": (b"hello", ANY, ANY),
    "half an object": (one()[:-1], ANY, ANY),
    "half an array": (b"[" + one(), ANY, ANY),
    "text after the object": (one() + b"x", ANY, ANY),
    "two objects": (one() + b"\n" + one(), ANY, ANY),
    "comma at the end": (b"[" + one() + b",]", ANY, ANY),
    "single quotes": (b"{'service':'s'}", ANY, ANY),
    "a number": (b"5", ANY, ANY),
    "a string": (b'"x"', ANY, ANY),
    "null": (b"null", ANY, ANY),
    "raw NUL in a string": (one(message="MARK").replace(b"MARK", b"\0"), ANY, ANY),
    "raw NUL before": (b"\0" + one(), ANY, ANY),
    "raw line feed in a string": (one(message="MARK").replace(b"MARK", b"\n"), ANY, ANY),
    "invalid UTF-8": (one(message="MARK").replace(b"MARK", b"\xff"), ANY, ANY),
    "overlong UTF-8": (one(message="MARK").replace(b"MARK", b"\xc0\xaf"), ANY, ANY),
    "surrogate in UTF-8": (one(message="MARK").replace(b"MARK", b"\xed\xa0\x80"), ANY, ANY),
    "UTF-8 cut off": (one(message="MARK").replace(b'MARK"', b'\xe2\x82"'), ANY, ANY),
    "invalid UTF-8 in another member": (text(b',"x":"\xff"'), ANY, ANY),
    "lone high surrogate": (text(b',"x":"\\ud800"'), ANY, ANY),
    "lone low surrogate": (text(b',"x":"\\udc00"'), ANY, ANY),
    "surrogates in the wrong order": (text(b',"x":"\\udc00\\ud800"'), ANY, ANY),
    "high surrogate twice": (text(b',"x":"\\ud800\\ud800"'), ANY, ANY),
    "unknown escape": (text(b',"x":"\\x41"'), ANY, ANY),
    "leading zero": (text(b',"x":01'), ANY, ANY),
    "plus sign": (text(b',"x":+1'), ANY, ANY),
    "NaN": (text(b',"x":NaN'), ANY, ANY),
    "number beyond double": (text(b',"x":1e999'), ANY, ANY),
    "NUL in a member's name": (text(b',"a\\u0000b":1'), ANY, ANY),
    "member name without quotes": (text(b",x:1"), ANY, ANY),
    "repeated member": (b'{"service":"s","level":"info","message":"a","message":"b"}', ANY, ANY),
    "repeated other member": (text(b',"x":1,"x":1'), ANY, ANY),
    "repeated member, escaped": (b'{"service":"s","level":"info","message":"a","m\\u0065ssage":"b"}', ANY, ANY),
    "repeated member, deeper": (text(b',"x":{"y":1,"y":2}'), ANY, ANY),
    "nested 70 deep": (nested(70), ANY, ANY),
    "nested 100000 deep": (nested(100_000), ANY, ANY),
    "array of arrays": (b"[[" + one() + b"]]", 0, ""),
    "array with a null": (b"[" + one() + b",null]", 1, ""),
    "number as service": (one(service=5), 0, "service"),
    "number as level": (one(level=3), 0, "level"),
    "number as message": (one(message=5), 0, "message"),
    "number as timestamp": (one(timestamp=1732415702), 0, "timestamp"),
    "true as message": (one(message=True), 0, "message"),
    "object as message": (one(message={"a": 1}), 0, "message"),
    "array as service": (one(service=["s"]), 0, "service"),
    "null as message": (text(b"").replace(b'"m"', b"null"), 0, "message"),
    "null as timestamp": (text(b',"timestamp":null'), 0, "timestamp"),
    "no service": (one(service=None), 0, "service"),
    "no level": (one(level=None), 0, "level"),
    "no message": (one(message=None), 0, "message"),
    "empty service": (one(service=""), 0, "service"),
    "service too long": (one(service="x" * 129), 0, "service"),
    "service too long in UTF-8": (one(service="ä" * 65), 0, "service"),
    "line feed in the service": (one(service="a\nb"), 0, "service"),
    "NUL in the service": (one(service="a\0b"), 0, "service"),
    "DEL in the service": (one(service="a\u007f"), 0, "service"),
    "unknown level": (one(level="loud"), 0, "level"),
    "empty level": (one(level=""), 0, "level"),
    "level with a space": (one(level="info "), 0, "level"),
    "level with NUL": (one(level="info\0"), 0, "level"),
    "message too long": (one(message="x" * 65537), 0, "message"),
    "message too long in UTF-8": (one(message="€" * 21846), 0, "message"),
    "not a timestamp": (one(timestamp="yesterday"), 0, "timestamp"),
    "empty timestamp": (one(timestamp=""), 0, "timestamp"),
    "date only": (one(timestamp="2026-11-24"), 0, "timestamp"),
    "no offset": (one(timestamp="2026-11-24T02:35:02"), 0, "timestamp"),
    "month 13": (one(timestamp="2026-13-24T02:35:02Z"), 0, "timestamp"),
    "30 February": (one(timestamp="2026-02-30T02:35:02Z"), 0, "timestamp"),
    "29 February in 2100": (one(timestamp="2100-02-29T02:35:02Z"), 0, "timestamp"),
    "hour 24": (one(timestamp="2026-11-24T24:00:00Z"), 0, "timestamp"),
    "second 61": (one(timestamp="2026-11-24T02:35:61Z"), 0, "timestamp"),
    "offset 24:00": (one(timestamp="2026-11-24T02:35:02+24:00"), 0, "timestamp"),
    "offset without colon": (one(timestamp="2026-11-24T02:35:02+0100"), 0, "timestamp"),
    "empty fraction": (one(timestamp="2026-11-24T02:35:02.Z"), 0, "timestamp"),
    "year 10000 in UTC": (one(timestamp="9999-12-31T23:59:59-01:00"), 0, "timestamp"),
    "year -1 in UTC": (one(timestamp="0000-01-01T00:00:00+01:00"), 0, "timestamp"),
    "the second of three": (b"[%b,%b,%b]" % (one(), one(level="loud"), one()), 1, "level"),
    "the last of three": (b"[%b,%b,%b]" % (one(), one(), one(service="")), 2, "service"),
}


@pytest.mark.parametrize("body, index, field", BAD.values(), ids=BAD.keys())
def test_bad_body(server, body, index, field):
    before = server.store.length()
    status, _, answer = server.post(body)
    assert status == 400
    check_error(answer, index, field)
    assert server.store.length() == before


NDJSON = {
    "one line": (one() + b"\n", 200, 1),
    "no line feed at the end": (one() + b"\n" + one(), 200, 2),
    "empty lines": (b"\n\n" + one() + b"\n\n" + one() + b"\n\n", 200, 2),
    "CRLF": (one() + b"\r\n" + one() + b"\r\n", 200, 2),
    "empty body": (b"", 400, ANY),
    "only empty lines": (b"\n\n", 400, ANY),
    "bad second record": (one() + b"\n\n" + one(level="loud") + b"\n", 400, 1),
    "bad JSON in the second line": (one() + b"\n{\n", 400, ANY),
    "array in a line": (b"[" + one() + b"]\n", 400, 0),
    "two objects in a line": (one() + one() + b"\n", 400, ANY),
    "an object over two lines": (one().replace(b",", b",\n", 1), 400, ANY),
}


@pytest.mark.parametrize("body, status, number", NDJSON.values(), ids=NDJSON.keys())
def test_ndjson(server, body, status, number):
    before = server.store.length()
    got, _, answer = server.post(body, {"Content-Type": "application/x-ndjson"})
    assert got == status
    if status == 200:
        assert answer == {"accepted": number}
        assert server.store.length() == before + number
    else:
        check_error(answer)
        if number is not ANY:
            assert answer["index"] == number
        assert server.store.length() == before


TYPES = {
    "application/json": (one(), 200),
    "application/json; charset=utf-8": (one(), 200),
    "application/json;charset=UTF-8": (one(), 200),
    "Application/JSON": (one(), 200),
    "application/x-ndjson": (one(), 200),
    "application/jsonl": (one(), 200),
    "application/json-lines; charset=utf-8": (one(), 200),
    "application/stream+json": (one(), 200),
    "text/plain": (one(), 415),
    "text/json": (one(), 415),
    "application/jsonx": (one(), 415),
    "application/xml": (b"<a/>", 415),
    "application/x-www-form-urlencoded": (b"a=b", 415),
    "multipart/form-data; boundary=x": (b"--x--", 415),
    "json": (one(), 415),
}


@pytest.mark.parametrize("name, case", TYPES.items(), ids=TYPES.keys())
def test_content_type(server, name, case):
    status, _, answer = server.post(case[0], {"Content-Type": name})
    assert status == case[1]
    if status != 200:
        check_error(answer)


def test_no_content_type(server):
    response = exchange(server.port, request(body=one()))
    assert (response.status, response.json()) == (200, {"accepted": 1})


@pytest.mark.parametrize("encoding, status", [("identity", 200), ("gzip", 415), ("deflate", 415), ("br", 415),
                                              ("x", 415)])
def test_content_encoding(server, encoding, status):
    got, _, answer = server.post(one(), {"Content-Encoding": encoding})
    assert got == status
    if status != 200:
        check_error(answer)


@pytest.mark.parametrize("path", ["/", "/nope", "/api", "/api/", "/api/log/", "/api/logs", "/API/LOG", "/healthz/x",
                                  "/../api/log", "/%00", pytest.param("/" + "x" * 2000, id="long")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path(server, method, path):
    response = exchange(server.port, request(method, path, one() if method == "POST" else b""))
    assert response.status == 404
    check_error(response.json())


@pytest.mark.parametrize("target", ["/api/log?x=1", "/api/log?", "http://127.0.0.1/api/log"])
def test_other_ways_to_name_the_path(server, target):
    assert exchange(server.port, request(path=target, body=one())).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_method_on_log(server, method):
    response = exchange(server.port, request(method, "/api/log", b""), head=method == "HEAD")
    assert response.status == 405
    assert response.header("allow") == "POST"
    if method != "HEAD":
        check_error(response.json())


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_method_on_others(server, method, path):
    response = exchange(server.port, request(method, path, b""))
    assert response.status == 405
    assert {m.strip() for m in response.header("allow").split(",")} == {"GET", "HEAD"}
    check_error(response.json())


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_head(server, path):
    with Connection(server.port) as c:
        c.send(request("HEAD", path, length=False))
        response = c.response(head=True)
        assert response.status == 200
        c.send(request("GET", path, length=False))
        assert c.response().status == 200


def test_health_and_readiness(server):
    assert json.loads(server.request("GET", "/healthz")[2]) == {"status": "ok"}
    assert json.loads(server.request("GET", "/readyz")[2]) == {"status": "ready"}


def test_metrics_format(server):
    status, headers, body = server.request("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    typed = set()
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            float(value)
            assert name.split("{")[0] in typed
            assert name.startswith(("logd_", "process_"))
    assert "logd_sequence_gap_records_total" in typed


@pytest.mark.parametrize("where", ["Content-Length", "chunked"])
def test_body_too_large(server, where):
    before = server.store.length()
    body = one(message="x" * MAX_BODY)
    if where == "chunked":
        data = request(headers=["Transfer-Encoding: chunked"], length=False)
        data += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        data = request(body=body)
    response = exchange(server.port, data)
    assert response.status == 413
    check_error(response.json())
    assert server.store.length() == before


def test_declared_body_too_large(server):
    """Content-Length alone decides: the body need not be sent."""
    response = exchange(server.port, request(headers=["Content-Length: 99999999999"], length=False) + b"[")
    assert response.status == 413
    check_error(response.json())


def test_body_of_the_largest_size(server):
    body = one()
    assert server.post(body + b" " * (MAX_BODY - len(body)))[0] == 200
    assert server.post(body + b" " * (MAX_BODY - len(body) + 1))[0] == 413


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_too_many_records(server, kind):
    def body(n):
        return b"[" + b",".join([one()] * n) + b"]" if kind.endswith("/json") else b"\n".join([one()] * n)
    before = server.store.length()
    status, _, answer = server.post(body(MAX_RECORDS + 1), {"Content-Type": kind})
    assert status == 413
    check_error(answer)
    assert server.store.length() == before
    assert server.post(body(MAX_RECORDS), {"Content-Type": kind})[0] == 200


@pytest.mark.parametrize("headers", [
    {"Log-Producer": "0" * 32},
    {"Log-Sequence": "1"},
    {"Log-Producer": "0" * 31, "Log-Sequence": "1"},
    {"Log-Producer": "0" * 33, "Log-Sequence": "1"},
    {"Log-Producer": "A" * 32, "Log-Sequence": "1"},
    {"Log-Producer": "g" * 32, "Log-Sequence": "1"},
    {"Log-Producer": "", "Log-Sequence": "1"},
    {"Log-Producer": "0" * 32, "Log-Sequence": "0"},
    {"Log-Producer": "0" * 32, "Log-Sequence": "-1"},
    {"Log-Producer": "0" * 32, "Log-Sequence": "+1"},
    {"Log-Producer": "0" * 32, "Log-Sequence": "1.0"},
    {"Log-Producer": "0" * 32, "Log-Sequence": "x"},
    {"Log-Producer": "0" * 32, "Log-Sequence": ""},
    {"Log-Producer": "0" * 32, "Log-Sequence": str(2**53)},
    {"Log-Producer": "0" * 32, "Log-Sequence": str(2**64)},
    {"Log-Producer": "0" * 32, "Log-Sequence": "5", "Log-Skip": "x"},
    {"Log-Producer": "0" * 32, "Log-Sequence": "5", "Log-Skip": "-1"},
], ids=lambda h: " ".join(f"{k[4:]}={v[:6]}({len(v)})" for k, v in h.items()))
def test_bad_producer_headers(server, headers):
    before = server.store.length()
    status, _, answer = server.post(one(), headers)
    assert status == 400
    check_error(answer)
    assert server.store.length() == before


def test_error_text_is_json_whatever_it_quotes(server):
    """The refused value is quoted in the error; it must not break the JSON."""
    for level in ('"', "\\", "\n", "\u0000", "\u2028", "😀" * 50, "x" * 100_000):
        status, _, answer = server.post(one(level=level))
        assert status == 400
        check_error(answer, 0, "level")
        assert len(answer["error"]) < 1000


def test_records_of_a_body_stay_together(server):
    """Concurrent bodies do not mix: the entries of one body are neighbours, in order."""
    def send(i):
        server.post([record(f"{i}-{n}", service=f"together{i}") for n in range(50)])
    threads = [threading.Thread(target=send, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    stored = [dict(e)["message"] for e in server.store.entries() if dict(e)["service"].startswith("together")]
    assert len(stored) == 400
    for k in range(0, 400, 50):
        i = stored[k].split("-")[0]
        assert stored[k:k + 50] == [f"{i}-{n}" for n in range(50)]


def system_reads(process):
    return int(re.search(r"^syscr: (\d+)$", read_text(f"/proc/{process.pid}/io"), re.M).group(1))


def test_body_that_has_come_is_read_at_once(server):
    """libevent reads 4 KiB at a time, with a turn of the loop for each."""
    body = b"[" + b",".join([one(message="x" * 60000)] * 4) + b"]"
    with Connection(server.port) as c:
        c.send(request(body=one()))
        assert c.response().status == 200
        server.freeze()
        try:
            before = system_reads(server)
            c.send(request(body=body))
        finally:
            server.signal(signal.SIGCONT)
        assert c.response().json() == {"accepted": 4}
    assert system_reads(server) - before < len(body) / 4096 / 3
