#!/usr/bin/env python3
"""From one host to five, with kills while joining; hosts removed, the leader too; two hosts of which one dies; two
hosts and a witness, of which each dies; a voter that is lost and replaced; a disk of the past that comes back."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
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

    def record(self):
        return {"name": self.name, "api_url": f"https://127.0.0.1:{self.base}", "admin_socket": self.socket,
                "data_dir": self.data}

    def start(self):
        os.makedirs(self.data, exist_ok=True)
        values = {**self.cluster.settings, "data_dir": self.data, "host_name": self.name, "api_listen": f"127.0.0.1:{self.base}",
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


def token(cluster, role="image"):
    return cluster.tessera("host1", "cluster", "token", "create", "--role", role)["token"]


class Beside:
    """A cluster of tools/dev-cluster and the hosts beside it, for lib.Client."""

    def __init__(self, cluster, extras):
        self.cluster, self.extras = cluster, extras

    def __getattr__(self, name):
        return getattr(self.cluster, name)

    def host(self, name):
        return next((e.record() for e in self.extras if e.name == name), None) or self.cluster.host(name)


def codes(cluster, name):
    return {warning["code"] for warning in (cluster.status(name) or {"warnings": []})["warnings"]}


def troubles(cluster, name):
    """The codes without LEADER_FLAPPING: leadership is handed over by the tests themselves, again and again."""
    return codes(cluster, name) - {"LEADER_FLAPPING"}


def does(cluster, name, *words):
    """Whether the operator's command succeeds; some of them have no output."""
    return subprocess.run([os.path.join(lib.BIN, "tessera"), "--socket", cluster.host(name)["admin_socket"], *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
                          check=False).returncode == 0


def change_within(results, what, cluster, name, seconds=3.0):
    began = time.monotonic()
    with lib.Client(cluster, name) as client:
        good = lib.wait_until(lambda: client.create("change", timeout=4).status == 201, 15)
    results.check(f"{what}: a change is accepted within {seconds:g} s", good and time.monotonic() - began <= seconds,
                  f"{time.monotonic() - began:.2f} s")


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
        results.check("F28 two voters: EVEN_VOTERS warns", "EVEN_VOTERS" in codes(cluster, "host1"))
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
            # Who sends a request again by itself sends the rest of a body that is used up: no 503 to those.
            for agent, wanted in (("openstacksdk/0.101.0 keystoneauth1/5.0.0", 502), ("python-glanceclient", 502), ("curl", 503)):
                reply = client.call("PUT", f"/v2/images/{image_id}/file", b"data", headers={
                    "Content-Type": "application/octet-stream", "User-Agent": agent})
                results.equal(f"image data of {agent.split('/')[0]} is refused", reply.status, wanted)
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


def alone_from_the_start(cluster, results):
    """Two hosts that are down, of which one is started: it reads what it has, marked with an age that covers its rest."""
    image_id, body = upload(cluster, "host1", 62)
    with lib.Client(cluster, "host2") as client:
        lib.wait_until(lambda: client.download(image_id)[1] == body.sha256, 20)
        kept = cluster.token("host2")
    for name in ("host1", "host2"):
        cluster.kill(name)
    path = os.path.join(cluster.host("host2")["data_dir"], "hosts.json")
    with open(path, encoding="utf-8") as f:
        noted = f.read()
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**json.loads(noted), "contact_s": int(time.time()) + 3600}, f)
    cluster.start("host2")
    with lib.Client(cluster, "host2") as client:
        lib.wait_until(lambda: client.call("GET", "/health/live", token=False).status == 200, 20)
        results.equal("by a clock that is wrong no age is told: 503", client.show(image_id).status, 503)
    cluster.kill("host2")
    with open(path, "w", encoding="utf-8") as f:
        f.write(noted)
    cluster.start("host2")
    with lib.Client(cluster, "host2") as client:
        answers = lib.wait_until(lambda: client.call("GET", "/health/live", token=False).status == 200, 20)
        results.check("a host that starts without a majority answers", answers)
        reply = client.show(image_id)
        age = int(reply.headers.get("X-Tessera-Stale") or -1)
        results.check("an image is shown, marked with its age", reply.status == 200 and 3 <= age < 60, f"{reply.status}, {age} s")
        status, digest, _, fields = client.download(image_id)
        results.check("and downloaded", status == 200 and digest == body.sha256 and "X-Tessera-Stale" in fields, f"{status}")
        results.equal("with a token of before", client.call("GET", "/v2/images", token=kept).status, 200)
        results.equal("health: reads are served", client.call("GET", "/health/read", token=False).status, 200)
        results.equal("health: no writes", client.call("GET", "/health/write", token=False).status, 503)
        results.equal("a change is refused", client.create("refused", timeout=30).status, 503)
        before = age
        age = int(client.show(image_id).headers.get("X-Tessera-Stale") or -1)
        results.check("the age grows", age >= before, f"{before} s, {age} s")
    cluster.start("host1")
    results.check("the other one heals it", cluster.await_ready(30) is not None)
    with lib.Client(cluster, "host2") as client:
        reply = client.show(image_id)
        results.check("and nothing is stale", reply.status == 200 and "X-Tessera-Stale" not in reply.headers)


