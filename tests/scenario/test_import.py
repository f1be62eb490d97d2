#!/usr/bin/env python3
"""Staged data and downloads become images, in the background, whatever happens to the host that works on it."""
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import time

import lib

METHODS = ["glance-direct", "web-download", "copy-image"]
SETTINGS = {"import_addresses_allowed": "127.0.0.1/32", "down_ms": "3s", "suspect_ms": "1s"}


class Source(http.server.BaseHTTPRequestHandler):
    """/data/SIZE: bytes; /slow/SIZE: the same, when the gate opens; /half/SIZE: half of it before that; /to?URL, /loop: redirects; /short: less than said."""

    protocol_version = "HTTP/1.1"
    seen = []
    gate = threading.Event()

    def log_message(self, *_):
        pass

    def redirect(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        Source.seen.append((self.path, dict(self.headers)))
        kind, _, rest = self.path.lstrip("/").partition("/")
        if self.path.startswith("/to?"):
            return self.redirect(self.path[4:])
        if kind == "loop":
            return self.redirect("/loop")
        if kind == "missing":
            return self.send_error(404)
        if kind == "endless":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            with_errors(lambda: [self.wfile.write(bytes(1 << 16)) for _ in range(1 << 14)])
            self.close_connection = True
            return None
        size = int(rest or 0)
        self.send_response(200)
        self.send_header("Content-Length", str(size * 2 if kind == "short" else size))
        self.end_headers()
        with_errors(lambda: self.body(kind, size))
        self.close_connection = kind == "short"
        return None

    def body(self, kind, size):
        sent = 0
        for piece in lib.Body("import", size).pieces():
            if kind == "slow" or kind == "half" and sent >= size // 2:
                Source.gate.wait(60)
            sent += len(piece)
            if kind == "stall":
                time.sleep(60)
            self.wfile.write(piece)


def with_errors(call):
    try:
        call()
    except lib.NETWORK_ERRORS:
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def stage(client, image_id, data, **options):
    fields = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data)), **options.pop("headers", {})}
    return client.call("PUT", f"/v2/images/{image_id}/stage", data, fields, **options)


def start(client, image_id, method, headers=None, **more):
    return client.call("POST", f"/v2/images/{image_id}/import", {"method": method, **more}, headers)


DIRECT = {"name": "glance-direct"}


def web(uri):
    return {"name": "web-download", "uri": uri}


def await_status(client, image_id, wanted, seconds=60, never=()):
    """The image when its status is one of `wanted`; None if it never is, or was seen in `never`."""
    states = []

    def look():
        image = client.show(image_id).json()
        states.append(image["status"])
        return image if image["status"] in wanted else None

    image = lib.wait_until(look, seconds, 0.1)
    return image if not set(states) & set(never) else None


