#!/usr/bin/env python3
"""The image modules of Debian's Nova and Cinder against three hosts with a real Keystone: snapshots (an empty one, and
one with data), boot downloads with signature and checksum, volumes to images and back. One host is killed in each
flow. Both send their service's token beside the user's."""
import contextlib
import hashlib
import json
import os
import subprocess
import tempfile

import lib
from real_keystone import PYTHON, RealKeystone

HERE = os.path.dirname(os.path.abspath(__file__))

SERVICE_USER = """[service_user]
send_service_user_token = true
auth_type = password
auth_url = {keystone}
username = {name}
password = service-pw
user_domain_name = Default
project_name = service
project_domain_name = Default
"""

CONFIGS = {"nova": """[DEFAULT]
log_file = {folder}/nova.log
[glance]
api_servers = {urls}
cafile = {ca}
num_retries = 5
[key_manager]
backend = services_driver.Keys
""", "cinder": """[DEFAULT]
log_file = {folder}/cinder.log
auth_strategy = keystone
glance_api_servers = {urls}
glance_ca_certificates_file = {ca}
glance_num_retries = 5
"""}


class CallFailed(Exception):
    pass


class Service:
    """One driver process; its calls raise CallFailed with the name of the service's own exception."""

    def __init__(self, name, cluster, keystone, folder):
        user = keystone.user(name, "service-pw")
        keystone.grant(user, keystone.project("service"), "service")
        config = os.path.join(folder, name + ".conf")
        with open(config, "w", encoding="utf-8") as f:
            urls = ",".join(h["api_url"] for h in cluster.hosts())
            f.write((CONFIGS[name] + SERVICE_USER).format(folder=folder, urls=urls, name=name, keystone=keystone.url,
                                                          ca=os.path.join(cluster.dir, "ca.pem")))
        environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        environment.update(PYTHONPATH=HERE, SERVICES_KEYS=folder)
        self.log = open(os.path.join(folder, name + ".stderr"), "w+", encoding="utf-8")
        self.process = subprocess.Popen([PYTHON, "-W", "ignore", os.path.join(HERE, "services_driver.py"), name, config],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env=environment)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"the driver has ended: {self.log.read()[-1500:]}")
        return json.loads(line)

    def send(self, call, **args):
        self.process.stdin.write(json.dumps({"call": call, "args": args}) + "\n")
        self.process.stdin.flush()

    def result(self):
        answer = self.answer()
        if "error" in answer:
            raise CallFailed(f"{answer['error']}: {answer['text']}")
        return answer["result"]

    def __call__(self, call, **args):
        self.send(call, **args)
        return self.result()

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        self.log.close()


def write(path, seed, size):
    body = bytes(lib.Body(seed, size))
    with open(path, "wb") as f:
        f.write(body)
    return hashlib.sha256(body).hexdigest()


class Flow:
    """A named flow: one host is killed in it, and is back when it ends."""

    def __init__(self, cluster, results, name):
        self.cluster, self.results, self.name = cluster, results, name
        self.killed = None

    def __enter__(self):
        return self

    def kill(self, name):
        self.cluster.kill(name)
        self.killed = name

    def check(self, what, good, detail=""):
        return self.results.check(f"{self.name}: {what}", good, "" if good else str(detail))

    def equal(self, what, got, expected):
        return self.results.equal(f"{self.name}: {what}", got, expected)

    def again(self, call, *args, **named):
        """Both clients ask another host when a connection is refused, but not for uploads and for lists that they read
        later: their callers must."""
        for _ in range(6):
            try:
                return call(*args, **named)
            except CallFailed as failure:
                # The clients' messages are long, and cut.
                if not any(text in str(failure) for text in ("Connection refused", "Unable to establish connection")):
                    raise
        raise CallFailed("no living host was asked")

    def fails(self, what, error, call, *args, **named):
        try:
            got = call(*args, **named)
        except CallFailed as failure:
            return self.check(what, str(failure).startswith(error), failure)
        return self.check(what, False, got)

    def __exit__(self, kind, value, _):
        if value is not None:
            self.check("runs to its end", False, repr(value))
        if self.killed:
            self.cluster.start(self.killed)
            self.check("the killed host is back", self.cluster.await_ready(60) is not None)
        self.results.note(f"{self.name} done")
        return isinstance(value, Exception)


