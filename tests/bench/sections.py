"""What is measured: one function a section, each returning plain data."""
import os
import re

import measure
import pipeline
from measure import WARM_CALLS, Box, Load, Pipeline, median, medians, memory_kib, note

FLOOR_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000)
MESSAGE_BYTES = (64, 256, 1024, 4096, 16384)
PRODUCERS = (1, 2, 4, 8, 16, 32, 64)
RATES = (1000, 10000, 50000)
CONNECTIONS = 32
POST_LUA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "post.lua")


class Full:
    """How much is measured."""
    call_rounds = {WARM_CALLS: 400, 100000: 12}
    post_rounds, post_seconds = 5, 3
    floor_records, floor_rounds = 100000, 3
    pipeline_records, pipeline_rounds = 1000000, 5
    latency_seconds, latency_rounds = 4, 3
    price_rounds = 5
    growth_records, growth_bytes, growth_rounds = 256000, 256 << 20, 3
    producers_records = 512000
    backlog, backlog_steps, backlog_rounds = 5000000, 20, 3
    memory_records = 1000000


class Quick:
    call_rounds = {WARM_CALLS: 100, 100000: 4}
    post_rounds, post_seconds = 2, 1
    floor_records, floor_rounds = 20000, 1
    pipeline_records, pipeline_rounds = 200000, 2
    latency_seconds, latency_rounds = 1, 1
    price_rounds = 2
    growth_records, growth_bytes, growth_rounds = 64000, 64 << 20, 1
    producers_records = 256000
    backlog, backlog_steps, backlog_rounds = 500000, 20, 2
    memory_records = 100000