def tasks_of(client, image_id):
    return client.call("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]


def await_task(client, image_id, seconds=60):
    def look():
        tasks = tasks_of(client, image_id)
        return tasks[-1] if tasks and tasks[-1]["status"] in ("success", "failure") else None
    return lib.wait_until(look, seconds, 0.1)


def new_image(client, **fields):
    reply = client.create("import", **fields)
    assert reply.status == 201, reply
    return reply.json()["id"]


def check_direct(cluster, results):
    names = cluster.names()
    body = lib.Body("staged", 9 * lib.MIB + 77)
    with lib.Client(cluster, names[0]) as one, lib.Client(cluster, names[1]) as two:
        methods = one.call("GET", "/v2/info/import").json()["import-methods"]["value"]
        results.equal("info names the methods", methods, METHODS)
        reply = one.call("POST", "/v2/images", {"name": "staged"})
        results.equal("create names them too", reply.headers["OpenStack-image-import-methods"], ",".join(METHODS))
        image_id = reply.json()["id"]
        results.equal("import before staging is refused", start(one, image_id, DIRECT).status, 409)
        results.equal("stage needs no formats", stage(one, image_id, bytes(body)).status, 204)
        image = two.show(image_id).json()
        results.equal("staged: status and size on another host", (image["status"], image["size"]), ("uploading", body.size))
        results.equal("staged: no hashes yet", (image["checksum"], image["os_hash_value"]), (None, None))
        results.equal("staged: no data to download", two.download(image_id)[0], 204)
        results.equal("staged twice is refused", stage(two, image_id, b"x").status, 409)
        results.equal("import without formats is refused", start(two, image_id, DIRECT).status, 409)
        two.delete(image_id)

        image_id = new_image(one)
        stage(one, image_id, bytes(body))
        results.equal("upload over staged data is refused", two.upload(image_id, b"x").status, 409)
        reply = start(two, image_id, DIRECT)
        results.equal("import on another host is accepted", (reply.status, reply.data), (202, b""))
        image = await_status(one, image_id, ("active",))
        results.check("glance-direct becomes active", image is not None)
        results.equal("its hashes", (image["checksum"], image["os_hash_value"]), (body.md5, body.sha512))
        results.equal("its sizes", (image["size"], image["virtual_size"]), (body.size, body.size))
        results.equal("progress properties", [image.get("os_glance_import_task"), image["os_glance_importing_to_stores"],
                                              image["os_glance_failed_import"]], [None, "", ""])
        results.equal("its bytes", one.download(image_id)[1], body.sha256)
        task = tasks_of(one, image_id)[0]
        results.equal("one task, ended", (task["status"], task["type"], task["image_id"], task["result"]),
                      ("success", "api_image_import", image_id, {"image_id": image_id}))
        results.equal("its request id is the import's", task["request_id"], reply.headers["x-openstack-request-id"])
        results.equal("its input", task["input"]["import_req"], {"method": DIRECT})
        results.equal("import of an active image is refused", start(one, image_id, DIRECT).status, 409)
        admin = one.call("GET", f"/v2/tasks/{task['id']}")
        results.equal("the administrator sees the task", (admin.status, admin.json()["id"]), (200, task["id"]))
        listed = one.call("GET", "/v2/tasks?limit=1").json()
        results.check("the task list has stubs", len(listed["tasks"]) == 1 and "input" not in listed["tasks"][0])
        results.equal("a task cannot be deleted", one.call("DELETE", f"/v2/tasks/{task['id']}").status, 405)
        with lib.Client(cluster, names[0], "demo") as demo:
            results.equal("a member sees no task list", demo.call("GET", "/v2/tasks").status, 403)

        image_id = new_image(one, disk_format="qcow2")
        stage(one, image_id, b"not a qcow2" * 1000)
        results.equal("import of wrong data is accepted", start(one, image_id, DIRECT).status, 202)
        image = await_status(one, image_id, ("queued",))
        results.check("wrong data fails back to queued", image and image["size"] is None and image["os_glance_failed_import"])
        task = await_task(one, image_id)
        results.check("and the task says why", task and task["status"] == "failure" and "qcow2" in task["message"], str(task))


def check_bodies(cluster, results):
    with lib.Client(cluster, cluster.names()[2]) as client, lib.Client(cluster, cluster.names()[2], "demo") as demo:
        image_id = new_image(client)
        store = client.call("GET", "/v2/info/stores").json()["stores"][0]["id"]
        call = lambda body, headers=None, path=image_id: client.call("POST", f"/v2/images/{path}/import", body, headers).status
        for what, body, status in (
                ("no method", {}, 400), ("method is text", {"method": "web-download"}, 400), ("no name", {"method": {}}, 400),
                ("unknown method", {"method": {"name": "carrier-pigeon"}}, 400), ("no uri", {"method": {"name": "web-download"}}, 400),
                ("a flag that is text", {"method": DIRECT, "all_stores": "yes"}, 400),
                ("all stores and some", {"method": DIRECT, "all_stores": True, "stores": [store]}, 400),
                ("a list", [], 400), ("not staged", {"method": DIRECT}, 409),
                ("unknown store", {"method": web("http://127.0.0.1/"), "stores": ["nowhere"]}, 409)):
            results.equal(f"import, {what}", call(body), status)
        results.equal("import, store twice", call({"method": DIRECT, "stores": [store]}, {"X-Image-Meta-Store": store}), 400)
        results.equal("import of an unknown image", call({"method": DIRECT}, path=lib.new_id()), 404)
        results.equal("import of an invisible image", demo.call("POST", f"/v2/images/{image_id}/import", {"method": DIRECT}).status, 404)
        results.equal("tasks of an invisible image", demo.call("GET", f"/v2/images/{image_id}/tasks").status, 404)
        reply = client.call("GET", f"/v2/images/{image_id}/import")
        results.equal("GET import", (reply.status, reply.headers["Allow"]), (405, "POST"))
        # F43: encoded addresses, other schemes and ports, credentials.
        for uri in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http:///x", "x", "http://127.0.0.1:22/", "http://user:pw@127.0.0.1/",
                    "http://10.0.0.1/x", "http://[::1]/x", "http://0x0a000001/", "http://012.0.0.1/", "http://167772161/",
                    "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/latest/", "http://[fe80::1]/", "http://0/", "http://127.1.1.1/"):
            reply = start(client, image_id, web(uri))
            results.equal(f"web-download of {uri}", (reply.status, "filtering" in reply.json()["error"]["message"]), (400, True))
        results.equal("nothing came of it", (client.show(image_id).json()["status"], tasks_of(client, image_id)), ("queued", []))


