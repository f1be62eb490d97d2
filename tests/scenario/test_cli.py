#!/usr/bin/env python3
"""The stock openstack client with an unmodified RC file: the image verbs, the same through each host."""
import hashlib
import json
import os
import subprocess
import threading

import lib


class Cli:
    """`openstack ...` against one host, as one of the two users."""

    def __init__(self, cluster, results, name):
        self.cluster, self.results, self.name = cluster, results, name

    def run(self, *words, account="admin", stdin=None, fails=False, what=None):
        code, out, err = lib.openstack(self.cluster, self.name, *words, account=account, stdin=stdin)
        title = f"{self.name}: openstack {what or ' '.join(words[:4])}" + (" is refused" if fails else "")
        self.results.check(title, (code != 0) == fails, "" if (code != 0) == fails else f"exit {code}: {(err or out)[-400:]}")
        return out if not fails else err

    def json(self, *words, **options):
        out = self.run(*words, "-f", "json", **options)
        try:
            return json.loads(out)
        except ValueError:
            return {}


def sha256_of(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def make_files(folder):
    """A real qcow2, a raw and an ISO 9660 image: format -> path."""
    files = {kind: os.path.join(folder, f"source.{kind}") for kind in ("qcow2", "raw", "iso")}
    run = lambda *words: subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    run("qemu-img", "create", "-q", "-f", "qcow2", files["qcow2"], "256M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 6M", "-c", "write -q -P 66 128M 1M", files["qcow2"])
    with open(files["raw"], "wb") as f:
        f.write(bytes(lib.Body("raw", 5 * lib.MIB + 321)))
    # 16 empty sectors, a primary volume descriptor, the set's terminator: what a reader looks for.
    primary = b"\x01CD001\x01\x00" + b" " * 32 + b"TESSERA".ljust(32) + b"\x00" * 8
    sectors = [primary.ljust(2048, b"\x00"), b"\xffCD001\x01".ljust(2048, b"\x00")]
    with open(files["iso"], "wb") as f:
        f.write(b"\x00" * 32768 + b"".join(sectors) + bytes(lib.Body("iso", 700 * 1024)))
    return files


def save_and_compare(cli, image, path, source, account="admin"):
    cli.run("image", "save", "--file", path, image, account=account)
    got = sha256_of(path) if os.path.exists(path) else None
    cli.results.equal(f"{cli.name}: the saved bytes equal the source ({os.path.basename(source)})", got, sha256_of(source))


def test_host(cluster, results, name, files):
    cli = Cli(cluster, results, name)
    folder = os.path.join(cluster.dir, f"cli-{name}")
    os.makedirs(folder)
    ids = {}
    for kind, path in files.items():
        image = cli.json("image", "create", "--disk-format", kind, "--container-format", "bare", "--file", path,
                         f"{name}-{kind}", what=f"image create --file ({kind})")
        ids[kind] = image.get("id", "")
    with open(files["raw"], "rb") as f:
        image = cli.json("image", "create", "--disk-format", "raw", "--container-format", "bare", "--private",
                         f"{name}-stdin", stdin=f, what="image create from standard input")
    ids["stdin"] = image.get("id", "")

    listed = {row["ID"]: row for row in cli.json("image", "list")}
    results.check(f"{name}: all are listed, active",
                  all(listed.get(i, {}).get("Status") == "active" for i in ids.values()), str(list(ids.values())))
    shown = cli.json("image", "show", f"{name}-qcow2", what="image show by name")
    results.equal(f"{name}: show: id, status, size, checksum", (shown.get("id"), shown.get("status"), shown.get("size"),
                  shown.get("checksum")), (ids["qcow2"], "active", os.path.getsize(files["qcow2"]),
                  hashlib.md5(open(files["qcow2"], "rb").read()).hexdigest()))
    save_and_compare(cli, ids["qcow2"], os.path.join(folder, "back.qcow2"), files["qcow2"])
    save_and_compare(cli, f"{name}-iso", os.path.join(folder, "back.iso"), files["iso"])
    save_and_compare(cli, ids["stdin"], os.path.join(folder, "back.raw"), files["raw"])

    cli.run("image", "set", "--property", "os_distro=debian", "--property", "tier=gold", "--tag", "blue", "--tag", "red",
            "--min-disk", "3", "--name", f"{name}-renamed", ids["qcow2"], what="image set --property --tag --min-disk --name")
    shown = cli.json("image", "show", ids["qcow2"])
    properties = shown.get("properties", {})
    results.equal(f"{name}: what was set is shown", (shown.get("name"), shown.get("min_disk"), sorted(shown.get("tags", [])),
                  properties.get("os_distro"), properties.get("tier")),
                  (f"{name}-renamed", 3, ["blue", "red"], "debian", "gold"))
    cli.run("image", "unset", "--property", "tier", "--tag", "red", ids["qcow2"], what="image unset --property --tag")
    shown = cli.json("image", "show", ids["qcow2"])
    results.equal(f"{name}: what was unset is gone", (shown.get("tags"), "tier" in shown.get("properties", {})),
                  (["blue"], False))
    cli.run("image", "set", "--protected", ids["iso"])
    cli.run("image", "delete", ids["iso"], fails=True, what="image delete of a protected image")
    cli.run("image", "set", "--unprotected", ids["iso"])

    # Sharing with the second project.
    demo = cli.json("project", "show", "demo").get("id")
    cli.run("image", "show", ids["raw"], account="demo", fails=True, what="image show of another's shared image")
    cli.run("image", "add", "project", ids["raw"], "demo")
    members = cli.json("image", "member", "list", ids["raw"])
    results.equal(f"{name}: the member is listed, pending",
                  [(m.get("Member ID"), m.get("Status")) for m in members], [(demo, "pending")])
    cli.run("image", "set", "--accept", ids["raw"], account="demo", what="image set --accept")
    seen = [row["ID"] for row in cli.json("image", "list", account="demo")]
    results.check(f"{name}: the member lists it after accepting", ids["raw"] in seen)
    save_and_compare(cli, ids["raw"], os.path.join(folder, "shared.raw"), files["raw"], account="demo")
    cli.run("image", "remove", "project", ids["raw"], "demo")
    cli.run("image", "show", ids["raw"], account="demo", fails=True, what="image show after being removed")

    # Deactivate and reactivate.
    cli.run("image", "set", "--public", ids["raw"], what="image set --public")
    cli.run("image", "set", "--deactivate", ids["raw"], what="image set --deactivate")
    cli.run("image", "save", "--file", os.path.join(folder, "no.raw"), ids["raw"], account="demo", fails=True,
            what="image save of a deactivated image")
    cli.run("image", "set", "--activate", ids["raw"], what="image set --activate")
    save_and_compare(cli, ids["raw"], os.path.join(folder, "public.raw"), files["raw"], account="demo")

    cli.run("image", "delete", *ids.values(), what="image delete of all")
    left = {row["ID"] for row in cli.json("image", "list")}
    results.check(f"{name}: none is left", not left & set(ids.values()))
    cli.run("image", "show", ids["raw"], fails=True, what="image show of a deleted image")


def counted(cluster, results):
    """/metrics of every host tells of what it has just done."""
    for name in cluster.names():
        with lib.Client(cluster, name) as client:
            text = client.call("GET", "/metrics").data.decode()
        values = dict(line.split() for line in text.splitlines() if line and line[0] != "#")
        idle = [key for key in ("requests_total", "client_bytes_in_total", "client_bytes_out_total", "uploads_total",
                                "downloads_total", "chunks_written_total", "chunks_read_total", "peer_bytes_in_total",
                                "connections", "applied_index") if int(values.get(f"tessera_{key}", 0)) <= 0]
        results.equal(f"{name}: counters that stand at nothing", idle, [])


def test(cluster, results):
    files = make_files(cluster.dir)

    def guarded(name):
        try:
            test_host(cluster, results, name, files)
        except Exception as error:  # pylint: disable=broad-except
            results.check(f"{name}: no exception", False, repr(error))

    # One user a host, all at once: starting the client costs a second of processor time each.
    threads = [threading.Thread(target=guarded, args=(name,)) for name in cluster.names()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    counted(cluster, results)
    cli = Cli(cluster, results, cluster.names()[-1])
    cli.run("token", "issue")
    cli.run("catalog", "list")
    cli.run("image", "list", account="demo", what="image list as a plain member")
    code, _, err = lib.openstack(cluster, cli.name, "image", "list", env={"OS_PASSWORD": "wrong"})
    results.check("a wrong password is refused with 401", code != 0 and "401" in err, err[-200:])


if __name__ == "__main__":
    raise SystemExit(lib.run_test("cli", test))
