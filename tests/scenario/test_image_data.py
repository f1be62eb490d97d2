#!/usr/bin/env python3
"""What images are made of: the inspector over stored images and files, by the operator's command."""
import json
import os
import subprocess

import lib

SETTINGS = {"disk_format_gpt": "yes", "raw_strict": "yes"}


def run(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                          check=False)
    return done.returncode, done.stdout


def make_files(folder):
    """name -> path: real images by qemu-img."""
    files = {name: os.path.join(folder, name) for name in ("a.qcow2", "s.vmdk", "plain.raw", "outside.qcow2", "d.vhdx")}
    with open(files["plain.raw"], "wb") as f:
        f.write(bytes(lib.Body("plain", 5 * lib.MIB)))
    for words in (("create", "-q", "-f", "qcow2", files["a.qcow2"], "64M"), ("create", "-q", "-f", "vhdx", files["d.vhdx"], "64M"),
                  ("create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/outside.raw", files["outside.qcow2"], "1M"),
                  ("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", files["plain.raw"], files["s.vmdk"])):
        subprocess.run(["qemu-img", *words], check=True)
    return files


def read(path):
    with open(path, "rb") as f:
        return f.read()


def upload(client, data, disk, container="bare"):
    reply = client.create("data", disk_format=disk, container_format=container)
    image_id = reply.json()["id"]
    return image_id, client.upload(image_id, data)


def check_inspect(cluster, results, files):
    names = cluster.names()
    command = os.path.join(lib.BIN, "tessera")
    socket = cluster.host(names[1])["admin_socket"]
    with lib.Client(cluster, names[0]) as client:
        ids = {}
        for name, disk in (("a.qcow2", "qcow2"), ("s.vmdk", "vmdk"), ("d.vhdx", "vhdx"), ("plain.raw", "raw")):
            ids[name], reply = upload(client, read(files[name]), disk)
            results.equal(f"{name} is taken", reply.status, 204)
        ids["hidden"], _ = upload(client, read(files["outside.qcow2"]), "qcow2", "ovf")
        results.equal("raw is raw: a qcow2 is refused", upload(client, read(files["a.qcow2"]), "raw")[1].status, 415)
        empty = client.create("none").json()["id"]
        for name, found, virtual in (("a.qcow2", "qcow2", 64 << 20), ("s.vmdk", "vmdk", 5 << 20), ("d.vhdx", "vhdx", 64 << 20),
                                     ("plain.raw", "raw", 5 << 20)):
            seen = cluster.tessera(names[2], "image", "inspect", ids[name])
            results.equal(f"image inspect of stored {name}", seen and (seen["format"], seen["virtual_size"], seen["ok"], seen["finding"]),
                          (found, virtual, True, None))
            code, out = run(command, "-o", "json", "image", "inspect", files[name])
            seen = json.loads(out)
            results.equal(f"image inspect of file {name}", (code, seen["format"], seen["virtual_size"]), (0, found, virtual))
        code, out = run(command, "--socket", socket, "image", "inspect", ids["hidden"])
        results.check("what no upload looked at is found", code == 1 and "data in another file" in out, out)
        code, out = run(command, "image", "inspect", files["outside.qcow2"])
        results.check("in a file too", code == 1 and "data in another file" in out, out)
        code, out = run(command, "--socket", socket, "image", "inspect", "--all")
        results.check("image inspect --all finds the one", code == 1 and "5 images inspected, 1 with a finding" in out, out)
        results.equal("image without data", client.call("GET", f"/v1/images/{empty}/inspect").status, 409)
        results.equal("image inspect of none", client.call("GET", f"/v1/images/{lib.new_id()}/inspect").status, 404)
        with lib.Client(cluster, names[0], "demo") as demo:
            results.equal("only for administrators", demo.call("GET", f"/v1/images/{ids['hidden']}/inspect").status, 403)
        # The file's host is gone: another that holds the data is asked.
        cluster.kill(names[0])
        seen = cluster.tessera(names[1], "image", "inspect", ids["s.vmdk"])
        results.check("with a host down", seen and seen["ok"], str(seen))
    cluster.start(names[0])
    results.check("the host is back", cluster.await_ready())


def check_gpt(cluster, results):
    table = bytearray(lib.MIB)
    table[446:462] = bytes([0, 0, 2, 0, 0xEE, 255, 255, 255, 1, 0, 0, 0, 7, 0, 0, 0])
    table[510:512] = b"\x55\xaa"
    with lib.Client(cluster, cluster.names()[0]) as client:
        results.check("the schema offers gpt", '"gpt"' in client.call("GET", "/v2/schemas/image").data.decode())
        image_id, reply = upload(client, bytes(table), "gpt")
        results.equal("gpt is taken", (reply.status, client.show(image_id).json()["virtual_size"]), (204, lib.MIB))
        table[446] = 0x7F
        results.equal("a bad boot flag is refused", upload(client, bytes(table), "gpt")[1].status, 415)


def body(cluster, results):
    files = make_files(cluster.dir)
    check_inspect(cluster, results, files)
    check_gpt(cluster, results)


if __name__ == "__main__":
    raise SystemExit(lib.run_test("image-data", body, settings=SETTINGS))
