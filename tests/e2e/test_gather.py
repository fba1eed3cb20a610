"""Small batches without a producer that come together share one command to Redis."""
import json
import signal
import socket

from pipeline import messages, record, wait_until

CLIENTS = 60


def script_calls(redis):
    stats = redis("INFO", "commandstats")
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in stats.splitlines() if line.startswith("cmdstat_eval"))


def test_concurrent_posts_share_a_command(box):
    redis = box.redis()
    logd = box.logd(redis, "--no-echo")
    assert logd.post(record("first"))[0] == 200
    before = script_calls(redis)
    logd.signal(signal.SIGSTOP)
    sockets = []
    for n in range(CLIENTS):
        s = socket.create_connection(("127.0.0.1", logd.port), timeout=30)
        # One bad record among them is its own client's affair.
        body = json.dumps(record(f"m{n}", level="loud" if n == 7 else "warn")).encode()
        s.sendall(b"POST /api/log HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))
        sockets.append(s)
    logd.signal(signal.SIGCONT)
    answers = [s.recv(4096) for s in sockets]
    for s in sockets:
        s.close()
    for n, answer in enumerate(answers):
        assert answer.startswith(b"HTTP/1.1 400" if n == 7 else b"HTTP/1.1 200"), answer
        if n != 7:
            assert answer.endswith(b'{"accepted":1}'), answer
    stored = messages(redis)[1:]
    assert sorted(stored) == sorted(f"m{n}" for n in range(CLIENTS) if n != 7)
    assert script_calls(redis) - before < CLIENTS / 2
    wait_until(lambda: logd.metrics()["logd_records_accepted_total"] == CLIENTS, "the counter")
    assert logd.metrics()["logd_in_flight_batches"] == 0


def test_a_refused_command_fails_all_that_share_it(box):
    redis = box.redis(args=("--maxmemory", "1", "--maxmemory-policy", "noeviction"))
    logd = box.logd(redis, "--no-echo", wait_redis=False)
    logd.signal(signal.SIGSTOP)
    sockets = [socket.create_connection(("127.0.0.1", logd.port), timeout=30) for _ in range(20)]
    body = json.dumps(record("m")).encode()
    for s in sockets:
        s.sendall(b"POST /api/log HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    logd.signal(signal.SIGCONT)
    for s in sockets:
        answer = s.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503") and b'"stored":false' in answer, answer
        s.close()
    assert redis.length() == 0
