#!/usr/bin/env python3
"""Imports that are converted to another format by qemu-img, whatever is killed meanwhile."""
import gzip
import hashlib
import http.server
import os
import subprocess
import threading

import lib


class Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    named = {}

    def log_message(self, *_):
        pass

    def do_GET(self):
        data = Files.named[self.path[1:]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except lib.NETWORK_ERRORS:
            pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up is part of the test
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def await_task(client, image_id, seconds=120):
    def look():
        tasks = client.call("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
        return tasks[-1] if tasks and tasks[-1]["status"] in ("success", "failure") else None
    return lib.wait_until(look, seconds, 0.1)


def qemu_img(*words):
    subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)


def make_files(folder, data):
    path = lambda name: os.path.join(folder, name)
    with open(path("raw"), "wb") as f:
        f.write(data)
        f.truncate(64 * lib.MIB)
    for name, kind, options in (("vmdk", "vmdk", "subformat=streamOptimized"), ("vhdx", "vhdx", ""), ("vdi", "vdi", ""),
                                ("vhd", "vpc", "force_size=on"), ("qcow2", "qcow2", "")):
        qemu_img("convert", "-f", "raw", "-O", kind, *(["-o", options] if options else []), path("raw"), path(name))
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", path("raw"), "-F", "raw", path("backed"), "64M")
    for name in ("raw", "vmdk", "vhdx", "vdi", "vhd", "qcow2", "backed"):
        with open(path(name), "rb") as f:
            Files.named[name] = f.read()
    Files.named["gz"] = gzip.compress(Files.named["raw"], 1)
    Files.named["nothing"] = b""
    Files.named["random"] = os.urandom(1 << 20) * 400


def left_behind(cluster, name):
    folder = os.path.join(cluster.host(name)["data_dir"], "convert")
    return [os.path.join(here, f) for here, _, files in os.walk(folder) for f in files]


def working_in(folder):
    """Processes whose working directory is below it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder):
                found.append(pid)
        except OSError:
            pass
    return found


def content(client, image_id, folder):
    """The digest of the disk that the image holds, as QEMU reads it."""
    got, raw = os.path.join(folder, "got"), os.path.join(folder, "got.raw")
    with open(got, "wb") as f:
        f.write(client.call("GET", f"/v2/images/{image_id}/file", timeout=120).data)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", got, raw)
    with open(raw, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def body(cluster, results):
    port, name = int(cluster.settings["import_ports"]), cluster.names()[0]
    data = bytes(lib.Body("disk", 5 * lib.MIB))
    make_files(cluster.dir, data)
    disk = hashlib.sha256(Files.named["raw"]).hexdigest()

    def new(form, container="bare"):
        return client.create("convert", disk_format=form, container_format=container).json()["id"]

    def download(image_id, what):
        client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "web-download", "uri": f"http://127.0.0.1:{port}/{what}"}})

    with lib.Client(cluster, name) as client:
        for what, form in (("raw", "raw"), ("vmdk", "vmdk"), ("vhdx", "vhdx"), ("vdi", "vdi"), ("vhd", "vhd"), ("gz", "raw")):
            image_id = new(form)
            download(image_id, what)
            task = await_task(client, image_id)
            image = client.show(image_id).json()
            results.equal(f"{what} becomes qcow2", [image[n] for n in ("status", "disk_format", "virtual_size")] + [task["message"]],
                          ["active", "qcow2", 64 * lib.MIB, ""])
            if image["status"] == "active":
                results.equal("and holds the same disk", content(client, image_id, cluster.dir), disk)
                seen = cluster.tessera(name, "image", "inspect", image_id)
                results.equal("as inspection says", seen and (seen["format"], seen["ok"]), ("qcow2", True))
        image_id = new("vmdk")
        client.call("PUT", f"/v2/images/{image_id}/stage", Files.named["vmdk"], {"Content-Type": "application/octet-stream"})
        client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}})
        await_task(client, image_id)
        results.equal("staged data is converted", client.show(image_id).json()["disk_format"], "qcow2")
        for what, form, container, wanted in (("qcow2", "qcow2", "bare", "qcow2"), ("raw", "raw", "ovf", "raw"), ("raw", "aki", "bare", "aki")):
            image_id = new(form, container)
            download(image_id, what)
            await_task(client, image_id)
            image = client.show(image_id).json()
            results.equal(f"{form} in {container} stays as it is", (image["status"], image["disk_format"], image["size"]),
                          ("active", wanted, len(Files.named[what])))
        image_id = new("raw")
        download(image_id, "nothing")
        await_task(client, image_id)
        image = client.show(image_id).json()
        results.equal("no data is no data in any format", (image["status"], image["size"]), ("active", 0))
        for what, form, text in (("backed", "qcow2", "backing file"), ("backed", "raw", "backing file"), ("raw", "vmdk", "does not match")):
            image_id = new(form)
            download(image_id, what)
            task = await_task(client, image_id)
            image = client.show(image_id).json()
            results.check(f"{what} declared {form} never reaches qemu-img", task["status"] == "failure" and text in task["message"] and
                          (image["status"], image["disk_format"]) == ("queued", form), task["message"])
        results.check("no file is left", lib.wait_until(lambda: not left_behind(cluster, name), 20, 0.1))

        image_id = new("raw")
        download(image_id, "random")
        results.check("a conversion runs", lib.wait_until(lambda: left_behind(cluster, name), 60, 0.02))
        client.delete(image_id)
        results.check("deleted meanwhile: nothing is left", lib.wait_until(lambda: not left_behind(cluster, name), 60, 0.1))

        image_id = new("raw")
        download(image_id, "random")
        results.check("another runs", lib.wait_until(lambda: any(f.endswith("out") for f in left_behind(cluster, name)), 120, 0.02))
    cluster.kill(name)
    results.check("kill -9 leaves files", left_behind(cluster, name))
    folder = os.path.join(cluster.host(name)["data_dir"], "convert")
    results.check("but no qemu-img", lib.wait_until(lambda: not working_in(folder), 20, 0.1))
    cluster.start(name)
    cluster.await_ready()
    with lib.Client(cluster, name) as client:
        task = await_task(client, image_id)
        image = client.show(image_id).json()
        results.check("the next process converts it anew", image["status"] == "active" and image["disk_format"] == "qcow2" and
                      image["virtual_size"] == 400 << 20, str(task and task["message"]))
        results.check("and leaves nothing", lib.wait_until(lambda: not left_behind(cluster, name), 20, 0.1))


if __name__ == "__main__":
    os.environ.setdefault("no_proxy", "127.0.0.1")
    SETTINGS = {"import_convert": "qcow2", "import_decompress": "yes", "import_addresses_allowed": "127.0.0.1/32",
                "import_ports": str(serve(Files))}
    raise SystemExit(lib.run_test("import-convert", body, hosts=1, settings=SETTINGS))
