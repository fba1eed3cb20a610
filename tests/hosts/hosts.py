"""File systems in images, and programs of an ordinary user on them. All mounts are made in a mount namespace of the tests' own
(conftest.py), so the kernel takes them away with the tests, whatever happens."""
import errno
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import fakelogd
from pipeline import Process, program, read_text, wait_until

USER = 65534
OTHER = 65533
MB = 1 << 20
STATS = ("logged", "delivered", "rejected", "dropped", "queued", "truncated", "repaired", "batches", "retries", "fallback",
         "adopted", "damaged")

# Of each: the size of its image in MB, how it is made, and the options of its mount.
IMAGES = {
    "ext4": (64, "mkfs.ext4 -q -F", ""),
    "ext4 with blocks of 1 KiB": (64, "mkfs.ext4 -q -F -b 1024", ""),
    "ext4 with nodelalloc": (64, "mkfs.ext4 -q -F", "nodelalloc"),
    "xfs": (320, "mkfs.xfs -q -f", ""),
    "btrfs": (320, "mkfs.btrfs -q -f", ""),
}
OVERLAYS = ["overlay on ext4", "overlay on xfs", "overlay on tmpfs"]
UNKNOWN = ["btrfs", "overlay on btrfs", "fuse", "ramfs"]
DISKS = [kind for kind in [*IMAGES, *OVERLAYS] if kind not in UNKNOWN]


def run(*argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kw)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}"
    return done.stdout


class FileSystem:
    """A file system of `kind` at self.path, with a directory for the user's rings."""

    def __init__(self, box, kind, size=None, options="", mkfs=""):
        self.box, self.kind, self.size = box, kind, size
        base = kind.removeprefix("overlay on ")
        self.base = self.path = box.path("base" if base != kind else "mount")
        self._mount(base, options, mkfs)
        if base != kind:
            self._overlay()
        self.rings = os.path.join(self.path, "rings")
        os.mkdir(self.rings, 0o700)
        os.chown(self.rings, USER, USER)

    def _mount(self, base, options, mkfs):
        os.mkdir(self.base)
        if base in ("tmpfs", "ramfs"):
            size = [f"size={self.size or 64 * MB}"] if base == "tmpfs" else []
            run("mount", "-t", base, "-o", ",".join(["mode=755", *size, *options.split()]), base, self.base)
            return
        megabytes, make, usual = IMAGES["ext4" if base == "fuse" else base]
        self.image = self.box.path("image")
        with open(self.image, "wb") as f:
            f.truncate(self.size or megabytes * MB)
        run(*make.split(), *mkfs.split(), self.image)
        if base == "fuse":
            run("fuse2fs", "-o", "allow_other,fakeroot", self.image, self.base)
        else:
            run("mount", "-o", ",".join(filter(None, ["loop", usual, options])), self.image, self.base)

    def _overlay(self):
        self.path = self.box.path("mount")
        lower, upper, work = self.box.path("lower"), os.path.join(self.base, "upper"), os.path.join(self.base, "work")
        for d in (lower, upper, work, self.path):
            os.mkdir(d)
        run("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", self.path)

    def leave(self, size):
        """Takes all but `size` bytes."""
        st = os.statvfs(self.base)
        run("fallocate", "-l", str(st.f_bavail * st.f_frsize - size), os.path.join(self.base, "most"))

    def fill(self):
        """Takes all that is left, and writes it back."""
        step = MB
        with open(os.path.join(self.base, "rest"), "ab", buffering=0) as f:
            while step > 0:
                try:
                    if f.write(b"x" * step) < step:
                        step //= 2
                except OSError as e:
                    assert e.errno == errno.ENOSPC, e
                    step //= 2
        for n in range(10000):  # what is too small for a file's block may do for metadata
            try:
                with open(os.path.join(self.base, f"small{n}"), "wb", buffering=0) as f:
                    f.write(b"x" * 1000)
            except OSError:
                break
        os.sync()

    def remount(self, how):
        return subprocess.run(["mount", "-o", f"remount,{how}", self.path], stderr=subprocess.PIPE, check=False).returncode

    def files(self, suffix):
        return sorted(f for f in os.listdir(self.rings) if f.endswith(suffix))

    def close(self):
        for path in dict.fromkeys([self.path, self.base]):
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)


