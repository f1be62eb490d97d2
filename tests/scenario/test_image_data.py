#!/usr/bin/env python3
"""What images are made of: the inspector over stored images and files, by the operator's command; signatures."""
import base64
import json
import os
import pty
import subprocess
import tempfile

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


# ---- signatures ----

CERT = "3f5b5a30-0e6c-4f0b-9f4c-0d2c5ea30000"


def make_key(folder, cert_id=CERT):
    key, cert = os.path.join(folder, "sign.key"), os.path.join(folder, f"{cert_id}.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=images", "-days", "2", "-keyout", key,
                    "-out", cert], check=True, stderr=subprocess.DEVNULL)
    return key


def sign(key, path):
    """The properties of an image whose data is in the file."""
    done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max",
                           path], check=True, stdout=subprocess.PIPE)
    return {"img_signature": base64.b64encode(done.stdout).decode(), "img_signature_hash_method": "SHA-256",
            "img_signature_key_type": "RSA-PSS", "img_signature_certificate_uuid": CERT}


def on_terminal(words, env, prompt, answer):
    """What a program says on a terminal, where its prompt is answered."""
    ours, its = pty.openpty()
    with subprocess.Popen(words, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True) as program:
        os.close(its)
        said, answered = b"", False
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the program has ended
                break
            said += piece
            if not piece:
                break
            if prompt in said and not answered:
                answered = True
                os.write(ours, answer)
        program.wait(60)
    os.close(ours)
    return said.decode(errors="replace")


def check_signatures(cluster, results, files):
    key = make_key(CERTS)
    good, data = sign(key, files["plain.raw"]), read(files["plain.raw"])
    cases = (("a signed image is taken", {}, data, 204, ""), ("other data is refused", {}, data[:-1] + b"?", 400, "not the signature"),
             ("less data too", {}, data[:-1], 400, "not the signature"),
             ("an unknown certificate", {"img_signature_certificate_uuid": lib.new_id()}, data, 400, "no certificate"),
             ("a path for a certificate", {"img_signature_certificate_uuid": "../" + CERT}, data, 400, "no UUID"),
             ("an unknown hash", {"img_signature_hash_method": "MD5"}, data, 400, "hash_method"),
             ("an unknown key type", {"img_signature_key_type": "RSA"}, data, 400, "key_type"),
             ("another key type", {"img_signature_key_type": "DSA"}, data, 400, "not DSA"),
             ("no base64", {"img_signature": "%%%"}, data, 400, "base64"))
    with lib.Client(cluster, cluster.names()[0]) as client, lib.Client(cluster, cluster.names()[1]) as other:
        for what, change, content, status, text in cases:
            image_id = client.create("signed", disk_format="raw", container_format="bare", **{**good, **change}).json()["id"]
            reply = client.upload(image_id, content)
            image = other.show(image_id).json()
            results.check(what, reply.status == status and text in str(reply.data) and image["status"] ==
                          ("active" if status == 204 else "queued") and (status == 204 or image["size"] is None), f"{reply} {image['status']}")
            if status == 400 and not change:
                results.equal("and can be tried again", client.upload(image_id, data).status, 204)
        partly = {name: value for name, value in good.items() if name != "img_signature_key_type"}
        image_id = client.create("partly", disk_format="raw", container_format="bare", **partly).json()["id"]
        results.equal("without all four properties nothing is verified", client.upload(image_id, data[:100]).status, 204)
        for content, status in ((data, "success"), (data + b"x", "failure")):
            image_id = client.create("staged", disk_format="raw", container_format="bare", **good).json()["id"]
            client.call("PUT", f"/v2/images/{image_id}/stage", content, {"Content-Type": "application/octet-stream"})
            client.call("POST", f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}})
            task = lib.wait_until(lambda: next((t for t in client.call("GET", f"/v2/images/{image_id}/tasks").json()["tasks"]
                                                if t["status"] in ("success", "failure")), None), 30, 0.1)
            results.check(f"staged data, import is a {status}", task and task["status"] == status, str(task and task["message"]))
    # The client asks for the key's password on a terminal.
    words = ["openstack", "image", "create", "--disk-format", "raw", "--file", files["plain.raw"], "--sign-key-path", key,
             "--sign-cert-id", CERT, "by-cli"]
    said = on_terminal(words, cluster.environment(cluster.names()[2]), b"password", b"\n")
    with lib.Client(cluster, cluster.names()[0]) as client:
        image = (client.list("name=by-cli") or [{}])[0]
        results.check("openstack image create --sign-key-path", image.get("status") == "active" and
                      image["img_signature_certificate_uuid"] == CERT and len(image["img_signature"]) > 300, said[-300:])


def body(cluster, results):
    files = make_files(cluster.dir)
    check_inspect(cluster, results, files)
    check_gpt(cluster, results)
    check_signatures(cluster, results, files)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tessera-certificates-") as CERTS:
        raise SystemExit(lib.run_test("image-data", body, settings={**SETTINGS, "signature_certificates_dir": CERTS}))
