#!/usr/bin/env python3
"""A full disk: the data directory of one host is a small file system of its own (a loop device; needs root, else
the test says that it was skipped). A follower without room takes nothing new, serves reads that say how old they
are, and catches up by itself; a leader hands over."""
import os
import subprocess
import time

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


def codes(cluster, name):
    return {warning["code"] for warning in cluster.status(name)["warnings"]}


def empty(folder):
    os.unlink(os.path.join(folder, "filler"))


def caught_up(cluster, seconds=30):
    """All hosts have applied the same, which their leader has compared (STATE_DIVERGED else)."""
    return lib.wait_until(lambda: len({cluster.status(n)["applied"] for n in cluster.names()}) == 1
                          and not codes(cluster, cluster.names()[0]) & {"DISK_FULL", "STATE_DIVERGED", "HOST_DOWN"}, seconds)


def make_changes(client, seconds, done=None):
    """Changes with 60 KB each until done() or time is up, or, without done, ten a second; the set of status codes. (As many
    as a fast machine can make in a time would fill the small disk with metadata that stays.)"""
    seen, end, n = set(), time.monotonic() + seconds, 0
    while time.monotonic() < end and not (done and done()):
        seen.add(client.create(f"fill {n}", property="y" * 60000).status)
        n += 1
        time.sleep(0 if done else 0.1)
    return seen


def a_full_follower(cluster, results, client, folder):
    pid = cluster.host("host2")["pid"]
    fill(folder)
    seen = make_changes(client, 40, lambda: "DISK_FULL" in codes(cluster, "host1"))
    seen |= make_changes(client, 3)
    results.equal("changes go on while one host's log and store have no room at all", seen, {201})
    results.check("that is told by every host", lib.wait_until(
        lambda: all("DISK_FULL" in codes(cluster, n) for n in cluster.names()), 10), str(codes(cluster, "host1")))
    results.check("the host still runs", not ended(pid))
    with lib.Client(cluster, "host2") as reader:
        reply = reader.call("GET", "/v2/images?limit=1")
        stale = reply.headers.get("X-Tessera-Stale")
        results.check("and reads from it are answered, and say how old they are",
                      reply.status == 200 and stale is not None and int(stale) >= 1, f"{reply.status} stale={stale}")
    empty(folder)
    results.check("with space again it catches up by itself", caught_up(cluster), str(codes(cluster, "host1")))
    results.check("in the same process", not ended(pid) and cluster.host("host2")["pid"] == pid)


def a_full_leader(cluster, results, client, folder):
    def led_by_small():
        cluster.tessera(cluster.leader(), "leader", "transfer")
        return lib.wait_until(lambda: cluster.leader() == "host2", 2)

    if not results.check("the host on the small disk leads", lib.wait_until(led_by_small, 30)):
        return
    pid = cluster.host("host2")["pid"]
    fill(folder)
    seen = make_changes(client, 40, lambda: cluster.leader(["host1"]) not in ("host2", None))
    results.check("a leader without room hands over; no change fails", seen <= {201}, str(seen))
    results.check("another host leads", lib.wait_until(lambda: cluster.leader(["host1"]) not in ("host2", None), 5))
    results.equal("and changes go on", make_changes(client, 2), {201})
    empty(folder)
    results.check("it follows again when there is space", caught_up(cluster), str(codes(cluster, "host1")))
    results.check("all in one process", not ended(pid))


def one_full(cluster, results, client, disks, stored):
    replies = [upload(client, seed) for seed in range(7)]
    stored += [(image_id, body) for image_id, body, reply in replies if reply.status == 204]
    results.equal("uploads go on when one host's disk takes no more images", [r.status for _, _, r in replies], [204] * 7)
    a_full_follower(cluster, results, client, disks.mounted["host2"])
    a_full_leader(cluster, results, client, disks.mounted["host2"])


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


def small_map(cluster, results):
    """F16: a metadata store at 80 % of its map takes no new images, and all else, until images were deleted."""
    with lib.Client(cluster, "host1") as client:
        made, reply, end = [], None, time.monotonic() + 60
        while time.monotonic() < end and (reply is None or reply.status == 201):
            reply = client.create(f"fill {len(made)}", property="y" * 60000)
            made += [reply.json()["id"]] if reply.status == 201 else []
            time.sleep(0.05)
        results.check("at 80 % of the map a new image is refused, with the reason", reply.status == 503 and b"nearly full" in reply.data,
                      repr(reply))
        results.check("long after the store began to fill", len(made) > 200, str(len(made)))
        results.check("every host tells of it", lib.wait_until(
            lambda: all("DISK_FULL" in codes(cluster, n) for n in cluster.names()), 15), str(codes(cluster, "host1")))
        results.equal("other changes are taken", client.call("PUT", f"/v2/images/{made[0]}/tags/a").status, 204)
        results.equal("and deletes", {client.delete(image).status for image in made[: len(made) // 2]}, {204})
        results.check("after which there is room again by itself", lib.wait_until(
            lambda: client.create("again").status == 201 and "DISK_FULL" not in codes(cluster, "host1"), 30))


if __name__ == "__main__":
    NAME = os.path.basename(__file__)
    FAILED = [lib.run_test(NAME, body),
              lib.run_test(f"{NAME} small map", small_map, settings={"metadata_map_bytes": "48MiB"})]
    raise SystemExit(any(FAILED))
