#!/usr/bin/env python3
"""Imports beside the plain ones: from the image service of another region, of locations whose hash is known, of packed data."""
import gzip
import hashlib
import http.server
import lzma
import os
import shutil
import subprocess
import threading

import lib

REGION = "West"


class Region(http.server.BaseHTTPRequestHandler):
    """The image service of another region, which knows the same tokens: a Tessera cluster behind a door that changes ours into its own."""

    protocol_version = "HTTP/1.1"
    client = None  # of the other cluster
    token = None  # that is let in
    seen = []
    spoil = None  # path -> reply, or None
    gate = threading.Event()

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        Region.seen.append((self.path, dict(self.headers)))
        if self.headers.get("X-Auth-Token") != Region.token:
            return self.answer(401, b"{}")
        spoilt = Region.spoil(self.path) if Region.spoil else None
        if spoilt:
            return self.answer(*spoilt)
        if self.path.endswith("/file"):
            Region.gate.wait(60)
        reply = Region.client.call("GET", self.path)
        try:
            return self.answer(reply.status, reply.data)
        except lib.NETWORK_ERRORS:
            return None


def packed(kind, data):
    if kind == "zst":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return gzip.compress(data, 1) if kind == "gz" else lzma.compress(data, preset=1)


class Files(http.server.BaseHTTPRequestHandler):
    """/SIZE: bytes of lib.Body("file", SIZE); /NAME: of Files.named; /stall: some, and then none; /endless: bytes without end."""

    protocol_version = "HTTP/1.1"
    named = {}
    left = []  # paths whose client hung up

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path[1:]
        if name in ("stall", "endless"):
            return self.never(name)
        data = Files.named[name] if name in Files.named else bytes(lib.Body("file", int(name)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Encoding", "gzip")  # is not believed: the bytes tell
        self.end_headers()
        try:
            self.wfile.write(data)
        except lib.NETWORK_ERRORS:
            pass
        return None

    def never(self, name):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(bytes(100000))
            self.wfile.flush()
            for _ in range(4096 if name == "endless" else 0):
                self.wfile.write(bytes(1 << 18))
            self.connection.settimeout(60)
            self.connection.recv(1)  # until the other side has enough
            Files.left.append(name)
        except lib.NETWORK_ERRORS:
            Files.left.append(name)


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up is part of the test
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def await_status(client, image_id, *wanted, seconds=60):
    def look():
        image = client.show(image_id).json()
        return image if image["status"] in wanted else None
    return lib.wait_until(look, seconds, 0.1)


def await_task(client, image_id, seconds=60):
    def look():
        tasks = client.call("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
        return tasks[-1] if tasks and tasks[-1]["status"] in ("success", "failure") else None
    return lib.wait_until(look, seconds, 0.1)


def remote(image_id, region=REGION, **more):
    return {"method": {"name": "glance-download", "glance_region": region, "glance_image_id": image_id, **more}}


def import_remote(client, image_id, source, **options):
    return client.call("POST", f"/v2/images/{image_id}/import", remote(source, **options))


def queued(client):
    return client.create("import", disk_format="raw", container_format="bare").json()["id"]


def check_remote(cluster, west, results):
    Region.gate.set()
    body = lib.Body("west", 9 * lib.MIB + 11)
    with lib.Client(west, west.names()[0]) as there, lib.Client(cluster, cluster.names()[0]) as client:
        Region.client, Region.token = there, cluster.token(cluster.names()[0])
        methods = client.call("GET", "/v2/info/import").json()["import-methods"]["value"]
        results.check("glance-download is offered", "glance-download" in methods, str(methods))
        source = there.create("source", disk_format="raw", container_format="bare", hw_disk_bus="scsi", os_type="linux", os_distro="debian",
                              os_secure_boot="required", **{"trait:X": "required", "other": "stays"}).json()["id"]
        there.upload(source, bytes(body))
        image_id = client.create("import", disk_format="qcow2", container_format="ovf").json()["id"]
        reply = import_remote(client, image_id, source)
        results.equal("glance-download is accepted", reply.status, 202)
        image = await_status(client, image_id, "active", "queued")
        results.equal("it becomes active", image and image["status"], "active")
        results.equal("the data is the same", (image["checksum"], image["os_hash_value"], client.download(image_id)[1]),
                      (body.md5, body.sha512, body.sha256))
        results.equal("formats and the properties of guests come along, others do not",
                      [image.get(name) for name in ("disk_format", "container_format", "hw_disk_bus", "os_type", "os_distro", "os_secure_boot",
                                                    "trait:X", "other", "name")],
                      ["raw", "bare", "scsi", "linux", "debian", "required", "required", None, "import"])
        task = await_task(client, image_id)
        results.equal("the task tells no token", (task["status"], "oken" in str(task)), ("success", False))
        results.equal("the request id is the import's", task["request_id"], reply.headers["x-openstack-request-id"])

        empty = there.create("empty").json()["id"]
        for what, found, text, spoil in (
                ("an image without data", empty, "not active", None), ("an unknown image", lib.new_id(), "not visible", None),
                ("other data than its hash says", source, "sha512", lambda path: (200, bytes(body.size)) if path.endswith("/file") else None),
                ("data that is cut short", source, "long", lambda path: (200, b"x") if path.endswith("/file") else None),
                ("a redirect", source, "redirects", lambda path: (302, b"", [("Location", "http://127.0.0.1/")]) if path.endswith("/file") else None),
                ("a service that fails", source, "503", lambda path: (503, b"")),
                ("a service that talks nonsense", source, "not understood", lambda path: (200, b"<html>")),
                ("a service that talks too much", source, "too long", lambda path: (200, b" " * (2 << 20)))):
            Region.spoil = spoil
            image_id = queued(client)
            import_remote(client, image_id, found)
            task = await_task(client, image_id)
            image = client.show(image_id).json()
            results.check(f"glance-download of {what}", task and task["status"] == "failure" and text in task["message"]
                          and image["status"] == "queued" and image["size"] is None, str(task and task["message"]))
        Region.spoil = None
        for what, request, status in (
                ("no UUID", remote("x"), 400),
                ("no region", {"method": {"name": "glance-download", "glance_image_id": source}}, 400)):
            results.equal(f"glance-download, {what}", client.call("POST", f"/v2/images/{queued(client)}/import", request).status, status)
        for what, request, text in (("an unknown region", remote(source, "East"), "region"),
                                    ("a wrong interface", remote(source, glance_service_interface="x"), "interface")):
            status = client.call("POST", f"/v2/images/{(image_id := queued(client))}/import", request).status
            task = await_task(client, image_id)
            results.check(f"glance-download from {what} fails in its task", status == 202 and task["status"] == "failure"
                          and text in task["message"] and client.show(image_id).json()["status"] == "queued", str(task))
        reply = import_remote(client, queued(client), "nonsense")
        results.check("the message is the one that clients know", "image id does not look like a UUID" in reply.json()["error"]["message"])
        client.delete(image_id)
        Region.token = "another"
        import_remote(client, image_id := queued(client), source)
        task = await_task(client, image_id)
        results.check("a user whom the other region does not know", task["status"] == "failure" and "401" in task["message"], task["message"])
    return source


def check_lost(cluster, results, source):
    names = cluster.names()
    victim = next(n for n in names if n != cluster.leader())
    watcher = next(n for n in names if n != victim)
    Region.token = cluster.token(victim)
    Region.gate.clear()
    with lib.Client(cluster, victim) as doomed, lib.Client(cluster, watcher) as client:
        image_id = queued(doomed)
        import_remote(doomed, image_id, source)
        results.check("an import from the other region runs", await_status(client, image_id, "importing"))
        results.check("its data is asked for", lib.wait_until(lambda: Region.seen[-1][0].endswith("/file"), 30, 0.1))
        cluster.kill(victim)
        Region.gate.set()
        image = await_status(client, image_id, "queued")
        task = await_task(client, image_id)
        results.check("with its host the token is lost, and the task says so", image and "token" in task["message"], str(task))
    cluster.start(victim)
    results.check("the host is back", cluster.await_ready())


def check_locations(cluster, results, port):
    body = lib.Body("file", 3 * lib.MIB)
    url = f"http://127.0.0.1:{port}/{body.size}"
    hashes = {name: hashlib.new(name, bytes(body)).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")}
    with lib.Client(cluster, cluster.names()[1]) as client, lib.Client(cluster, cluster.names()[2], "demo") as demo:
        post = lambda who, image_id, **more: who.call("POST", f"/v2/images/{image_id}/locations", {"url": url, **more})
        for name, value in hashes.items():
            image_id = queued(client)
            reply = post(client, image_id, validation_data={"os_hash_algo": name, "os_hash_value": value})
            results.equal(f"a location with its {name} is accepted", reply.status, 202)
            image = await_status(client, image_id, "active", "queued")
            results.equal("and its data becomes the image's", (image["status"], image["os_hash_value"]), ("active", body.sha512))
        task = await_task(client, image_id)
        results.equal("its task", (task["type"], task["status"], task["input"]["loc_url"]), ("location_import", "success", url))
        image_id = queued(client)
        post(client, image_id, validation_data={"os_hash_algo": "sha256", "os_hash_value": "0" * 64})
        task = await_task(client, image_id)
        results.check("with another hash it fails", task["status"] == "failure" and "sha256" in task["message"], task["message"])
        results.equal("and the image is queued", client.show(image_id).json()["status"], "queued")
        image_id = queued(demo)
        results.equal("owners may, as it is set", post(demo, image_id).status, 202)
        results.check("it is active", await_status(demo, image_id, "active"))
        foreign = client.create("foreign", visibility="public", disk_format="raw", container_format="bare").json()["id"]
        results.equal("not of others' images", post(demo, foreign).status, 403)
        results.equal("locations are not shown", client.call("GET", f"/v2/images/{image_id}/locations").json(), [])


def check_never(cluster, results, port):
    """F43: sources that stall, or never end. Starts them; what is returned looks at what became of them."""
    client = lib.Client(cluster, cluster.names()[2])
    images = {what: queued(client) for what in ("stall", "endless")}
    for what, image_id in images.items():
        client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "web-download", "uri": f"http://127.0.0.1:{port}/{what}"}})

    def look():
        with client:
            for what, text in (("stall", "too slow"), ("endless", "larger than the limit")):
                task = await_task(client, images[what])
                image = client.show(images[what]).json()
                results.check(f"a source of {what}", task and task["status"] == "failure" and text in task["message"] and
                              (image["status"], image["size"]) == ("queued", None), str(task and task["message"]))
                results.check("and it is left alone", lib.wait_until(lambda w=what: w in Files.left, 20, 0.1))
    return look


def check_packed(cluster, results, port):
    source = lib.Body("packed", 7 * lib.MIB + 3)
    data = bytes(source)
    kinds = ["gz", "xz"] + (["zst"] if shutil.which("zstd") else [])
    for kind in kinds:
        Files.named[kind] = packed(kind, data)
    whole = Files.named["gz"]
    Files.named.update({"cut": whole[:-100], "damaged": whole[:5000] + b"?" + whole[5001:], "behind": whole + b"something else",
                        "bomb": packed("gz", bytes(120 * lib.MIB)), "twice": packed("xz", Files.named["xz"]),
                        "wrong": packed("gz", b"no qcow2 at all" * 1000)})
    with lib.Client(cluster, cluster.names()[0]) as client:
        def download(name, disk="raw", container="bare", **more):
            image_id = client.create(name, disk_format=disk, container_format=container, **more).json()["id"]
            client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "web-download", "uri": f"http://127.0.0.1:{port}/{name}"}})
            task = await_task(client, image_id)
            return client.show(image_id).json(), task["message"], task["status"]

        for kind in kinds:
            image, message, _ = download(kind)
            results.equal(f"{kind} is stored unpacked", (image["status"], image["size"], image["checksum"], image["virtual_size"]),
                          ("active", source.size, source.md5, source.size))
            if message:
                print(f"     {message}")
            results.equal("its bytes", client.download(image["id"])[1], source.sha256)
        image, _, _ = download("gz", container="compressed")
        results.equal("the container `compressed` stays as it is", (image["status"], image["size"]), ("active", len(whole)))
        image, _, _ = download("twice")
        results.equal("what is packed twice is unpacked once", image["size"], len(Files.named["xz"]))
        for name, disk, text in (("cut", "raw", "ends in the middle"), ("damaged", "raw", "damaged"), ("behind", "raw", "damaged"),
                                 ("bomb", "raw", "200 times"), ("wrong", "qcow2", "does not match")):
            image, message, status = download(name, disk)
            results.check(f"packed data that is {name} is refused", status == "failure" and text in message and image["status"] == "queued"
                          and image["size"] is None, message)
        # Staged data is written anew, and nothing of what was staged is left.
        image_id = queued(client)
        client.call("PUT", f"/v2/images/{image_id}/stage", Files.named["xz"], {"Content-Type": "application/octet-stream"})
        client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}})
        image = await_status(client, image_id, "active", "queued")
        results.equal("staged data is unpacked", (image["status"], image["size"], image["checksum"]), ("active", source.size, source.md5))
        results.equal("its bytes", client.download(image_id)[1], source.sha256)
        image_id = queued(client)
        client.call("PUT", f"/v2/images/{image_id}/stage", b"\x1f\x8b", {"Content-Type": "application/octet-stream"})
        client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}})
        results.equal("two bytes are no packed data", await_status(client, image_id, "active", "queued")["size"], 2)


def body(cluster, results):
    files = int(cluster.settings["import_ports"])
    with lib.Cluster(hosts=1) as west:
        source = check_remote(cluster, west, results)
        look = check_never(cluster, results, files)
        check_locations(cluster, results, files)
        look()
        check_packed(cluster, results, files)
        with lib.Client(west, west.names()[0]) as there:
            Region.client = there
            check_lost(cluster, results, source)


if __name__ == "__main__":
    os.environ.setdefault("no_proxy", "127.0.0.1")
    SETTINGS = {"import_methods": "glance-direct, web-download, glance-download", "glance_regions": f"{REGION}=http://127.0.0.1:{serve(Region)}",
                "import_addresses_allowed": "127.0.0.1/32", "import_ports": str(serve(Files)), "locations_by_owners": "yes", "import_decompress": "yes", "import_idle_ms": "8s", "image_size_cap": "130MiB",
                "down_ms": "3s", "suspect_ms": "1s"}
    raise SystemExit(lib.run_test("import-other", body, settings=SETTINGS))