def joined(cluster, extra, role="image"):
    text = token(cluster, role)
    return lib.wait_until(lambda: extra.tessera("cluster", "join", text)[0] == 0, 20, 0.5)


def witness(cluster, results):
    """Two image hosts and a witness: what a witness is and is not; each of the three dies; two of them."""
    extra = Extra(cluster, 3).start()
    beside = Beside(cluster, [extra])
    try:
        results.check("a token for an unknown role is refused",
                      cluster.tessera("host1", "cluster", "token", "create", "--role", "voter") is None)
        joined(cluster, extra, "witness")
        results.check("a witness joins: three voters", lib.wait_until(lambda: roles(cluster) == ["voter"] * 3, 15))
        results.equal("its role is recorded", hosts_of(cluster)["host3"]["roles"], ["witness"])
        image_id, body = upload(cluster, "host1", 5)
        with lib.Client(beside, "host3") as client:
            through = client.create("through the witness").json()["id"]
            results.equal("an upload through the witness", client.upload(through, body).status, 204)
            results.equal("a download through it", client.download(image_id)[1], body.sha256)
        with lib.Client(cluster, "host1") as client:
            placed = {r["host"] for i in (image_id, through)
                      for r in client.call("GET", f"/v1/images/{i}/replicas").json()["replicas"]}
        results.equal("it holds no replica", placed, {"host1", "host2"})
        results.equal("nor a chunk", sum(len(files) for where, _, files in os.walk(extra.data)
                                         if "chunks" in where.split(os.sep)), 0)
        results.check("it can not be the admin endpoint",
                      not does(cluster, "host1", "admin-endpoint", "move", "host3"))
        term = cluster.status("host1")["term"]
        results.check("it hands leadership over when it has got it",
                      does(cluster, "host1", "leader", "transfer", "host3") and
                      lib.wait_until(lambda: cluster.status("host1")["term"] > term + 1 and
                                     cluster.leader(["host1"]) in ("host1", "host2"), 10))
        leader = cluster.leader(["host1"])
        results.check("health is as it was before", lib.wait_until(
            lambda: troubles(cluster, "host1") <= {"FEW_IMAGE_HOSTS"}, 10), str(codes(cluster, "host1")))

        extra.kill()
        results.check("F03 witness killed: WITNESS_DOWN and QUORUM_AT_RISK, nothing else", lib.wait_until(
            lambda: troubles(cluster, "host1") == {"WITNESS_DOWN", "QUORUM_AT_RISK", "FEW_IMAGE_HOSTS"}, 12),
            str(codes(cluster, "host1")))
        change_within(results, "F03", cluster, "host1")
        results.equal("F03: the leader is the same", cluster.leader(["host1"]), leader)
        results.check("a host without which there is no majority is not removed, even with --force", not does(
            cluster, leader, "host", "remove", "host2" if leader == "host1" else "host1", "--force"))
        extra.start()
        lib.wait_until(lambda: not codes(cluster, "host1") & {"WITNESS_DOWN"}, 15)

        other = "host2" if leader == "host1" else "host1"
        cluster.kill(leader)
        change_within(results, f"{leader}, the leader, killed", cluster, other)
        downloads(cluster, results, "one image host and the witness", [(image_id, body), (through, body)], [other])
        results.check("the image host leads, not the witness", lib.wait_until(
            lambda: cluster.leader([other]) == other, 15))
        extra.kill()
        with lib.Client(cluster, other) as client:
            reply = lib.wait_until(lambda: (lambda r: r.status == 503 and r)(client.create("no", timeout=20)), 15)
            results.check("F05 one of three alive: changes are refused with a reason", reply, repr(reply))
            reply = client.show(image_id)
            results.check("F05: an image is shown, marked stale",
                          reply.status == 200 and "X-Tessera-Stale" in reply.headers)
            results.equal("F05: and downloaded", client.download(image_id)[1], body.sha256)
        results.check("F05: status answers and names NO_QUORUM", "NO_QUORUM" in codes(cluster, other))
        time.sleep(2)
        results.check("F05: nothing promotes itself", cluster.status(other)["leader"] is None)
        extra.start()
        change_within(results, "F05: the witness is back", cluster, other, 6)
        cluster.start(leader)
        results.check("all are up", lib.wait_until(
            lambda: all(h["state"] == "up" for h in hosts_of(cluster).values()), 20))
        results.check("an image host that holds replicas is not made a witness",
                      not does(cluster, "host1", "host", "role", "host2", "witness"))
        results.check("an unknown role is refused", not does(cluster, "host1", "host", "role", "host2", "voter"))
        results.check("the witness is made an image host, and fills itself",
                      lib.wait_until(lambda: does(cluster, "host1", "host", "role", "host3", "image"), 20) and
                      lib.wait_until(
                          lambda: hosts_of(cluster)["host3"]["roles"] == ["image"] and
                          hosts_of(cluster)["host3"]["report"]["replicas_present"] ==
                          hosts_of(cluster)["host1"]["report"]["replicas_present"] and
                          not troubles(cluster, "host1"), 40), str(codes(cluster, "host1")))
        downloads(beside, results, "made an image host", [(image_id, body), (through, body)], ["host3"])
    finally:
        extra.kill()


