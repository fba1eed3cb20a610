"""Starts the real programs in a short temporary directory of their own, and stops them whatever happens."""
import http.client
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import resp

BUILD = os.environ.get("LOGPIPE_BUILD") or os.path.join(os.path.dirname(__file__), "..", "..", "build")
SANITIZED = bool(re.search("[at]san", os.path.basename(os.path.abspath(BUILD))))
# How much longer than usual a wait may take.
SCALE = float(os.environ.get("LOGPIPE_TIME_SCALE", "5" if SANITIZED else "1"))

SANITIZER_REPORT = re.compile(r"(ERROR|WARNING): \w*Sanitizer|runtime error: ")
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGSYS}
OWN_ENV = re.compile(r"^(LOGD|LOGWORKER|LOGSEND|LOGCLIENT)_")


def wait_until(condition, what, seconds=10.0):
    """Polls until condition() is true, and returns its value; fails after the deadline."""
    deadline = time.monotonic() + seconds * SCALE
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds * SCALE:.0f} s in vain for {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class Process:
    """One program in a process group of its own. Its output goes to files in the box."""

    graceful = True  # SIGTERM must make it exit with 0

    def __init__(self, box, name, argv, env=None, cwd=None, stdin=subprocess.DEVNULL):
        self.box, self.name, self.argv, self.env, self.cwd, self.stdin = box, name, argv, env or {}, cwd, stdin
        self.out_path = box.path(name + ".out")
        self.err_path = box.path(name + ".err")
        self.popen = None
        box.processes.append(self)

    def spawn(self):
        env = {k: v for k, v in os.environ.items() if not OWN_ENV.match(k)}
        env.update(self.env)
        # Should the tests themselves be killed, the kernel ends what they started.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.popen = subprocess.Popen(guard + self.argv, stdin=self.stdin, stdout=out, stderr=err, env=env,
                                          cwd=self.cwd, start_new_session=True)
        return self

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def stdout(self):
        return read_text(self.out_path)

    def stderr(self):
        return read_text(self.err_path)

    def mark(self):
        """How much has been printed so far, for wait_output()."""
        return len(self.stdout()), len(self.stderr())

    def wait_output(self, pattern, since=(0, 0), seconds=10.0):
        """The match of pattern in standard output or error after the mark."""
        def look():
            alive = self.alive()  # asked first: what it printed before its end counts
            found = (re.search(pattern, self.stdout()[since[0]:], re.M) or
                     re.search(pattern, self.stderr()[since[1]:], re.M))
            if not found and not alive:
                raise AssertionError(f"{self.name} exited with {self.popen.returncode}: {self.stderr()[-2000:]}")
            return found
        return wait_until(look, lambda: f"{pattern!r} from {self.name}; it printed {self.stdout()[-2000:]!r} and "
                                        f"{self.stderr()[-2000:]!r}", seconds)

    def signal(self, number):
        self.popen.send_signal(number)

    def freeze(self):
        """SIGSTOP, and waits until it has taken effect."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: re.search(r"^State:\s+T", read_text(f"/proc/{self.pid}/status"), re.M), f"{self.name} to be stopped")

    def wait(self, seconds=20.0):
        try:
            return self.popen.wait(seconds * SCALE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds * SCALE:.0f} s") from None

    def stop(self, seconds=20.0):
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        """SIGKILL to the whole group."""
        if self.popen is None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def faults(self):
        """What must never happen in any test: a sanitizer's report, a crash."""
        found = []
        if SANITIZER_REPORT.search(self.stderr() + self.stdout()):
            found.append(f"{self.name}: a sanitizer reports an error")
        if self.popen is not None and self.popen.returncode in CRASHES:
            found.append(f"{self.name} died of {signal.Signals(-self.popen.returncode).name}")
        return found


