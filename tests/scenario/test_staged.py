#!/usr/bin/env python3
"""Staged data that nobody imports goes after its life, on every host, also when the leader changes meanwhile."""
import time

import lib

LIFE = 6
SIZE = 5 * lib.MIB


def stage(cluster, name, seed):
    with lib.Client(cluster, name) as client:
        image = client.create(seed).json()["id"]
        reply = client.call("PUT", f"/v2/images/{image}/stage", bytes(lib.Body(seed, SIZE)),
                            {"Content-Type": "application/octet-stream"})
        return image, reply.status


def status(cluster, name, image):
    with lib.Client(cluster, name) as client:
        return client.show(image).json()["status"]


def expires(cluster, results, what, seed, action=None):
    names = cluster.names()
    before = {n: cluster.chunk_bytes(n) for n in names}
    image, code = stage(cluster, names[0], seed)
    began = time.monotonic()
    results.equal(f"{what}: it is staged", (code, status(cluster, names[1], image)), (204, "uploading"))
    if action:
        action()
    gone = lib.wait_until(lambda: status(cluster, names[2], image) == "queued", 5 * LIFE, 0.1)
    took = time.monotonic() - began
    results.check(f"{what}: it goes, and not before its life of {LIFE} s", gone and took >= LIFE, f"{took:.1f} s")
    clean = lib.wait_until(lambda: all(cluster.chunk_bytes(n) == before[n] for n in names), 60, 0.5)
    results.check(f"{what}: its chunks go", clean)
    with lib.Client(cluster, names[1]) as client:
        results.equal(f"{what}: the image takes data again", client.upload(image, lib.Body(seed, SIZE)).status, 204)
        client.delete(image)
    lib.wait_until(lambda: all(cluster.chunk_bytes(n) == before[n] for n in names), 60, 0.5)


def body(cluster, results):
    def topple():
        time.sleep(LIFE / 2)
        leader = cluster.leader()
        other = next(n for n in cluster.names() if n != leader)
        results.check("another host leads", cluster.tessera(leader, "leader", "transfer", other) is not None
                      or cluster.leader() != leader, f"{leader}, then {cluster.leader()}")

    expires(cluster, results, "left alone", "staged")
    expires(cluster, results, "under two leaders", "staged again", topple)


if __name__ == "__main__":
    raise SystemExit(lib.run_test("staged", body, settings={"stage_life_ms": f"{LIFE}s"}))
