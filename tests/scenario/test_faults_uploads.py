#!/usr/bin/env python3
"""Uploads that meet trouble: the receiving host is killed, a replica host is killed, the image is deleted,
clients stall or vanish or send nonsense, 64 come at once. The image is queued again soon, or whole; memory
is bounded."""
import os
import socket
import struct
import threading
import time

import lib

IDLE_MS = 2000
BACK_SECONDS = 10
MEMORY_MIB = 400


def wrapped(cluster, name):
    port = int(cluster.host(name)["api_url"].rsplit(":", 1)[1])
    return cluster.tls().wrap_socket(socket.create_connection(("127.0.0.1", port), 30), server_hostname="127.0.0.1")


def head(cluster, name, image_id, size=None, more=""):
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return (f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {cluster.token(name)}\r\n"
            f"Content-Type: application/octet-stream\r\n{framing}\r\n{more}\r\n").encode()


def answer(s, seconds=20):
    """What comes until the end, or until half a second of silence after an answer."""
    s.settimeout(seconds)
    data = b""
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            data += piece
            if b"\r\n\r\n" in data:
                s.settimeout(0.5)
    except OSError:
        pass
    return data


def status_of(cluster, name, image_id):
    with lib.Client(cluster, name) as client:
        reply = client.show(image_id, timeout=10)
        return reply.json()["status"] if reply.status == 200 else reply.status


def become(cluster, results, what, name, image_id, wanted):
    began = time.monotonic()
    good = lib.wait_until(lambda: status_of(cluster, name, image_id) in wanted, BACK_SECONDS)
    results.check(f"{what}: {' or '.join(wanted)} within {BACK_SECONDS} s", good,
                  f"{time.monotonic() - began:.2f} s, {status_of(cluster, name, image_id)}")


def slow_upload(cluster, name, image_id, body, out, began):
    data = bytes(body)
    try:
        with lib.Client(cluster, name) as client:
            def pieces():
                for at in range(0, len(data), lib.MIB):
                    yield data[at:at + lib.MIB]
                    time.sleep(0.06)
                    if at == 8 * lib.MIB:
                        began.set()
            reply = client.call("PUT", f"/v2/images/{image_id}/file", pieces(), {
                "Content-Type": "application/octet-stream", "Content-Length": str(body.size)}, timeout=60)
            out["status"] = reply.status
    except lib.NETWORK_ERRORS as error:
        out["error"] = repr(error)
    began.set()


def during_upload(cluster, name, action, seed=77):
    """Starts a slow upload through @name, and calls action(image_id) in the middle of it."""
    with lib.Client(cluster, name) as client:
        image_id = client.create("slow").json()["id"]
    body, out, began = lib.Body(seed, 32 * lib.MIB), {}, threading.Event()
    thread = threading.Thread(target=slow_upload, args=(cluster, name, image_id, body, out, began))
    thread.start()
    began.wait(30)
    done = action(image_id)
    thread.join(90)
    return image_id, body, out, done


def hosts_die(cluster, results):
    for victim, through in (("host2", "host2"), ("host3", "host1")):
        what = f"{victim} killed in mid-upload through {through}"
        image_id, body, out, _ = during_upload(cluster, through, lambda _: cluster.kill(victim))
        other = "host1"
        if victim != through:
            results.check(f"{what}: the upload succeeds", out.get("status") == 204, str(out))
        else:
            become(cluster, results, what, other, image_id, ("queued", "active"))
            with lib.Client(cluster, other) as client:
                results.equal(f"{what}: a new upload succeeds", client.upload(image_id, body).status, 204)
        with lib.Client(cluster, other) as client:
            status, digest, _, _ = client.download(image_id)
            results.check(f"{what}: the bytes are right", status == 200 and digest == body.sha256)
        cluster.start(victim)
        results.check(f"{what}: the host comes back", cluster.await_ready(30) is not None)
        with lib.Client(cluster, victim) as client:
            status, digest, _, _ = client.download(image_id)
            results.check(f"{what}: and serves the bytes", status == 200 and digest == body.sha256)


