"""The table: what was measured beside what was to be reached."""
from measure import PROCESSES, REDIS_SETTINGS, WARM_CALLS, median


class Table:
    def __init__(self):
        self.rows = []      # (what, figure, verdict), or a heading
        self.targets = []

    def heading(self, text):
        self.rows.append((text,))

    def row(self, what, figure, verdict=""):
        self.rows.append((what, figure, verdict))

    def target(self, what, shown, value, limit, at_most=True, unit=""):
        """A row with a verdict."""
        reached = value <= limit if at_most else value >= limit
        verdict = (f"target {'≤' if at_most else '≥'} {limit:g}{unit}, got {value:.2f}{unit}, "
                   f"{'ok' if reached else 'NOT REACHED'}")
        self.targets.append({"what": what, "limit": limit, "at_most": at_most, "value": value, "unit": unit.strip(),
                             "reached": reached})
        self.row(what, shown, verdict)

    def text(self):
        whole = [r for r in self.rows if len(r) == 3]
        first, second = (max(len(r[i]) for r in whole) for i in (0, 1))
        lines = []
        for r in self.rows:
            if len(r) == 1:
                lines += ["", r[0]]
            else:
                lines.append(f"  {r[0]:<{first}}  {r[1]:<{second}}  {r[2]}".rstrip())
        return "\n".join(lines[1:]) + "\n"


def cpu_text(cpu):
    return ", ".join(f"{name} {cpu[name]:.2f}" for name in PROCESSES if name in cpu)


def call(t, rows):
    t.heading("(a) A call, message of 64 bytes; median of groups of 50 calls")
    for r in rows:
        calls = r["round"]
        what = f"{'ring file' if r['ring'] == 'file' else 'ring_dir=off'}, {r['threads']} thread{'s'[:r['threads'] > 1]}, " \
               f"{'warm' if calls <= WARM_CALLS else 'burst'} (rounds of {calls} calls)"
        shown = f"{r['call_ns']:.0f} ns; clock_gettime {r['clock_ns']:.0f} ns; CPU {r['cpu_ns']:.0f} ns a call; " \
                f"p99 {r['p99_ns']:.0f} ns"
        if r["refused"]:
            shown += f"; {r['refused']} REFUSED (queue full)"
        if calls <= WARM_CALLS:
            t.target(what, shown, r["ratio"], 2.5, unit=" ×")
        else:
            t.row(what, f"{shown}; {r['ratio']:.2f} ×")
    one = {r["ring"]: r["call_ns"] for r in rows if r["round"] <= WARM_CALLS and r["threads"] == 1}
    t.row("ring file, beside ring_dir=off", f"{one['file'] / one['memory']:.2f} × (1 thread, warm)")


def post(t, r):
    t.heading("(b) Single small POSTs: wrk, 32 connections")
    t.row("bare evhttp + jansson", f"{r['bare']['requests_s']:,.0f} requests/s, CPU {r['bare']['cpu_us']:.1f} µs each")
    t.target("logd", f"{r['logd']['requests_s']:,.0f} requests/s, CPU {r['logd']['cpu_us']:.1f} µs each, "
             f"redis-server {r['logd']['redis_us']:.1f} µs", r["ratio"], 0.7, at_most=False, unit=" × bare")


def speed_text(r):
    return f"{r['records_s']:,.0f} records/s; {cpu_text(r['cpu_us'])}; all {sum(r['cpu_us'].values()):.2f}; " \
           f"AOF {r['aof_bytes']:.0f} bytes a record"


def pipeline(t, r):
    t.heading(f"(c) The whole pipeline: {r['records']:,} records of {r['bytes']} bytes, 4 threads, all levels written; "
              "CPU in µs a record")
    for batch, s in r["sweep"].items():
        best = "  <- the floor" if batch == r["best_batch"] else ""
        t.row(f"Redis alone, batches of {batch}", f"{speed_text(s)}{best}")
    f, p = r["floor"], r["pipeline"]
    t.row(f"floor, {r['records']:,} records", speed_text(f))
    t.target("pipeline", speed_text(p), r["ratio"], 1, at_most=False, unit=" × floor")
    t.target("CPU of all four", f"{p['total_us']:.2f} µs a record; the floor's two {sum(f['cpu_us'].values()):.2f}",
             p["total_us"], 6, unit=" µs")
    t.target("CPU outside redis-server", f"{p['total_us'] - p['cpu_us']['redis-server']:.2f} µs a record", r["outside_ratio"], 1,
             unit=" × redis-server")
    t.target("append-only file", f"{p['aof_bytes']:.0f} bytes a record; the floor's {f['aof_bytes']:.0f}", p["aof_bytes"], 300,
             unit=" bytes")


def price(t, r):
    t.heading(f"(c) The price of exactly once: the pipeline with and without the producer protocol, {r['records']:,} records; "
              "CPU in µs a record")
    for name in ("without", "with"):
        t.row(f"{name} Log-Producer", f"{r[name]['records_s']:,.0f} records/s; {cpu_text(r[name]['cpu_us'])}; all "
              f"{r[name]['total_us']:.2f}")
    t.row("with, beside without", f"{r['ratios']['records_s']:.2f} × the records/s, {r['ratios']['total_us']:.2f} × the CPU")


