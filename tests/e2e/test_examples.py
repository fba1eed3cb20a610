"""The examples: a minimal program, three services, and the demo."""
import http.client
import json
import os
import re
import signal
import socket

import pytest

from pipeline import BUILD, Process, messages, program, wait_until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Service(Process):
    def __init__(self, box, name, logd):
        super().__init__(box, name, [program(f"examples/{name}"), "--port", "0"],
                         {"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir})

    def start(self):
        self.spawn()
        self.port = int(self.wait_output(rf"^{self.name}: listening on 127\.0\.0\.1:(\d+)").group(1))
        return self

    def ask(self, method, path, body=None, kind="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body if isinstance(body, (bytes, type(None))) else json.dumps(body), {"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def levels(redis, service):
    return [dict(e)["level"] for e in redis.entries() if dict(e)["service"] == service]


def test_minimal(box, redis, logd):
    env = {"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir}
    assert box.run("minimal", [program("examples/minimal")], env=env).popen.returncode == 0
    (_, level, message, _), = redis.entries()
    assert level[1] in ("warn", "error") and message[1]


def test_minimal_without_logd(box):
    env = {"LOGCLIENT_URL": "http://127.0.0.1:1", "LOGCLIENT_RING_DIR": box.ring_dir}
    p = box.run("minimal", [program("examples/minimal")], env=env)
    assert p.popen.returncode == 1 and "not delivered" in p.stderr()


# name, path, requests as (body, status); the records that these must and must not leave.
SERVICES = {
    "auth": ("/login", [({"user": "alice", "password": "correct horse"}, 200), ({"user": "alice", "password": "wrong"}, 401),
                        ({"user": "nobody", "password": "secret-of-nobody"}, 401), ({"user": 5}, 400)],
             {"info", "warn", "debug"}, ["correct horse", "secret-of-nobody"]),
    "payment": ("/pay", [({"card": "4242424242424242", "amount": 1250, "currency": "EUR"}, 201),
                         ({"card": "4000000000000002", "amount": 1250, "currency": "EUR"}, 402),
                         ({"card": "4000000000000119", "amount": 1250, "currency": "EUR"}, 502),
                         ({"card": "1234", "amount": 1, "currency": "EUR"}, 400)],
                {"info", "warn", "error", "debug"}, ["4242424242424242", "4000000000000002"]),
    "order": ("/orders", [({"customer": "alice", "item": "tea", "quantity": 2}, 201),
                          ({"customer": "bob", "item": "teapot", "quantity": 50}, 409),
                          ({"customer": "eve", "item": "gold", "quantity": 1}, 400)],
              {"info", "warn", "error", "debug"}, []),
}


@pytest.mark.parametrize("name", SERVICES)
def test_service(box, redis, logd, name):
    path, requests, wanted, secrets = SERVICES[name]
    service = Service(box, name, logd).start()
    for body, status in requests:
        got, answer = service.ask("POST", path, body)
        assert got == status, answer
        json.loads(answer)
    assert service.ask("GET", path)[0] == 405
    assert service.ask("POST", "/nope", {})[0] == 404
    assert service.ask("POST", path, b"{")[0] == 400
    assert service.ask("POST", path, b"[" * 5000)[0] == 400
    assert service.ask("POST", path, b"a=b", "text/plain")[0] == 415
    assert service.stop() == 0
    assert wanted <= set(levels(redis, name))
    text = "\n".join(messages(redis)) + service.stdout() + service.stderr()
    assert not [s for s in secrets if s in text]
    assert service.stderr() == ""


def test_service_serves_without_logd(box, redis, logd):
    """A service does not wait for its log; what it logged meanwhile arrives later, from the next process."""
    assert logd.stop() == 0
    service = Service(box, "order", logd).start()
    assert service.ask("POST", "/orders", {"customer": "a", "item": "tea", "quantity": 1})[0] == 201
    logd.start()
    wait_until(lambda: any("tea" in m for m in messages(redis)), "the record", 30)
    assert service.stop() == 0


def test_port_in_use(box, logd):
    first = Service(box, "auth", logd).start()
    second = box.run("auth2", [program("examples/auth"), "--port", str(first.port)],
                     env={"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir})
    assert second.popen.returncode != 0 and str(first.port) in second.stderr()


# ---- The demo ----

def session(pid):
    """Command lines of the living processes of a session."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    state, _, _, sid = f.read().rsplit(") ", 1)[1].split()[:4]
                with open(f"/proc/{entry}/cmdline") as f:
                    command = f.read().replace("\0", " ")
            except OSError:
                continue
            if int(sid) == pid and state not in "ZX":
                found.append(command)
    return found


class Demo(Process):
    graceful = False

    def __init__(self, box):
        super().__init__(box, "demo", ["sh", "examples/demo.sh", os.path.abspath(BUILD)], cwd=ROOT)
        self.spawn()
        # Its directory stands in the command lines of what it starts.
        self.dir = wait_until(self._directory, "the demo's directory")

    def _directory(self):
        found = re.search(r"/tmp/logdemo\.\w+", " ".join(session(self.pid)))
        return found and found.group(0)

    def check_clean(self):
        wait_until(lambda: not session(self.pid), lambda: f"the end of {session(self.pid)}", 5)
        assert not os.path.exists(self.dir)


def test_demo(box):
    demo = Demo(box)
    status = demo.wait(120)
    assert status == 0, demo.stdout()[-3000:] + demo.stderr()
    assert re.search(r'\{"level":"(warn|error)","message":".*","service":"payment","timestamp":".*"\}', demo.stdout())
    demo.check_clean()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["redis-server", "logd  ", "order  "])
def test_demo_is_interrupted(box, sig, moment):
    """Ctrl-C reaches the whole process group."""
    demo = Demo(box)
    demo.wait_output(moment)
    os.killpg(demo.pid, sig)
    assert demo.wait(60) == 128 + sig
    demo.check_clean()


def test_demo_when_its_ports_are_taken(box):
    """It says so and takes free ones."""
    taken = []
    try:
        for port in (4000, 5000, 5001, 5002):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                s.listen()
            except OSError:  # somebody else has it: as good
                pass
            taken.append(s)
        demo = Demo(box)
        assert demo.wait(120) == 0, demo.stdout()[-3000:] + demo.stderr()
        for port in (4000, 5000, 5001, 5002):
            assert f"port {port} is taken" in demo.stdout()
        demo.check_clean()
    finally:
        for s in taken:
            s.close()