class Redis(Process):
    """A private redis-server on a unix socket. Data survive kill() and start() with appendonly."""

    graceful = False

    def __init__(self, box, name="redis", appendonly=False, args=(), clock=False):
        self.socket = box.path(name + ".sock")
        self.directory = box.path(name + ".d")
        os.makedirs(self.directory)
        super().__init__(box, name, ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.directory,
                                     "--save", "", "--appendonly", "yes" if appendonly else "no",
                                     # The default, everysec, may put the write off until after the answer (README.md).
                                     "--appendfsync", "no", *args])
        self.url = "unix://" + self.socket
        if clock:
            self.step_clock(0)
            self.env = {"LD_PRELOAD": program("tests/clock.so"), "CLOCK_FILE": self.clock_path}

    @property
    def clock_path(self):
        return self.directory + ".clock"

    def step_clock(self, ms):
        """Puts the clock so many milliseconds before (or, negative, behind) the system's, at once and for later lives."""
        with open(self.clock_path, "r+b" if os.path.exists(self.clock_path) else "wb") as f:
            f.write(struct.pack("=q", ms))

    def copy_data(self, path):
        """A copy of the data as a kill at this moment would leave them."""
        self.freeze()
        try:
            shutil.copytree(self.directory, path, ignore=shutil.ignore_patterns("temp-*"))  # of a child that goes on
        finally:
            self.signal(signal.SIGCONT)

    def put_back(self, path):
        """Exchanges the data for a copy. It must not run meanwhile."""
        shutil.rmtree(self.directory)
        shutil.copytree(path, self.directory)

    def start(self):
        self.spawn()
        wait_until(self._answers, "redis-server")
        return self

    def _answers(self):
        if not self.alive():
            raise AssertionError(f"redis-server exited: {self.stdout()[-2000:]}")
        try:
            with self.client() as c:
                return c("PING") == "PONG"
        except (OSError, resp.RedisError):
            return False

    def client(self, timeout=30):
        return resp.Client(self.socket, timeout)

    def __call__(self, *args):
        with self.client() as c:
            return c(*args)

    def entries(self, stream="logs-stream"):
        """All entries as lists of (field, value), in stream order."""
        return [list(zip(fields[::2], fields[1::2])) for _, fields in self("XRANGE", stream, "-", "+")]

    def length(self, stream="logs-stream"):
        return self("XLEN", stream)

    def drained(self, stream="logs-stream"):
        """Whether nothing is left to do."""
        return self.length(stream) == 0


class Logd(Process):
    def __init__(self, box, redis, *args, name="logd", listen="127.0.0.1:0", env=None):
        self.port = None
        self.listen = listen
        self.options = ["--redis", redis if isinstance(redis, str) else redis.url, *args]
        super().__init__(box, name, [], env)

    def start(self, wait_redis=True):
        """Starts, or starts again on the port that the first start was given."""
        listen = self.listen if self.port is None else f"127.0.0.1:{self.port}"
        self.argv = [program("logd"), "--listen", listen, *self.options]
        since = self.mark()
        self.spawn()
        ready = self.wait_output(r"^logd: listening on 127\.0\.0\.1:(\d+)", since=since)
        self.port = int(ready.group(1))
        if wait_redis:
            self.wait_ready()
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def request(self, method, path, body=None, headers=None, timeout=30):
        """(status, headers, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SCALE)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def post(self, records, headers=None, timeout=30):
        """(status, headers, decoded body) of a POST of JSON: bytes as they are, else encoded."""
        body = records if isinstance(records, bytes) else json.dumps(records).encode()
        status, head, text = self.request("POST", "/api/log", body,
                                          {"Content-Type": "application/json", **(headers or {})}, timeout)
        return status, head, json.loads(text)

    def get(self, path):
        return self.request("GET", path)[0]

    def wait_ready(self, seconds=10.0):
        wait_until(lambda: self.get("/readyz") == 200, "/readyz to answer 200", seconds)

    def wait_unready(self, seconds=10.0):
        wait_until(lambda: self.get("/readyz") == 503, "/readyz to answer 503", seconds)

    def metrics(self):
        return metrics(self.port)


class Worker(Process):
    def __init__(self, box, redis, *args, name="logworker", output=None, env=None):
        self.output = output or box.path("app.log")
        self.state = self.output + ".state"
        super().__init__(box, name, [program("logworker"), "--redis", redis if isinstance(redis, str) else redis.url,
                                     "--output", self.output, *args], env)

    def start(self, ready=True):
        since = self.mark()
        self.spawn()
        if ready:
            self.wait_output(r"^logworker: consuming ", since=since)
        return self

    @property
    def port(self):
        """Of --listen 127.0.0.1:0, in its latest life."""
        return int(re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", self.stderr() + self.stdout())[-1])

    def readyz(self):
        """(status, text and note) of /readyz."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SCALE)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            return response.status, "; ".join(json.loads(response.read()).values())
        finally:
            connection.close()

    def metrics(self):
        return metrics(self.port)

    def lines(self):
        """The whole lines of app.log, as bytes without the line feed."""
        return read_lines(self.output)

    def records(self):
        return [json.loads(line) for line in self.lines()]

    def messages(self):
        return [r["message"] for r in self.records()]


