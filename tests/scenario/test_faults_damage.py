#!/usr/bin/env python3
"""Bytes that change on disk: damaged chunks and manifests are healed and told, never served; a host whose log,
vote or store are damaged does not vote, says so on every host, and rejoins by itself under a new incarnation when
a majority of the others is there; its image data stays. What no other host can give it back (its own identity, an
image directory that is gone) makes it exit with 65 and one reason."""
import glob
import hashlib
import os
import shutil
import struct
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


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def diverge(store):
    """Another digest in the store's record of what was applied, with a right checksum: a state that differs."""
    with open(store, "rb") as f:
        data = bytearray(f.read())
    at, found = data.find(b"point"), 0
    while at >= 0:
        value = at + 5
        text = bytes(data[value + 4:value + 53])
        if crc32c(b"point" + text) == struct.unpack("<I", data[value:value + 4])[0]:
            text = text[:-1] + bytes([text[-1] ^ 1])
            data[value:value + 53] = struct.pack("<I", crc32c(b"point" + text)) + text
            found += 1
        at = data.find(b"point", at + 1)
    with open(store, "wb") as f:
        f.write(data)
    return found


def record(cluster, through, name):
    return next(h for h in cluster.status(through)["hosts"] if h["name"] == name)


def rejoined(cluster, results, what, name, before, code, seconds=30):
    """The host came back by itself under its next incarnation, has its vote again, and every host told why."""
    others = [n for n in cluster.names() if n != name]
    good = lib.wait_until(lambda: record(cluster, others[0], name)["incarnation"] == before + 1
                          and record(cluster, others[0], name)["raft_role"] == "voter", seconds)
    told = lib.wait_until(lambda: all(code in codes(cluster, n) for n in others), 5)
    return results.check(f"{what}: {code} is told, and it rejoins by itself", good and told,
                         f"{record(cluster, others[0], name)} {codes(cluster, others[0])}" if not (good and told) else "")


