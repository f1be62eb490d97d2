#!/usr/bin/env python3
"""A host that says that it takes writes takes one: at once, the first time and after each start."""
import sys

import lib


def first_upload(cluster, results, name, what):
    with lib.Client(cluster, name, "demo") as client:
        ready = lib.wait_until(lambda: client.call("GET", "/health/write", token=False, timeout=5).status == 200, 60, 0.005)
        made = client.create(what) if ready else None
        reply = client.upload(made.json()["id"], lib.Body(1, 1000)) if made is not None and made.status == 201 else made
        results.check(f"{what}: the first upload is taken", reply is not None and reply.status == 204, repr(reply))


def test_start(cluster, results):
    for host in cluster.names():
        first_upload(cluster, results, host, f"{host} of {len(cluster.names())}, new")
    for n in range(3):
        for host in cluster.names():
            cluster.kill(host)
        for host in cluster.names():
            cluster.start(host)
        for host in cluster.names():
            first_upload(cluster, results, host, f"{host} of {len(cluster.names())}, start {n}")


def main():
    failed = 0
    for hosts in (1, 1, 1, 1, 2):
        failed = lib.run_test("start", test_start, hosts=hosts) or failed
    return failed


if __name__ == "__main__":
    sys.exit(main())