class Producer(Process):
    """The C test program over liblogclient."""

    graceful = False

    def __init__(self, box, url, *args, name=None, env=None, stdin=subprocess.DEVNULL):
        name = name or f"producer{sum(isinstance(p, Producer) for p in box.processes)}"
        self.accepted_path = box.path(name + ".accepted")
        base = {"LOGCLIENT_URL": url, "LOGCLIENT_RING_DIR": box.ring_dir}
        super().__init__(box, name, [program("tests/producer"), "--accepted", self.accepted_path, *map(str, args)],
                         {**base, **(env or {})}, stdin=stdin)

    def start(self):
        return self.spawn()

    def finish(self, seconds=60.0):
        """Waits for its end and returns its statistics."""
        status = self.wait(seconds)
        assert status == 0, f"{self.name} exited with {status}: {self.stderr()[-2000:]}"
        return json.loads(self.stdout())

    def accepted(self):
        return [line.decode() for line in read_lines(self.accepted_path)]

    def reports(self):
        """(status, text) of each call of the error callback."""
        return [(int(s), t) for s, t in re.findall(r"^report: (\d+): (.*)$", self.stderr(), re.M)]


class Box:
    """What one test owns: a directory and processes."""

    def __init__(self):
        # A unix socket's path has at most 107 bytes, so pytest's own directories are too deep.
        self.dir = tempfile.mkdtemp(prefix="lp-", dir="/tmp")
        self.ring_dir = self.path("rings")
        os.mkdir(self.ring_dir, 0o700)
        self.processes = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)

    def redis(self, **kw):
        return Redis(self, **kw).start()

    def logd(self, redis, *args, wait_redis=True, **kw):
        return Logd(self, redis, *args, **kw).start(wait_redis)

    def worker(self, redis, *args, **kw):
        return Worker(self, redis, *args, **kw).start()

    def producer(self, url, *args, **kw):
        return Producer(self, url if isinstance(url, str) else url.url, *args, **kw).start()

    def run(self, name, argv, seconds=60.0, **kw):
        """Runs a program to its end; returns the Process."""
        p = Process(self, name, argv, **kw)
        p.graceful = False
        p.spawn().wait(seconds)
        return p

    def close(self):
        """Stops everything, gracefully where that is promised, and returns what went wrong."""
        faults = []
        for p in reversed(self.processes):  # the last started first, as it may need the ones before
            if p.graceful and p.alive():
                p.signal(signal.SIGCONT)
                try:
                    status = p.stop()
                    if status != 0:
                        faults.append(f"{p.name} exited with {status} on SIGTERM")
                except AssertionError as e:
                    faults.append(str(e))
        for p in self.processes:
            p.kill()
            faults += p.faults()
        return faults

    def report(self):
        """The tail of what each process printed."""
        return "\n".join(f"--- {p.name} {kind}: exit {p.popen and p.popen.returncode}\n{text[-4000:]}"
                         for p in self.processes
                         for kind, text in (("stderr", p.stderr()), ("stdout", p.stdout())) if text.strip())

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def metrics(port):
    """What /metrics says: name, or name{labels}, to value."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#" and line)}


def program(name):
    path = os.path.abspath(os.path.join(BUILD, name))
    assert os.access(path, os.X_OK), f"{path} is missing: run the tests with make check, which builds it"
    return path


def read_text(path):
    try:
        with open(path, "rb") as f:
            return f.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def read_lines(path):
    try:
        with open(path, "rb") as f:
            return f.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def record(message="hello", level="warn", service="test", **more):
    return {"service": service, "level": level, "message": message, **more}


def messages(redis, stream="logs-stream"):
    """The messages of the stream, in order."""
    return [dict(e)["message"] for e in redis.entries(stream)]
