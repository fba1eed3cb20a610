"""logsend, the command-line client."""
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from pipeline import Process, messages, program, wait_until


def logsend(box, url, *args, stdin=None, env=None, seconds=60.0):
    """Runs logsend to its end: (status, stdout, stderr)."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("LOGSEND_", "LOGCLIENT_"))}
    own.update({"LOGCLIENT_RING_DIR": box.ring_dir, "LOGCLIENT_URL": url, **(env or {})})
    done = subprocess.run([program("logsend"), *args], input=stdin or b"", env=own, capture_output=True, timeout=seconds * 5)
    assert b"Sanitizer" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def rings(box):
    return sorted(n for n in os.listdir(box.ring_dir) if ".ring" in n)


def test_a_message_given_as_words(box):
    redis = box.redis()
    logd = box.logd(redis)
    status, out, err = logsend(box, logd.url, "-s", "payment", "-l", "ERROR", "card", "refused")
    assert (status, out, err) == (0, "", "")
    entry = dict(redis.entries()[0])
    assert (entry["service"], entry["level"], entry["message"]) == ("payment", "error", "card refused")
    assert rings(box) == []


def test_lines_of_standard_input(box):
    redis = box.redis()
    logd = box.logd(redis)
    status, _, err = logsend(box, logd.url, "-s", "x", stdin=b"one\n\ntwo \xff\nlast without line feed")
    assert (status, err) == (0, "")
    assert messages(redis) == ["one", "", "two \ufffd", "last without line feed"]


def test_json_lines_keep_every_member(box):
    redis = box.redis()
    logd = box.logd(redis)
    lines = (b'{"service":"a","level":"warning","message":"m\\u0000","timestamp":"2026-01-02T03:04:05+01:00","n":[1,{"x":null}]}\n'
             b'\n'
             b'{"message":"the rest is filled in"}\n')
    status, _, err = logsend(box, logd.url, "-s", "dflt", "-l", "error", "--json", stdin=lines)
    assert (status, err) == (0, "")
    first, second = (dict(e) for e in redis.entries())
    assert (first["service"], first["level"], first["message"]) == ("a", "warn", "m\0")
    assert first["timestamp"] == "2026-01-02T02:04:05.000Z"
    assert json.loads(first["fields"]) == {"n": [1, {"x": None}]}
    assert (second["service"], second["level"]) == ("dflt", "error")


def test_json_lines_are_sent_as_they_were_written(box):
    """Numbers were read and written again: 0.1 became 0.10000000000000001, and a large one was refused."""
    redis = box.redis()
    logd = box.logd(redis)
    lines = b' { "price":0.1, "id":1.10,"big":12345678901234567890,"e":1E5}\r\n{}\n{ }\n'
    status, _, err = logsend(box, logd.url, "-s", "d\u00e9\"f", "--json", stdin=lines)
    assert (status, err) == (0, "")
    first, *empty = (dict(e) for e in redis.entries())
    assert first["fields"].replace(" ", "") == '{"price":0.1,"id":1.10,"big":12345678901234567890,"e":1E5}'
    assert first["service"] == "d\u00e9\"f"
    assert [(e["service"], e["level"], e["message"]) for e in empty] == [("d\u00e9\"f", "info", "")] * 2


def test_a_bad_json_line_is_named_and_loses_nothing_else(box):
    redis = box.redis()
    logd = box.logd(redis)
    lines = (b'{"message":"first"}\n{"message":\n[1]\n{"message":7}\n{"message":"x","level":"loud"}\n'
             b'{"message":"x","service":""}\n{"message":"last"}\n')
    status, _, err = logsend(box, logd.url, "--json", stdin=lines)
    assert status == 1
    assert messages(redis) == ["first", "last"]
    for line, words in ((2, "not JSON"), (3, "not an object"), (4, '"message" must be a string'), (5, '"loud" is no level'),
                        (6, "is empty")):
        assert any(f"line {line}: " in e and words in e for e in err.splitlines()), err


def test_many_lines_flush_also_after_the_ring_was_trimmed(box):
    """The ring gives blocks back after 8 MiB, which moved its head and let the flush wait for ever."""
    redis = box.redis()
    logd = box.logd(redis)
    line = b"x" * 1000 + b"\n"
    status, _, err = logsend(box, logd.url, stdin=line * 30000)
    assert (status, err) == (0, "")
    assert redis.length() == 30000


def test_undelivered_records_are_kept_and_drained_later(box):
    redis = box.redis()
    logd = box.logd(redis)
    url = logd.url
    logd.stop()
    status, _, err = logsend(box, url, "-t", "2s", stdin=b"a\nb\nc\n")
    assert status == 1
    assert "connecting failed: Connection refused" in err
    assert "not delivered: 3 records, kept in the ring directory" in err
    assert len(rings(box)) == 1

    status, out, _ = logsend(box, url, "--inspect", box.ring_dir)
    assert status == 0
    row = out.splitlines()[1].split()
    assert row[0] == rings(box)[0] and row[2] == "dead" and row[4] == "3" and row[6] == "1"
    status, out, _ = logsend(box, url, "--inspect", box.ring_dir, "--print")
    assert status == 0
    assert [json.loads(l)["message"] for l in out.splitlines()] == ["a", "b", "c"]

    status, _, err = logsend(box, url, "--drain", box.ring_dir, "-t", "300ms")
    assert status == 1 and "not all rings" in err and len(rings(box)) == 1
    logd.start()
    status, _, err = logsend(box, url, "--drain", box.ring_dir)
    assert (status, err) == (0, "")
    assert messages(redis) == ["a", "b", "c"]
    assert rings(box) == []
    status, _, err = logsend(box, url, "--drain", box.ring_dir)
    assert (status, err) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_drains_the_directory_of_a_user(box):
    """Root's own ring lay there, where the user may shorten it, and so did a lock that the user could not open any more."""
    redis = box.redis()
    logd = box.logd(redis)
    logd.stop()
    logsend(box, logd.url, "-t", "300ms", stdin=b"a\nb\n")
    os.unlink(os.path.join(box.ring_dir, "adopt.lock"))
    for path in (box.ring_dir, os.path.join(box.ring_dir, rings(box)[0])):
        os.chown(path, 12345, 12345)

    drain = Process(box, "drain", [program("logsend"), "--url", logd.url, "--drain", box.ring_dir], {})
    drain.graceful = False
    drain.spawn()
    wait_until(lambda: "refused" in drain.stderr(), "the attempt")
    assert len(rings(box)) == 1
    logd.start()
    assert drain.wait(60) == 0
    assert messages(redis) == ["a", "b"]
    left = [os.path.join(box.ring_dir, name) for name in os.listdir(box.ring_dir)]
    assert [name for name in left if ".ring" in name or os.stat(name).st_uid != 12345] == []