def check_download(cluster, results, port):
    base = f"http://127.0.0.1:{port}"
    body = lib.Body("import", 11 * lib.MIB + 5)
    with lib.Client(cluster, cluster.names()[1]) as client:
        image_id = new_image(client)
        results.equal("web-download is accepted", start(client, image_id, web(f"{base}/data/{body.size}")).status, 202)
        image = await_status(client, image_id, ("active",), never=("uploading",))
        results.check("web-download becomes active, never uploading", image is not None)
        results.equal("its hashes", (image["checksum"], image["os_hash_value"], image["size"]), (body.md5, body.sha512, body.size))
        results.equal("its bytes", client.download(image_id)[1], body.sha256)
        results.check("no token went out", not any("X-Auth-Token" in h for _, h in Source.seen))

        image_id = new_image(client)
        start(client, image_id, web(f"{base}/to?/to?{base}/data/1000"))
        results.check("redirects are followed", await_status(client, image_id, ("active",)))
        for what, path, text in (("to a private address", "/to?http://10.1.2.3/", "not allowed"),
                                 ("to an encoded address", "/to?http://0x7f.2/", "not allowed"),
                                 ("to loopback in IPv6", "/to?http://[::1]/", "not allowed"),
                                 ("to a file", "/to?file:///etc/passwd", "filtering"),
                                 ("to another port", "/to?http://127.0.0.1:22/", "filtering"),
                                 ("without end", "/loop", "redirected"), ("a missing file", "/missing", "404"),
                                 ("a name without address", "http://name.invalid/x", "resolve"),
                                 ("to a name without address", "/to?http://name.invalid/x", "resolve"),
                                 ("cut short", "/short/5000000", "download")):
            image_id = new_image(client)
            reply = start(client, image_id, web(base + path if path[0] == "/" else path))
            task = await_task(client, image_id)
            image = client.show(image_id).json()
            results.check(f"web-download, redirect {what}" if "/to" in path else f"web-download, {what}",
                          reply.status == 202 and task and task["status"] == "failure" and text in task["message"]
                          and image["status"] == "queued" and image["size"] is None, str(task and task["message"]))

        Source.gate.clear()
        image_id = new_image(client)
        start(client, image_id, web(f"{base}/slow/{body.size}"))
        results.check("a slow download is importing", await_status(client, image_id, ("importing",)))
        image = client.show(image_id).json()
        results.check("with its task and store", image["os_glance_import_task"] == tasks_of(client, image_id)[0]["id"]
                      and image["os_glance_importing_to_stores"])
        results.equal("a second import is refused", start(client, image_id, web(f"{base}/data/1")).status, 409)
        results.equal("an upload is refused", client.upload(image_id, b"x").status, 409)
        results.equal("an importing image can be deleted", client.delete(image_id).status, 204)
        Source.gate.set()

        task = client.call("POST", "/v2/tasks", {"type": "import", "input": {
            "import_from": f"{base}/data/4096", "import_from_format": "raw", "image_properties": {"name": "by task"}}})
        results.equal("a task of an administrator is accepted", task.status, 201)
        image_id = task.json()["image_id"]
        results.check("and makes an image", await_status(client, image_id, ("active",)))
        reply = client.call("POST", "/v2/tasks", {"type": "import", "input": {
            "import_from": "http://169.254.169.254/", "import_from_format": "raw", "image_properties": {}}})
        results.equal("under the same rules", reply.status, 400)


