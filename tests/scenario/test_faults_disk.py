#!/usr/bin/env python3
"""A full disk: the data directory of one host is a small file system of its own (a loop device; needs root, else
the test says that it was skipped)."""
import os
import subprocess

import lib

DISK_MIB = 300


def run(*words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False).returncode == 0


class SmallDisks:
    """Moves the data directories of stopped hosts onto file systems of DISK_MIB."""

    def __init__(self, cluster):
        self.cluster, self.mounted = cluster, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cluster.verb("kill", *self.cluster.names())
        for folder in self.mounted.values():
            run("umount", folder)

    def move(self, name):
        data = self.cluster.host(name)["data_dir"]
        image = data + ".img"
        self.cluster.stop(name)
        os.rename(data, data + ".old")
        os.mkdir(data, 0o700)
        with open(image, "wb") as f:
            f.truncate(DISK_MIB * lib.MIB)
        if not run("mkfs.ext4", "-q", "-m", "0", image) or not run("mount", "-o", "loop", image, data):
            os.rmdir(data)
            os.rename(data + ".old", data)
            self.cluster.start(name)
            return False
        self.mounted[name] = data
        run("cp", "-a", data + ".old/.", data)
        self.cluster.start(name)
        return True


def fill(folder):
    with open(os.path.join(folder, "filler"), "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(65536))
        except OSError:
            pass


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def upload(client, seed, mib=40):
    image_id, body = client.create(f"disk {seed}").json()["id"], lib.Body(seed, mib * lib.MIB)
    return image_id, body, client.upload(image_id, body, timeout=90)


def one_full(cluster, results, client, disks, stored):
    replies = [upload(client, seed) for seed in range(7)]
    stored += [(image_id, body) for image_id, body, reply in replies if reply.status == 204]
    results.equal("uploads go on when one host's disk takes no more images", [r.status for _, _, r in replies], [204] * 7)
    fill(disks.mounted["host2"])
    cluster.expected_down.add("host2")
    pid, codes = cluster.host("host2")["pid"], set()
    for n in range(120):
        codes.add(client.create(f"fill {n}", property="y" * 60000).status)
        if ended(pid):
            break
    results.equal("changes go on while its log and store have no room at all", codes, {201})
    if ended(pid):
        with open(cluster.host("host2")["log_file"], encoding="utf-8") as f:
            last = [line for line in f if " ERROR daemon " in line]
        results.check("the host has stopped with one reason", len(last) == 1, str(last))
    os.unlink(os.path.join(disks.mounted["host2"], "filler"))
    cluster.start("host2")
    results.check("with space again it starts and catches up", cluster.await_ready(40) is not None)
    lib.wait_until(lambda: len({cluster.status(n)["applied"] for n in cluster.names()}) == 1, 20)


def body(cluster, results):
    with SmallDisks(cluster) as disks:
        if os.geteuid() != 0 or not disks.move("host2"):
            results.check("skipped: no loop mounts here", True)
            return
        results.check("a host moves to a small disk", cluster.await_ready(30) is not None)
        stored = []
        with lib.Client(cluster, "host1") as client:
            one_full(cluster, results, client, disks, stored)
        for name in cluster.names():
            with lib.Client(cluster, name) as reader:
                wrong = sum(reader.download(image_id)[1] != data.sha256 for image_id, data in stored)
            results.equal(f"{name} serves every byte of what was stored", wrong, 0)
        cluster.expected_down.update(cluster.names())


if __name__ == "__main__":
    raise SystemExit(lib.run_test(os.path.basename(__file__), body))