def test_a_directory_that_cannot_be_drained_is_named(box):
    for path, why in ((box.path("none"), "No such file"), (box.write("file", b""), "Not a directory")):
        status, _, err = logsend(box, "http://127.0.0.1:1", "--drain", path, seconds=5)
        assert status == 69 and path in err and why in err
    if os.geteuid() == 0:
        os.mkdir(box.path("theirs"), 0o700)
        os.chmod(box.dir, 0o711)
        binary = shutil.copy(program("logsend"), box.path("logsend"))
        done = subprocess.run([binary, "--drain", box.path("theirs")], capture_output=True, text=True, user=12345, timeout=60)
        assert done.returncode == 69 and box.path("theirs") in done.stderr


def test_a_queue_that_stays_full_ends_the_reading(box):
    """Each further line waited its whole timeout, was dropped, and the next began."""
    env = {"LOGCLIENT_RING_BYTES": "1m"}
    lines = b"".join(b"%0100d\n" % i for i in range(1, 20001))
    status, _, err = logsend(box, "http://127.0.0.1:1", "-t", "300ms", stdin=lines, env=env, seconds=20)
    assert status == 1
    sent = int(re.search(r"line (\d+) was not sent, nor what follows it: the queue stayed full for 300 ms", err).group(1)) - 1
    assert f"not delivered: {sent} records, kept in the ring directory" in err
    redis = box.redis()
    logd = box.logd(redis)
    status, _, err = logsend(box, logd.url, "--drain", box.ring_dir)
    assert (status, err) == (0, "")
    assert [int(m) for m in messages(redis)] == list(range(1, sent + 1))


def test_a_damaged_ring_is_moved_aside(box):
    redis = box.redis()
    logd = box.logd(redis)
    box.write("rings/0123456789abcdef0123456789abcdef.ring", b"LOGRING2 and then junk")
    box.write(f"rings/{'0' * 32}.tmp", b"never finished")
    status, _, err = logsend(box, logd.url, "-s", "x", "hello")
    assert status == 0
    wait_until(lambda: logsend(box, logd.url, "--drain", box.ring_dir)[0] == 0, "the directory to be drained")
    assert rings(box) == ["0123456789abcdef0123456789abcdef.ring.damaged"]
    assert not os.path.exists(box.path(f"rings/{'0' * 32}.tmp"))
    status, out, _ = logsend(box, logd.url, "--inspect", box.ring_dir)
    assert status == 0 and "not a whole ring" in out


