"""The status port of logworker: the HTTP server is logd's, with other limits."""
import signal

import pytest

from pipeline import metrics, wait_until
from rawhttp import Connection, check_error, exchange, request
from test_limits import free_port_of


def status_port(worker, since=(0, 0)):
    return int(worker.wait_output(r"metrics at http://127\.0\.0\.1:(\d+)/metrics", since).group(1))


@pytest.fixture
def port(box, redis):
    return status_port(box.worker(redis, "--listen", "127.0.0.1:0"))


def test_other_paths_and_methods_are_refused_in_json(port):
    response = exchange(port, request("GET", "/nope", length=False))
    assert response.status == 404
    check_error(response.json())
    for method in ("POST", "PUT", "DELETE"):
        response = exchange(port, request(method, "/metrics"))
        assert (response.status, response.header("allow")) == (405, "GET, HEAD")
        check_error(response.json())


def test_a_connection_takes_several_requests(port):
    with Connection(port) as c:
        c.send(request("HEAD", "/healthz", length=False) + request("GET", "/healthz", length=False))
        assert c.response(head=True).status == 200
        assert c.response().json() == {"status": "ok"}
        c.send(request("GET", "/metrics", length=False))
        assert c.response().header("content-type").startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("data, status", [
    (request("GET", "/metrics", headers=["Content-Length: 2000"], length=False), 413),
    (request("GET", "/metrics", headers=["Content-Length: 0", "Content-Length: 0"], length=False), 400),
    (b"nonsense\r\n\r\n", 400),
], ids=["large body", "two lengths", "nonsense"])
def test_bad_requests_are_refused_in_json(port, data, status):
    """No message names an option that the worker does not have, and none is lost by a reset."""
    with Connection(port) as c:
        c.send(data)
        response = c.response()
        assert response.status == status
        check_error(response.json())
        assert "--" not in response.json()["error"]
        c.send(b"x" * 1000)
        assert c.closed()


def test_a_slow_request_gets_408(port):
    with Connection(port) as c:
        c.send(b"GET /metr")
        response = c.response()
        assert response.status == 408
        check_error(response.json())
        assert c.closed()


def test_dead_letters_are_counted_in_redis(box, redis):
    """The gauge follows the stream, and the counter the account, also after a restart."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = status_port(worker)
    assert metrics(port)["logworker_dead_letters"] == 0
    redis("XADD", "logs-stream", "*", "not", "a record")
    redis("XADD", "logs-stream", "*", "nor", "this")
    wait_until(lambda: metrics(port)["logworker_dead_letters"] == 2, "the gauge to follow")
    assert worker.stop() == 0
    since = worker.mark()
    port = status_port(worker.start(), since)
    wait_until(lambda: metrics(port)["logworker_dead_letters"] == 2, "the gauge after a restart")
    assert metrics(port)["logworker_records_dead_total"] == 2
    redis("XTRIM", "logs-stream:dead", "MAXLEN", "1")
    wait_until(lambda: metrics(port)["logworker_dead_letters"] == 1, "the gauge to fall")
    redis("DEL", "logs-stream:dead")
    wait_until(lambda: metrics(port)["logworker_dead_letters"] == 0, "the gauge to be 0 again")


def unread(port):
    """Bytes that the process which listens on the port has not read."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        lines = [line.split() for line in f.readlines()[1:]]
    return sum(int(w[4].split(":")[1], 16) for w in lines if w[1].endswith(f":{port:04X}") and w[3] == "01")


def test_ends_while_redis_owes_it_answers(box, redis):
    """Questions without an answer neither hold the end up, nor outlive what they were asked for."""
    redis_port = free_port_of(redis)
    worker = box.worker(f"redis://127.0.0.1:{redis_port}", "--listen", "127.0.0.1:0", "--redis-timeout", "1m", "--shutdown-timeout", "1s")
    wait_until(lambda: metrics(status_port(worker))["logworker_redis_up"] == 1, "the worker to be ready")
    redis.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: unread(redis_port) > 0, "a question to Redis")
        assert worker.stop() == 0
    finally:
        redis.signal(signal.SIGCONT)
