#!/usr/bin/env python3
"""Bad input gets the documented error, leaves the image where it was, and nothing on disk after collection."""
import hashlib
import json
import random
import socket
import struct
import threading
import time

import lib

COLLECT_SECONDS = 90  # how long collection may take to take back the bytes of refused uploads
SLACK_BYTES = 64 * 1024  # folders may stay


def raw_request(cluster, name, head, body=b"", read=True, reset=False, timeout=20):
    """Bytes as they are over TLS; returns (status or None, reply bytes). `reset` ends with RST, not FIN."""
    port = int(cluster.host(name)["api_url"].rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout) as plain:
        with cluster.tls().wrap_socket(plain, server_hostname="127.0.0.1") as s:
            reply = b""
            try:
                s.sendall(head + body)
            except OSError:
                pass  # refused in mid-send: the reply may still be there
            if not read:
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return None, b""
            try:
                while b"\r\n\r\n" not in reply:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    reply += piece
            except OSError:
                pass
            status = int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/1.1 ") else None
            return status, reply


def upload_head(cluster, name, image_id, size=None, extra=""):
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return (f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: {cluster.token(name)}\r\n"
            f"Content-Type: application/octet-stream\r\n{framing}\r\n{extra}\r\n").encode()


def queued(client, name="errors", **fields):
    reply = client.create(name, **fields)
    assert reply.status == 201, reply
    return reply.json()["id"]


def error_form(reply):
    """Whether an error body has the documented form, with the reply's own code."""
    try:
        error = json.loads(reply.data)["error"]
        return error["code"] == reply.status and bool(error["message"]) and bool(error["title"])
    except (ValueError, KeyError, TypeError):
        return False


def back_in_queued(cluster, results, what, image_id, seconds=15):
    def all_queued():
        for name in cluster.names():
            with lib.Client(cluster, name) as client:
                image = client.show(image_id).json()
                if image["status"] != "queued" or image["size"] is not None or image["checksum"] is not None:
                    return False
        return True
    began = time.monotonic()
    good = lib.wait_until(all_queued, seconds, 0.1)
    results.check(f"{what}: the image is queued again on every host, with no size", good,
                  f"{time.monotonic() - began:.2f} s" if good else "not in time")


def vanishing_clients(cluster, results):
    body = random.Random(5).randbytes(23 * lib.MIB)
    for name in cluster.names():
        for framing, head_size in (("Content-Length", 64 * lib.MIB), ("chunked", None)):
            what = f"client vanishes in mid-upload ({framing}, {name})"
            with lib.Client(cluster, name) as client:
                image_id = queued(client)
                data = body if head_size else b"".join(
                    f"{lib.MIB:x}\r\n".encode() + body[at:at + lib.MIB] + b"\r\n"
                    for at in range(0, 23 * lib.MIB, lib.MIB))
                raw_request(cluster, name, upload_head(cluster, name, image_id, head_size), data, read=False,
                            reset=head_size is None)
                back_in_queued(cluster, results, what, image_id)
                good = client.upload(image_id, b"a second try takes over")
                results.equal(f"{what}: a second upload succeeds", good.status, 204)
                client.delete(image_id)
    name = cluster.names()[0]
    with lib.Client(cluster, name) as client:
        image_id = queued(client)
        status, _ = raw_request(cluster, name, upload_head(cluster, name, image_id), b"5\r\nhello\r\nnonsense\r\n")
        results.check("a bad chunk is refused", status in (None, 400), str(status))
        back_in_queued(cluster, results, "bad chunk", image_id)
        reply = client.upload(image_id, b"0123456789", headers={"x-openstack-image-size": "11"})
        results.equal("a body shorter than x-openstack-image-size is 400", reply.status, 400)
        back_in_queued(cluster, results, "short body", image_id)
        client.delete(image_id)