class Driver(Process):
    """driver.c, as an ordinary user unless told otherwise."""

    graceful = False

    def __init__(self, box, env, tag="d", user=USER, prefix=()):
        self.said = 0
        name = f"driver{sum(isinstance(p, Driver) for p in box.processes)}"
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        super().__init__(box, name, [*prefix, *become, box.copy("tests/driver"), tag], env, stdin=subprocess.PIPE)
        self.spawn()

    def ask(self, *command, seconds=60.0):
        """Gives a command, and returns the words of the answer."""
        self.popen.stdin.write((" ".join(map(str, command)) + "\n").encode())
        self.popen.stdin.flush()
        return self._answer(command, seconds)

    def _answer(self, command, seconds):
        def look():
            alive = self.alive()
            lines = self.stdout().splitlines()
            if len(lines) > self.said and self.stdout().endswith("\n"):
                return lines
            code = self.popen.returncode
            assert alive, f"{command} ended the program: {signal.Signals(-code).name if code < 0 else code} {self.stderr()[-500:]}"
            return None
        lines = wait_until(look, f"an answer to {command}", seconds)
        self.said += 1
        return lines[self.said - 1].split()

    def begin(self):
        assert self.ask("begin") == ["done"]
        return self

    def log(self, records, size=1000):
        """How many were taken before one was refused, and the error's name or None."""
        taken, *error = self.ask("log", records, size)
        return int(taken), error[0] if error else None

    def stat(self, name):
        return int(self.ask("stat", STATS.index(name))[0])

    def flush(self, ms=30000):
        return self.ask("flush", ms)[0] == "done"

    def end(self):
        """Ends as a program does, and returns the exit status."""
        self.popen.stdin.close()
        return self.wait()

    def reports(self, status=None):
        found = [(int(s), t) for s, t in re.findall(r"^report: (\d+): (.*)$", self.stderr(), re.M)]
        return [t for s, t in found if status in (None, s)]

    def in_memory(self):
        return self.stat("fallback") == 1

    def status_kb(self, key):
        return int(re.search(rf"^{key}:\s+(\d+) kB", read_text(f"/proc/{self.pid}/status"), re.M).group(1))


class Logd(fakelogd.FakeLogd):
    """Takes all records, unless it is away."""

    def __init__(self):
        self.away = False
        super().__init__(lambda request, number: None if self.away else fakelogd.ok(request))

    def numbers(self, tag="d"):
        """Of the records of driver `tag`, as a store that knows repetitions has them, in the order of their coming."""
        found = (re.match(rf"{tag}-(\d+)-", message) for _, message in self.stored())
        return [int(m.group(1)) for m in found if m]


def environment(url, rings=None, **properties):
    env = {"LOGCLIENT_URL": url, "LOGCLIENT_BACKOFF_MIN_MS": "20", "LOGCLIENT_BACKOFF_MAX_MS": "100",
           "LOGCLIENT_EXIT_TIMEOUT_MS": "0", "XDG_RUNTIME_DIR": "", **{f"LOGCLIENT_{k.upper()}": str(v) for k, v in properties.items()}}
    if rings is not None:
        env["LOGCLIENT_RING_DIR"] = rings
    return env


def drain(box, url, rings, user=USER):
    """logsend --drain, as a user; returns it after its end."""
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    name = f"drain{sum(p.name.startswith('drain') for p in box.processes)}"
    return box.run(name, [*become, box.copy("logsend"), "--drain", rings], env={"LOGCLIENT_URL": url})


def copy_into(box):
    """Lets any user run the programs, wherever the tree lies."""
    os.chmod(box.dir, 0o755)
    for name in ("tests/driver", "logsend", "liblogclient.so.1"):
        target = os.path.join(box.dir, "bin", name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(program(name), target)
    box.copy = lambda name: os.path.join(box.dir, "bin", name)
