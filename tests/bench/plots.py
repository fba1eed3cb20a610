"""Plots as SVG, by gnuplot."""
import os
import subprocess

from measure import PROCESSES, WARM_CALLS, note

HEAD = """set terminal svg noenhanced size 800,500 font "sans,13" background "white"
set output "{output}"
set title "{title}"
set grid ytics
set key outside top center horizontal
set style fill solid 0.85 noborder
"""
COLOURS = {"client": "#4477aa", "logd": "#66ccee", "redis-server": "#cc4444", "logworker": "#228833"}


def draw(out, name, title, script, rows):
    """Writes NAME.svg from a gnuplot script that reads the block $data."""
    data = "\n".join(" ".join(f'"{v}"' if isinstance(v, str) else f"{v:.6g}" for v in row) for row in rows)
    text = f"$data << EOD\n{data}\nEOD\n" + HEAD.format(output=os.path.join(out, name + ".svg"), title=title) + script
    done = subprocess.run(["gnuplot"], input=text, text=True, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        note(f"gnuplot: {name}: {done.stderr}")


def stacked(out, name, title, xlabel, bars):
    """CPU by process, one bar for each (label, {process: µs})."""
    rows = [(label, *(cpu.get(p, 0) for p in PROCESSES)) for label, cpu in bars]
    columns = ", ".join(f'$data using {i}{":xtic(1)" if i == 2 else ""} title "{p}" linecolor rgb "{COLOURS[p]}"'
                        for i, p in enumerate(PROCESSES, 2))
    draw(out, name, title, f'set xlabel "{xlabel}"\nset ylabel "CPU, µs a record"\nset yrange [0:*]\nset boxwidth 0.6\n'
         f"set style data histograms\nset style histogram rowstacked\nplot {columns}\n",
         rows)


def call(out, rows):
    data = []
    for r in rows:
        threads = "1 thread" if r["threads"] == 1 else f"{r['threads']} threads"
        data.append((f"{r['ring']}\\n{threads}\\n{'warm' if r['round'] <= WARM_CALLS else 'burst'}", r["call_ns"], r["clock_ns"]))
    draw(out, "call", "A call beside clock_gettime(CLOCK_REALTIME)",
         'set ylabel "ns, median"\nset bmargin 6\n'
         'set xlabel "where the ring lies, threads, and whether its pages were touched ahead" offset 0,-2\n'
         "set yrange [0:*]\nset style data histograms\nset style histogram clustered gap 1\n"
         'plot $data using 2:xtic(1) title "send" linecolor rgb "#4477aa", '
         '$data using 3 title "clock_gettime" linecolor rgb "#bbbbbb"\n', data)


def post(out, r):
    rows = [(str(i + 1), a["requests_s"] / 1000, b["requests_s"] / 1000)
            for i, (a, b) in enumerate(zip(r["rounds"]["bare"], r["rounds"]["logd"]))]
    draw(out, "post", "Single small POSTs, 32 connections",
         'set xlabel "round"\nset ylabel "thousand requests/s"\nset yrange [0:*]\nset style data histograms\n'
         "set style histogram clustered gap 1\n"
         'plot $data using 2:xtic(1) title "bare evhttp + jansson" linecolor rgb "#bbbbbb", '
         '$data using 3 title "logd" linecolor rgb "#66ccee"\n', rows)


def pipeline(out, r):
    stacked(out, "cpu", f"CPU of {r['records']:,} records of {r['bytes']} bytes, 4 threads", "",
            [(f"Redis alone, batches of {r['best_batch']}", r["floor"]["cpu_us"]),
             ("whole pipeline", r["pipeline"]["cpu_us"])])
    rows = [(batch, s["records_s"] / 1000) for batch, s in r["sweep"].items()]
    whole = r["pipeline"]["records_s"] / 1000
    ticks = ", ".join(str(batch) for batch in r["sweep"])
    draw(out, "floor", "Redis alone by batch size, and the whole pipeline",
         f'set xlabel "records in a batch"\nset ylabel "thousand records/s"\nset yrange [0:*]\nset logscale x 2\n'
         f"set xrange [50:2500]\nset xtics ({ticks})\n"
         f'plot $data using 1:2 with linespoints pointtype 7 linewidth 2 linecolor rgb "#cc4444" title "Redis alone", '
         f'{whole:.3f} with lines linewidth 2 dashtype 2 linecolor rgb "#4477aa" title "whole pipeline"\n', rows)


def price(out, r):
    stacked(out, "price", f"The price of exactly once: CPU of {r['records']:,} records", "the producer protocol",
            [("without", r["without"]["cpu_us"]), ("with", r["with"]["cpu_us"])])


def latency(out, rows):
    data = [(rate, r["p50_us"] / 1000, r["p99_us"] / 1000, r["p999_us"] / 1000) for rate, r in rows.items()]
    ticks = ", ".join(f'"{rate:,}" {rate}' for rate in rows)
    lines = ", ".join(f'$data using 1:{i} with linespoints pointtype 7 linewidth 2 linecolor rgb "{c}" title "{p}"'
                      for i, p, c in ((4, "p99.9", "#cc4444"), (3, "p99", "#ddaa33"), (2, "p50", "#4477aa")))
    draw(out, "latency", "From the call to the line in app.log, default settings",
         f'set xlabel "records/s"\nset ylabel "ms"\nset logscale xy\nset xtics ({ticks})\nset xrange [700:70000]\n'
         f'set arrow from 10000,graph 0 to 10000,graph 1 nohead dashtype 3 linecolor rgb "#bbbbbb"\n'
         f'plot {lines}, 10 with lines dashtype 2 linecolor rgb "#888888" title "p99 target at 10,000/s"\n', data)


def growth_bytes(out, rows):
    data = [(n, *(r["pipeline"]["cpu_us"][p] for p in PROCESSES), r["pipeline"]["total_us"], sum(r["floor"]["cpu_us"].values()))
            for n, r in rows.items()]
    ticks = ", ".join(f'"{n:,}" {n}' for n in rows)
    lines = ", ".join(f'$data using 1:{i} with linespoints pointtype 7 linewidth 2 linecolor rgb "{c}" title "{p}"'
                      for i, (p, c) in enumerate([*COLOURS.items(), ("all", "#444444"), ("floor", "#bbbbbb")], 2))
    draw(out, "growth-bytes", "CPU by message size",
         f'set xlabel "bytes of a message"\nset ylabel "CPU, µs a record"\nset logscale xy\nset xtics ({ticks})\n'
         f"set xrange [50:20000]\nplot {lines}\n", data)


def growth_producers(out, rows):
    stacked(out, "growth-producers", "CPU by number of producers", "producers, each a process",
            [(str(n), r["cpu_us"]) for n, r in rows.items()])


def growth_backlog(out, r):
    fill = sorted((s["backlog"] / 1e6, sum(s["cpu_us"].values())) for s in r["fill"])
    drain = sorted((s["backlog"] / 1e6, sum(s["cpu_us"].values())) for s in r["drain"])
    rows = [(*f, *d) for f, d in zip(fill, drain)]
    draw(out, "growth-backlog", "CPU by backlog",
         'set xlabel "entries in the stream, millions"\nset ylabel "CPU, µs a record"\nset yrange [0:*]\nset xrange [0:*]\n'
         'plot $data using 1:2 with linespoints pointtype 7 linewidth 2 linecolor rgb "#4477aa" '
         'title "filling (client, logd, redis-server)", $data using 3:4 with linespoints pointtype 7 linewidth 2 '
         'linecolor rgb "#228833" title "draining (redis-server, logworker)"\n', rows)


def memory(out, r):
    rows = [(name, r["fresh"][name]["Rss"] / 1024, r["after"][name]["Rss"] / 1024) for name in PROCESSES]
    draw(out, "memory", "Resident memory",
         'set ylabel "MiB"\nset yrange [0:*]\nset style data histograms\nset style histogram clustered gap 1\n'
         'plot $data using 2:xtic(1) title "at rest" linecolor rgb "#bbbbbb", '
         f'$data using 3 title "after {r["records"]:,} records, idle" linecolor rgb "#4477aa"\n', rows)


PLOTTERS = {"call": call, "post": post, "pipeline": pipeline, "price": price, "latency": latency, "growth-bytes": growth_bytes,
            "growth-producers": growth_producers, "growth-backlog": growth_backlog, "memory": memory}


def plot(out, results):
    for name, r in results.items():
        PLOTTERS[name](out, r)
