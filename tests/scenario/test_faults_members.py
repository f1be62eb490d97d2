#!/usr/bin/env python3
"""From one host to five, with kills while joining; hosts removed; two hosts of which one dies."""
import os
import shutil
import subprocess
import time

import lib
from test_faults_hosts import downloads, upload


class Extra:
    """A host beside those of tools/dev-cluster, which it does not know."""

    def __init__(self, cluster, number):
        self.cluster, self.name = cluster, f"host{number}"
        self.folder = os.path.join(cluster.dir, self.name)
        self.socket = os.path.join(self.folder, "admin.sock")
        self.data = os.path.join(self.folder, "data")
        self.base = cluster.base + number - 1
        self.process = None

    def start(self):
        os.makedirs(self.data, exist_ok=True)
        values = {"data_dir": self.data, "host_name": self.name, "api_listen": f"127.0.0.1:{self.base}",
                  "peer_listen": f"127.0.0.1:{self.base + 100}", "raft_listen": f"127.0.0.1:{self.base + 200}",
                  "advertise_address": "127.0.0.1", "log_file": os.path.join(self.folder, "log"),
                  "admin_socket": self.socket}
        config = os.path.join(self.folder, "tesserad.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.writelines(f"{key} = {value}\n" for key, value in values.items())
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [os.path.join(lib.BIN, "tesserad"), "--config", config], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lib.wait_until(lambda: self.tessera("status")[0] in (0, 1, 3, 4) and os.path.exists(self.socket), 10)
        return self

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def tessera(self, *words):
        done = subprocess.run([os.path.join(lib.BIN, "tessera"), "--socket", self.socket, *words],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=90, check=False)
        return done.returncode, done.stdout


def hosts_of(cluster):
    return {h["name"]: h for h in cluster.status("host1")["hosts"]}


def roles(cluster):
    return sorted(h["raft_role"] for h in hosts_of(cluster).values())


def token(cluster):
    return cluster.tessera("host1", "cluster", "token", "create")["token"]


def joins(cluster, results):
    """From one host to five, with kills in the middle of joining; then back to four."""
    images = [upload(cluster, "host1", 1)]
    extras = {n: Extra(cluster, n) for n in range(2, 6)}
    try:
        host = extras[2].start()
        used = token(cluster)
        for what, text in (("garbage", "garbage"), ("a damaged token", used[:-6] + "AAAAAA")):
            results.equal(f"joining with {what} is refused", host.tessera("cluster", "join", text)[0], 3)
        results.equal("joining works", host.tessera("cluster", "join", used)[0], 0)
        results.check("two voters", lib.wait_until(lambda: roles(cluster) == ["voter"] * 2, 10))
        host = extras[3].start()
        code, text = host.tessera("cluster", "join", used)
        results.check("a token works once", code == 3 and "was used" in text, text.strip())
        for delay in (0.03, 0.1, 0.2):
            with subprocess.Popen([os.path.join(lib.BIN, "tessera"), "--socket", host.socket, "cluster", "join",
                                   token(cluster)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as join:
                time.sleep(delay)
                host.kill()
                join.kill()
            formed = os.path.exists(os.path.join(host.data, "host.json"))
            host.start()
            if not formed:
                lib.wait_until(lambda: host.tessera("cluster", "join", token(cluster))[0] == 0, 20, 0.5)
            results.check(f"killed {delay} s into the join ({'was' if formed else 'not'} admitted): it joins in the end",
                          lib.wait_until(lambda: roles(cluster) == ["voter"] * 3 and
                                         all(h["state"] == "up" for h in hosts_of(cluster).values()), 20))
            if delay != 0.2:
                host.kill()
                results.check("a host that is down can be removed", lib.wait_until(
                    lambda: cluster.tessera("host1", "host", "remove", "host3") is not None or
                    "host3" not in hosts_of(cluster), 15, 0.5))
                shutil.rmtree(host.folder)
                lib.wait_until(lambda: roles(cluster) == ["voter"] * 2, 10)
                host.start()
        for number, wanted in ((4, ["standby"] + ["voter"] * 3), (5, ["voter"] * 5)):
            extras[number].start().tessera("cluster", "join", token(cluster))
            results.check(f"{number} hosts: {wanted.count('voter')} voters",
                          lib.wait_until(lambda wanted=wanted: roles(cluster) == wanted, 15), str(roles(cluster)))
        images.append(upload(cluster, "host1", 2))
        results.check("an upload with five hosts", images[-1] is not None)
        for number in (4, 5):
            name = extras[number].name
            with subprocess.Popen([os.path.join(lib.BIN, "tessera"), "--socket", cluster.host("host1")["admin_socket"],
                                   "admin-endpoint", "move", name], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL):
                time.sleep(0.02)
                extras[number].kill()
            began = time.monotonic()
            results.check(f"the admin endpoint, moved to {name} as that is killed, ends at a living host",
                          lib.wait_until(lambda name=name: cluster.status("host1")["admin_endpoint"]["host"] != name, 10),
                          f"{time.monotonic() - began:.1f} s")
            extras[number].start()
        lib.wait_until(lambda: all(h["state"] == "up" for h in hosts_of(cluster).values()), 15)
        results.check("a host that is up is not removed without --force",
                      cluster.tessera("host1", "host", "remove", "host5") is None and "host5" in hosts_of(cluster))
        extras[5].kill()
        lib.wait_until(lambda: cluster.tessera("host1", "host", "remove", "host5") is not None or
                       "host5" not in hosts_of(cluster), 15, 0.5)
        results.check("four hosts are left: three voters", lib.wait_until(
            lambda: roles(cluster) == ["standby"] + ["voter"] * 3, 15), str(roles(cluster)))
        downloads(cluster, results, "at the end", images, ["host1"])
    finally:
        for extra in extras.values():
            extra.kill()


def two(cluster, results):
    """Two hosts, one killed: stale reads at once, downloads, a quick 503; then all heals."""
    image_id, body = upload(cluster, "host1", 60)
    for victim, alive in (("host1", "host2"), ("host2", "host1")):
        cluster.kill(victim)
        began = time.monotonic()
        with lib.Client(cluster, alive) as client:
            for _ in range(3):
                at = time.monotonic()
                reply = client.create("refused", timeout=30)
                results.check("a change is 503 with Retry-After within 6 s",
                              reply.status == 503 and reply.headers.get("Retry-After") and time.monotonic() - at < 6,
                              f"{reply.status} {time.monotonic() - at:.2f} s")
            results.check("and at once when the majority has been away for long", time.monotonic() - at < 1)
            at, reply = time.monotonic(), client.show(image_id)
            results.check("an image is shown, marked stale, within 1.5 s",
                          reply.status == 200 and reply.headers.get("X-Tessera-Stale") and time.monotonic() - at < 1.5,
                          f"{reply.headers.get('X-Tessera-Stale')}, {time.monotonic() - at:.2f} s")
            status, digest, _, fields = client.download(image_id)
            results.check("and downloaded", status == 200 and digest == body.sha256 and "X-Tessera-Stale" in fields)
            results.equal("health: not ready", client.call("GET", "/health/ready", token=False).status, 503)
            results.equal("health: reads are served", client.call("GET", "/health/read", token=False).status, 200)
            codes = {warning["code"] for warning in cluster.status(alive)["warnings"]}
            results.check("status names NO_QUORUM", "NO_QUORUM" in codes, str(codes))
        cluster.start(victim)
        results.check("healed by its start", cluster.await_ready(20) is not None, f"{time.monotonic() - began:.1f} s")
        results.check("and takes uploads", upload(cluster, alive, 61) is not None)


if __name__ == "__main__":
    NAME = os.path.basename(__file__)
    FAILED = [lib.run_test(f"{NAME} joins", joins, hosts=1), lib.run_test(f"{NAME} two", two, hosts=2)]
    raise SystemExit(any(FAILED))