def state(cluster, results):
    victim, names = "host1", {}
    with lib.Client(cluster, "host2") as client:
        for n in range(25):
            names[client.create(f"image-number-{n}").json()["id"]] = f"image-number-{n}"
        image_id, body = client.create("bytes").json()["id"], lib.Body(5, 9 * lib.MIB)
        results.equal("an upload", client.upload(image_id, body).status, 204)
    data = cluster.host(victim)["data_dir"]
    raft, meta = os.path.join(data, "raft"), os.path.join(data, "meta", "data.mdb")
    lib.wait_until(lambda: len(files(cluster, victim, "chunks")) == 3, 20)
    chunk_times = {path: os.stat(path).st_mtime_ns for path in files(cluster, victim, "chunks")}

    def log():
        return sorted(glob.glob(os.path.join(raft, "log-*")))[0]

    def used():
        with open(log(), "rb") as f:
            return len(f.read().rstrip(b"\0"))

    def votes():
        return [os.path.join(raft, "vote1"), os.path.join(raft, "vote2")]

    def records():
        with open(meta, "rb") as f:
            content = bytearray(f.read())
        at = content.find(b"image-number-")
        while at >= 0:
            content[at + 2] ^= 1
            at = content.find(b"image-number-", at + 1)
        with open(meta, "wb") as f:
            f.write(content)

    cluster.stop(victim)
    saved = data + ".saved"
    shutil.copytree(data, saved)
    for what, damage in {"a damaged host.json": lambda: zero(os.path.join(data, "host.json"), 0, 8),
                         "a missing host.json": lambda: os.unlink(os.path.join(data, "host.json")),
                         "a missing key": lambda: os.unlink(os.path.join(data, "certs", "host.key")),
                         "an image directory that is gone": lambda: shutil.rmtree(os.path.join(data, "blobs"))}.items():
        damage()
        code, lines = attempt(cluster, victim)
        results.check(f"{what}: does not start, code 65, one reason", code == DAMAGED and len(lines) == 1, f"{code} {lines}")
        shutil.rmtree(data)
        shutil.copytree(saved, data)
    for what, damage in {"one vote missing": lambda: os.unlink(votes()[0]), "a bit of one vote": lambda: flip(votes()[1], 10),
                         "a missing spare": lambda: os.unlink(os.path.join(raft, "log.spare")),
                         "a missing chunk index": lambda: shutil.rmtree(os.path.join(data, "index")),
                         "a chunk index cut short":
                             lambda: os.truncate(os.path.join(data, "index", "data.mdb"), 9000)}.items():
        damage()
        code, lines = attempt(cluster, victim)
        results.check(f"{what}: starts, nothing is lost", code is None and not lines, f"{code} {lines}")
    shutil.rmtree(saved)

    records()
    cluster.start(victim)
    wrong = 0
    with lib.Client(cluster, victim) as client:
        for number, name in names.items():
            try:
                reply = client.show(number)
                wrong += reply.status == 200 and reply.json()["name"] != name
            except lib.NETWORK_ERRORS:
                break  # it rebuilds its store already
    results.equal("damaged records of the store are never served", wrong, 0)
    rejoined(cluster, results, "damaged records of the store", victim, 1, "STATE_DAMAGED")

    cluster.stop("host3")
    results.check("another digest is put into a store",
                  diverge(os.path.join(cluster.host("host3")["data_dir"], "meta", "data.mdb")) > 0)
    cluster.start("host3")
    with lib.Client(cluster, "host2") as client:
        names[client.create("one more").json()["id"]] = "one more"
    rejoined(cluster, results, "a state that differs", "host3", 1, "STATE_DIVERGED")

    damages = {
        "a bit of the log's first quarter": ("LOG_DAMAGED", lambda: flip(log(), used() // 4)),
        "the end of the log zeroed": ("LOG_DAMAGED", lambda: zero(log(), used() // 2, used() - used() // 2)),
        "a missing log": ("LOG_DAMAGED", lambda: os.unlink(log())),
        "a missing high-water mark": ("LOG_DAMAGED", lambda: os.unlink(os.path.join(raft, "log.mark"))),
        "both votes missing": ("LOG_DAMAGED", lambda: [os.unlink(v) for v in votes()]),
        "a bit of both votes": ("LOG_DAMAGED", lambda: [flip(v, 10) for v in votes()]),
        "log, vote and store gone": ("LOG_DAMAGED", lambda: [shutil.rmtree(p) for p in (raft, os.path.dirname(meta))]),
        "a store cut short": ("STATE_DAMAGED", lambda: os.truncate(meta, 3 * 4096)),
        "a store whose first page is zero": ("STATE_DAMAGED", lambda: zero(meta, 0, 4096)),
    }
    for number, (what, (code, damage)) in enumerate(damages.items()):
        cluster.stop(victim)
        damage()
        cluster.start(victim)
        if not rejoined(cluster, results, what, victim, number + 2, code):
            return
    results.check("the cluster is whole", cluster.await_ready(30) is not None)
    with lib.Client(cluster, victim) as client:
        good = sum(client.show(number).json()["name"] == name for number, name in names.items())
        status, digest, _, _ = client.download(image_id)
    results.equal("the host knows every image again", good, len(names))
    results.check("and serves bytes", status == 200 and digest == body.sha256, str(status))
    results.check("that it had kept all the time",
                  chunk_times == {path: os.stat(path).st_mtime_ns for path in files(cluster, victim, "chunks")})
    results.equal("the three newest damaged logs and stores were kept", len(os.listdir(os.path.join(data, "damaged"))), 3)

    cluster.stop(victim, "host3")
    flip(log(), used() // 2)
    before = sorted(os.listdir(raft))
    cluster.start(victim)
    results.check("without a majority of the others it waits, and says why", lib.wait_until(
        lambda: "LOG_DAMAGED" in said(cluster, victim), 10), said(cluster, victim))
    results.equal("and keeps every file", sorted(os.listdir(raft)), before)
    cluster.start("host3")
    rejoined(cluster, results, "with the third host back", victim, len(damages) + 2, "LOG_DAMAGED")
    results.check("all is well", cluster.await_ready(30) is not None)


def said(cluster, name):
    done = subprocess.run([os.path.join(lib.BIN, "tessera"), "--socket", cluster.host(name)["admin_socket"], "status"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout


def alone(cluster, results):
    """Nobody can confirm: nothing is discarded, and the host says what is damaged."""
    cluster.stop("host1")
    raft = os.path.join(cluster.host("host1")["data_dir"], "raft")
    log = glob.glob(os.path.join(raft, "log-*"))[0]
    flip(log, 300)
    for n in (1, 2):
        code, lines = attempt(cluster, "host1")
        results.check(f"a host alone with a damaged log does not start, {n}", code == DAMAGED and len(lines) == 1, f"{code} {lines}")
    flip(log, 300)
    cluster.start("host1")
    results.check("with the right log put back it starts", cluster.await_ready(20) is not None)


def recover(cluster, name, *words):
    host = cluster.host(name)
    done = subprocess.run([os.path.join(lib.BIN, "tesserad"), "--config", host["config_file"], "--recover", *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30,
                          check=False)
    return done.returncode, done.stdout


def majority(cluster, results):
    """Two of three voters can not vouch for their logs: the operator makes the third the only voter, as docs/operations.md
    says; one of the two heals by itself then, the other one is gone for good and replaced."""
    with lib.Client(cluster, "host2") as client:
        ids = [client.create(f"image {n}").json()["id"] for n in range(12)]
        image_id, body = client.create("bytes").json()["id"], lib.Body(6, 9 * lib.MIB)
        results.equal("an upload", client.upload(image_id, body).status, 204)
    lib.wait_until(lambda: len({cluster.status(n)["applied"] for n in cluster.names()}) == 1, 10)
    results.equal("of a host that runs nothing is recovered", recover(cluster, "host1")[0], 69)
    cluster.kill(*cluster.names())
    for name in ("host2", "host3"):
        flip(sorted(glob.glob(os.path.join(cluster.host(name)["data_dir"], "raft", "log-*")))[0], 5000)
    code, text = recover(cluster, "host2")
    results.check("a host with a damaged log is not recovered", code == DAMAGED and "damaged" in text, f"{code} {text}")
    cluster.start("host1", "host2")
    results.check("nobody leads: one waits, one is alone", lib.wait_until(
        lambda: "LOG_DAMAGED" in said(cluster, "host2"), 10) and "NO_QUORUM" in codes(cluster, "host1"))
    cluster.stop("host1")
    code, text = recover(cluster, "host1")
    results.check("the host that is left says how far it is", code == 0 and "--recover" in text, f"{code} {text}")
    index = text.split("--recover ")[1].split()[0]
    results.equal("another index is refused", recover(cluster, "host1", str(int(index) + 1))[0], 78)
    results.equal("it is made the only voter", recover(cluster, "host1", index)[0], 0)
    cluster.start("host1")
    with lib.Client(cluster, "host1") as client:
        results.check("it takes changes again", lib.wait_until(lambda: client.create("after").status == 201, 15))
        results.equal("nothing is lost", [client.show(i).status for i in ids], [200] * len(ids))
    read_all(cluster, results, "recovered", "host1", [(image_id, body)])
    results.check("the host with the damaged log rejoins by itself", lib.wait_until(
        lambda: record(cluster, "host1", "host2")["raft_role"] == "voter" and
        record(cluster, "host1", "host2")["incarnation"] == 2, 30), str(record(cluster, "host1", "host2")["state"]))
    cluster.wipe("host3")
    cluster.start("host3")  # joins under its name, with a token
    results.check("the lost one, emptied, joins again", cluster.await_ready(40) is not None and lib.wait_until(
        lambda: all(h["raft_role"] == "voter" for h in cluster.status("host1")["hosts"]), 20))
    cluster.kill("host1")
    cluster.expected_down.add("host1")
    with lib.Client(cluster, "host2") as client:
        results.check("and the three can lose one", lib.wait_until(lambda: client.create("x").status == 201, 15))
        results.equal("nothing is lost on the other hosts", [client.show(i).status for i in ids], [200] * len(ids))
    for name in ("host2", "host3"):
        read_all(cluster, results, "after the recovery", name, [(image_id, body)])


if __name__ == "__main__":
    NAME = os.path.basename(__file__)
    FAILED = [lib.run_test(f"{NAME} blobs", blobs), lib.run_test(f"{NAME} state", state),
              lib.run_test(f"{NAME} alone", alone, hosts=1), lib.run_test(f"{NAME} majority", majority)]
    raise SystemExit(any(FAILED))