def refused(cluster, results):
    """What the cluster API refuses, and how."""
    with lib.Client(cluster, "host2") as client, lib.Client(cluster, "host2", "demo") as demo:
        for method, path, sent, status in (
                ("PATCH", "/v1/hosts/host2", [], 400), ("PATCH", "/v1/hosts/host2", {"role": 1}, 400),
                ("PATCH", "/v1/hosts/host2", {"role": "x"}, 400), ("PATCH", "/v1/hosts/host2", {"role": "image", "x": 1}, 400),
                ("PATCH", "/v1/hosts/nobody", {"role": "image"}, 404), ("PATCH", "/v1/hosts/" + "x" * 3000, {"role": "image"}, 404),
                ("PATCH", "/v1/hosts/host2", {"role": "image"}, 204), ("POST", "/v1/join-tokens", {"role": 5}, 400),
                ("POST", "/v1/join-tokens", {"role": "voter"}, 400), ("POST", "/v1/join-tokens", [], 400),
                ("POST", "/v1/leader/transfer", {"host": "nobody"}, 404), ("POST", "/v1/leader/transfer", {"host": {}}, 400),
                ("POST", "/v1/admin-endpoint", {"host": 7}, 400), ("POST", "/v1/admin-endpoint", {"hots": "host1"}, 400),
                ("POST", "/v1/leader/transfer", {"name": "host1"}, 400), ("POST", "/v1/join-tokens", {"role": "witness", "x": 1}, 400),
                ("DELETE", "/v1/hosts/nobody", None, 404),
                ("DELETE", "/v1/hosts/host3", None, 409)):
            results.equal(f"{method} {path[:30]} {sent}", client.call(method, path, sent).status, status)
        results.equal("who is no administrator changes no host",
                      demo.call("PATCH", "/v1/hosts/host2", {"role": "witness"}).status, 403)