def refused_uploads(cluster, results):
    name = cluster.names()[0]
    with lib.Client(cluster, name) as client:
        image_id = queued(client)
        for content_type in ("application/json", "text/plain", ""):
            reply = client.call("PUT", f"/v2/images/{image_id}/file", b"data", {"Content-Type": content_type})
            results.check(f"upload with Content-Type {content_type!r} is 415, in the documented form",
                          reply.status == 415 and error_form(reply), repr(reply))
        results.equal("and the image stays queued", client.show(image_id).json()["status"], "queued")
        reply = client.call("PATCH", f"/v2/images/{image_id}", [], {"Content-Type": "application/json"})
        results.equal("a PATCH of another media type is 415", reply.status, 415)

        reply = client.upload(image_id, b"the first one", headers={"Content-Type": "application/octet-stream"})
        results.equal("an upload succeeds", reply.status, 204)
        before = client.show(image_id).json()
        for other in cluster.names():
            with lib.Client(cluster, other) as second:
                reply = second.upload(image_id, b"the second one")
                results.check(f"a second upload to the same image through {other} is 409, in the documented form",
                              reply.status == 409 and error_form(reply), repr(reply))
        results.equal("and nothing of the image changed", client.show(image_id).json(), before)
        status, digest, _, _ = client.download(image_id)
        results.equal("nor of its data", (status, digest), (200, hashlib.sha256(b"the first one").hexdigest()))
        client.delete(image_id)

        # While a first upload is still running: the second is refused, the first goes on.
        image_id = queued(client)

        def slowly():
            source = random.Random(9)
            for _ in range(20):
                time.sleep(0.1)
                yield source.randbytes(300_000)
        outcome = {}

        def first():
            with lib.Client(cluster, name) as uploader:
                outcome["first"] = uploader.upload(image_id, slowly()).status
        thread = threading.Thread(target=first)
        thread.start()
        time.sleep(0.8)
        for other in cluster.names():
            with lib.Client(cluster, other) as second:
                results.equal(f"a second upload through {other} while the first runs is 409",
                              second.upload(image_id, b"me too").status, 409)
        thread.join()
        results.equal("and the first one succeeds", outcome.get("first"), 204)
        client.delete(image_id)

        image_id = client.call("POST", "/v2/images", {"name": "no formats"}).json()["id"]
        results.equal("an upload without formats is 400", client.upload(image_id, b"data").status, 400)
        client.delete(image_id)
        results.equal("an upload to an unknown image is 404", client.upload(lib.new_id(), b"data").status, 404)


def requests(cluster, results):
    for name in cluster.names():
        with lib.Client(cluster, name) as client:
            for what, text in (("not JSON", b"{not json"), ("half a document", b'{"name": "x"'), ("a list", b"[]"),
                               ("a string", b'"x"'), ("bytes that are no UTF-8", b'{"name": "\xff\xfe"}'),
                               ("nesting without end", b'{"a":' * 5000), ("nothing", b"")):
                reply = client.call("POST", "/v2/images", text, {"Content-Type": "application/json"})
                results.check(f"create with {what} is 400, in the documented form ({name})",
                              reply.status == 400 and error_form(reply), repr(reply))
            reply = client.call("POST", "/identity/v3/auth/tokens", b"{oops", {"Content-Type": "application/json"}, False)
            results.equal(f"a token request with invalid JSON is 400 ({name})", reply.status, 400)
            reply = client.call("POST", "/v2/images", b'{"name": "' + b"x" * (2 * lib.MIB) + b'"}',
                                {"Content-Type": "application/json"})
            results.equal(f"a JSON body over 1 MiB is 413 ({name})", reply.status, 413)
            client.close()

            for what, token in (("no token", False), ("an unknown token", "gAAAAABnonsense"),
                                ("a very long token", "x" * 8000), ("a token of odd bytes", "\u00e9\u00ff\"{}")):
                reply = client.call("GET", "/v2/images", token=token)
                results.check(f"{what} is 401 with WWW-Authenticate ({name})",
                              reply.status == 401 and "identity" in reply.headers.get("WWW-Authenticate", ""), repr(reply))
            good = cluster.token(name)
            reply = client.call("GET", "/v2/images", token=good[:-2] + ("AA" if good[-2:] != "AA" else "BB"))
            results.equal(f"a token with a changed end is 401 ({name})", reply.status, 401)

        head = (f"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: {cluster.token(name)}\r\n").encode()
        status, _ = raw_request(cluster, name, head + b"X-Long: " + b"y" * (80 * 1024) + b"\r\n\r\n")
        results.equal(f"a head over 64 KiB is 431 ({name})", status, 431)
        status, _ = raw_request(cluster, name, head + b"X: y\r\n" * 20000 + b"\r\n")
        results.equal(f"a head of very many fields is 431 ({name})", status, 431)
        status, _ = raw_request(cluster, name, b"\x16\x03\x01 nonsense\r\n\r\n")
        results.check(f"what is not HTTP is 400 or cut ({name})", status in (400, None), str(status))
        with lib.Client(cluster, name) as client:
            results.equal(f"and the host serves on ({name})", client.call("GET", "/v2/images").status, 200)


def test(cluster, results):
    before = {name: cluster.chunk_bytes(name) for name in cluster.names()}
    requests(cluster, results)
    refused_uploads(cluster, results)
    vanishing_clients(cluster, results)
    with lib.Client(cluster, cluster.names()[0]) as client:
        results.equal("no image is left", [i["id"] for i in client.list()], [])
    began = time.monotonic()
    for name in cluster.names():
        gone = lib.wait_until(lambda n=name: cluster.chunk_bytes(n) <= before[n] + SLACK_BYTES, COLLECT_SECONDS, 0.5)
        results.check(f"{name}: nothing of the refused and deleted data is left on disk after collection", gone,
                      f"{cluster.chunk_bytes(name) - before[name]} bytes more than before, "
                      f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    raise SystemExit(lib.run_test("errors", test))
