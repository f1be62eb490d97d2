#!/usr/bin/env python3
"""Slow disks, clocks that jump, a transfer of leadership that is interrupted, leadership that goes to and fro: what
the cluster does, and what its status says.

The hosts run with a small library preloaded (bent.c) that slows their syncs and bends their wall clock."""
import os
import signal
import statistics
import subprocess
import tempfile
import time

import lib
from test_faults_members import codes, does

HERE = os.path.dirname(os.path.abspath(__file__))
DAY_S = 86400


def preloaded(folder):
    path = os.path.join(folder, "bent.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", path, os.path.join(HERE, "bent.c"), "-ldl"],
                   check=True, timeout=60)
    return path


def bend(cluster, name, what, number):
    path = os.path.join(os.path.dirname(cluster.host(name)["log_file"]), f"bent-{what}")
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(f"{number}\n")
    os.replace(path + ".new", path)


def latencies(cluster, name, count=12):
    """Seconds that changes through a host took, all of them accepted."""
    took = []
    with lib.Client(cluster, name) as client:
        for _ in range(count):
            began = time.monotonic()
            if client.create("timed", timeout=20).status == 201:
                took.append(time.monotonic() - began)
    return took if len(took) == count else [float("inf")]


def until(cluster, name, wanted, seconds, working=None):
    """Whether status gets there, while changes are made (a disk is only known by what is written to it)."""
    end = time.monotonic() + seconds
    with lib.Client(cluster, working or name) as client:
        while time.monotonic() < end:
            client.create("work", timeout=20)
            if wanted(codes(cluster, name)):
                return True
    return False


def slow_leader(cluster, results):
    leader = cluster.leader()
    others = [name for name in cluster.names() if name != leader]
    before = statistics.median(latencies(cluster, others[0]))
    began = time.monotonic()
    bend(cluster, leader, "sync", 1000)
    moved = until(cluster, others[0], lambda _: cluster.leader([others[0]]) in others, 20)
    results.check("F23 leader's disk slow (1 s a sync): it hands over", moved, f"{time.monotonic() - began:.1f} s")
    led, term = cluster.leader([others[0]]), cluster.status(others[0])["term"]
    after = statistics.median(latencies(cluster, led))
    results.check("F23: changes are fast again", after < max(0.2, 5 * before), f"{before:.3f} s, then {after:.3f} s")
    results.check("F23: status names FSYNC_SLOW", until(cluster, others[0], lambda c: "FSYNC_SLOW" in c, 10),
                  str(codes(cluster, others[0])))
    until(cluster, others[0], lambda _: False, 6)
    status = cluster.status(others[0])
    results.check("F23: no flapping", status["leader"] == led and status["term"] == term,
                  f"{status['leader']} in term {status['term']}")
    bend(cluster, leader, "sync", 0)
    results.check("F23: FSYNC_SLOW goes when the disk is well", until(
        cluster, others[0], lambda c: "FSYNC_SLOW" not in c, 30), str(codes(cluster, others[0])))


def slow_follower(cluster, results):
    leader = cluster.leader()
    slow = next(name for name in cluster.names() if name != leader)
    before, term = statistics.median(latencies(cluster, leader)), cluster.status(leader)["term"]
    bend(cluster, slow, "sync", 3500)
    until(cluster, leader, lambda _: False, 2)
    after = statistics.median(latencies(cluster, leader))
    results.check("F23 a follower's disk slow (3.5 s a sync): changes are as fast as before", after < max(0.2, 5 * before),
                  f"{before:.3f} s, then {after:.3f} s")
    results.check("F23: status names FSYNC_SLOW and HOST_SLOW", until(
        cluster, leader, lambda c: {"FSYNC_SLOW", "HOST_SLOW"} <= c, 25), str(codes(cluster, leader)))
    results.equal("F23: the leader is the same", (cluster.leader(), cluster.status(leader)["term"]), (leader, term))
    bend(cluster, slow, "sync", 0)
    results.check("F23: HOST_SLOW goes when the disk is well", until(
        cluster, leader, lambda c: "HOST_SLOW" not in c, 30), str(codes(cluster, leader)))


def clocks(cluster, results):
    leader = cluster.leader()
    other, third = [name for name in cluster.names() if name != leader]
    with lib.Client(cluster, other) as client:
        image_id = client.create("dated").json()["id"]

        def changed(value):
            reply = client.patch(image_id, [{"op": "replace", "path": "/name", "value": value}])
            return reply.json()["updated_at"] if reply.status == 200 else f"{reply!r}"
        bend(cluster, third, "clock", 300)
        results.check("F32 a clock five minutes off: status names CLOCK_SKEW", lib.wait_until(
            lambda: "CLOCK_SKEW" in codes(cluster, other), 10), str(codes(cluster, other)))
        bend(cluster, third, "clock", 0)
        results.check("F32: and no more when it is set", lib.wait_until(
            lambda: "CLOCK_SKEW" not in codes(cluster, other), 10), str(codes(cluster, other)))
        term, endpoint = cluster.status(other)["term"], cluster.status(other)["admin_endpoint"]["epoch"]
        seen = [changed("a")]
        for jump in (DAY_S, -DAY_S, 0):
            bend(cluster, leader, "clock", jump)
            time.sleep(1)
            seen.append(changed(f"jump {jump}"))
        time.sleep(3.5)
        results.check("F32 the leader's clock jumps a day ahead, and back: times of an image never decrease",
                      seen == sorted(seen) and all(len(s) == 20 for s in seen), str(seen))
        status = cluster.status(other)
        results.equal("F32: leader and admin endpoint stay", (status["term"], status["admin_endpoint"]["epoch"]),
                      (term, endpoint))


def interrupted(cluster, results):
    leader = cluster.leader()
    target = next(name for name in cluster.names() if name != leader)
    pid = cluster.host(target)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = does(cluster, leader, "leader", "transfer", target)
        took = time.monotonic() - began
        results.check("F47 a transfer to a host that is paused fails, within its deadline", not done and took < 3.5,
                      f"{took:.1f} s")
        took = max(latencies(cluster, leader, 5))
        results.check("F47: the old leader works again", took < 2 and cluster.leader([leader]) == leader, f"{took:.2f} s")
    finally:
        os.kill(pid, signal.SIGCONT)
    results.check("F47: all are up again", cluster.await_ready(20) is not None)


def to_and_fro(cluster, results):
    for n in range(4):
        leader = lib.wait_until(cluster.leader, 10)
        results.check(f"leadership handed over ({n + 1})", lib.wait_until(
            lambda leader=leader: does(cluster, leader, "leader", "transfer"), 10, 0.3))
    results.check("F47 more than three changes of leader in ten minutes: LEADER_FLAPPING", lib.wait_until(
        lambda: all("LEADER_FLAPPING" in codes(cluster, name) for name in cluster.names()), 10),
        str(codes(cluster, "host1")))


def body(cluster, results):
    clocks(cluster, results)
    slow_leader(cluster, results)
    slow_follower(cluster, results)
    interrupted(cluster, results)
    to_and_fro(cluster, results)


def main():
    name = os.path.basename(__file__)
    with tempfile.TemporaryDirectory(prefix="tessera-bent-") as folder:
        os.environ["LD_PRELOAD"] = preloaded(folder)
        try:
            return lib.run_test(name, body)
        finally:
            del os.environ["LD_PRELOAD"]


if __name__ == "__main__":
    raise SystemExit(main())