class Copy(Extra):
    """A second process on a copy of a host's data, at other ports."""

    def __init__(self, cluster, name, number):
        super().__init__(cluster, number)
        self.name, self.folder = name, os.path.join(cluster.dir, f"copy-of-{name}")
        self.socket, self.data = os.path.join(self.folder, "admin.sock"), os.path.join(self.folder, "data")
        pid = cluster.host(name)["pid"]
        os.kill(pid, signal.SIGSTOP)  # as a snapshot of its machine, all at one moment
        try:
            shutil.copytree(cluster.host(name)["data_dir"], self.data, ignore=shutil.ignore_patterns("*.sock"))
        finally:
            os.kill(pid, signal.SIGCONT)


def twins(cluster, results):
    """A second process with a host's identity, beside it; then a host whose disk goes back in time."""
    cluster.await_ready(30)
    leader = cluster.leader()
    follower = next(n for n in cluster.names() if n != leader)
    pids = {n: cluster.host(n)["pid"] for n in cluster.names()}
    for name, what in ((leader, "the leader"), (follower, "a follower")):
        copy = Copy(cluster, name, 6).start()
        try:
            change_within(results, f"F34 beside a copy of {what}", cluster, "host1")
            results.equal(f"F34 a live copy of {what} is refused and ends with 77", copy.process.wait(20), 77)
        finally:
            copy.kill()
            shutil.rmtree(copy.folder)
        for other in cluster.names():
            results.check(f"F34 {other} tells of it", lib.wait_until(lambda other=other: any(
                w["code"] == "HOST_TWICE" and name in w["text"] for w in cluster.status(other)["warnings"]), 10),
                str(codes(cluster, other)))
    results.check("F34 all hosts run on", all(cluster.unexpected_end(h) is None and h["pid"] == pids[h["name"]] for h in cluster.hosts()))
    follower = next(n for n in cluster.names() if n != cluster.leader())
    old = Copy(cluster, follower, 6)
    with lib.Client(cluster, "host1") as client:
        made = [client.create(f"since {n}").json()["id"] for n in range(5)]
    lib.wait_until(lambda: len({cluster.status(n)["applied"] for n in cluster.names()}) == 1, 10)
    time.sleep(1)  # a report and the leader's answer to others: what it has applied is known
    before = hosts_of(cluster)[follower]["incarnation"]
    cluster.kill(follower)
    data = cluster.host(follower)["data_dir"]
    shutil.rmtree(data)
    os.rename(old.data, data)
    cluster.start(follower)
    results.check("F34 a host whose disk went back in time gets a new incarnation", lib.wait_until(
        lambda: hosts_of(cluster)[follower]["incarnation"] == before + 1 and
        hosts_of(cluster)[follower]["raft_role"] == "voter", 20), str(hosts_of(cluster)[follower]["incarnation"]))
    results.check("F34 and takes part again", cluster.await_ready(20) is not None)
    with lib.Client(cluster, follower) as client:
        results.equal("F34 what it had forgotten is there", [client.show(i).status for i in made], [200] * len(made))


