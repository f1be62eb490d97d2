"""What the measuring programs share: figures of processes, of the machine, of the tree, and tables of them."""
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scenario"))
import lib  # noqa: E402  pylint: disable=wrong-import-position

MIB, GIB = 1 << 20, 1 << 30
TICKS = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    pass


def say(text=""):
    print(text, flush=True)


def parse_size(text):
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024), ("G", GIB), ("M", MIB), ("K", 1024)):
        if text.endswith(unit):
            return int(float(text[:-len(unit)]) * factor)
    return int(text)


def program(name, *words, limit):
    """Runs a measuring program, which prints JSON."""
    path = os.path.join(lib.BIN, name)
    try:
        done = subprocess.run([path, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{name} {words[0]}: not done in {limit} s") from error
    if done.returncode != 0:
        raise Failure(f"{name} {' '.join(words[:1])}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def need(*programs):
    """Those that are not built; says how to have them."""
    missing = [n for n in programs if not os.access(os.path.join(lib.BIN, n), os.X_OK)]
    if missing:
        print(f"bench: {lib.BIN} lacks {', '.join(missing)}: run tools/build, and TESSERA_TARGET=bench tools/build",
              file=sys.stderr)
    return missing


def need_command(name):
    if not shutil.which(name):
        print(f"bench: {name} is not installed: tools/install-deps --bench", file=sys.stderr)
        return True
    return False


# ---- what the kernel says about the hosts ------------------------------------------------------------

def cpu_seconds(pids):
    """User and system time that the processes have used so far."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mib(pid):
    """Anonymous and shared memory; not the page cache, nor the map of the metadata store."""
    total = 0
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        for line in f:
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1])
    return total / 1024


class MemorySampler(threading.Thread):
    """Peak of memory_mib() of each host, looked at every 100 ms."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.pids = {h["name"]: h["pid"] for h in hosts}
        self.peaks = {name: 0.0 for name in self.pids}
        self.samples = 0
        self.ending = threading.Event()

    def run(self):
        while not self.ending.wait(0.1):
            for name, pid in self.pids.items():
                with contextlib.suppress(OSError):
                    self.peaks[name] = max(self.peaks[name], memory_mib(pid))
            self.samples += 1

    def stop(self):
        self.ending.set()
        self.join()
        return self.peaks


def tree_pids(pid):
    """A process and all that it started, as long as they live."""
    pids, left = [], [pid]
    while left:
        one = left.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="utf-8") as f:
                    left += [int(word) for word in f.read().split()]
            pids.append(one)
    return pids


def machine():
    """One line about the machine."""
    model = "?"
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def write_out(path, figures, **more):
    """Everything as JSON, with where it was measured."""
    if path:
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"commit": commit(), "machine": machine(), "load_average": os.getloadavg()[0], **more,
                       "figures": figures}, f, indent=1)


# ---- the table -----------------------------------------------------------------------------------------

def middle(figures, *path):
    """Median, least and most of a figure over the repeats (None when it was not measured)."""
    values = []
    for figure in figures:
        for key in path:
            figure = figure.get(key) if isinstance(figure, dict) else None
        if figure is not None:
            values.append(figure)
    return (statistics.median(values), min(values), max(values)) if values else None


def text(value, digits=1, unit=""):
    if value is None:
        return "-"
    median, low, high = value
    spread = f" ({low:.{digits}f}-{high:.{digits}f})" if f"{low:.{digits}f}" != f"{high:.{digits}f}" else ""
    return f"{median:.{digits}f}{unit}{spread}"


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip())
    say()


def git(*words):
    done = subprocess.run(["git", "-C", lib.ROOT, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit():
    """The commit of the tree, marked when the hosts measured are not surely built from it."""
    sources = ["--", "src", "include"]
    name, changed_at = git("rev-parse", "--short", "HEAD"), git("log", "-1", "--format=%ct", *sources)
    if not name:
        return "unknown"
    if git("status", "--porcelain", *sources):
        name += " with changes"
    if changed_at and os.stat(os.path.join(lib.BIN, "tesserad")).st_mtime < int(changed_at):
        name += ", hosts built before it"
    return name


def end_left(left):
    """Hosts of ours that the end of the cluster left behind: they would be in the next run's figures."""
    for pid, folder in left.items():
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                ours = folder.encode() in f.read()
            if ours:
                os.kill(pid, signal.SIGKILL)
                say(f"bench: pid {pid} had not ended: killed")
