#!/usr/bin/env python3
"""Kill -9 under load: nothing acknowledged is lost, whoever lives answers, changes go on within 3 s.

Writers create, upload, change and delete images, readers download, all through hosts chosen at random, while each
round kills one host (drawn from the seed: the leader, or another) and starts it again. A model holds what was
acknowledged; after each round every host must agree with it, byte for byte. Then the holder of the admin endpoint
is killed, and at last all hosts at once.

SEED=n repeats the choices of a run; ROUNDS (5, with LONG=1 50) sets how many.
"""
import os
import random
import subprocess
import threading
import time

import lib

ALONE = True
ROUNDS = int(os.environ.get("ROUNDS", "50" if lib.LONG else "5"))
WRITERS = 3
PAUSE_S = 0.05  # between a client's requests: the hosts, not this program, shall have the cores
ACTIVE_IMAGES_MAX = 80
CHANGE_LIMIT_S = 3.0
ENDPOINT_LIMIT_S = 6.0


class Model:
    """What the clients were told, by image id.

    An entry is sure of what was acknowledged; a change whose reply never came may or may not have happened, so its
    outcome is added as another possibility and settled by looking, later."""

    def __init__(self):
        self.lock = threading.Lock()
        self.images = {}
        self.downloads = 0
        self.interrupted = []

    def created(self, image_id, name, surely=True):
        """A new image, busy: in the hands of its creator."""
        with self.lock:
            self.images[image_id] = {"name": name, "exists": {True} if surely else {True, False}, "body": None,
                                     "data": {None}, "note": {None}, "busy": True}

    def take(self, source, active):
        """An image for one writer alone: active ones to change or delete."""
        with self.lock:
            ids = [i for i, e in self.images.items()
                   if not e["busy"] and e["exists"] == {True} and (e["data"] == {"active"}) == active]
            if not ids:
                return None, None
            chosen = source.choice(sorted(ids))
            self.images[chosen]["busy"] = True
            return chosen, self.images[chosen]

    def release(self, image_id):
        with self.lock:
            self.images[image_id]["busy"] = False

    def readable(self, source):
        """An active image that nobody is about to delete, held so for the length of a download."""
        with self.lock:
            ids = [i for i, e in self.images.items()
                   if not e["busy"] and e["exists"] == {True} and e["data"] == {"active"}]
            if not ids:
                return None, None
            chosen = source.choice(sorted(ids))
            self.images[chosen]["busy"] = True
            return chosen, self.images[chosen]["body"]

    def counts(self):
        with self.lock:
            entries = list(self.images.values())
        return {"acknowledged active": sum(e["exists"] == {True} and e["data"] == {"active"} for e in entries),
                "deleted": sum(e["exists"] == {False} for e in entries),
                "uncertain": sum(len(e["exists"]) > 1 or len(e["data"]) > 1 for e in entries),
                "all": len(entries)}


