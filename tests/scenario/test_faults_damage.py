#!/usr/bin/env python3
"""Bytes that change on disk: damaged chunks and manifests are healed and told, never served; a host whose log,
vote, store or files are damaged refuses to start with one reason and exit code 65, and comes back by the
documented way: empty its data_dir and join again."""
import glob
import hashlib
import os
import shutil
import subprocess

import lib

DAMAGED = 65


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def files(cluster, name, kind):
    return sorted(glob.glob(os.path.join(cluster.host(name)["data_dir"], "blobs", kind, "*", "*")))


def is_whole(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest() == os.path.basename(path)


def codes(cluster, name):
    return {warning["code"] for warning in cluster.status(name)["warnings"]}


def read_all(cluster, results, what, name, images):
    with lib.Client(cluster, name) as client:
        for image_id, body in images:
            status, digest, _, _ = client.download(image_id)
            results.check(f"{what}: {name} serves the right bytes", status == 200 and digest == body.sha256, str(status))


def blobs(cluster, results):
    images = []
    with lib.Client(cluster, "host1") as client:
        for seed in range(4):
            images.append((client.create("image").json()["id"], lib.Body(seed, 9 * lib.MIB)))
            assert client.upload(*images[-1]).status == 204
    lib.wait_until(lambda: all(len(files(cluster, n, "chunks")) == 12 for n in cluster.names()), 20)
    chunks = files(cluster, "host1", "chunks")
    flip(chunks[0], 12345)
    flip(chunks[1], os.path.getsize(chunks[1]) - 1)
    os.unlink(chunks[2])
    os.truncate(chunks[3], 1000)
    os.truncate(chunks[4], 0)
    read_all(cluster, results, "five damaged, cut or missing chunks", "host1", images)
    results.check("the chunks are healed", lib.wait_until(
        lambda: all(os.path.exists(p) and is_whole(p) for p in chunks[:5]), 20))
    for name in cluster.names():
        results.check(f"CHUNK_BAD is shown by {name}", lib.wait_until(lambda name=name: "CHUNK_BAD" in codes(cluster, name), 5))
    for path in files(cluster, "host1", "manifests")[:2]:
        flip(path, 40)
    read_all(cluster, results, "damaged manifests", "host1", images)

    image_id, body = images[3]
    victim = hashlib.sha256(bytes(body)[4 * lib.MIB:8 * lib.MIB]).hexdigest()
    for name in cluster.names():
        for path in files(cluster, name, "chunks"):
            if os.path.basename(path) == victim:
                flip(path, 777)
    for name in cluster.names():
        with lib.Client(cluster, name) as client:
            try:
                status, _, _, _ = client.download(image_id)
                results.check("a chunk that is bad on all hosts is not served", status != 200, str(status))
            except lib.NETWORK_ERRORS as error:
                results.check("a chunk that is bad on all hosts is not served: the answer is cut", True, repr(error))
    with lib.Client(cluster, "host2") as client:
        again = client.create("again").json()["id"]
        results.equal("the same content is uploaded again", client.upload(again, body).status, 204)
    for name in cluster.names():
        read_all(cluster, results, "and heals the first image", name, [images[3]])


def attempt(cluster, name, seconds=1.5):
    """Starts the host's process; (exit code or None when it still runs, the ERROR lines of its log)."""
    host = cluster.host(name)
    at = os.path.getsize(host["log_file"])
    with subprocess.Popen([os.path.join(lib.BIN, "tesserad"), "--config", host["config_file"]], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            process.kill()
    with open(host["log_file"], encoding="utf-8", errors="replace") as f:
        f.seek(at)
        return code, [line.split(" ", 1)[1].strip() for line in f if " ERROR " in line]


def zero(path, at, size):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(bytes(size))


def state(cluster, results):
    victim, names = "host1", {}
    with lib.Client(cluster, "host2") as client:
        for n in range(25):
            names[client.create(f"image-number-{n}").json()["id"]] = f"image-number-{n}"
    cluster.stop(victim)
    data = cluster.host(victim)["data_dir"]
    saved = data + ".saved"
    shutil.copytree(data, saved)
    raft, meta = os.path.join(data, "raft"), os.path.join(data, "meta", "data.mdb")
    log = sorted(glob.glob(os.path.join(raft, "log-*")))[0]
    votes = [os.path.join(raft, "vote1"), os.path.join(raft, "vote2")]
    with open(log, "rb") as f:
        used = len(f.read().rstrip(b"\0"))
    refused = {
        "a bit of the log's first quarter": lambda: flip(log, used // 4),
        "a bit in the middle of the log": lambda: flip(log, used // 2),
        "a bit of the log's last entry": lambda: flip(log, used - 20),
        "the end of the log zeroed": lambda: zero(log, used // 2, used - used // 2),
        "a log cut in half": lambda: os.truncate(log, used // 2),
        "a missing log": lambda: os.unlink(log),
        "a missing high-water mark": lambda: os.unlink(os.path.join(raft, "log.mark")),
        "both votes missing": lambda: [os.unlink(v) for v in votes],
        "a bit of both votes": lambda: [flip(v, 10) for v in votes],
        "an empty raft folder": lambda: (shutil.rmtree(raft), os.mkdir(raft)),
        # Not half: that may be pages which nothing uses any more, so that nothing is missed.
        "a store cut short": lambda: os.truncate(meta, 3 * 4096),
        "a store whose first page is zero": lambda: zero(meta, 0, 4096),
        "a chunk index cut short": lambda: os.truncate(os.path.join(data, "index", "data.mdb"), 9000),
        "a damaged host.json": lambda: zero(os.path.join(data, "host.json"), 0, 8),
        "an image directory that is gone": lambda: shutil.rmtree(os.path.join(data, "blobs")),
    }
    for what, damage in refused.items():
        shutil.rmtree(data)
        shutil.copytree(saved, data)
        damage()
        code, lines = attempt(cluster, victim)
        results.check(f"{what}: does not start, code 65, one reason", code == DAMAGED and len(lines) == 1, f"{code} {lines}")
    for what, damage in {"one vote missing": lambda: os.unlink(votes[0]), "a bit of one vote": lambda: flip(votes[1], 10),
                         "a missing spare": lambda: os.unlink(os.path.join(raft, "log.spare")),
                         "a missing chunk index": lambda: shutil.rmtree(os.path.join(data, "index"))}.items():
        shutil.rmtree(data)
        shutil.copytree(saved, data)
        damage()
        code, lines = attempt(cluster, victim)
        results.check(f"{what}: starts, nothing is lost", code is None and not lines, f"{code} {lines}")

    shutil.rmtree(data)
    shutil.copytree(saved, data)
    with open(meta, "rb") as f:
        content = bytearray(f.read())
    at = content.find(b"image-number-")
    while at >= 0:
        content[at + 2] ^= 1
        at = content.find(b"image-number-", at + 1)
    with open(meta, "wb") as f:
        f.write(content)
    cluster.start(victim)
    wrong = 0
    for image_id, name in names.items():
        with lib.Client(cluster, victim) as client:
            reply = client.show(image_id)
            wrong += reply.status == 200 and reply.json()["name"] != name
    results.equal("damaged records of the store are never served", wrong, 0)
    with lib.Client(cluster, victim) as client:
        results.equal("such a host tells load balancers to go elsewhere",
                      client.call("GET", "/health/read", token=False).status, 503)
    results.check("and every host shows STATE_DAMAGED",
                  lib.wait_until(lambda: all("STATE_DAMAGED" in codes(cluster, n) for n in cluster.names()), 5))
    cluster.wipe(victim)
    cluster.start(victim)
    results.check("emptied, it joins again", cluster.await_ready(30) is not None)
    with lib.Client(cluster, victim) as client:
        good = sum(client.show(image_id).json()["name"] == name for image_id, name in names.items())
    results.equal("and knows every image", good, len(names))
    results.check("STATE_DAMAGED is gone", lib.wait_until(lambda: "STATE_DAMAGED" not in codes(cluster, "host2"), 5))


if __name__ == "__main__":
    NAME = os.path.basename(__file__)
    FAILED = [lib.run_test(f"{NAME} blobs", blobs), lib.run_test(f"{NAME} state", state)]
    raise SystemExit(any(FAILED))