def nova_snapshot(flow, nova, folder, names):
    """What Nova does for a snapshot; of a volume-backed server it has no data."""
    empty = nova("create", meta={"name": "volume-backed", "size": 0, "container_format": "bare", "properties": {
        "image_type": "snapshot", "base_image_ref": "", "root_device_name": "/dev/vda"}})
    flow.equal("an empty snapshot is active, with size 0", (empty["status"], empty["size"]), ("active", 0))
    path = os.path.join(folder, "snapshot.raw")
    digest = write(path, "snapshot", 24 * lib.MIB + 17)
    image = nova("create", meta={"name": "snapshot", "disk_format": "raw", "container_format": "bare", "properties": {
        "instance_uuid": lib.new_id(), "image_type": "snapshot", "base_image_ref": empty["id"]}})
    flow.equal("a snapshot is queued at first", image["status"], "queued")
    flow.kill(names[0])
    done = flow.again(nova, "update", image_id=image["id"], meta={"properties": {"os_distro": "debian"}}, path=path)
    flow.equal("its upload succeeds with one host dead", (done["status"], done["size"], done["properties"].get("os_distro")),
               ("active", 24 * lib.MIB + 17, "debian"))
    flow.check("it is listed", {image["id"], empty["id"]} <= set(nova("list")))
    flow.equal("boot from it: the same bytes", nova("download", image_id=image["id"],
               path=os.path.join(folder, "boot.raw")), digest)
    nova("delete", image_id=empty["id"])
    flow.fails("the deleted one is gone", "ImageNotFound", nova, "get", image_id=empty["id"])
    return image["id"], path


def nova_interrupted_upload(flow, nova, folder, urls, name):
    """The host that receives the snapshot dies in the middle of it. Nova does not read its file again from the start:
    what matters is that no short image becomes active. So nothing more goes to that image for a while (ADR 0009)."""
    path = os.path.join(folder, "interrupted.raw")
    write(path, "interrupted", 32 * lib.MIB)
    image = nova("create", meta={"name": "interrupted", "disk_format": "raw", "container_format": "bare"})
    nova("servers", urls=[urls[name]])
    nova.send("update", image_id=image["id"], meta={}, path=path, pausing=True)
    flow.equal("half of it was read", nova.answer(), {"event": "half"})
    flow.kill(name)
    nova.go_on()
    flow.fails("the update fails", "", nova.result)
    nova("servers", urls=list(urls.values()))
    flow.check("the image falls back to queued", lib.wait_until(
        lambda: nova("get", image_id=image["id"])["status"] == "queued", 30), nova("get", image_id=image["id"]))
    flow.fails("what may be a rest of it is refused", "HTTPConflict", flow.again, nova, "update", image_id=image["id"], meta={}, path=path)
    nova("delete", image_id=image["id"])
    anew = nova("create", meta={"name": "interrupted", "disk_format": "raw", "container_format": "bare"})
    flow.again(nova, "update", image_id=anew["id"], meta={}, path=path)
    got = nova("get", image_id=anew["id"])
    flow.equal("sent anew, it is whole", (got["status"], got["size"]), ("active", 32 * lib.MIB))
    nova("delete", image_id=anew["id"])


