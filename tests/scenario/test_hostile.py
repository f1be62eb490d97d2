#!/usr/bin/env python3
"""Hostile clients: idle and slow ones by the thousand, endless heads, garbage at every port and in every parser. Others are
served meanwhile as usual; afterwards all hosts run, and have given back what it took."""
import concurrent.futures
import hashlib
import json
import os
import random
import resource
import socket
import ssl
import statistics
import threading
import time

import lib

HEAD_MS, BODY_MS = 4000, 4000
IDLE_PLAIN, IDLE_TLS = 9700, 300
SLOW_HEADS, SLOW_BODIES, SLOW_READERS = 150, 40, 60
HEADS_BYTES, HEADS_CLIENTS = 1 << 30, 16
MEMORY_MIB = 400  # how much more a host may have than before, at the worst moment and long before the end
FUZZ_SECONDS = 6


def port_of(cluster, name, plain=False):
    host = cluster.host(name)
    return int(host["api_url"].rsplit(":", 1)[1]) + (300 if plain else 0)


def memory_mib(cluster, name):
    """Anonymous memory of a host's process."""
    with open(f"/proc/{cluster.host(name)['pid']}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024


def descriptors(cluster, name):
    return len(os.listdir(f"/proc/{cluster.host(name)['pid']}/fd"))


def dial(port, timeout=10.0):
    return socket.create_connection(("127.0.0.1", port), timeout)


def wrapped(cluster, port):
    return cluster.tls().wrap_socket(dial(port), server_hostname="127.0.0.1")


def latencies(cluster, name, count=40):
    """Milliseconds of `count` lists over one connection of an ordinary client."""
    out = []
    with lib.Client(cluster, name) as client:
        client.call("GET", "/v2/images?limit=5")
        for _ in range(count):
            began = time.monotonic()
            reply = client.call("GET", "/v2/images?limit=5")
            assert reply.status == 200, reply
            out.append((time.monotonic() - began) * 1000)
    return out


def served(cluster, results, what, before):
    after = latencies(cluster, cluster.names()[0])
    median = statistics.median(after)
    results.check(f"{what}: others are served", median < max(20 * statistics.median(before), 250) and max(after) < 5000,
                  f"median {median:.1f} ms, worst {max(after):.0f} ms")


def read_reply(s):
    """Status line's number, or None when the connection ended without a reply."""
    data = b""
    try:
        while b"\r\n\r\n" not in data and len(data) < 65536:
            piece = s.recv(4096)
            if not piece:
                break
            data += piece
    except OSError:
        pass
    return int(data.split(b" ", 2)[1]) if data.startswith(b"HTTP/1.") else None


def ended(s, seconds):
    """Whether the other side closes within `seconds`."""
    s.settimeout(0.5)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if not s.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


# ---- many, and slow ----------------------------------------------------------------------------------

def test_idle(cluster, results, before):
    name = cluster.names()[0]
    plain, tls, sockets = port_of(cluster, name, True), port_of(cluster, name), []
    try:
        for _ in range(IDLE_PLAIN):
            sockets.append(dial(plain))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            sockets += pool.map(lambda _: wrapped(cluster, tls), range(IDLE_TLS))
        results.equal("ten thousand connections stand", len(sockets), IDLE_PLAIN + IDLE_TLS)
        served(cluster, results, "ten thousand idle connections", before)
        one = sockets[IDLE_PLAIN // 2]
        one.sendall(b"GET /v2/images HTTP/1.1\r\nHost: x\r\n\r\n")
        results.equal("one of the idle ones is still answered", read_reply(one), 401)
        results.note(f"{memory_mib(cluster, name):.0f} MiB with them")
    finally:
        for s in sockets:
            s.close()


def test_slow_heads(cluster, results, before):
    """Slow-loris: a byte of a head now and then."""
    port = port_of(cluster, cluster.names()[0], True)
    sockets = [dial(port) for _ in range(SLOW_HEADS)]
    for s in sockets:
        s.sendall(b"GET /v2/images HTTP/1.1\r\nHost: x\r\n")
    stop = threading.Event()

    def drip():
        while not stop.wait(0.5):
            for s in sockets:
                try:
                    s.sendall(b"X-a: b\r\n")
                except OSError:
                    pass

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        served(cluster, results, f"{SLOW_HEADS} heads that never end", before)
        gone = sum(ended(s, HEAD_MS / 1000 + 8) for s in sockets)
        results.equal("all of them are closed after the time for a head", gone, SLOW_HEADS)
    finally:
        stop.set()
        thread.join()
        for s in sockets:
            s.close()


def test_slow_bodies(cluster, results, before):
    name = cluster.names()[0]
    port, token, ids, sockets = port_of(cluster, name, True), cluster.token(name), [], []
    with lib.Client(cluster, name) as client:
        for n in range(SLOW_BODIES):
            reply = client.create(f"slow {n}")
            if reply.status != 201:
                raise lib.ClusterFailure(f"create {n}: {reply!r}")
            ids.append(reply.json()["id"])
        for n, image in enumerate(ids):
            s = dial(port)
            framing = "Content-Length: 1000000" if n % 2 else "Transfer-Encoding: chunked"
            s.sendall((f"PUT /v2/images/{image}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n"
                       f"Content-Type: application/octet-stream\r\n{framing}\r\n\r\n" + ("x" if n % 2 else "1\r\nx\r\n")).encode())
            sockets.append(s)
        served(cluster, results, f"{SLOW_BODIES} bodies that never go on", before)
        gone = sum(ended(s, BODY_MS / 1000 + 15) for s in sockets)
        results.equal("all of them are closed after the time for a pause", gone, SLOW_BODIES)
        queued = lib.wait_until(lambda: all(client.show(i).json()["status"] == "queued" for i in ids), 20, 0.3)
        results.check("their images are queued again", queued)
        for image in ids:
            client.delete(image)
    for s in sockets:
        s.close()


def test_slow_readers(cluster, results):
    """Downloads over TLS that nobody goes on reading: others get theirs, and so do those when they read on."""
    name, body, held = cluster.names()[0], lib.Body(1, 40 * lib.MIB), []
    with lib.Client(cluster, name) as client:
        image = client.create("slow readers").json()["id"]
        results.equal("an upload", client.upload(image, body).status, 204)
        try:
            for _ in range(SLOW_READERS):
                reader = lib.Client(cluster, name)
                held.append((reader, reader.send("GET", f"/v2/images/{image}/file", timeout=20)))
            status, digest, _, _ = client.download(image, timeout=20)
            results.check(f"{SLOW_READERS} downloads that stand: another one ends", (status, digest) == (200, body.sha256), str(status))
            results.check("in bounded memory", memory_mib(cluster, name) < MEMORY_MIB, f"{memory_mib(cluster, name):.0f} MiB")
            good = sum(hashlib.sha256(response.read()).hexdigest() == body.sha256 for _, response in held[::6])
            results.equal("those that go on have every byte", good, len(held[::6]))
        except lib.NETWORK_ERRORS as error:
            results.check(f"a download beside {len(held)} that stand", False, repr(error))
        finally:
            for reader, _ in held:
                reader.close()


def test_endless_heads(cluster, results, before):
    """A gibibyte of header fields from several clients: what is taken of it is little."""
    port, sent, statuses = port_of(cluster, cluster.names()[0], True), [0] * HEADS_CLIENTS, [None] * HEADS_CLIENTS
    piece = b"".join(b"X-%06d: %s\r\n" % (n, b"v" * 100) for n in range(600))

    def pour(n):
        with dial(port) as s:
            try:
                s.sendall(b"GET /v2/images HTTP/1.1\r\nHost: x\r\n")
                while sent[n] < HEADS_BYTES // HEADS_CLIENTS:
                    s.sendall(piece)
                    sent[n] += len(piece)
            except OSError:
                pass
            statuses[n] = read_reply(s)

    threads = [threading.Thread(target=pour, args=(n,)) for n in range(HEADS_CLIENTS)]
    for t in threads:
        t.start()
    served(cluster, results, "a gibibyte of headers", before)
    for t in threads:
        t.join()
    results.check("each was refused with 431, or cut", all(s in (431, None) for s in statuses), f"{statuses}")
    results.note(f"{sum(sent) >> 20} MiB of headers were sent")


# ---- garbage -----------------------------------------------------------------------------------------

HTTP_CORPUS = [
    b"", b"\r\n\r\n", b"GET", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x00" * 4096,
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\rHost: a\r\r",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n", b"POST /v2/images HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST /v2/images HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    b"POST /v2/images HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /?" + b"&" * 60000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"GET /%00%ff/../..//\\ HTTP/1.1\r\nHost: a\r\n\r\n",
]


def test_http_corpus(cluster, results):
    port, wrong = port_of(cluster, cluster.names()[1], True), []
    for text in HTTP_CORPUS:
        with dial(port, 3.0) as s:
            try:
                s.sendall(text)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            status = read_reply(s)
            if status is not None and status >= 500 and status not in (501, 505):
                wrong.append((text[:60], status))
    results.check(f"{len(HTTP_CORPUS)} malformed heads and bodies are refused, none a failure of the server", not wrong, str(wrong))


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(4)
        if how == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif how == 1:
            data[at:at] = rng.choice([b"\x00", b'"', b"{", b"[", b"\\u0000", b"\xff", b"9" * 400, b"/", b"~", b"%", b"-1e999", b"null"])
        elif how == 2:
            del data[at:at + rng.randint(1, 8)]
        else:
            data[at:at] = data[:rng.randint(0, 40)]
    return bytes(data)


def test_requests(cluster, results, seed):
    """Mutated bodies, patches, logins, tokens, paths and queries for some seconds: no answer is a failure of the server."""
    rng, end, counts, wrong = random.Random(seed), time.monotonic() + FUZZ_SECONDS, {}, []
    with lib.Client(cluster, cluster.names()[2]) as client:
        image = client.create("hostile").json()["id"]
        v21 = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        login = json.dumps({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": "nobody", "domain": {"id": "default"}, "password": "x"}}}, "scope": {"project": {"id": "x"}}}}).encode()
        shapes = (
            ("POST", b"/v2/images", b'{"name": "x", "tags": ["a"], "min_disk": 1, "visibility": "shared"}', {}),
            ("PATCH", f"/v2/images/{image}".encode(), b'[{"op": "add", "path": "/a~1b", "value": "x"}, {"op": "remove", "path": "/tags"}]', v21),
            ("POST", b"/v2/metadefs/namespaces", b'{"namespace": "n", "properties": {"a": {"type": "string", "title": "t"}}}', {}),
            ("POST", f"/v2/images/{image}/import".encode(), b'{"method": {"name": "web-download", "uri": "http://127.0.0.1/x"}}', {}),
            ("POST", f"/v2/images/{image}/members".encode(), b'{"member": "x"}', {}),
            ("POST", b"/identity/v3/users", b'{"user": {"name": "u", "password": "p", "options": {}}}', {}),
            ("POST", b"/identity/v3/auth/tokens", login, {}),
            ("PUT", b"/v1/quotas/default", b'{"limits": {"image_count_total": -1}}', {}),
            ("GET", b"/v2/images?limit=1&name=in:%22a%22,b&created_at=gt:2020-01-01&sort=name:asc", None, {}),
            ("GET", f"/v2/images/{image}/file".encode(), None, {"Range": "bytes=0-1,-2"}),
        )
        while time.monotonic() < end:
            method, path, body, headers = rng.choice(shapes)
            path = mutate(rng, path) if rng.random() < 0.3 else path
            path = "/" + "".join(chr(c) for c in path.lstrip(b"/") if 33 <= c < 127)
            body = mutate(rng, body) if body else None
            token = mutate(rng, cluster.token("x").encode()).decode("latin-1") if rng.random() < 0.1 else None
            token = "".join(c for c in token if c.isprintable()) if token else None
            try:
                reply = client.call(method, path, body, headers, token=token)
            except lib.NETWORK_ERRORS:
                continue
            counts[reply.status] = counts.get(reply.status, 0) + 1
            if reply.status >= 500:
                wrong.append((method, path[:80], (body or b"")[:120], reply.status))
    results.check(f"{sum(counts.values())} mutated requests: no failure of the server", not wrong and counts, str(wrong[:3]))
    results.note(f"statuses {dict(sorted(counts.items()))}")


def test_ports(cluster, results, seed):
    """Garbage, half of a TLS greeting, nothing, and a client without a certificate, at each of a host's ports."""
    rng, host = random.Random(seed), cluster.host(cluster.names()[0])
    with open(host["config_file"], encoding="utf-8") as f:
        listens = dict(line.split(" = ", 1) for line in f.read().splitlines() if " = " in line)
    ports = [port_of(cluster, host["name"])] + [int(listens[k].rsplit(":", 1)[1]) for k in ("peer_listen", "raft_listen")]
    hello = ssl.MemoryBIO()
    half = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x")
    try:
        half.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = hello.read()
    left = []
    for port in ports:
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", hello, hello[:7], hello[:100] + b"\xff" * 200, b"\x16\x03\x01\xff\xff" + b"z" * 70000,
                     bytes(rng.randrange(256) for _ in range(5000))):
            s = dial(port)
            try:
                s.sendall(data)
            except OSError:
                pass
            left.append(s)  # stays open: half-open
        try:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(dial(port)) as s:
                s.sendall(b"\x01" * 4096)
                s.settimeout(2)
                s.recv(100)
        except OSError:
            pass
    results.check(f"garbage at {len(ports)} ports", True, "all hosts are looked at in the end")
    return left


def test_hostile(cluster, results):
    seed = lib.seed_from_environment()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results.note(f"seed {seed}, {hard} descriptors")
    names = cluster.names()
    before = latencies(cluster, names[0])
    memory, files = {n: memory_mib(cluster, n) for n in names}, descriptors(cluster, names[0])
    results.note(f"before: median {statistics.median(before):.1f} ms, {max(memory.values()):.0f} MiB, {files} descriptors")
    left = test_ports(cluster, results, seed)
    test_http_corpus(cluster, results)
    test_requests(cluster, results, seed)
    test_endless_heads(cluster, results, before)
    test_slow_heads(cluster, results, before)
    test_slow_bodies(cluster, results, before)
    test_idle(cluster, results, before)
    for s in left:
        s.close()
    for name in names:
        grown = memory_mib(cluster, name) - memory[name]
        results.check(f"{name}: its memory is bounded", grown < MEMORY_MIB, f"{grown:+.0f} MiB")
    back = lib.wait_until(lambda: descriptors(cluster, names[0]) < files + 200, 30, 0.3)
    results.check("the connections are given back", back, f"{descriptors(cluster, names[0])} descriptors")
    served(cluster, results, "afterwards", before)
    status = cluster.status(names[0])
    up = [h["name"] for h in status["hosts"] if h["state"] == "up"]
    results.equal("all hosts are up", sorted(up), sorted(names))


if __name__ == "__main__":
    FAILED = [lib.run_test("hostile", test_hostile, plain=True,
                           settings={"head_timeout_ms": f"{HEAD_MS}ms", "upload_idle_ms": f"{BODY_MS}ms"}),
              lib.run_test("hostile slow readers", test_slow_readers, hosts=1)]
    raise SystemExit(any(FAILED))
