#!/usr/bin/env python3
"""Requests of mixed clients at once while hosts are killed and started again, one at a time: with LONG=1 48 at a time for
ten minutes, else 24 for 40 s.

Raw HTTP clients create, upload, stage and import, import from a URL, change, share, download (whole and in part), list and
delete, each at a host drawn anew; openstacksdk and the openstack client work through an address that passes over dead hosts. What
was acknowledged is kept in a model, and every answer is held against it while the hosts die. Afterwards no image may be stuck,
all hosts must say the same, every acknowledged byte must be there; and when all is deleted, nothing may be left on disk.

SEED=n repeats the choices of a run, SOAK_SECONDS=n sets its length."""
import json
import os
import random
import re
import subprocess
import threading
import time

import clients
import lib
import test_import
from test_failover import Model, in_parallel, settle, verify

ALONE = True
LONG_ONLY = True
SECONDS = int(os.environ.get("SOAK_SECONDS", "600" if lib.LONG else "40"))
RAW, SDK, CLI = (36, 8, 4) if lib.LONG else (18, 4, 2)
IMAGES_MAX = 150
KILL_EVERY_S = (6, 14)
# What the openstack client prints when its request met a dying host, or when the last image of one page of a list was
# deleted before it asked for the next: it is told, and may try again.
CLI_CUT = re.compile(r"HTTP 50[0-9]|\b50[234]\b|[Cc]onnect|Remote end|reset|timed out|EOF|discover|Max retries|Invalid marker"
                     r"|transition from (saving|active) to saving|what is left")


class Bodies:
    """Image data made once: what costs the processor here, the hosts would lack."""

    def __init__(self, seed):
        sizes = [0, 1, 4096, 70001, lib.MIB, 2 * lib.MIB + 5, 4 * lib.MIB, 6 * lib.MIB + 17]
        self.all = [lib.Body(f"{seed}/{n}", sizes[n % len(sizes)]) for n in range(48)]
        for body in self.all:
            body.data = bytes(body)


