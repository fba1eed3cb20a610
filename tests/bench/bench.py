"""Measures the pipeline, and prints a table of what was found beside what was to be reached.

Run by make bench and make bench-pipeline, which build what is needed. All processes are private; nothing stays behind."""
import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

import measure
import plots
import report
import sections


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
    version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    return {"cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "load": os.getloadavg()[0], "redis": re.search(r"v=(\S+)", version).group(1)}


def parse_options():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("sections", nargs="*", metavar="SECTION", help=f"which of: {' '.join(sections.SECTIONS)} (default: all)")
    p.add_argument("--out", default="build/bench/results", metavar="DIR", help="where results.json and the plots go")
    p.add_argument("--quick", action="store_true", help="fewer rounds and records: under two minutes, and less exact")
    p.add_argument("--rounds", type=int, metavar="N", help="rounds of the whole pipeline")
    p.add_argument("--backlog", type=int, metavar="N", help="entries of the largest backlog")
    p.add_argument("--no-plots", action="store_true")
    options = p.parse_args()
    unknown = [s for s in options.sections if s not in sections.SECTIONS]
    if unknown:
        p.error(f"SECTION: no such section: {unknown[0]}; there are {' '.join(sections.SECTIONS)}")
    return options


def scale_of(options):
    scale = sections.Quick() if options.quick else sections.Full()
    if options.rounds:
        scale.pipeline_rounds = scale.floor_rounds = options.rounds
    if options.backlog:
        scale.backlog = options.backlog
    return scale


def require(programs):
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        sys.exit(f"bench: {missing[0]} is missing: make bench installs it, or give sections that do without")


def main():
    options = parse_options()
    wanted = options.sections or list(sections.SECTIONS)
    require((["wrk"] if "post" in wanted else []) + ([] if options.no_plots else ["gnuplot"]))
    # So that what was started is stopped (measure.Box) however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = {"machine": machine(), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": options.quick,
             "redis": measure.REDIS_SETTINGS, "sections": {}}
    if found["machine"]["load"] > 0.5:
        measure.note(f"the machine is busy (load {found['machine']['load']:.1f}): the figures will be too high, and uneven")
    os.makedirs(options.out, exist_ok=True)
    scale = scale_of(options)
    for name in wanted:
        begin = time.monotonic()
        found["sections"][name] = sections.SECTIONS[name](scale)
        measure.note(f"{name}: took {time.monotonic() - begin:.0f} s")
    text, found["targets"] = report.table(found["sections"], found["machine"])
    with open(os.path.join(options.out, "results.json"), "w", encoding="utf-8") as f:
        json.dump(found, f, indent=1)
    if not options.no_plots:
        plots.plot(options.out, found["sections"])
    print(text, end="")
    measure.note(f"results are in {options.out}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