def check_progress(cluster, results, port):
    """Any host says how far an import is that another one runs."""
    body = lib.Body("import", 12 * lib.MIB)
    names = cluster.names()
    Source.gate.clear()
    with lib.Client(cluster, names[0]) as one, lib.Client(cluster, names[1]) as two:
        image_id = new_image(one)
        start(one, image_id, web(f"http://127.0.0.1:{port}/half/{body.size}"))
        task = lib.wait_until(lambda: next((t for t in tasks_of(two, image_id) if t.get("bytes_done", 0) >= 6 * lib.MIB), None), 30, 0.2)
        results.check("a running import tells its bytes", task and task["bytes_done"] < body.size and task["bytes_total"] == body.size
                      and task["status"] == "processing" and task["message"].startswith("Copied ")
                      and task["message"].endswith(" of 12 MiB"), str(task))
        admin = two.call("GET", f"/v2/tasks/{task['id']}").json() if task else {}
        results.check("so does the list of all tasks", admin.get("bytes_total") == body.size, str(admin))
        done = subprocess.run([os.path.join(lib.BIN, "tessera"), "image", "show", image_id], env=cluster.environment(names[1]),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
        results.check("and `tessera image show`", " of 12 MiB" in done.stdout and "import: Copied " in done.stdout, done.stdout[-300:])
        Source.gate.set()
        results.check("it becomes active", await_status(one, image_id, ("active",)))
        task = tasks_of(two, image_id)[0]
        results.check("its ended task tells none", "bytes_done" not in task and task["message"] == "" and task["status"] == "success", str(task))


def half_a_stage(client, image_id):
    """Sends a first piece of staged data and then nothing, until the host is gone."""
    def pieces():
        yield bytes(1 << 20)
        Source.gate.wait(60)
        yield b"late"

    fields = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
    with_errors(lambda: client.call("PUT", f"/v2/images/{image_id}/stage", pieces(), fields, timeout=90, chunked=True))


def check_kill(cluster, results, port):
    base = f"http://127.0.0.1:{port}"
    names = cluster.names()
    leader = cluster.leader()
    victim = next(n for n in names if n != leader)
    watcher = next(n for n in names if n != victim)
    body = lib.Body("import", 21 * lib.MIB)
    Source.gate.clear()
    with lib.Client(cluster, victim) as doomed, lib.Client(cluster, watcher) as client:
        slow, staged, half = new_image(doomed), new_image(doomed), new_image(doomed)
        stage(doomed, staged, bytes(body))
        results.equal("an import runs on the host", start(doomed, slow, web(f"{base}/slow/{body.size}")).status, 202)
        results.check("it is importing", await_status(client, slow, ("importing",)))
        other = lib.Client(cluster, victim)
        threading.Thread(target=half_a_stage, args=(other, half), daemon=True).start()
        results.check("another image is being staged", await_status(client, half, ("uploading",)))
        cluster.kill(victim)
        began = time.monotonic()
        Source.gate.set()
        image = await_status(client, slow, ("active", "queued"), 60, never=("uploading",))
        results.check("after kill -9 another host takes over", image and image["status"] == "active" and image["checksum"] == body.md5,
                      f"{time.monotonic() - began:.1f} s, {image and image['status']}, {tasks_of(client, slow)[-1]['message']}")
        results.equal("its task", tasks_of(client, slow)[-1]["status"], "success")
        results.check("staging that was cut off goes back to queued", await_status(client, half, ("queued",), 30))
        results.equal("staged data outlives the host that took it", client.show(staged).json()["status"], "uploading")
        start(client, staged, DIRECT)
        image = await_status(client, staged, ("active",))
        results.check("and is imported on another", image and image["checksum"] == body.md5)
    cluster.start(victim)
    results.check("the host is back", cluster.await_ready())

    # Every host in turn dies with the import: it fails clearly, and can be started again.
    Source.gate.clear()
    with lib.Client(cluster, names[0]) as client:
        image_id = new_image(client)
        start(client, image_id, web(f"{base}/slow/{body.size}"))
        results.check("another import runs", await_status(client, image_id, ("importing",)))
    for _ in range(2):
        cluster.kill(*names)
        cluster.start(*names)
        cluster.await_ready()
        time.sleep(3)
    with lib.Client(cluster, names[0]) as client:
        image = await_status(client, image_id, ("queued",), 60)
        task = await_task(client, image_id)
        results.check("interrupted twice, it fails back to queued", image and image["size"] is None and
                      task and task["status"] == "failure" and "interrupted" in task["message"], str(task and task["message"]))
        Source.gate.set()
        start(client, image_id, web(f"{base}/slow/{body.size}"))
        results.check("and can be imported again", await_status(client, image_id, ("active",)))


def check_clients(cluster, results, folder):
    path = os.path.join(folder, "source.raw")
    body = lib.Body("cli", 3 * lib.MIB)
    with open(path, "wb") as f:
        f.write(bytes(body))
    name = cluster.names()[0]
    if shutil.which("openstack"):
        code, out, err = lib.openstack(cluster, name, "image", "create", "--import", "--disk-format", "raw", "--file", path,
                                       "by-import", "-f", "json")
        results.equal("openstack image create --import", code, 0)
        with lib.Client(cluster, name) as client:
            image_id = json.loads(out)["id"] if code == 0 else lib.new_id()
            image = await_status(client, image_id, ("active",))
            results.check("becomes active", image and image["os_hash_value"] == body.sha512, err[-300:])
    if shutil.which("glance"):
        with open(path, "rb") as source:  # the client refuses --file while its input is no terminal
            done = subprocess.run(["glance", "image-create-via-import", "--disk-format", "raw", "--container-format", "bare",
                                   "--name", "via"], env=cluster.environment(name), stdin=source, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        results.check("glance image-create-via-import", done.returncode == 0, done.stdout[-300:] if done.returncode else "")
        with lib.Client(cluster, name) as client:
            found = client.list("name=via")
            results.check("becomes active", found and await_status(client, found[0]["id"], ("active",)))


def body(cluster, results):
    port = int(cluster.settings["import_ports"].split(",")[-1])
    check_bodies(cluster, results)
    check_direct(cluster, results)
    check_download(cluster, results, port)
    check_progress(cluster, results, port)
    check_clients(cluster, results, cluster.dir)
    check_kill(cluster, results, port)


if __name__ == "__main__":
    os.environ.setdefault("no_proxy", "127.0.0.1")
    raise SystemExit(lib.run_test("import", body, settings={**SETTINGS, "import_ports": f"80,443,{serve(Source)}"}))