def what_a_dead_host_pushed_goes(cluster, results):
    """Nobody asks for the chunks that its unfinished upload left on the others: they find out themselves."""
    others = ("host1", "host3")
    before = {name: cluster.chunk_bytes(name) for name in cluster.names()}

    def kill(_):
        grown = lib.wait_until(lambda: all(cluster.chunk_bytes(name) > before[name] for name in others), 20)
        results.check("the other hosts hold chunks of the upload", grown)
        cluster.kill("host2")

    def as_before(names):
        began = time.monotonic()
        good = lib.wait_until(lambda: all(cluster.chunk_bytes(name) == before[name] for name in names), 60, 0.5)
        return good, f"{time.monotonic() - began:.1f} s"

    during_upload(cluster, "host2", kill, "left behind")
    results.check("they are gone within a minute, while the host is dead", *as_before(others))
    cluster.start("host2")
    results.check("it comes back", cluster.await_ready(30) is not None)
    results.check("its own are gone within a minute, too", *as_before(["host2"]))


SDK = {"User-Agent": "openstacksdk/0.101.0 keystoneauth1/5.0.0 python-requests/2.28.1 CPython/3.11.2"}


def what_is_left_of_a_body(cluster, results):
    """Some clients send a PUT again when its connection broke, with what they have not read yet: never an image."""
    def cut(size):
        s = wrapped(cluster, "host2")
        with lib.Client(cluster, "host2") as client:
            image_id = client.create("left").json()["id"]
        s.sendall(head(cluster, "host2", image_id, size, "User-Agent: " + SDK["User-Agent"] + "\r\n")
                  + (b"1000\r\n" if size is None else b"") + b"x" * 2048)
        results.check("the upload is under way", lib.wait_until(lambda: status_of(cluster, "host1", image_id) == "saving", 10))
        return image_id, s

    def again(image_id, what, body, wanted, **how):
        with lib.Client(cluster, "host1") as client:
            reply = client.upload(image_id, body, **how)
            results.equal(f"{what}: {wanted}", reply.status, wanted)

    image_id, s = cut(None)
    s.close()
    become(cluster, results, "its connection breaks", "host1", image_id, ("queued",))
    again(image_id, "the rest, by a client that repeats by itself", b"x" * 2048, 409, chunked=True, headers=SDK)
    again(image_id, "nothing, by it", b"", 409, chunked=True, headers=SDK)
    again(image_id, "all of it, by one that does not", b"x" * 4096, 204, chunked=True)

    image_id, s = cut(4096)
    cluster.kill("host2")
    with lib.Client(cluster, "host1") as client:
        empty, nothing = (client.create("empty").json()["id"] for _ in range(2))
    again(empty, "no data from such a client just after a host was lost", b"", 409, chunked=True, headers=SDK)
    again(empty, "no data and the length says so", b"", 204, headers=SDK)
    again(nothing, "no data from another client", b"", 204, chunked=True)
    become(cluster, results, "its host dies", "host1", image_id, ("queued",))
    again(image_id, "less than was announced", b"x" * 2048, 409, headers=SDK)
    again(image_id, "as much as was announced", b"x" * 4096, 204, headers=SDK)
    s.close()
    cluster.start("host2")
    results.check("the host comes back", cluster.await_ready(30) is not None)


def conflicts(cluster, results):
    def second(image_id):
        with lib.Client(cluster, "host2") as client:
            return client.upload(image_id, b"another").status
    image_id, body, out, done = during_upload(cluster, "host1", second)
    results.equal("a second upload at the same time is 409", done, 409)
    results.equal("and the first one succeeds", out.get("status"), 204)

    def delete(image_id):
        with lib.Client(cluster, "host2") as client:
            return client.delete(image_id).status
    image_id, body, out, done = during_upload(cluster, "host1", delete)
    results.check("an image that is being uploaded can be deleted: 204, and the upload gets 410",
                  done == 204 and (out.get("status") == 410 or "error" in out), f"{done} {out}")
    results.equal("and is gone", status_of(cluster, "host3", image_id), 404)

    with lib.Client(cluster, "host1") as client:
        image_id, body = client.create("read").json()["id"], lib.Body(78, 48 * lib.MIB)
        results.equal("an upload succeeds", client.upload(image_id, body).status, 204)
        deleted = []

        def sink(_):
            if not deleted:
                deleted.append(delete(image_id))
            time.sleep(0.005)
        try:
            status, digest, _, _ = client.download(image_id, sink=sink)
            results.check("a download that runs while the image is deleted ends with its bytes",
                          status == 200 and digest == body.sha256 and deleted == [204])
        except lib.NETWORK_ERRORS as error:
            results.check("a download that runs while the image is deleted is cut, never wrong", True, repr(error))
        results.equal("and the image is gone", status_of(cluster, "host2", image_id), 404)


