#!/usr/bin/env python3
"""The cache API: with two replicas on three hosts, the third one keeps an image on request, and lets go of it.

The list is each host's own: what it says is held against the bytes on that host's disk, and against a download while no
other host lives."""
import os
import signal
import subprocess
import time

import clients
import lib
import verbs_glance

MIB = lib.MIB
SIZE = 9 * MIB + 5


def cache(cluster, name):
    with lib.Client(cluster, name) as client:
        reply = client.call("GET", "/v2/cache")
        if reply.status != 200:
            raise lib.ClusterFailure(f"GET /v2/cache of {name}: {reply!r}")
        return reply.json()


def cached(cluster, name):
    return [one["image_id"] for one in cache(cluster, name)["cached_images"]]


def call(cluster, name, method, path, **options):
    with lib.Client(cluster, name) as client:
        return client.call(method, path, **options).status


def await_cached(cluster, results, name, image):
    results.check(f"{name}: the image becomes cached", lib.wait_until(lambda: image in cached(cluster, name), 30, 0.2))


def await_bytes(cluster, results, what, name, least, most):
    right = lib.wait_until(lambda: least <= cluster.chunk_bytes(name) <= most, 60, 0.5)
    results.check(f"{name}: {what}", right, f"{cluster.chunk_bytes(name) / MIB:.1f} MiB of chunks")


def upload(cluster, results, name, seed):
    body = lib.Body(seed, SIZE)
    with lib.Client(cluster, name) as client:
        image = client.create(seed).json()["id"]
        results.equal(f"upload of {seed}", client.upload(image, body).status, 204)
    return image, body


def configure(cluster, name, setting, value):
    """Sets one of the host's settings and has them read again."""
    host = cluster.host(name)
    path = os.path.join(cluster.dir, name, "tesserad.conf")
    with open(path, encoding="utf-8") as f:
        lines = [line for line in f if not line.startswith(setting + " =")]
    with open(path, "w", encoding="utf-8") as f:
        f.writelines([*lines, f"{setting} = {value}\n"])
    os.kill(host["pid"], signal.SIGHUP)


def keeps(cluster, results, third, others, image, body):
    """Queued, cached, and there: also with all others dead, and after a restart."""
    results.equal("nothing is cached at first", cache(cluster, third), {"cached_images": [], "queued_images": []})
    began = time.time()
    results.equal(f"{third}: PUT", call(cluster, third, "PUT", f"/v2/cache/{image}"), 202)
    results.equal("it is queued", cache(cluster, third), {"cached_images": [], "queued_images": [image]})
    await_cached(cluster, results, third, image)
    one = cache(cluster, third)["cached_images"][0]
    results.equal("size and hits", (one["size"], one["hits"]), (SIZE, 0))
    results.check("times are those of now", began <= one["last_modified"] <= one["last_accessed"] <= time.time(), one)
    await_bytes(cluster, results, "the chunks are here", third, SIZE, SIZE + 8 * MIB)
    for name in others:
        results.equal(f"{name}: its list is its own", cached(cluster, name), [])
    cluster.kill(*others)
    with lib.Client(cluster, third) as client:
        results.equal("download with all others dead", client.download(image)[:3], (200, body.sha256, SIZE))
    cluster.start(*others)
    results.check("all hosts are back", cluster.await_ready())
    used = cache(cluster, third)["cached_images"][0]
    results.equal("that was a hit", used["hits"], 1)
    results.check("and an access", used["last_accessed"] > one["last_accessed"] and used["last_modified"] == one["last_modified"], used)
    cluster.stop(third)
    cluster.start(third)
    cluster.await_ready()
    results.equal("after a restart it is still so", cache(cluster, third)["cached_images"], [used])


def lets_go(cluster, results, third, image):
    results.equal(f"{third}: DELETE", call(cluster, third, "DELETE", f"/v2/cache/{image}"), 204)
    results.equal("the list is empty at once", cache(cluster, third), {"cached_images": [], "queued_images": []})
    await_bytes(cluster, results, "its chunks go", third, 0, 0)
    results.equal("DELETE again", call(cluster, third, "DELETE", f"/v2/cache/{image}"), 204)


