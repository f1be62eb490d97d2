#!/usr/bin/env python3
"""A 2 GiB raw image of mostly zeros takes about its non-zero bytes on each host; the same again takes no more."""
import hashlib
import os
import random
import time

import lib

SIZE = 2048 * lib.MIB
CHUNK = 4 * lib.MIB
# Islands of data: whole chunks, parts of a chunk, across a border, at both ends.
ISLANDS = [(0, lib.MIB), (100 * lib.MIB, 8 * lib.MIB), (511 * lib.MIB + 12345, 3 * lib.MIB), (1024 * lib.MIB - 4096, 8192),
           (1500 * lib.MIB, 40 * lib.MIB), (SIZE - 10000, 10000)]
AROUND = 8 * lib.MIB  # manifests, indexes, folders
LOG_AND_STORE = 64 * lib.MIB  # log segments are allocated ahead, the metadata store grows


def make_image(path):
    source = random.Random(2)
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for at, size in ISLANDS:
            f.seek(at)
            f.write(source.randbytes(size))
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(4 * lib.MIB):
            digest.update(piece)
    return digest.hexdigest()


def touched_bytes():
    """The bytes of all chunks that hold a non-zero byte."""
    return len({n for at, size in ISLANDS for n in range(at // CHUNK, (at + size - 1) // CHUNK + 1)}) * CHUNK


def settled(cluster, names, floor, seconds=60):
    """Allocated chunk bytes by host, once each host holds at least `floor` and nothing has changed for 2 s."""
    last, since = None, time.monotonic()
    end = since + seconds
    while time.monotonic() < end:
        now = {n: cluster.chunk_bytes(n) for n in names}
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 2 and min(now.values()) >= floor:
            break
        time.sleep(0.2)
    return last


def test(cluster, results):
    names = cluster.names()
    path = os.path.join(cluster.dir, "sparse.raw")
    digest = make_image(path)
    written = sum(size for _, size in ISLANDS)
    chunks_before = {n: cluster.chunk_bytes(n) for n in names}
    disk_before = {n: cluster.disk_bytes(n) for n in names}

    def upload(name, title):
        with lib.Client(cluster, name) as client, open(path, "rb") as f:
            image_id = client.create(title).json()["id"]
            began = time.monotonic()
            reply = client.upload(image_id, f, timeout=300)
            took = time.monotonic() - began
            results.equal(f"{title} through {name}", reply.status, 204)
            results.note(f"{SIZE / took / lib.MIB:.0f} MiB/s")
            image = client.show(image_id).json()
            results.equal(f"{title}: size and status", (image["size"], image["status"]), (SIZE, "active"))
            return image_id

    first = upload(names[0], "sparse image")
    chunks = settled(cluster, names, min(chunks_before.values()) + written)
    results.note(f"{written} non-zero bytes written, in chunks of {touched_bytes()} bytes")
    for name in names:
        grown = chunks[name] - chunks_before[name]
        results.check(f"{name}: chunks on disk take about the non-zero bytes",
                      written <= grown <= touched_bytes() + AROUND, f"{grown / lib.MIB:.1f} MiB")
        grown = cluster.disk_bytes(name) - disk_before[name]
        results.check(f"{name}: and so does the whole data directory", grown <= touched_bytes() + LOG_AND_STORE,
                      f"{grown / lib.MIB:.1f} MiB")

    second = upload(names[1], "the same again")
    results.check("it is another image", second != first)
    again = settled(cluster, names, min(chunks.values()))
    for name in names:
        grown = again[name] - chunks[name]
        results.check(f"{name}: the same image again takes no more", grown <= lib.MIB, f"{grown / 1024:.0f} KiB more")

    for name in names:
        with lib.Client(cluster, name) as client:
            status, got, size, _ = client.download(second, timeout=300)
            results.equal(f"download through {name}: every byte", (status, size, got), (200, SIZE, digest))
            at = 100 * lib.MIB - 5
            status, got, size, headers = client.download(second, headers={"Range": f"bytes={at}-{at + 9}"})
            with open(path, "rb") as f:
                f.seek(at)
                expected = hashlib.sha256(f.read(10)).hexdigest()
            results.equal(f"a range over the edge of a hole through {name}", (status, size, got), (206, 10, expected))
            results.equal("with its Content-Range", headers.get("Content-Range"), f"bytes {at}-{at + 9}/{SIZE}")

    with lib.Client(cluster, names[2]) as client:
        results.equal("delete the first", client.delete(first).status, 204)
        status, got, _, _ = client.download(second, timeout=300)
        results.equal("the second keeps its data", (status, got), (200, digest))
        results.equal("delete the second", client.delete(second).status, 204)
    for name in names:
        gone = lib.wait_until(lambda n=name: cluster.chunk_bytes(n) <= chunks_before[n] + lib.MIB, 90, 0.5)
        results.check(f"{name}: the chunks are collected", gone,
                      f"{(cluster.chunk_bytes(name) - chunks_before[name]) / 1024:.0f} KiB left")


if __name__ == "__main__":
    raise SystemExit(lib.run_test("sparse", test))