class Traffic:
    """Writers and readers until stop(). `down` names hosts that a client may rightly find dead."""

    def __init__(self, cluster, model, seed):
        self.cluster, self.model, self.seed = cluster, model, seed
        self.stopping = threading.Event()
        self.names = cluster.names()
        self.down = {}
        self.errors = []
        self.threads = [threading.Thread(target=self.guard, args=(self.write, k), daemon=True) for k in range(WRITERS)]
        self.threads += [threading.Thread(target=self.guard, args=(self.read, name), daemon=True)
                         for name in self.names]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
        return not any(t.is_alive() for t in self.threads)

    def guard(self, function, argument):
        try:
            function(argument)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(f"{function.__name__}({argument}): {error!r}")

    def is_up(self, name):
        return name not in self.down

    # A writer's step may fail with a network error (its host died) or a 503; both leave the outcome open. The image
    # then stays busy, so that nobody touches it, until verify() has looked how it came out.

    def write(self, number):
        source = random.Random(f"{self.seed}/writer/{number}")
        count = 0
        while not self.stopping.is_set():
            name = source.choice(self.names)
            # Past some number of images deletes win, so that a long run needs no more disk than a short one.
            crowded = self.model.counts()["acknowledged active"] > ACTIVE_IMAGES_MAX
            kind = source.choices(["new", "again", "note", "delete"], [3, 1, 2, 6] if crowded else [6, 2, 3, 1])[0]
            if not self.is_up(name):
                continue
            count += 1
            time.sleep(PAUSE_S)
            with lib.Client(self.cluster, name) as client:
                if kind == "new":
                    self.write_new(client, source, f"w{number}-{count}")
                elif kind == "again":
                    self.write_again(client, source, f"a{number}-{count}")
                elif kind == "note":
                    self.write_note(client, source, f"n{number}-{count}")
                else:
                    self.write_delete(client, source)

    def attempt(self, call):
        """The status of a call, or None when no reply came."""
        try:
            return call().status
        except lib.NETWORK_ERRORS:
            return None

    def unexpected(self, what, status, client):
        self.errors.append(f"{what} through {client.name}: status {status}")

    def write_new(self, client, source, name):
        image_id = lib.new_id()
        # Mostly some chunks and a short one; now and then one that lasts while hosts die.
        size = source.choice([1, 4096, lib.MIB, 4 * lib.MIB, 9 * lib.MIB + 17, 40 * lib.MIB])
        body = lib.Body(f"{self.seed}/{name}", size)
        status = self.attempt(lambda: client.create(name, image_id, visibility="public"))
        if status != 201:
            if status is None or status >= 500:
                self.model.created(image_id, name, surely=False)
            else:
                self.unexpected("create", status, client)
            time.sleep(0.05)
            return
        self.model.created(image_id, name)
        self.upload(client, image_id, self.model.images[image_id], body)

    def write_again(self, client, source, name):
        """Uploads to an image whose upload failed in an earlier round."""
        image_id, entry = self.model.take(source, False)
        if image_id:
            self.upload(client, image_id, entry, lib.Body(f"{self.seed}/{name}", 5 * lib.MIB))

    def upload(self, client, image_id, entry, body):
        entry["body"] = body
        status = self.attempt(lambda: client.upload(image_id, body))
        if status == 204:
            entry["data"] = {"active"}
            self.model.release(image_id)
        else:
            entry["data"] = {None, "active"}
            if status is not None and status < 500:
                self.unexpected("upload", status, client)

    def write_note(self, client, source, value):
        image_id, entry = self.model.take(source, True)
        if not image_id:
            return
        status = self.attempt(lambda: client.patch(image_id, [{"op": "add", "path": "/note", "value": value}]))
        if status == 200:
            entry["note"] = {value}
            self.model.release(image_id)
        else:
            entry["note"] = entry["note"] | {value}
            if status is not None and status < 500:
                self.unexpected("patch", status, client)

    def write_delete(self, client, source):
        image_id, entry = self.model.take(source, True)
        if not image_id:
            return
        status = self.attempt(lambda: client.delete(image_id))
        if status == 204:
            entry["exists"] = {False}
        else:
            entry["exists"] = {True, False}
            if status is not None and status < 500:
                self.unexpected("delete", status, client)

    def read(self, name):
        """Downloads through one host; while that host lives no download may fail, whoever else dies."""
        source = random.Random(f"{self.seed}/reader/{name}")
        while not self.stopping.is_set():
            if not self.is_up(name):
                time.sleep(0.05)
                continue
            time.sleep(PAUSE_S)
            image_id, body = self.model.readable(source)
            if not image_id:
                continue
            began = time.monotonic()
            try:
                with lib.Client(self.cluster, name) as client:
                    status, digest, size, _ = client.download(image_id)
                if status != 200 or digest != body.sha256:
                    self.model.interrupted.append(f"{name}: {image_id}: {status}, {size} of {body.size} bytes"
                                                  + (", WRONG BYTES" if status == 200 and size == body.size else ""))
                self.model.downloads += 1
            except lib.NETWORK_ERRORS as error:
                if self.is_up(name):
                    self.model.interrupted.append(
                        f"{name}: {image_id} after {time.monotonic() - began:.2f} s: {error!r}")
            finally:
                self.model.release(image_id)