def holder(cluster, results, name, image):
    """A host that holds a replica by the placement: kept on request too, and still there without."""
    before = cluster.chunk_bytes(name)
    results.equal(f"{name}, which is in the placement: PUT", call(cluster, name, "PUT", f"/v2/cache/{image}"), 202)
    await_cached(cluster, results, name, image)
    results.equal(f"{name}: DELETE of all", call(cluster, name, "DELETE", "/v2/cache"), 204)
    time.sleep(8)  # a wrong drop would come about now
    results.equal(f"{name}: its replica stays", (cached(cluster, name), cluster.chunk_bytes(name)), ([], before))


def deleted(cluster, results, third, others):
    image, _ = upload(cluster, results, others[0], "deleted")
    for name in cluster.names():
        call(cluster, name, "PUT", f"/v2/cache/{image}")
    for name in cluster.names():
        await_cached(cluster, results, name, image)
    floor = cluster.chunk_bytes(third)
    with lib.Client(cluster, others[0]) as client:
        results.equal("the image is deleted", client.delete(image).status, 204)
    results.equal("no list has it", [cached(cluster, name) for name in cluster.names()], [[], [], []])
    await_bytes(cluster, results, "its chunks go with it", third, 0, floor - SIZE)
    results.equal("it can not be queued", call(cluster, third, "PUT", f"/v2/cache/{image}"), 404)


def room(cluster, results, third, image):
    """Where the disk is short, what is kept goes, and nothing is fetched."""
    call(cluster, third, "PUT", f"/v2/cache/{image}")
    await_cached(cluster, results, third, image)
    configure(cluster, third, "cache_free_min", "1000TiB")
    gone = lib.wait_until(lambda: cache(cluster, third) == {"cached_images": [], "queued_images": []}, 40, 0.5)
    results.check("without room it is given up", gone)
    await_bytes(cluster, results, "its chunks go", third, 0, 0)
    call(cluster, third, "PUT", f"/v2/cache/{image}")
    time.sleep(4)
    results.equal("without room it stays queued", cache(cluster, third), {"cached_images": [], "queued_images": [image]})
    configure(cluster, third, "cache_free_min", "0")
    await_cached(cluster, results, third, image)
    call(cluster, third, "DELETE", f"/v2/cache/{image}")


class Glance:
    def __init__(self, cluster, results, name):
        self.results = results
        self.environment = cluster.environment(name, HOME=cluster.dir)

    def __call__(self, *words):
        done = subprocess.run(["glance", *words], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.results.equal(f"glance {' '.join(words)}", (done.returncode, done.stderr), (0, ""))
        return done.stdout

    def states(self):
        return {row["ID"]: row["State"] for row in verbs_glance.rows(self("cache-list"))}


def glance(cluster, results, third, image, other):
    verbs = Glance(cluster, results, third)
    results.equal("cache-list: nothing", verbs.states(), {})
    verbs("cache-queue", image, other)
    for one in (image, other):
        await_cached(cluster, results, third, one)
    results.equal("cache-list", verbs.states(), {image: "cached", other: "cached"})
    verbs("cache-delete", image)
    results.equal("cache-list after cache-delete", verbs.states(), {other: "cached"})
    verbs("cache-clear", "--target", "queue")
    results.equal("cache-list after cache-clear of the queue", verbs.states(), {other: "cached"})
    verbs("cache-clear", "--target", "cache")
    results.equal("cache-list after cache-clear", verbs.states(), {})
    verbs("cache-queue", image)
    verbs("cache-clear")
    results.equal("cache-list after cache-clear of both", verbs.states(), {})


def body(cluster, results):
    names = cluster.names()
    image, data = upload(cluster, results, names[0], "kept")
    third = lib.wait_until(lambda: [n for n in names if cluster.chunk_bytes(n) == 0], 10)[0]
    others = [n for n in names if n != third]
    keeps(cluster, results, third, others, image, data)
    lets_go(cluster, results, third, image)
    holder(cluster, results, others[0], image)
    deleted(cluster, results, third, others)
    room(cluster, results, third, image)
    other, _ = upload(cluster, results, others[0], "other")
    if clients.version_of("python3-glanceclient"):
        glance(cluster, results, third, image, other)


if __name__ == "__main__":
    raise SystemExit(lib.run_test("cache", body, settings={"replicas": 2, "write_replicas": 2}))
