#!/usr/bin/env python3
"""Rolling restart under load: no request through the other hosts fails, and what the stopping host has
begun it finishes. Then all hosts lose power at once, and start one after the other."""
import os
import signal
import threading
import time

import lib

SLOW_SECONDS = 8  # no request may take longer while a host stops or is away


class Load:
    """Creates, shows, downloads and uploads through every host."""

    def __init__(self, cluster, image):
        self.cluster, self.image = cluster, image
        self.small = lib.Body(8, 3 * lib.MIB)
        self.errors, self.done, self.stopping = [], [], set()
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(name,)) for name in cluster.names() for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def step(self, client, n):
        if n % 4 == 0:
            return client.create("load").status == 201
        if n % 4 == 1:
            reply = client.show(self.image[0])
            return reply.status == 200 and "X-Tessera-Stale" not in reply.headers
        if n % 4 == 2:
            status, digest, _, _ = client.download(self.image[0])
            return status == 200 and digest == self.image[1].sha256
        image_id = client.create("load").json()["id"]
        good = client.upload(image_id, self.small).status == 204
        if good:
            self.done.append((image_id, self.small))
        return good

    def run(self, name):
        client, n = lib.Client(self.cluster, name), 0
        while not self.end.is_set():
            n, began, excused, error = n + 1, time.monotonic(), name in self.stopping, None
            try:
                error = None if self.step(client, n) else f"step {n % 4} refused"
            except (*lib.NETWORK_ERRORS, KeyError, ValueError) as problem:
                client.close()
                error = repr(problem)
            took = time.monotonic() - began
            excused = excused or name in self.stopping
            if not error and took > SLOW_SECONDS:
                error = f"step {n % 4} took {took:.1f} s"
            if error and not excused:
                self.errors.append((name, error))
            if error:
                time.sleep(0.1)

    def close(self):
        self.end.set()
        for thread in self.threads:
            thread.join()


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def slow_transfers(cluster, name, big, body, out):
    def download():
        try:
            with lib.Client(cluster, name) as client:
                status, digest, _, _ = client.download(big[0], sink=lambda _: time.sleep(0.003))
                out["download"] = status == 200 and digest == big[1].sha256
        except lib.NETWORK_ERRORS as error:
            out["download"] = repr(error)

    def upload():
        def pieces():
            for piece in body.pieces():
                yield piece
                time.sleep(0.05)
        try:
            with lib.Client(cluster, name) as client:
                out["id"] = client.create("slow").json()["id"]
                out["upload"] = client.call("PUT", f"/v2/images/{out['id']}/file", pieces(), {
                    "Content-Type": "application/octet-stream", "Content-Length": str(body.size)}, timeout=60).status
        except lib.NETWORK_ERRORS as error:
            out["upload"] = repr(error)
    threads = [threading.Thread(target=download), threading.Thread(target=upload)]
    for thread in threads:
        thread.start()
    return threads


def body(cluster, results):
    cluster.token("host1")
    with lib.Client(cluster, "host1") as client:
        images = []
        for size in (96, 3):
            images.append((client.create("first").json()["id"], lib.Body(size, size * lib.MIB)))
            results.equal("an upload succeeds", client.upload(*images[-1]).status, 204)
    slow = lib.Body(9, 40 * lib.MIB)
    load = Load(cluster, images[1])
    try:
        for name in cluster.names():
            out, leader = {}, cluster.leader()
            threads = slow_transfers(cluster, name, images[0], slow, out)
            time.sleep(1)
            load.stopping.add(name)
            cluster.expected_down.add(name)
            pid, began = cluster.host(name)["pid"], time.monotonic()
            os.kill(pid, signal.SIGTERM)
            results.check(f"{name} ({'leader' if name == leader else 'not the leader'}) stops by itself",
                          lib.wait_until(lambda pid=pid: ended(pid), 60), f"{time.monotonic() - began:.1f} s")
            for thread in threads:
                thread.join()
            results.check("the download that it had begun ends whole", out["download"] is True, str(out["download"]))
            results.equal("the upload that it had begun succeeds", out["upload"], 204)
            if out["upload"] == 204:
                load.done.append((out["id"], slow))
            cluster.start(name)
            results.check("it starts again", cluster.await_ready(30) is not None)
            load.stopping.discard(name)
    finally:
        load.close()
    results.check(f"no request through the other hosts failed or took {SLOW_SECONDS} s", not load.errors,
                  f"{len(load.errors)} {load.errors[:5]}")
    cluster.kill(*cluster.names())
    for name in ("host3", "host1", "host2"):
        cluster.start(name)
    results.check("all lost power at once: ready again", cluster.await_ready(30) is not None)
    for name in cluster.names():
        with lib.Client(cluster, name) as client:
            wrong = sum(client.download(image_id)[1] != data.sha256
                        for image_id, data in images + load.done[-12:] + load.done[:4])
        results.equal(f"and {name} has every byte", wrong, 0)


if __name__ == "__main__":
    raise SystemExit(lib.run_test(os.path.basename(__file__), body))