class Soak:
    def __init__(self, cluster, seed, origin, demo_project):
        self.cluster, self.seed, self.origin, self.demo_project = cluster, seed, origin, demo_project
        self.model, self.bodies = Model(), Bodies(seed)
        self.names = cluster.names()
        self.down = set()
        self.kills = 0  # grows when a host dies, and when it is back
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.counts, self.wrong = {}, []
        self.web = {}

    # ---- bookkeeping ----

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def bad(self, text):
        with self.lock:
            self.wrong.append(text)

    def ask(self, call, what, good):
        """The reply; None when it is lost or a 5xx other than 500, which leaves the outcome open. Others are wrong answers."""
        self.count(what)
        try:
            reply = call()
        except lib.NETWORK_ERRORS:
            return None
        if reply.status in good:
            return reply
        if reply.status in (502, 503, 504):
            self.count("503")
            return None
        self.bad(f"{what}: {reply!r}")
        return None

    # ---- what a raw client does ----

    def work(self, number):
        source = random.Random(f"{self.seed}/{number}")
        kinds = {self.new: 6, self.imported: 2, self.downloaded: 1, self.note: 4, self.share: 2, self.read: 7, self.part: 3,
                 self.look: 3, self.remove: 2}
        while not self.stopping.is_set():
            weights = list(kinds.values())
            if len(self.model.images) > IMAGES_MAX and self.model.counts()["acknowledged active"] > IMAGES_MAX:
                weights[0] = weights[1] = weights[2] = 0
                weights[-1] = 12
            act = source.choices(list(kinds), weights)[0]
            name = source.choice(self.names)
            with lib.Client(self.cluster, name) as client:
                try:
                    act(client, source, f"{number}-{source.randrange(1 << 30)}")
                except lib.NETWORK_ERRORS:
                    time.sleep(0.1)  # no token: the host is down
                except Exception as error:  # pylint: disable=broad-except
                    self.bad(f"{act.__name__}: {error!r}")
            time.sleep(0.02)

    def begin(self, client, name, **fields):
        """A new queued image of this worker's; None if that is not sure."""
        image_id = lib.new_id()
        reply = self.ask(lambda: client.create(name, image_id, **{"visibility": "public", **fields}), "create", (201,))
        self.model.created(image_id, name, surely=reply is not None)
        return (image_id, self.model.images[image_id]) if reply else (None, None)

    def new(self, client, source, name):
        image_id, entry = self.begin(client, name)
        if image_id:
            body = source.choice(self.bodies.all)
            entry["body"], entry["data"] = body, {None, "active"}
            chunked = source.random() < 0.5
            pieces = (body.data[at:at + 65536] for at in range(0, body.size, 65536)) if chunked else body.data
            if self.ask(lambda: client.upload(image_id, pieces), "upload", (204,)):
                entry["data"] = {"active"}
                self.model.release(image_id)

    def start_import(self, client, image_id, entry, body, request):
        entry["body"], entry["data"] = body, {None, "active"}
        reply = self.ask(lambda: client.call("POST", f"/v2/images/{image_id}/import", request), "import", (202,))
        if not reply:
            return
        kills, end = self.kills, time.monotonic() + 90
        status = "importing"
        while status not in ("active", "queued", "uploading") and time.monotonic() < end:
            time.sleep(0.2)
            for name in self.names:  # whichever host answers
                with lib.Client(self.cluster, name) as other:
                    shown = self.ask(lambda o=other: o.show(image_id), "show", (200,))
                if shown:
                    status = shown.json()["status"]
                    break
        if status == "active":
            entry["data"] = {"active"}
            self.model.release(image_id)
        elif status == "queued" and self.kills != kills:
            self.count("import failed, and said so")  # twice its host died
        elif not self.stopping.is_set() or status not in ("queued", "uploading"):
            self.bad(f"import of {image_id} ends in {status}")

    def imported(self, client, source, name):
        image_id, entry = self.begin(client, name)
        if image_id:
            body = source.choice(self.bodies.all)
            if self.ask(lambda: test_import.stage(client, image_id, body.data, timeout=60), "stage", (204,)):
                self.start_import(client, image_id, entry, body, {"method": test_import.DIRECT})

    def downloaded(self, client, source, name):
        image_id, entry = self.begin(client, name)
        if image_id:
            size = source.choice([1000, 70000, 3 * lib.MIB])
            with self.lock:
                body = self.web[size] = self.web.get(size) or lib.Body("import", size)
            self.start_import(client, image_id, entry, body, {"method": test_import.web(f"{self.origin}/data/{size}")})

    def note(self, client, source, value):
        image_id, entry = self.model.take(source, True)
        if not image_id:
            return
        reply = self.ask(lambda: client.patch(image_id, [{"op": "add", "path": "/note", "value": value}]), "patch", (200,))
        if not reply:
            entry["note"] = entry["note"] | {value}
            return
        entry["note"] = {value}
        # What was acknowledged by one host is seen at every other.
        with lib.Client(self.cluster, source.choice(self.names)) as other:
            shown = self.ask(lambda: other.show(image_id), "show", (200,))
            if shown and shown.json().get("note") != value and "X-Tessera-Stale" not in shown.headers:
                self.bad(f"{other.name}: note of {image_id} is {shown.json().get('note')!r}, {value!r} was acknowledged")
        self.model.release(image_id)

    def share(self, client, source, name):
        """A shared image: the other project gets it, accepts it at another host, and loses it again."""
        image_id, _ = self.begin(client, name, visibility="shared")
        if not image_id:
            return
        path = f"/v2/images/{image_id}/members"
        with lib.Client(self.cluster, source.choice(self.names), "demo") as demo:
            if self.ask(lambda: client.call("POST", path, {"member": self.demo_project}), "member", (200,)) and \
                    self.ask(lambda: demo.call("PUT", f"{path}/{self.demo_project}", {"status": "accepted"}), "accept", (200,)):
                reply = self.ask(lambda: demo.show(image_id), "show", (200,))
                reply = reply and self.ask(lambda: client.call("DELETE", f"{path}/{self.demo_project}"), "member delete", (204,))
                if reply:
                    self.ask(lambda: demo.show(image_id), "show of what is shared no more", (404,))
        if source.random() < 0.9:
            gone = self.ask(lambda: client.delete(image_id), "delete", (204,))
            self.model.images[image_id]["exists"] = {False} if gone else {True, False}

    def read(self, client, source, _, part=False):
        image_id, body = self.model.readable(source)
        if not image_id:
            return
        kills, up = self.kills, client.name not in self.down
        try:
            if part and body.size > 1:
                first = source.randrange(body.size)
                last = min(body.size - 1, first + source.choice([0, 4095, lib.MIB]))
                reply = client.call("GET", f"/v2/images/{image_id}/file", headers={"Range": f"bytes={first}-{last}"}, timeout=60)
                good = reply.status == 206 and reply.data == (body.data if hasattr(body, "data") else bytes(body))[first:last + 1]
                status = reply.status
            else:
                status, digest, size, _ = client.download(image_id)
                good = status == 200 and digest == body.sha256 and size == body.size
            self.count("download")
            if not good and status != 503:
                self.bad(f"{client.name}: download of {image_id}: {status}, not the bytes that were sent")
            elif not good and up and self.kills == kills:
                self.bad(f"{client.name}: download of {image_id}: 503 though no host is down")
        except lib.NETWORK_ERRORS as error:
            if up and client.name not in self.down and self.kills == kills:
                self.bad(f"{client.name}: download of {image_id} broke: {error!r}")
        finally:
            self.model.release(image_id)

    def part(self, client, source, name):
        self.read(client, source, name, part=True)

    def sure(self, exists):
        with self.model.lock:
            return {i for i, e in self.model.images.items() if e["exists"] == {exists} and not (exists and e["busy"])}

    def look(self, client, _source, _name):
        """A list must hold what surely was there before it, and is still; and nothing that was deleted before."""
        there, gone = self.sure(True), self.sure(False)
        self.count("list")
        try:
            listed = {image["id"] for image in client.list("limit=1000")}
        except lib.ClusterFailure:
            return
        missing, risen = (there & self.sure(True)) - listed, gone & listed
        if missing:
            self.bad(f"{client.name}: a list lacks {sorted(missing)[:3]}")
        if risen:
            self.bad(f"{client.name}: a list holds what was deleted: {sorted(risen)[:3]}")

    def remove(self, client, source, _name):
        image_id, entry = self.model.take(source, True)
        if image_id:
            reply = self.ask(lambda: client.delete(image_id), "delete", (204,))
            entry["exists"] = {False} if reply else {True, False}

    # ---- the stock clients ----

    def sdk(self, env):
        """The SDK's program; its verdicts are counted until it ends."""
        process = subprocess.Popen([clients.PYTHON, os.path.join(clients.HERE, "soak_sdk.py"), str(SDK)], env=env,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def take():
            for line in process.stdout:
                found = json.loads(line)
                self.count("sdk " + found["outcome"])
                if found["outcome"] == "wrong":
                    self.bad("sdk: " + found["detail"])
        thread = threading.Thread(target=take)
        thread.start()
        return process, thread

    def cli(self, number, cloud, results):
        source = random.Random(f"{self.seed}/cli/{number}")
        body = source.choice([b for b in self.bodies.all if 0 < b.size <= lib.MIB])
        path = cloud.file(f"cli{number}.raw", body.data)
        back = cloud.file(f"cli{number}.back")
        shell = clients.Shell(cloud, results, "cli")
        shell.one_process = True
        with shell:
            count = 0
            while not self.stopping.is_set():
                count += 1
                name = f"cli{number}-{count}"
                for words in (("create", "--file", path, "--disk-format", "raw", name), ("show", name), ("set", "--tag", "t", name),
                              ("save", "--file", back, name), ("list",), ("delete", name)):
                    reply = shell.call("openstack", "image", *words, account="admin")
                    self.count("cli")
                    if reply["code"] != 0:
                        self.count("cli cut")
                        if not CLI_CUT.search(reply["err"] + reply["out"]):
                            self.bad(f"cli {words[0]}: {(reply['err'] + reply['out'])[-300:]}")
                        break
                    if words[0] == "save":
                        with open(back, "rb") as f:
                            if f.read() != body.data:
                                self.bad("cli save: other bytes")


def kill_hosts(cluster, soak, results, seed, end):
    """One host at a time dies and comes back, until a while before the end."""
    source, rounds = random.Random(f"{seed}/kills"), 0
    time.sleep(3)
    while time.monotonic() < end - 8:
        victim = source.choice(cluster.names())
        soak.down.add(victim)
        soak.kills += 1
        cluster.kill(victim)
        rounds += 1
        time.sleep(source.uniform(1, 5))
        cluster.start(victim)
        ready = cluster.await_ready(60)
        soak.down.discard(victim)
        soak.kills += 1
        if not results.check(f"{victim} is back after its death", ready is not None, f"{ready:.1f} s" if ready else "not in 60 s"):
            return rounds
        time.sleep(source.uniform(*KILL_EVERY_S))
    return rounds


def run_clients(cluster, soak, results, seed, cloud):
    sdk, sdk_thread = soak.sdk(cloud.environment("admin"))
    threads = [threading.Thread(target=soak.work, args=(number,)) for number in range(RAW)]
    threads += [threading.Thread(target=soak.cli, args=(number, cloud, results)) for number in range(CLI)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    rounds = kill_hosts(cluster, soak, results, seed, end)
    time.sleep(max(0.0, end - time.monotonic()))
    soak.stopping.set()
    sdk.stdin.close()
    for thread in threads + [sdk_thread]:
        thread.join(150)
    sdk.wait(30)
    results.check("all requests end", not any(t.is_alive() for t in threads + [sdk_thread]))
    results.check("hosts died, and clients worked", rounds >= 1 and all(soak.counts.get(k, 0) > 3 for k in (
        "create", "upload", "import", "patch", "accept", "download", "list", "delete", "sdk done", "cli")),
        f"{rounds} deaths; {dict(sorted(soak.counts.items()))}")
    results.check("no wrong answer", not soak.wrong, f"{len(soak.wrong)}: " + "\n       ".join(soak.wrong[:12]) if soak.wrong else "")


def end_of_staging(cluster, results):
    """Staged data whose import nobody asked for is legitimately `uploading`; a delete ends it."""
    with lib.Client(cluster, cluster.names()[0]) as client:
        staged = [i["id"] for i in client.list("limit=1000&status=uploading")]
        results.check("staged data that nobody imported can be deleted", all(client.delete(i).status == 204 for i in staged), str(len(staged)))
        return set(staged)


def members_alike(cluster, results):
    def look(name):
        with lib.Client(cluster, name) as client:
            return {i["id"]: [(m["member_id"], m["status"]) for m in
                              client.call("GET", f"/v2/images/{i['id']}/members").json().get("members", [])]
                    for i in client.list("limit=1000&visibility=shared")}
    views = list(in_parallel(look, cluster.names()).values())
    results.check("members are the same on all hosts", all(v == views[0] for v in views), f"{len(views[0])} shared images")


def nothing_left(cluster, results, before):
    with lib.Client(cluster, cluster.names()[0]) as client:
        deleted = [client.delete(image["id"]).status for image in client.list("limit=1000")]
    results.check("all images are deleted", set(deleted) <= {204}, f"{len(deleted)} images")
    for name in cluster.names():
        gone = lib.wait_until(lambda n=name: cluster.chunk_bytes(n) <= before[n] + lib.MIB, 180, 0.5)
        results.check(f"{name}: their chunks are collected", gone, f"{(cluster.chunk_bytes(name) - before[name]) / 1024:.0f} KiB left")


def main():
    seed, origin = lib.seed_from_environment(), test_import.serve(test_import.Source)
    with clients.Relay() as relay:
        def body(cluster, results):
            results.note(f"SEED={seed}, {RAW + SDK + CLI} clients for {SECONDS} s")
            relay.spread_over(cluster)
            before = {n: cluster.chunk_bytes(n) for n in cluster.names()}
            cloud = clients.embedded_cloud(cluster, relay.url, os.path.join(cluster.dir, "cloud"))
            demo = cluster.authenticate(cluster.names()[0], "demo")[1]["project"]["id"]
            soak = Soak(cluster, seed, f"http://127.0.0.1:{origin}", demo)
            run_clients(cluster, soak, results, seed, cloud)
            results.check("all hosts are ready", cluster.await_ready(60) is not None)
            for image_id in end_of_staging(cluster, results):
                if image_id in soak.model.images:
                    soak.model.images[image_id]["exists"] = {False}
            settle(cluster, results, "afterwards")
            verify(cluster, soak.model, results, "no image is stuck; all hosts agree with what was acknowledged, byte for byte")
            members_alike(cluster, results)
            healthy = lib.wait_until(lambda: cluster.status(cluster.names()[0])["health"] == "OK", 60, 0.5)
            results.check("health is OK again", healthy, str(cluster.status(cluster.names()[0]).get("warnings"))[:300])
            nothing_left(cluster, results, before)

        settings = {**test_import.SETTINGS, "public_endpoint": relay.url, "import_ports": f"80, 443, {origin}",
                    "reservation_life_ms": "1min"}  # what came for uploads whose host died goes within the test
        return lib.run_test("soak", body, settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