def replaced(cluster, results):
    """Two join at once; a lost voter is replaced by the standby; the leader is removed; what comes back stays out."""
    refused(cluster, results)
    twins(cluster, results)
    extras = {n: Extra(cluster, n) for n in (4, 5)}
    beside = Beside(cluster, list(extras.values()))
    try:
        tokens, said = {n: token(cluster) for n in extras}, {}

        def join(n):
            extras[n].start()
            lib.wait_until(lambda: said.update({n: extras[n].tessera("cluster", "join", tokens[n])}) or
                           said[n][0] == 0, 20, 0.3)
        threads = [threading.Thread(target=join, args=(n,)) for n in extras]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results.check("F44 two join at once: five voters", lib.wait_until(
            lambda: roles(cluster) == ["voter"] * 5, 20), f"{roles(cluster)} {said}")
        extras[5].kill()
        results.check("a host that is down is removed", lib.wait_until(
            lambda: cluster.tessera("host1", "host", "remove", "host5") is not None or
            "host5" not in hosts_of(cluster), 15, 0.5))
        results.check("three voters and a standby are left", lib.wait_until(
            lambda: roles(cluster) == ["standby"] + ["voter"] * 3, 15), str(roles(cluster)))
        standby = next(n for n, h in hosts_of(cluster).items() if h["raft_role"] == "standby")
        victim = next(n for n, h in hosts_of(cluster).items()
                      if h["raft_role"] == "voter" and not h["leader"] and n in ("host2", "host3"))
        cluster.kill(victim)
        good = lib.wait_until(lambda: hosts_of(cluster)[standby]["raft_role"] == "voter" and
                              hosts_of(cluster)[victim]["raft_role"] == "standby", 25)
        results.check("F44 a voter is lost: the standby takes its vote", good, str(roles(cluster)))
        cluster.start(victim)
        results.check("it comes back, and stays a standby", lib.wait_until(
            lambda: hosts_of(cluster)[victim]["state"] == "up", 15) and
            hosts_of(cluster)[victim]["raft_role"] == "standby")

        results.check("leadership is handed to a host by name", does(cluster, "host1", "leader", "transfer", "host4"))
        lib.wait_until(lambda: cluster.leader(["host1"]) == "host4", 10)
        began = time.monotonic()
        removed = does(cluster, "host1", "host", "remove", "host4", "--force")
        results.check("F44 the leader is removed: it hands over first", removed and lib.wait_until(
            lambda: "host4" not in hosts_of(cluster) and cluster.leader(["host1"]) not in (None, "host4"), 10),
            f"{time.monotonic() - began:.1f} s")
        change_within(results, "after that", cluster, "host1")
        results.check("three voters are left", lib.wait_until(lambda: roles(cluster) == ["voter"] * 3, 20),
                      str(roles(cluster)))
        with lib.Client(beside, "host4") as client, contextlib.suppress(*lib.NETWORK_ERRORS):
            results.check("the removed host, still running, changes nothing",
                          client.create("from outside", timeout=20).status == 503)
        copy = extras[4].data + ".copy"
        extras[4].kill()
        shutil.copytree(extras[4].data, copy)
        term = cluster.status("host1")["term"]
        extras[4].start()
        time.sleep(3)
        results.check("started again it stays out and disturbs nobody",
                      "host4" not in hosts_of(cluster) and cluster.status("host1")["term"] == term)
        extras[4].kill()
        shutil.rmtree(extras[4].data)
        extras[4].start()
        results.check("emptied it joins again, under a new incarnation", joined(cluster, extras[4]) and lib.wait_until(
            lambda: hosts_of(cluster)["host4"]["incarnation"] == 2 and hosts_of(cluster)["host4"]["state"] == "up", 15))
        extras[4].kill()
        shutil.rmtree(extras[4].data)
        shutil.copytree(copy, extras[4].data)
        term = cluster.status("host1")["term"]
        extras[4].start()
        lib.wait_until(lambda: hosts_of(cluster)["host4"]["state"] == "down", 15)
        results.check("F34 its status says what to do", lib.wait_until(
            lambda: "HOST_REMOVED" in str(extras[4].tessera("status")), 15))
        results.check("F34 the disk of its earlier incarnation is not let in", hosts_of(cluster)["host4"]["state"] == "down"
                      and cluster.status("host1")["term"] == term, hosts_of(cluster)["host4"]["state"])
        change_within(results, "F34", cluster, "host1")
    finally:
        for extra in extras.values():
            extra.kill()


if __name__ == "__main__":
    NAME = os.path.basename(__file__)
    FAILED = [lib.run_test(f"{NAME} joins", joins, hosts=1), lib.run_test(f"{NAME} two", two, hosts=2),
              lib.run_test(f"{NAME} alone from the start", alone_from_the_start, hosts=2),
              lib.run_test(f"{NAME} witness", witness, hosts=2),
              lib.run_test(f"{NAME} replaced", replaced, hosts=3, settings={"repair_after_ms": "5s"})]
    raise SystemExit(any(FAILED))