def call(scale):
    """(a) A call beside clock_gettime."""
    rows = []
    with Box() as box:
        sink = pipeline.Process(box, "sink", [pipeline.program("bench/bare"), "--sink"]).spawn()
        port = sink.wait_output(r"^bare: listening on 127\.0\.0\.1:(\d+)").group(1)
        for calls, rounds in scale.call_rounds.items():
            for ring in ("file", "memory"):
                for threads in (1, 4):
                    note(f"call: {calls} calls a round, ring in {'a file' if ring == 'file' else ring}, threads: {threads}")
                    settings = {} if ring == "file" else {"ring_dir": "off"}
                    r = box.json_lines("call", ["--threads", threads, "--calls", calls // threads, "--rounds", rounds,
                                                "--warm-up", max(2, rounds // 10)],
                                       env=box.client_env(f"http://127.0.0.1:{port}", **settings))[0]
                    assert not r["ring_fallback"]
                    rows.append({"round": calls, "ring": ring, **r})
    return rows


def wrk(box, name, port, seconds):
    p = box.run(box.unique("wrk"), ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s",
                                    POST_LUA, f"http://127.0.0.1:{port}/api/log"],
                seconds + 30.0)
    out = p.stdout()
    found = re.search(r"^Requests/sec: +([\d.]+)", out, re.M)
    assert p.popen.returncode == 0 and found and not re.search(r"Non-2xx|Socket errors", out), f"wrk, {name}: {out}"
    return float(found.group(1)), int(re.search(r"(\d+) requests in", out).group(1))


def post(scale):
    """(b) Single small POSTs: logd beside bare evhttp and jansson, in turn."""
    rows = {"bare": [], "logd": []}
    with Box() as box:
        bare = pipeline.Process(box, "bare", [pipeline.program("bench/bare")]).spawn()
        bare_port = int(bare.wait_output(r"^bare: listening on 127\.0\.0\.1:(\d+)").group(1))
        redis = box.redis()
        logd = box.logd(redis, "--no-echo")
        for r in range(-1, scale.post_rounds):
            note(f"post: {'warm-up' if r < 0 else f'round {r + 1} of {scale.post_rounds}'}")
            for name, port, pid in (("bare", bare_port, bare.pid), ("logd", logd.port, logd.pid)):
                before, redis_before = measure.cpu_us(pid), measure.cpu_us(redis.pid)
                rate, requests = wrk(box, name, port, scale.post_seconds if r >= 0 else 1)
                row = {"requests_s": rate, "cpu_us": (measure.cpu_us(pid) - before) / requests,
                       "redis_us": (measure.cpu_us(redis.pid) - redis_before) / requests}
                if r >= 0:
                    rows[name].append(row)
                redis("DEL", "logs-stream")
            measure.settle(redis)
    ratios = [a["requests_s"] / b["requests_s"] for a, b in zip(rows["logd"], rows["bare"])]
    return {"bare": medians(rows["bare"]), "logd": medians(rows["logd"]), "ratio": median(ratios), "rounds": rows}


def floor_batches(message_bytes):
    """The batch sizes among which the floor's best one is."""
    return [n for n in FLOOR_BATCHES if 8 << 10 <= n * (message_bytes + 100) <= 1 << 20]


def sweep(scale, what, message_bytes, run):
    """Each batch size of the floor in turn, and that several times: the medians of each, and which one is the fastest."""
    rows = {batch: [] for batch in floor_batches(message_bytes)}
    run(max(rows))
    for r in range(scale.floor_rounds):
        note(f"{what}: floor, batch sizes, round {r + 1} of {scale.floor_rounds}")
        for batch in rows:
            rows[batch].append(run(batch))
    rows = {batch: medians(r) for batch, r in rows.items()}
    return rows, max(rows, key=lambda batch: rows[batch]["records_s"])


def beside(rounds, what="records_s"):
    """How many times as much the pipeline reaches as the floor of the same round."""
    return median([a[what] / b[what] for a, b in zip(rounds["pipeline"], rounds["floor"])])


def whole(scale):
    """(c) The whole pipeline beside the floor."""
    rounds = {"floor": [], "pipeline": []}
    with Box() as box:
        p = Pipeline(box)
        swept, best = sweep(scale, "pipeline", measure.BYTES, lambda batch: p.floor(scale.floor_records, batch))
        note("pipeline: warm-up")
        p.run(scale.pipeline_records // 10)
        for r in range(scale.pipeline_rounds):
            note(f"pipeline: {scale.pipeline_records} records, round {r + 1} of {scale.pipeline_rounds}")
            rounds["floor"].append(p.floor(scale.pipeline_records, best))
            rounds["pipeline"].append(p.run(scale.pipeline_records))
    outside = [(r["total_us"] - r["cpu_us"]["redis-server"]) / r["cpu_us"]["redis-server"] for r in rounds["pipeline"]]
    return {"records": scale.pipeline_records, "bytes": measure.BYTES, "sweep": swept, "best_batch": best,
            "floor": medians(rounds["floor"]), "pipeline": medians(rounds["pipeline"]), "ratio": beside(rounds),
            "outside_ratio": median(outside), "rounds": rounds}


def price(scale):
    """(c) What the producer protocol costs the pipeline: with it and without, in turn. Shown is the round in the middle."""
    rounds = {"producer": [], "anonymous": []}
    with Box() as box:
        p = Pipeline(box)
        note("price: warm-up")
        p.run(scale.pipeline_records // 10)
        for r in range(scale.price_rounds):
            note(f"price: {scale.pipeline_records} records with and without the producer protocol, round {r + 1} of "
                 f"{scale.price_rounds}")
            for name in rounds:
                before = p.producers()
                rounds[name].append(p.run(scale.pipeline_records, anonymous=name == "anonymous"))
                assert p.producers() - before == (name == "producer")
    pairs = sorted(zip(rounds["producer"], rounds["anonymous"]), key=lambda pair: pair[0]["total_us"] / pair[1]["total_us"])
    ratios = {what: median([a[what] / b[what] for a, b in pairs]) for what in ("records_s", "total_us")}
    middle = pairs[len(pairs) // 2]
    return {"records": scale.pipeline_records, "with": middle[0], "without": middle[1], "ratios": ratios, "rounds": rounds}


def latency(scale):
    """(d) From the call to the line in app.log, at fixed rates, with default settings."""
    rows = {rate: [] for rate in RATES}
    with Box() as box:
        p = Pipeline(box)
        for r in range(scale.latency_rounds):
            for rate in RATES:
                note(f"latency: {rate} records/s, round {r + 1} of {scale.latency_rounds}")
                rows[rate] += box.json_lines("latency", ["--rate", rate, "--seconds", scale.latency_seconds, "--log",
                                                         p.worker.output, "--bytes", measure.BYTES],
                                             env=box.client_env(p.logd.url))
                assert not rows[rate][-1]["refused"], f"latency: {rows[rate][-1]}"
            p.fresh_worker()
            measure.settle(p.redis)
    return {rate: medians(r) for rate, r in rows.items()}


def growth_bytes(scale):
    """(e) Message sizes, each beside the floor of that size."""
    records = {n: min(scale.growth_records, scale.growth_bytes // n) for n in MESSAGE_BYTES}
    rounds = {n: {"floor": [], "pipeline": []} for n in MESSAGE_BYTES}
    best = {}
    with Box() as box:
        p = Pipeline(box)
        note("message bytes: warm-up")
        p.run(scale.growth_records // 4)
        for n in MESSAGE_BYTES:
            few = min(scale.floor_records, records[n] // 4)
            _, best[n] = sweep(scale, f"message bytes: {n}", n, lambda batch, few=few, n=n: p.floor(few, batch, n))
        for r in range(scale.growth_rounds):
            for n in MESSAGE_BYTES:
                note(f"message bytes: {n}, round {r + 1} of {scale.growth_rounds}")
                rounds[n]["floor"].append(p.floor(records[n], best[n], n))
                rounds[n]["pipeline"].append(p.run(records[n], n))
    return {n: {"best_batch": best[n], "ratio": beside(r), "rounds": r, "floor": medians(r["floor"]),
                "pipeline": medians(r["pipeline"])} for n, r in rounds.items()}


def growth_producers(scale):
    """(e) Producers, each a process with one thread, and with enough to do that its start does not count; each number in
    turn with one producer."""
    rows = {n: [] for n in PRODUCERS}
    ratios = {n: [] for n in PRODUCERS[1:]}
    with Box() as box:
        p = Pipeline(box)
        note("producers: warm-up")
        p.run(scale.producers_records // 4)
        for r in range(scale.growth_rounds):
            for n in ratios:
                note(f"producers: 1 and {n}, round {r + 1} of {scale.growth_rounds}")
                one, many = (p.run(scale.producers_records, threads=1, producers=k) for k in (1, n))
                rows[1].append(one)
                rows[n].append(many)
                ratios[n].append(many["total_us"] / one["total_us"])
    return {n: {**medians(rows[n]), "ratio": median(ratios.get(n, [1]))} for n in PRODUCERS}


def drain_in_steps(p, records, step):
    """A worker empties the stream. CPU microseconds a record of each step, by process, the fullest first."""
    p.fresh_worker()
    line, rows = measure.line_bytes(measure.BYTES), []
    last, before = 0, p.cpu()
    while last < records:
        target = min(records, last + step)
        pipeline.wait_until(lambda t=target: p.log_bytes() >= t * line, f"{target} lines in app.log", 120)
        done, now = p.log_bytes() // line, p.cpu()
        rows.append({"backlog": records - (last + done) / 2,
                     "cpu_us": {k: (now[k] - before[k]) / (done - last) for k in ("redis-server", "logworker")}})
        last, before = done, now
    p.wait_written(records * line)
    return rows


def fill_and_drain_floor(p, records, batch):
    measure.settle(p.redis)
    p.floor_part("fill", records, 1000)
    return p.floor_part("drain", records, batch)


def fill_and_drain(p, records):
    measure.settle(p.redis)
    p.stop_worker()
    p.floor_part("fill", records, 1000, stream="logs-stream")
    return p.drain(records)


def drained(scale, p):
    """The worker beside the reading half of the floor, with the same entries before them."""
    rounds = {"floor": [], "pipeline": []}
    _, best = sweep(scale, "backlog", measure.BYTES, lambda batch: fill_and_drain_floor(p, scale.floor_records, batch))
    for r in range(scale.backlog_rounds):
        note(f"backlog: {scale.backlog} filled and drained, round {r + 1} of {scale.backlog_rounds}")
        rounds["floor"].append(fill_and_drain_floor(p, scale.backlog, best))
        rounds["pipeline"].append(fill_and_drain(p, scale.backlog))
    return {"best_batch": best, "ratio": beside(rounds), "rounds": rounds, "floor": medians(rounds["floor"]),
            "pipeline": medians(rounds["pipeline"]), "peak_kib": max(r["peak_kib"] for r in rounds["pipeline"])}


def growth_backlog(scale):
    """(e) A stream is filled without a worker, then drained by one: what each step costs, by how full the stream is."""
    step = scale.backlog // scale.backlog_steps
    fill = []
    with Box() as box:
        p = Pipeline(box, worker=False)
        for i in range(scale.backlog_steps):
            note(f"backlog: filling, {(i + 1) * step} of {scale.backlog}")
            fill.append({"backlog": (i + 0.5) * step, "cpu_us": p.load(step)["cpu_us"]})
        assert p.redis.length() == step * scale.backlog_steps
        memory_bytes = int(re.search(r"used_memory:(\d+)", p.redis("INFO", "memory")).group(1))
        note("backlog: draining")
        steps = drain_in_steps(p, step * scale.backlog_steps, step)
        whole_drain = drained(scale, p)
    return {"fill": fill, "drain": steps, "redis_bytes_record": memory_bytes / (step * scale.backlog_steps),
            "records": scale.backlog, **whole_drain}


def memory(scale):
    """(f) Memory of each process, when nothing is under way."""
    with Box() as box:
        p = Pipeline(box)
        note("memory: at rest")
        client = Load(box, p.logd.url, 1)
        empty = memory_kib(client.pid)
        client.make_client()
        client.go()
        client.result()
        p.wait_written(measure.line_bytes(measure.BYTES))
        fresh = {name: memory_kib(d.pid) for name, d in p.daemons().items()}
        fresh["client"] = memory_kib(client.pid)
        client.finish()
        note(f"memory: after {scale.memory_records} records")
        client = Load(box, p.logd.url, scale.memory_records, threads=4, on_full="block", block_ms=60000)
        client.make_client()
        client.go()
        client.result()
        p.wait_written((1 + scale.memory_records) * measure.line_bytes(measure.BYTES))
        after = {name: memory_kib(d.pid) for name, d in p.daemons().items()}
        after["client"] = wait_still(client.pid)
        client.finish()
    return {"records": scale.memory_records, "empty_client": empty, "fresh": fresh, "after": after}


def wait_still(pid):
    """Memory of a process once it has not changed for a second."""
    seen = []

    def still():
        seen.append(memory_kib(pid)["Pss_Dirty"])  # not what it shares with processes that come and go
        return len(seen) > 20 and len(set(seen[-20:])) == 1
    pipeline.wait_until(still, "the client's memory to come to rest", 30)
    return memory_kib(pid)


SECTIONS = {"call": call, "post": post, "pipeline": whole, "price": price, "latency": latency, "growth-bytes": growth_bytes,
            "growth-producers": growth_producers, "growth-backlog": growth_backlog, "memory": memory}