def raw(cluster, results):
    name = "host1"
    with lib.Client(cluster, name) as client:
        def new():
            return client.create("raw").json()["id"]

        image_id, s = new(), wrapped(cluster, name)
        s.sendall(head(cluster, name, image_id, 20 * lib.MIB) + b"x" * (5 * lib.MIB))
        began = time.monotonic()
        answer(s)
        results.check("a client that stalls is cut after upload_idle_ms", time.monotonic() - began < IDLE_MS / 1000 + 3,
                      f"{time.monotonic() - began:.1f} s")
        become(cluster, results, "stalled client", "host2", image_id, ("queued",))

        for what, sent in (("after the head", b""), ("in the middle", b"x" * 600)):
            image_id, s = new(), wrapped(cluster, name)
            s.sendall(head(cluster, name, image_id, 1000) + sent)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
            time.sleep(0.3)
            become(cluster, results, f"client vanishes {what}", "host2", image_id, ("queued",))
            results.equal(f"client vanishes {what}: a second try succeeds", client.upload(image_id, b"abc").status, 204)

        for garbage in (b"zz\r\n", b"-5\r\nhello\r\n", b"f" * 16 + b"\r\n", b"1" * 5000):
            image_id, s = new(), wrapped(cluster, name)
            s.sendall(head(cluster, name, image_id) + garbage)
            data = answer(s)
            results.check(f"chunk framing {garbage[:12]!r} is refused with 400", data.startswith(b"HTTP/1.1 400"),
                          repr(data[:60]))
            become(cluster, results, "bad framing", "host2", image_id, ("queued",))
        for size, more in (("-1", ""), ("18446744073709551616", ""), ("5 5", ""), (None, "Content-Length: 5\r\n")):
            image_id, s = new(), wrapped(cluster, name)
            s.sendall(head(cluster, name, image_id, size, more) + b"5\r\nhello\r\n0\r\n\r\n")
            data = answer(s)
            results.check(f"Content-Length {size!r} {more.strip()} is 400", data.startswith(b"HTTP/1.1 400"),
                          repr(data[:60]))
            results.equal("and the image stays queued", status_of(cluster, name, image_id), "queued")
        s = wrapped(cluster, name)
        s.sendall(f"GET /v2/images?limit=1 HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {cluster.token(name)}\r\n\r\n".encode() * 40)
        results.equal("40 pipelined requests get 40 answers", answer(s).count(b"HTTP/1.1 200"), 40)


def anonymous_mib(cluster, name):
    total = 0
    with open(f"/proc/{cluster.host(name)['pid']}/status", encoding="utf-8") as f:
        for line in f:
            if line.startswith(("RssAnon", "RssShmem")):
                total += int(line.split()[1])
    return total / 1024


def many(cluster, results, count=64):
    bodies = [lib.Body(1000 + i, 8 * lib.MIB) for i in range(8)]
    done, peak, stop = [], {}, threading.Event()

    def watch():
        while not stop.wait(0.05):
            for name in cluster.names():
                peak[name] = max(peak.get(name, 0), anonymous_mib(cluster, name))

    def one(i):
        try:
            with lib.Client(cluster, cluster.names()[i % 3]) as client:
                image_id = client.create(f"many{i}").json()["id"]
                done.append((image_id, bodies[i % 8], client.upload(image_id, bodies[i % 8], timeout=120).status))
        except lib.NETWORK_ERRORS as error:
            done.append((None, None, repr(error)))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    stop.set()
    watcher.join()
    bad = [status for _, _, status in done if status != 204]
    results.check(f"{count} uploads of 8 MiB at once succeed", not bad and len(done) == count, str(bad[:5]))
    worst = max(peak.values())
    results.check(f"with less than {MEMORY_MIB} MiB of memory in each host", worst < MEMORY_MIB, f"{worst:.0f} MiB")
    with lib.Client(cluster, "host2") as client:
        wrong = sum(client.download(image_id)[1] != body.sha256 for image_id, body, status in done[:12] if status == 204)
    results.equal("and the bytes are right", wrong, 0)


def body(cluster, results):
    what_a_dead_host_pushed_goes(cluster, results)
    raw(cluster, results)
    conflicts(cluster, results)
    what_is_left_of_a_body(cluster, results)
    hosts_die(cluster, results)
    many(cluster, results)


if __name__ == "__main__":
    raise SystemExit(lib.run_test(os.path.basename(__file__), body, settings={"upload_idle_ms": IDLE_MS}))
