#!/usr/bin/env python3
"""Requests with an Idempotency-Key, sent to a host that is killed while it answers them: each is sent again through another
host, under its key, and comes to what it came to the first time, once. First to a host that follows, then to the leader."""
import hashlib
import threading

import lib

SETTINGS = {"down_ms": "3s", "suspect_ms": "1s", "import_addresses_allowed": "127.0.0.2/32"}
THREADS, ENOUGH, AGAIN_SECONDS = 6, 60, 90
OCTETS = {"Content-Type": "application/octet-stream"}


class Request:
    """One request with its key; what it was answered the first time, if anything."""

    def __init__(self, kind, name, image=None):
        self.kind, self.name, self.image = kind, name, image
        self.first = None
        self.data = None
        self.method, self.path, self.body, self.headers = {
            "image": ("POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"}, {}),
            "project": ("POST", "/identity/v3/projects", {"project": {"name": name}}, {}),
            "namespace": ("POST", "/v2/metadefs/namespaces", {"namespace": name, "objects": [{"name": "o"}]}, {}),
            "task": ("POST", "/v2/tasks", {"type": "import", "input": {
                "import_from": "http://127.0.0.2/x", "import_from_format": "raw", "image_properties": {"name": name}}}, {}),
            "upload": ("PUT", f"/v2/images/{image}/file", None, OCTETS),
        }[kind]
        if kind == "upload":
            self.data = hashlib.sha256(name.encode()).digest() * 20000  # 640 kB
        self.headers = {**self.headers, "Idempotency-Key": name}

    def send(self, client):
        reply = client.call(self.method, self.path, self.data if self.kind == "upload" else self.body, self.headers)
        return reply.status, self.told(reply)

    def told(self, reply):
        """What must be the same the next time."""
        body = reply.json() if reply.data else {}
        return {"image": lambda: body.get("id"), "project": lambda: body["project"]["id"], "task": lambda: body.get("id"),
                "namespace": lambda: (body.get("namespace"), body.get("created_at"), reply.headers["Location"].split("/v2/")[1]),
                "upload": lambda: None}[self.kind]() if reply.status < 300 else None


class Sender:
    """Requests to one host from several threads, until it is gone."""

    def __init__(self, cluster, name, title):
        self.cluster, self.name, self.title = cluster, name, title
        self.requests, self.lock = [], threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(THREADS)]

    def answered(self):
        with self.lock:
            return sum(r.first is not None for r in self.requests)

    def work(self, number):
        with lib.Client(self.cluster, self.name) as client:
            count, image = 0, None
            while True:
                kind = ("image", "namespace", "upload", "project", "task")[count % 5]
                request = Request(kind, f"{self.title}-{number}-{count}", image)
                with self.lock:
                    self.requests.append(request)
                try:
                    request.first = request.send(client)
                except lib.NETWORK_ERRORS:
                    return
                image = request.first[1] if kind == "image" else image
                count += 1

    def run(self):
        for thread in self.threads:
            thread.start()
        lib.wait_until(lambda: self.answered() >= ENOUGH, 60)
        self.cluster.kill(self.name)
        for thread in self.threads:
            thread.join()


def again(request, client):
    """The answer of another host, once it has one: while it has no leader or takes an upload to go on, it says so."""
    def answer():
        status, told = request.send(client)
        waits = status in (502, 503) or (status == 409 and request.kind == "upload")
        return None if waits else (status, told)
    return lib.wait_until(answer, AGAIN_SECONDS, 0.2)


def judge(results, sender, client, title):
    lost = [r for r in sender.requests if r.first is None]
    failed = [(r.kind, r.first) for r in sender.requests if r.first and r.first[0] >= 300]
    results.equal(f"{title}: what was answered was done", failed, [])
    results.check(f"{title}: some requests were cut off", lost, ", ".join(r.kind for r in lost))
    other = []
    for request in sender.requests:
        came = again(request, client)
        if came is None or came[0] >= 300 or (request.first and came != request.first):
            other.append((request.kind, request.name, request.first, came))
        request.first = came
    results.equal(f"{title}: each of {len(sender.requests)} comes to the same again, or now ({len(lost)})", other, [])
    for kind, look in (("image", "/v2/images?name={}"), ("task", "/v2/images?name={}"), ("project", "/identity/v3/projects?name={}")):
        names = [r.name for r in sender.requests if r.kind == kind]
        counts = {n: len(next(v for k, v in client.call("GET", look.format(n)).json().items() if k in ("images", "projects"))) for n in names}
        results.equal(f"{title}: one {kind} a key ({len(names)})", {n: c for n, c in counts.items() if c != 1}, {})
    wrong = []
    for request in (r for r in sender.requests if r.kind == "upload"):
        image = client.show(request.image).json()
        if (image["status"], image["os_hash_value"]) != ("active", hashlib.sha512(request.data).hexdigest()):
            wrong.append((request.name, image["status"]))
    results.equal(f"{title}: the uploads are active, whole", wrong, [])
    request = next(r for r in sender.requests if r.kind == "upload")
    results.equal(f"{title}: other data under an upload's key", client.call(
        "PUT", request.path, b"other", request.headers).status, 422)


def body(cluster, results):
    for title in ("follower", "leader"):
        leader = cluster.leader()
        victim = leader if title == "leader" else next(n for n in cluster.names() if n != leader)
        sender = Sender(cluster, victim, title)
        sender.run()
        other = next(n for n in cluster.names() if n not in (victim, leader))
        with lib.Client(cluster, other) as client:
            judge(results, sender, client, title)
        cluster.start(victim)
        cluster.await_ready()


if __name__ == "__main__":
    raise SystemExit(lib.run_test("again", body, settings=SETTINGS))