def nova_boot(flow, nova, folder, urls, image, path, name):
    """Boot downloads: with a signature, with a wrong one, and cut off by the death of the host."""
    certificate = lib.new_id()
    signature = nova("sign", certificate_path=os.path.join(folder, certificate), data_path=path)
    signed = {"img_signature": signature, "img_signature_hash_method": "SHA-256", "img_signature_key_type": "RSA-PSS",
              "img_signature_certificate_uuid": certificate}
    nova("update", image_id=image, meta={"properties": signed})
    nova("verify", on=True)
    target = os.path.join(folder, "signed.raw")
    digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
    flow.equal("the signature is verified", nova("download", image_id=image, path=target), digest)
    nova("update", image_id=image, meta={"properties": {"img_signature": signature[:-8] + "AAAAAAA="}})
    flow.fails("a wrong one is found out", "InvalidSignature", nova, "download", image_id=image, path=target)
    nova("update", image_id=image, meta={"properties": {"img_signature": signature}})
    nova("servers", urls=[urls[name]])
    nova.send("stream", image_id=image, pause=lib.MIB)
    flow.equal("a MiB has come", nova.answer(), {"event": "half"})
    flow.kill(name)
    nova.go_on()
    flow.fails("a download cut off by the host's death fails, and is no short image", "", nova.result)
    nova("servers", urls=list(urls.values()))
    flow.equal("by way of the others it is whole, and signed", nova("download", image_id=image, path=target), digest)


def cinder_volume(flow, cinder, folder, name):
    """A volume becomes an image, and an image a volume."""
    path = os.path.join(folder, "volume.raw")
    digest = write(path, "volume", 20 * lib.MIB + 3)
    image = cinder("create", meta={"name": "from-volume", "disk_format": "raw", "container_format": "bare",
                                   "properties": {"one": "1", "two": "2"}})["id"]
    flow.kill(name)
    done = flow.again(cinder, "update", image_id=image, meta={}, path=path, store_id="tessera", base_image_ref=lib.new_id())
    flow.equal("the upload succeeds with one host dead", (done["status"], done["size"]), ("active", 20 * lib.MIB + 3))
    done = cinder("update", image_id=image, meta={"properties": {"two": "zwei", "three": "3"}}, purge=True)
    kept = {k: v for k, v in done["properties"].items() if k in ("one", "two", "three")}
    flow.equal("properties are set and purged", kept, {"two": "zwei", "three": "3"})
    flow.equal("a volume from it: the same bytes", cinder("download", image_id=image, path=os.path.join(folder, "v.raw")),
               digest)
    location = cinder("location", image_id=image)
    flow.check("it has no location that Cinder could clone", not location[0] and not location[1], location)
    flow.equal("it has no members", flow.again(cinder, "members", image_id=image), [])
    stores = cinder("stores")
    flow.check("the stores are listed", '"tessera"' in json.dumps(stores), stores)
    flow.check("it is listed", image in flow.again(cinder, "list"))
    cinder("delete", image_id=image)
    flow.fails("deleted, it is gone", "ImageNotFound", cinder, "get", image_id=image)


def test(cluster, keystone, results, folder):
    names, urls = cluster.names(), {h["name"]: h["api_url"] for h in cluster.hosts()}
    user, project = keystone.user("alice", "alice-pw"), keystone.project("alpha")
    keystone.grant(user, project, "member")
    token = keystone.login("alice", "alice-pw", "alpha")[0]
    services = {name: Service(name, cluster, keystone, folder) for name in ("nova", "cinder")}
    try:
        for name, service in services.items():
            service.result()
            service("context", user_id=user, project_id=project, token=token)
            results.note(f"{name} is loaded")
        nova, cinder = services["nova"], services["cinder"]
        image = path = None
        with Flow(cluster, results, "nova snapshot") as flow:
            image, path = nova_snapshot(flow, nova, folder, names)
        with Flow(cluster, results, "nova interrupted snapshot") as flow:
            nova_interrupted_upload(flow, nova, folder, urls, names[1])
        with Flow(cluster, results, "nova boot") as flow:
            nova_boot(flow, nova, folder, urls, image, path, names[2])
        with Flow(cluster, results, "cinder volume") as flow:
            cinder_volume(flow, cinder, folder, names[1])
    finally:
        for service in services.values():
            service.close()


def main():
    with RealKeystone() as keystone, tempfile.TemporaryDirectory(prefix="tessera-services-") as folder:
        keystone.service_user()
        return lib.run_test("services", lambda cluster, results: test(cluster, keystone, results, folder),
                            settings=keystone.settings())


if __name__ == "__main__":
    raise SystemExit(main())