def latency(t, rows):
    t.heading("(d) From the call to the line in app.log, default settings")
    for rate, r in rows.items():
        shown = f"p50 {r['p50_us'] / 1000:.2f} ms, p99 {r['p99_us'] / 1000:.2f} ms, p99.9 {r['p999_us'] / 1000:.2f} ms, " \
                f"max {r['max_us'] / 1000:.2f} ms"
        if r["reached"] < 0.98 * rate:
            shown += f" (only {r['reached']:,.0f} records/s reached)"
        if rate == 10000:
            t.target(f"{rate:,} records/s", shown, r["p99_us"] / 1000, 10, unit=" ms")
        else:
            t.row(f"{rate:,} records/s", shown)


def growth_bytes(t, rows):
    t.heading("(e) Message sizes, each beside the floor of that size; CPU in µs a record")
    for n, r in rows.items():
        t.row(f"{n:,} bytes, floor in batches of {r['best_batch']}", speed_text(r["floor"]))
        t.target(f"{n:,} bytes, pipeline", speed_text(r["pipeline"]), r["ratio"], 1, at_most=False, unit=" × floor")


def growth_producers(t, rows):
    t.heading("(e) Producers, each a process; CPU in µs a record")
    for n, r in rows.items():
        t.row(f"{n} producer{'s'[:n > 1]}", f"{r['records_s']:,.0f} records/s; all {r['total_us']:.2f}: {cpu_text(r['cpu_us'])}")
    worst = max(rows, key=lambda n: rows[n]["ratio"])
    shown = ", ".join(f"{n}: {r['ratio']:.2f} ×" for n, r in rows.items())
    t.target("cost, beside that of 1 just before", shown, rows[worst]["ratio"], 1.2, unit=" ×")


def backlog_costs(r, parts=5):
    """[(largest backlog, fill µs, drain µs)] of equal parts, the emptiest first: steps are too short to compare singly."""
    size = len(r["fill"]) // parts
    fill = [sum(s["cpu_us"].values()) for s in sorted(r["fill"], key=lambda s: s["backlog"])]
    drain = sorted((s["backlog"], sum(s["cpu_us"].values())) for s in r["drain"])
    top = max(s["backlog"] for s in r["fill"]) + r["fill"][0]["backlog"]
    rows = []
    for i in range(parts):
        low, high = top * i / parts, top * (i + 1) / parts
        rows.append((high, median(fill[i * size:(i + 1) * size]), median([us for at, us in drain if low < at <= high])))
    return rows


def growth_backlog(t, r):
    t.heading("(e) Backlog: filled without a worker, then drained; CPU in µs a record")
    rows = backlog_costs(r)
    before = 0
    for high, fill, drain in rows:
        t.row(f"{before / 1e6:g} to {high / 1e6:g} million entries",
              f"all {fill + drain:.2f}: fill {fill:.2f} (client, logd, redis-server), drain {drain:.2f} (redis-server, logworker)")
        before = high
    costs = [fill + drain for _, fill, drain in rows]
    t.target(f"cost up to {before / 1e6:g} million", f"{costs[0]:.2f} µs when emptiest; at most {max(costs):.2f} µs; "
             f"{r['redis_bytes_record']:.0f} bytes of Redis an entry", max(costs) / costs[0], 1.2, unit=" × the emptiest")
    t.row(f"floor's reading half, {r['records']:,} in batches of {r['best_batch']}", speed_text(r["floor"]))
    t.target(f"logworker, {r['records']:,}", speed_text(r["pipeline"]), r["ratio"], 1, at_most=False, unit=" × floor")
    t.target("logworker's memory meanwhile", f"VmHWM {r['peak_kib'] / 1024:.1f} MiB", r["peak_kib"] / 1024, 32, unit=" MiB")


def memory(t, r):
    t.heading("(f) Memory, MiB")
    for when, title in (("fresh", "at rest"), ("after", f"after {r['records']:,} records, idle")):
        for name in PROCESSES:
            m = {k: v / 1024 for k, v in r[when][name].items()}
            if name == "client":
                empty = r["empty_client"]
                touched = sum(r[when][name][k] - empty[k] for k in ("Pss_Anon", "Pss_Shmem")) / 1024
                shown = f"touched by the library {touched:.2f}; RSS {m['Rss']:.1f}, before it had a client " \
                        f"{empty['Rss'] / 1024:.1f}"
                value, limit = touched, 1
            else:
                shown, value, limit = f"RSS {m['Rss']:.1f}, PSS {m['Pss']:.1f}", m["Rss"], 8
            if when == "fresh" and name != "redis-server":
                t.target(f"{name} {title}", shown, value, limit, unit=" MiB")
            else:
                t.row(f"{name} {title}", shown)


WRITERS = {"call": call, "post": post, "pipeline": pipeline, "price": price, "latency": latency, "growth-bytes": growth_bytes,
           "growth-producers": growth_producers, "growth-backlog": growth_backlog, "memory": memory}


def table(results, machine):
    t = Table()
    for name, r in results.items():
        WRITERS[name](t, r)
    head = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load at the start {machine['load']:.1f}\n" \
           f"Redis {machine['redis']} on a unix socket, {REDIS_SETTINGS}, for floor and pipeline alike; medians of the rounds\n\n"
    return head + t.text(), t.targets