def first_success(cluster, name, since, limit):
    """Seconds from `since` until a create through this host was acknowledged; its id is removed again."""
    while time.monotonic() - since < limit:
        try:
            with lib.Client(cluster, name) as client:
                reply = client.create("probe", timeout=limit)
                if reply.status == 201:
                    took = time.monotonic() - since
                    client.delete(reply.json()["id"])
                    return took
        except lib.NETWORK_ERRORS:
            pass
        time.sleep(0.02)
    return None


def in_parallel(function, arguments):
    found = {}
    threads = [threading.Thread(target=lambda a=a: found.__setitem__(a, function(a))) for a in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def verify(cluster, model, results, title, sample=None, source=None):
    """Every host must agree with the model; `sample` bounds how many images are downloaded from each host."""
    problems = []

    def look(name):
        with lib.Client(cluster, name) as client:
            listed = {}
            for image in client.list():
                if image["id"] in listed:
                    problems.append(f"{name}: {image['id']} is listed twice")
                listed[image["id"]] = image
            active = []
            for image_id, entry in model.images.items():
                image = listed.get(image_id)
                if (image is not None) not in entry["exists"]:
                    problems.append(f"{name}: {image_id} {'is still there' if image else 'is LOST'} ({entry['name']})")
                if image is None:
                    continue
                state = "active" if image["status"] == "active" else None
                if image["status"] not in ("active", "queued"):
                    problems.append(f"{name}: {image_id} is stuck in {image['status']}")
                if state not in entry["data"]:
                    problems.append(f"{name}: {image_id} is {image['status']}, acknowledged was {entry['data']}")
                if image.get("note") not in entry["note"]:
                    problems.append(f"{name}: {image_id} note {image.get('note')!r}, acknowledged {entry['note']}")
                if state == "active" and entry["body"]:
                    if image["checksum"] != entry["body"].md5 or image["os_hash_value"] != entry["body"].sha512 \
                            or image["size"] != entry["body"].size:
                        problems.append(f"{name}: {image_id}: checksum, hash or size differ from what was sent")
                    active.append(image_id)
            if sample is not None and len(active) > sample:
                active = random.Random(f"{source}/{name}").sample(sorted(active), sample)
            for image_id in active:
                status, digest, size, _ = client.download(image_id)
                if status != 200 or digest != model.images[image_id]["body"].sha256:
                    problems.append(f"{name}: download {image_id}: {status}, {size} bytes, digest {digest[:12]}")
            return {i: (m["status"], m.get("note"), m["updated_at"]) for i, m in listed.items()}, len(active)

    def safely(name):
        try:
            return look(name)
        except (*lib.NETWORK_ERRORS, lib.ClusterFailure, KeyError) as error:
            problems.append(f"{name}: {error!r}")
            return {}, 0

    seen = in_parallel(safely, cluster.names())
    views = [view for view, _ in seen.values()]
    if any(view != views[0] for view in views):
        problems.append("the hosts list different things")
    # What could be either is now settled by what all hosts say.
    for image_id, entry in model.images.items():
        row = views[0].get(image_id)
        entry["exists"] = {row is not None}
        if row:
            entry["data"] = {"active" if row[0] == "active" else None}
            entry["note"] = {row[1]}
        entry["busy"] = False
    results.check(title, not problems, "\n       ".join(problems[:12]) if problems else
                  f"{len(views[0])} images on {len(views)} hosts, {sum(n for _, n in seen.values())} downloads compared")


def settle(cluster, results, title):
    """Until no image is in saving, on any host: an interrupted upload falls back to queued by itself."""
    def quiet():
        for name in cluster.names():
            with lib.Client(cluster, name) as client:
                if any(i["status"] not in ("active", "queued") for i in client.list()):
                    return False
        return True
    began = time.monotonic()
    if lib.wait_until(quiet, 30, 0.2):
        results.note(f"{title}: nothing in flight after {time.monotonic() - began:.1f} s")


def kill_round(cluster, model, results, seed, number, times):
    source = random.Random(f"{seed}/round/{number}")
    traffic = Traffic(cluster, model, f"{seed}/{number}").start()
    time.sleep(source.uniform(1.0, 2.5))
    leader = cluster.leader() or cluster.names()[0]
    others = [n for n in cluster.names() if n != leader]
    victim = leader if source.random() < 0.5 else source.choice(others)
    survivors = [n for n in cluster.names() if n != victim]
    what = f"round {number}: {victim} ({'leader' if victim == leader else 'follower'})"

    traffic.down[victim] = True
    killed = cluster.kill(victim)
    took = in_parallel(lambda name: first_success(cluster, name, killed, 15), survivors)
    times.extend(t for t in took.values() if t is not None)
    results.check(f"{what}: changes accepted again within {CHANGE_LIMIT_S:g} s on each survivor",
                  all(t is not None and t <= CHANGE_LIMIT_S for t in took.values()),
                  ", ".join(f"{n} {t:.2f} s" if t is not None else f"{n} not in 15 s" for n, t in took.items()))
    answers = []
    for name in survivors:
        with lib.Client(cluster, name) as client:
            answers += [client.call("GET", "/health/live", token=False).status, client.call("GET", "/v2/images").status]
    results.equal(f"{what}: every survivor answers", set(answers), {200})
    time.sleep(source.uniform(0.5, 2.0))

    began = time.monotonic()
    cluster.start(victim)
    ready = cluster.await_ready(60)
    del traffic.down[victim]
    results.check(f"{what}: the restarted host is up again by itself", ready is not None,
                  f"{time.monotonic() - began:.2f} s from its start")
    time.sleep(0.5)
    results.check(f"{what}: all requests end", traffic.stop())
    results.equal(f"{what}: no unexpected replies", traffic.errors[:5], [])
    results.equal(f"{what}: no download through a living host was interrupted", model.interrupted[:5], [])
    model.interrupted.clear()
    settle(cluster, results, what)
    verify(cluster, model, results, f"{what}: every host agrees with what was acknowledged", 6, f"{seed}/{number}")


def endpoint_of(cluster, name):
    """The admin endpoint's host as one host's catalog and /v1/admin-endpoint name it; None when they differ."""
    token, body = cluster.authenticate(name, timeout=3)
    with lib.Client(cluster, name) as client:
        told = client.call("GET", "/v1/admin-endpoint", token=token, timeout=3)
    if told.status != 200:
        return None
    by_url = {h["api_url"].rstrip("/"): h["name"] for h in cluster.hosts()}
    image = next(s for s in body["catalog"] if s["type"] == "image")
    url = next(e["url"] for e in image["endpoints"] if e["interface"] == "admin").rstrip("/")
    record = told.json()
    return (by_url[url], record["epoch"]) if by_url.get(url) == record["host"] else None


def stock_create(env, name):
    """One run of the stock client, which asks the catalog for the admin interface: exit code and output."""
    done = subprocess.run(["openstack", "image", "create", "--disk-format", "raw", "--container-format", "bare",
                           "--file", "/etc/os-release", name], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def light_create(cluster, name, dead):
    """The same requests without the weight of the stock client: token and catalog from one host, then create and
    upload where its admin interface points. The named host, or None."""
    named = endpoint_of(cluster, name)
    if not named or named[0] == dead:
        return None
    with lib.Client(cluster, named[0]) as client:
        reply = client.create("admin-light", timeout=3)
        if reply.status == 201 and client.upload(reply.json()["id"], b"through the admin interface").status == 204:
            return named
    return None


def kill_endpoint_holder(cluster, results):
    holder, epoch = lib.wait_until(lambda: endpoint_of(cluster, cluster.names()[0]), 10) or (None, None)
    if not results.check("the admin endpoint is assigned", holder is not None, f"{holder}, epoch {epoch}"):
        return
    other = next(n for n in cluster.names() if n != holder)
    env = cluster.environment(other, OS_INTERFACE="admin")
    began = time.monotonic()
    code, out = stock_create(env, "admin-before")
    own = time.monotonic() - began
    results.check("OS_INTERFACE=admin openstack image create works", code == 0,
                  f"a run takes {own:.2f} s" if code == 0 else out.strip()[-300:])
    killed = cluster.kill(holder)

    # The limit is the service's: what a run of the stock client costs by itself on this machine is not in it.
    named = lib.wait_until(lambda: light_create(cluster, other, holder), 15)
    works = time.monotonic() - killed
    results.check(f"create and upload at the admin interface work within {ENDPOINT_LIMIT_S:g} s of the holder's death",
                  named and works <= ENDPOINT_LIMIT_S,
                  f"{named[0]}, epoch {named[1]}, {works:.2f} s after" if named else "not in 15 s")
    began = time.monotonic()
    code, out = stock_create(env, "admin-after")
    ended = time.monotonic()
    results.check("and OS_INTERFACE=admin openstack image create, begun then, succeeds at once", code == 0,
                  f"a run takes {ended - began:.2f} s, done {ended - killed:.2f} s after the death" if code == 0 else
                  out.strip()[-300:])
    views = {}
    for name in (n for n in cluster.names() if n != holder):
        views[name] = lib.wait_until(lambda n=name: endpoint_of(cluster, n), 5)
    results.check("exactly one host is named, by all, with a newer epoch",
                  len(set(views.values())) == 1 and None not in views.values()
                  and all(v[0] != holder and v[1] > epoch for v in views.values()), str(views))
    cluster.start(holder)
    results.check("the former holder is back", cluster.await_ready(60) is not None)
    after = {n: lib.wait_until(lambda n=n: endpoint_of(cluster, n), 5) for n in cluster.names()}
    results.check("and still one host is named by all", len(set(after.values())) == 1 and None not in after.values(),
                  str(after))


def kill_all(cluster, model, results, seed):
    traffic = Traffic(cluster, model, f"{seed}/all").start()
    time.sleep(2.5)
    names = cluster.names()
    traffic.down.update(dict.fromkeys(names, True))
    cluster.kill(*names)
    results.check("all killed at once: all requests end", traffic.stop())
    results.equal("all killed at once: no unexpected replies", traffic.errors[:5], [])
    model.interrupted.clear()
    began = time.monotonic()
    cluster.start(*names)
    ready = cluster.await_ready(60)
    results.check("all killed at once: the cluster is back by itself", ready is not None,
                  f"{time.monotonic() - began:.2f} s")
    settle(cluster, results, "all killed at once")
    verify(cluster, model, results, "all killed at once: everything acknowledged is there, byte for byte, on each host")


def main():
    seed = lib.seed_from_environment()

    def body(cluster, results):
        results.note(f"SEED={seed} ROUNDS={ROUNDS}")
        model, times = Model(), []
        for number in range(1, ROUNDS + 1):
            kill_round(cluster, model, results, seed, number, times)
        if times:
            times.sort()
            results.note(f"changes accepted again after: min {times[0]:.2f}, median {times[len(times) // 2]:.2f}, "
                         f"max {times[-1]:.2f} s ({len(times)} measures)")
        for _ in range(3):
            kill_endpoint_holder(cluster, results)
        kill_all(cluster, model, results, seed)
        results.note(f"{model.counts()}, {model.downloads} downloads during the rounds")

    return lib.run_test("failover", body)


if __name__ == "__main__":
    raise SystemExit(main())
