#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Puts the output of `make bench` into docs/PERFORMANCE.md, between <!-- generated: NAME --> and <!-- end -->, and draws
docs/performance/*.svg. The text outside of these marks is written by hand and does not change."""

import datetime
import html
import math
import os
import pathlib
import platform
import re
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
out, page = root / "build/bench", root / "docs/PERFORMANCE.md"
pictures = root / "docs/performance"


def output(*command):
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def read(name):
    return (out / name).read_text()


def measured(name):
    return (out / f"{name}.md").exists()


def on_page(name):
    return re.search(rf"<!-- generated: {name} -->\n(.*?)<!-- end -->", page.read_text(), re.S).group(1)


# -- tables: {title: [(label of the row, {column: figure})]}


def figure(text):
    match = re.match(r"[0-9.]+", text)
    return float(match.group()) if match else None


def tables_of(text):
    found = {}
    for part in re.split(r"^### ", text, flags=re.M)[1:]:
        title, *lines = part.splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        columns = rows[0]
        found.setdefault(title, []).extend(
            (" ".join(row[:1]), {name: figure(cell) for name, cell in zip(columns[1:], row[1:])}) for row in rows[2:]
        )
    return found


# What was not measured stays as it is.
texts = {name: (read(name + ".md") if measured(name) else on_page(name)).strip() for name in ("palloc", "opening", "access", "space", "buflib", "vmem", "instructions", "sync", "transactions", "readers")}
tables = tables_of("\n".join(texts.values()))


def get(title, row, column):
    """The figure in a table, or None if it was not measured."""
    return next((cells.get(column) for label, cells in tables.get(title, []) if label == row), None)


# -- the machine


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
    caches = [
        f"L{(cache / 'level').read_text().strip()} {(cache / 'size').read_text().strip()}"
        for cache in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
        if (cache / "type").read_text().strip() != "Instruction"
    ]
    peers = re.search(r"^Peers: (.*)", texts["palloc"], re.M).group(1).replace("_", ".")
    lock = (root / "benches/peers/Cargo.lock").read_text()
    for name in ("rlsf", "talc"):
        peers += f", {name} " + re.search(name + r'"\nversion = "([0-9.]+)', lock).group(1)
    huge = re.search(r"\[(\w+)\]", pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()).group(1)
    return "\n".join(
        f"| {what} | {value} |"
        for what, value in [
            ("date", datetime.date.today().isoformat()),
            ("libpalloc", f"{re.search(r'^version *= *.([0-9.]+)', (root / 'Cargo.toml').read_text(), re.M).group(1)}, "
             f"{output('git', 'log', '-1', '--format=%h', '--', 'src')}, {output('rustc', '--version')}"),
            ("processor", f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores, {', '.join(caches)}"),
            ("memory", f"{int(memory.group(1)) / 2**20:.0f} GiB, huge pages: {huge}"),
            ("kernel, compiler", f"Linux {re.match('[0-9.]+', platform.release()).group()}, "
             + output(os.environ.get("CC", "cc"), "--version").partition("\n")[0]),
            ("peers", peers),
            ("load average before", read("load").strip()),
        ]
    )  # fmt: skip


# -- goals

GOALS = []


def goal(text, measured, met):
    """Adds a line to the goals. `measured` is None if a peer is missing."""
    GOALS.append((text, measured or "not measured", "" if measured is None else "met" if met else "**missed**"))


def ratio(a, b):
    return a / b if a and b else None


def times(*values):
    return None if None in values else ", ".join(f"{value:.2f}" for value in values)


def limits(text, values, holds):
    goal(text, times(*values), all(value is not None and holds(value) for value in values))


def all_goals():
    def pal(what, n, who="libpalloc"):
        return get(f"palloc: {what}", n, who)

    large, numbers = ("100000", "1000000"), ("1000", "10000", "100000", "1000000")
    churn, space = "churn, ns", "palloc: space after a long churn, MiB; in parentheses, over the bytes asked for"
    limits("palloc, churn at 10^5 and 10^6: Boost.Interprocess takes at least 3 times as long",
           [ratio(pal(churn, n, "Boost.Interprocess"), pal(churn, n)) for n in large], lambda x: x >= 3)
    limits("palloc, churn at 10^5 and 10^6: at most 2 times glibc malloc",
           [ratio(pal(churn, n), pal(churn, n, "glibc malloc")) for n in large], lambda x: x <= 2)
    ours, theirs = (ratio(pal(churn, "1000000", who), pal(churn, "1000", who)) for who in ("libpalloc", "glibc malloc"))
    goal("palloc, churn: growth from 10^3 to 10^6 no steeper than glibc malloc's",
         f"{ours:.1f} times, malloc {theirs:.1f}" if ours and theirs else None, ours and theirs and ours <= theirs)
    limits("palloc, grow at 10^3 to 10^6: at most 2 times glibc malloc",
           [ratio(pal("grow, ns", n), pal("grow, ns", n, "glibc malloc")) for n in numbers], lambda x: x <= 2)
    rates = [ratio(1000, pal("iterate, ns", n)) for n in numbers[:2]]
    goal("palloc, iterate in cache: at least 50 million blobs a second",
         " and ".join(f"{rate:.0f}" for rate in rates) + " million", min(rates) >= 50)
    limits("palloc, open of 10^6 blobs under 45 ms: on tmpfs; on a disk, cached by stores; cached by read(2)",
           [pal("open, ms", "1000000"), *(pal("open, by size of blobs", f"1000000, 256, {pages}", "libpalloc, ms") for pages in ("stored", "read"))],
           lambda x: x < 45)
    access = "an offset becomes an address"
    at, data = ([ratio(pal(access, row, f"palloc_{what}"), pal(access, row, "base + offset")) for row in ("list, ns", "table, ns")]
                for what in ("at", "data"))
    limits("palloc_at in cache, along a list and by a table: at most 1.25 times base + offset", at, lambda x: x <= 1.25)
    limits("palloc_data in cache, along a list and by a table: at most 4 times base + offset", data, lambda x: x <= 4)
    limits("palloc_data, palloc_size, palloc_next, two threads on one medium: at least 1.9 times one",
           [pal(access, "two/one", f"palloc_{what}") for what in ("data", "size", "next")], lambda x: x >= 1.9)
    threads = "churn with threads, N = 100,000 each"
    grown, malloc = (ratio(pal(threads, "two, ns", who), pal(threads, "one, ns", who)) for who in ("libpalloc", "glibc malloc"))
    waits = pal(threads, "waits")
    goal("palloc, two threads on two files: no thread waits, and CPU time grows by no more than 1.1 times malloc's",
         f"{waits:.0f} waits, {grown:.2f} times, malloc {malloc:.2f}", waits == 0 and grown <= 1.1 * malloc)
    one = [f"churn with threads on one medium, N = {n} each" for n in (1000, 100000)]
    limits("palloc, two threads on one medium: at least 1.6 times the throughput of one, at 10^3 and 10^5 blobs each",
           [pal(table, "two/one") for table in one], lambda x: x >= 1.6)
    limits("palloc, eight threads on one medium: at least 0.95 times the throughput of two",
           [pal(table, "eight/two") for table in one], lambda x: x >= 0.95)
    limits("palloc, eight threads with as many blobs together as two: at least 0.95 times the throughput of two",
           [pal(table, "N/4 / two") for table in one], lambda x: x >= 0.95)
    limits("palloc, file after a long churn at most 5 % above first fit's",
           [cells["libpalloc / first fit"] for _, cells in tables[space]], lambda x: x <= 1.05)
    limits("palloc, file over bytes of blobs (palloc_size): at most 1.10", [cells["libpalloc / palloc_size"] for _, cells in tables[space]],
           lambda x: x <= 1.1)
    limits("palloc, file over bytes asked for: at most 1.10",
           [cells["libpalloc"] / cells["asked for"] for _, cells in tables[space]], lambda x: x <= 1.1)

    kinds = [cells for _, cells in tables.get("palloc: space for work of several kinds", [])]
    limits("palloc, file of an open medium at most 1.12 times the end of its last block, for work of twelve kinds",
           [max(cells["most"] for cells in kinds)] if kinds else [None], lambda x: x <= 1.12)
    limits("palloc, end of the last block at most 1.05 times Boost.Interprocess's, for each of twelve kinds",
           [max(cells["end / Boost.Interprocess"] or 9 for cells in kinds)] if kinds else [None], lambda x: x <= 1.05)
    beside = [re.search(rf"{what} +([0-9.]+) ms", texts["sync"]) for what in
              ("palloc_sync, 256 MiB were stored to", "the longest palloc_data meanwhile", "the longest palloc and pfree meanwhile")]  # fmt: skip
    sync, *longest = [float(found[1]) for found in beside] if all(beside) else [None]
    goal("palloc_sync of 256 MiB: no call of another thread takes longer than 20 ms or a tenth of it", sync and
         f"{longest[0]:.1f} ms (palloc_data), {longest[1]:.1f} ms (palloc and pfree) of {sync:.0f}", sync and max(longest) <= max(20, sync / 10))
    synced = next(({label: cells["syncs"] for label, cells in rows} for title, rows in tables.items()
                   if title.startswith("transactions: syncs of one, amortised")), None)  # fmt: skip
    commit, more = synced.values() if synced else (None, None)
    goal("transactions: at most 2.0 syncs each, amortised", synced and f"{commit:.3f} in palloc_commit, {commit + more:.3f} in all",
         synced and round(commit + more, 1) <= 2)
    shared = get("transactions: threads on one durable medium; of a transaction", "8", "syncs")
    goal("transactions of 8 threads: under 0.5 syncs each", shared and f"{shared:.2f}", shared and shared < 0.5)
    memory = get("transactions: without syncs, us of CPU time", "libpalloc", "us")
    goal("transactions without PALLOC_SYNC: under 0.6 us", memory and f"{memory:.2f} us", memory and memory < 0.6)
    left = next((cells["leaks"] for title, rows in tables.items() if title.startswith("transactions: blobs that nothing leads to")
                 for label, cells in rows if label == "transactions"), None)  # fmt: skip
    goal("transactions: no leak after kills", None if left is None else f"{left:.0f}", left == 0)
    section = get("readers: a section with one look-up, ns", "1000", "libpalloc")
    goal("readers: a section with one look-up in cache under 60 ns", section and f"{section:.1f} ns", section and section < 60)
    churns = "readers: churn of the writer, ns"
    limits("readers: the writer's churn with 0, 1 and 16 idle ones at most 5 % slower than unshared, 10^5 blobs",
           [ratio(get(churns, "100000", who), get(churns, "100000", "not shared")) for who in ("no reader", "1 idle reader", "16 idle readers")],
           lambda x: x <= 1.05)
    beside = "readers: the writer's churn beside readers, divided by that beside as many which read a copy"
    limits("readers: the writer's churn with 1 and 16 that read at most 5 % slower than beside as many that read a copy, 10^5 blobs",
           [get(beside, "100000", who) for who in ("1 reads", "16 read")], lambda x: x <= 1.05)

    def buf(what, n, who="buflib"):
        return get(f"buflib: {what}, ns", n, who)

    pools = "1,000 pools of 100"
    limits("buflib, churn at 100: at most 32 times glibc malloc (the original: 65)",
           [ratio(buf("churn", "100"), buf("churn", "100", "glibc malloc"))], lambda x: x <= 32)
    limits("buflib, 10^5 in one pool over 1,000 pools of 100 (alloc, free, churn, shrink): at most 3",
           [ratio(buf(what, "100000"), buf(what, pools)) for what in ("alloc", "free", "churn", "shrink")], lambda x: x <= 3)
    limits("buflib_get_data at 10^2 to 10^5: at most 1.3 times an array of pointers",
           [ratio(cells["buflib_get_data"], cells["array of pointers"]) for _, cells in tables["buflib: chain, ns"]], lambda x: x <= 1.3)
    for size, least in (("4096", 0.7), ("1024", 0.35), ("256", 0.1)):
        limits(f"buflib, compaction of blocks of {size} bytes, in cache and in memory: at least {least} of memmove's speed",
               [cells["buflib / memmove"] for label, cells in tables["buflib: compaction, GB/s"] if label == size], lambda x: x >= least)
    limits("buflib, 10^5 blocks, longest free, allocation and step of 16 KiB: under 50 us",
           [get("buflib: pauses, shortest of 5 runs, us", call, "longest") for call in ("buflib_free", "buflib_alloc", "buflib_compact_step of 16 KiB")],
           lambda x: x < 50)
    for who in ("rlsf", "talc"):
        limits(f"buflib, churn at 10^2 to 10^5: at most 4 times {who}",
               [ratio(buf("churn", n), buf("churn", n, who)) for n in ("100", "1000", "10000", "100000")], lambda x: x <= 4)

    calls = [(label, ratio(cells["vmem"], cells["the raw calls"])) for label, cells in tables["vmem: system calls, ns"]]
    above = [f"{label} {value:.2f}" for label, value in calls if value > 1.1]
    goal("vmem, all calls: at most 1.1 times the raw system calls", "all" if not above else "but for " + "; ".join(above), not above)
    arena, beside = dict(tables["vmem: arena push, ns"]), dict(tables["vmem: arena push beside malloc, ns"])
    limits("vmem, arena push, warm: at most 1.1 times an array",
           [ratio(arena["warm"]["vmem"], arena["warm"]["an array"])], lambda x: x <= 1.1)
    limits("vmem, arena push, cold, huge pages: malloc takes at least 5 times as long",
           [ratio(beside["cold, huge pages"]["malloc"], beside["cold, huge pages"]["vmem"])], lambda x: x >= 5)
    return "| goal | measured | |\n| --- | --- | --- |\n" + "\n".join(f"| {' | '.join(row)} |" for row in GOALS)  # fmt: skip


# -- plots: on a card with a background of its own, light or dark as the reader's system, so that they are readable on any page

OURS, OTHER = "ours", "c0"
COLOURS = {OURS: ("#d6336c", "#ff7aa8"), "c0": ("#1c6fb8", "#6cb6ff"), "c1": ("#2b8a3e", "#69db7c"), "c2": ("#b35900", "#ffa94d"),
           "c3": ("#7048b6", "#b197fc"), "c4": ("#0b7285", "#3bc9db")}  # fmt: skip
PEERS = {"glibc malloc": "c0", "jemalloc": "c1", "mimalloc": "c2", "Boost.Interprocess": "c3", "libpmemobj": "c4",
         "rlsf": "c3", "talc": "c1"}  # fmt: skip
STYLE = """<style>
svg { font: 13px system-ui, sans-serif; }
.card { fill: #ffffff; stroke: #d0d7de; } text { fill: #1f2328; } .axis { fill: #59636e; } .grid { stroke: #e1e4e8; }
%s
@media (prefers-color-scheme: dark) {
.card { fill: #161b22; stroke: #30363d; } text { fill: #e6edf3; } .axis { fill: #9198a1; } .grid { stroke: #2a3038; }
%s
}
.line { fill: none !important; }
</style>"""


def style():
    rules = [
        "\n".join(f".line.{name} {{ stroke: {pair[shade]}; }} .{name} {{ fill: {pair[shade]}; }}" for name, pair in COLOURS.items())
        for shade in (0, 1)
    ]
    return STYLE % tuple(rules)


def svg(name, width, height, title, body):
    pictures.mkdir(exist_ok=True)
    (pictures / f"{name}.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{html.escape(title)}">\n{style()}\n'
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>\n'
        f'<text x="16" y="26" font-weight="600">{html.escape(title)}</text>\n' + "\n".join(body) + "\n</svg>\n"
    )


def logarithmic(name, title, series):
    """Plots cost over N. `series` are (label, [(n, cost)]). A label is at the end of its line."""
    series = [(label, points) for label, points in series if points]
    xs, ys = ([math.log10(point[i]) for _, points in series for point in points] for i in (0, 1))
    width, height, left, right, top, bottom = 720, 400, 64, 160, 44, 44
    low, high = min(ys) - 0.1, max(ys) + 0.1

    def x(n):
        return left + (math.log10(n) - min(xs)) / (max(xs) - min(xs)) * (width - left - right)

    def y(cost):
        return height - bottom - (math.log10(cost) - low) / (high - low) * (height - top - bottom)

    body = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            tick = digit * 10.0**power
            if low <= math.log10(tick) <= high:
                body.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
                body.append(f'<text class="axis" x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,.0f}</text>')
    body.append(f'<text class="axis" x="16" y="{top + 2}" dy="-2">ns</text>')
    for n in sorted({n for _, points in series for n, _ in points}):
        body.append(f'<text class="axis" x="{x(n):.1f}" y="{height - bottom + 20}" text-anchor="middle">{n:,.0f}</text>')
    body.append(f'<text class="axis" x="{width - right + 46}" y="{height - bottom + 20}">N</text>')
    labels = []
    for label, points in series:
        colour = PEERS.get(label, OURS)
        own = colour == OURS
        line = " ".join(f"{x(n):.1f},{y(cost):.1f}" for n, cost in points)
        body.append(f'<polyline class="line {colour}" points="{line}" stroke-width="{3 if own else 1.75}"/>')
        body += [f'<circle class="{colour}" cx="{x(n):.1f}" cy="{y(cost):.1f}" r="{3.5 if own else 2.5}"/>' for n, cost in points]
        labels.append([y(points[-1][1]), label, colour])
    labels.sort()
    for before, after in zip(labels, labels[1:]):
        after[0] = max(after[0], before[0] + 16)
    for at, label, colour in labels:
        weight = ' font-weight="600"' if colour == OURS else ""
        body.append(f'<text class="{colour}" x="{width - right + 10}" y="{at + 4:.1f}"{weight}>{html.escape(label)}</text>')
    svg(name, width, height, title, body)


def bars(name, title, rows, mark):
    """Plots one bar for each (label, ratio), with lines at 1 and at `mark`. Bars beyond `mark` have another colour."""
    width, left, right, top, step = 720, 330, 70, 44, 22
    height, most = top + step * len(rows) + 34, max([mark] + [value for _, value in rows])
    end, body = top + step * len(rows) + 4, []

    def x(value):
        return left + value / most * (width - left - right)

    for index, (label, value) in enumerate(rows):
        at, colour = top + step * index, OURS if value > mark else OTHER
        body.append(f'<text x="{left - 10}" y="{at + 14}" text-anchor="end">{html.escape(label)}</text>')
        body.append(f'<rect class="{colour}" x="{left}" y="{at + 3}" width="{x(value) - left:.1f}" height="{step - 7}"/>')
        body.append(f'<text class="{colour}" x="{width - 20}" y="{at + 14}" text-anchor="end">{value:.2f}</text>')
    for value, anchor in ((1, "end"), (mark, "start")):
        body.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top - 4}" y2="{end}"/>')
        body.append(f'<text class="axis" x="{x(value):.1f}" y="{end + 14}" text-anchor="{anchor}">{value}</text>')
    svg(name, width, height, title, body)


def over_n(title):
    rows = [(int(label), cells) for label, cells in tables[title] if label.isdigit()]
    return [(name, [(n, cells[name]) for n, cells in rows if cells[name]]) for name in rows[0][1]]


logarithmic("palloc-churn", "palloc: one free and one allocation, N blobs live", over_n("palloc: churn, ns"))
logarithmic("palloc-grow", "palloc: an allocation while the file grows from 8 bytes to N blobs", over_n("palloc: grow, ns"))
logarithmic("buflib-churn", "buflib: one free and one allocation, N blocks in one pool", over_n("buflib: churn, ns"))
bars("vmem", "vmem: times the raw system calls",
     [(label, cells["vmem"] / cells["the raw calls"]) for label, cells in tables["vmem: system calls, ns"]], 1.1)  # fmt: skip

generated = {name: re.sub(r"^Peers:.*\n+", "", text) for name, text in texts.items()}
if "|" not in texts["sync"] and measured("sync"):
    generated["sync"] = f"```\n{texts['sync']}\n```"
generated["machine"] = "| | |\n| --- | --- |\n" + machine() if measured("palloc") else on_page("machine").strip()
generated["goals"] = all_goals()
text, count = re.subn(
    r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}\n{generated.pop(m[2])}\n\n{m[3]}", page.read_text(), flags=re.S
)
if generated:
    sys.exit(f"docs/PERFORMANCE.md has no place for {', '.join(generated)}")
page.write_text(text)
for row in GOALS:
    print(" | ".join(row))