def test_usage_errors(box):
    for args, words in ((["--level", "loud", "x"], "loud"), (["--service", "", "x"], "is empty"), (["--colour"], "colour"),
                        (["--print"], "--inspect"), (["--drain", "/tmp", "x"], "no message"),
                        (["--drain", "/tmp", "--inspect", "/tmp"], "either"), (["--json", "x", "-s", "y"], "before the message"),
                        (["--url", "https://x", "m"], "TLS"), (["-t", "soon", "x"], "soon")):
        status, _, err = logsend(box, "http://127.0.0.1:1", *args)
        assert status == 64, (args, err)
        assert words in err, (args, err)
    status, _, err = logsend(box, "http://127.0.0.1:1", "--inspect", box.path("nowhere"))
    assert status == 69 and "nowhere" in err
    status, _, err = logsend(box, "http://127.0.0.1:1", "x", env={"LOGCLIENT_LINGER_MS": "soon"})
    assert status == 64 and "LOGCLIENT_LINGER_MS" in err


def test_the_properties_are_listed(box):
    status, out, _ = logsend(box, "http://127.0.0.1:1", "--properties")
    assert status == 0
    names = [l.split()[0] for l in out.splitlines()]
    assert {"url", "ring_dir", "on_full", "exit_timeout_ms"} <= set(names)


def test_a_ring_of_the_version_before_is_left_alone(box):
    redis = box.redis()
    logd = box.logd(redis)
    name = "0123456789abcdef0123456789abcdef.ring"
    box.write(f"rings/{name}", b"LOGRING1".ljust(1 << 20, b"\0"))
    status, _, err = logsend(box, logd.url, "--drain", box.ring_dir)
    assert status == 1 and re.search(f"{name} is passed over: .*0.1.0", err)
    assert rings(box) == [name]


def test_man_page_names_every_property_and_counter(box):
    root = os.path.join(os.path.dirname(__file__), "..", "..", "liblogclient")
    with open(os.path.join(root, "logclient.3"), encoding="ascii") as f:
        page = f.read()
    with open(os.path.join(root, "logclient.h"), encoding="ascii") as f:
        names = re.findall(r"^ +(LOGCLIENT_\w+)\b(?!\()", f.read(), re.M)
    counters = [n for n in names if n.startswith("LOGCLIENT_STAT_")]
    assert len(names) - len(counters) > 10 and [n for n in names if n not in page] == []
    _, out, _ = logsend(box, "http://127.0.0.1:1", "--properties")
    properties = [l.split()[0] for l in out.splitlines()]
    assert len(counters) > 10 and len(properties) > 10
    described = re.findall(r"^\.TP\n\.(?:I|B) (\w+)$", page, re.M)
    assert [n for n in counters + properties if n not in described] == []


def test_progress_is_shown_on_a_terminal(box):
    redis = box.redis()
    logd = box.logd(redis)
    master, slave = os.openpty()
    env = {k: v for k, v in os.environ.items()} | {"LOGCLIENT_RING_DIR": box.ring_dir, "LOGCLIENT_URL": logd.url}
    child = subprocess.Popen([program("logsend")], stdin=subprocess.PIPE, stderr=slave, env=env)
    child.stdin.write(b"line\n" * 5000)
    child.stdin.close()
    assert child.wait(60) == 0
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "5000 sent" in shown and "0 waiting" in shown


def test_an_interrupt_ends_it_and_keeps_the_records(box):
    env = {k: v for k, v in os.environ.items()} | {"LOGCLIENT_RING_DIR": box.ring_dir, "LOGCLIENT_URL": "http://127.0.0.1:1"}
    child = subprocess.Popen([program("logsend"), "-q", "hello"], stderr=subprocess.PIPE, env=env)
    wait_until(lambda: any(n.endswith(".ring") for n in rings(box)), "the ring file")
    child.stderr.readline()  # the first failure is reported, so the record is in the ring
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 1
    child.stderr.close()
    _, out, _ = logsend(box, "http://127.0.0.1:1", "--inspect", box.ring_dir, "--print")
    assert json.loads(out)["message"] == "hello"
