#!/usr/bin/env python3
"""What a newer version of the program left in the store, the log or the vote of a host: tesserad ends with 76 and one
reason, as often as it is started, and changes nothing by that. With the newer version (here: with what was there before)
it starts, and everything is there."""
import os
import shutil
import struct
import subprocess

import lib
from test_faults_damage import attempt, crc32c

NEWER = 76
REASON = "newer version"


def newer_store(store):
    """The store's record of its format says 3, with a right checksum."""
    with open(store, "rb") as f:
        data = bytearray(f.read())
    found, at = 0, data.find(b"version")
    while at >= 0:
        value = at + len(b"version")
        text = bytes(data[value + 4:value + 16])
        if text == b'{"format":2}' and crc32c(b"version" + text) == struct.unpack("<I", data[value:value + 4])[0]:
            text = text.replace(b"2", b"3")
            data[value:value + 16] = struct.pack("<I", crc32c(b"version" + text)) + text
            found += 1
        at = data.find(b"version", at + 1)
    with open(store, "wb") as f:
        f.write(data)
    assert found > 0


def newer_vote(path):
    with open(path, "r+b") as f:
        data = bytearray(f.read())
        data[8:12] = struct.pack("<I", 2)
        data[4:8] = struct.pack("<I", crc32c(bytes(data[8:])))
        f.seek(0)
        f.write(data)


def append(raft, version, command):
    subprocess.run([os.path.join(lib.BIN, "append_entry"), raft, str(version), command], stdout=subprocess.DEVNULL, check=True)


def alone(cluster, results):
    with lib.Client(cluster, "host1") as client:
        names = {client.create(f"image {n}").json()["id"]: f"image {n}" for n in range(5)}
        image_id, body = client.create("bytes").json()["id"], lib.Body(7, 5 * lib.MIB)
        results.equal("an upload", client.upload(image_id, body).status, 204)
    cluster.stop("host1")
    data = cluster.host("host1")["data_dir"]
    raft, store = os.path.join(data, "raft"), os.path.join(data, "meta", "data.mdb")
    saved = data + ".saved"
    shutil.copytree(data, saved)
    for what, change, reason in (
            ("a newer format of the store", lambda: newer_store(store), "format 3, this program knows format 2"),
            ("a newer command in the log", lambda: append(raft, 1, '{"op":"image.fly"}'), REASON),
            ("a newer version of a command", lambda: append(raft, 1, '{"op":"batch","commands":[],"v":2}'), REASON),
            ("a newer form of an entry", lambda: append(raft, 2, '{"op":"batch","commands":[]}'), REASON),
            ("a newer form of the vote", lambda: newer_vote(os.path.join(raft, "vote2")), REASON)):
        change()
        for n in (1, 2):
            code, lines = attempt(cluster, "host1", 10)
            results.check(f"{what}: ends with 76, start {n}", code == NEWER, str(code))
            results.check("and says why", any(reason in line for line in lines), str(lines))
        results.check("nothing was moved away, or noted as damage",
                      not os.path.exists(os.path.join(data, "damaged")) and not os.path.exists(os.path.join(data, "damage.json")))
        shutil.rmtree(raft)
        shutil.copytree(os.path.join(saved, "raft"), raft)
        if "store" in what:  # else what the attempts left in it goes on to be used
            shutil.copyfile(os.path.join(saved, "meta", "data.mdb"), store)
        cluster.start("host1")
        results.check(f"{what}: without it the host starts", cluster.await_ready(20) is not None)
        with lib.Client(cluster, "host1") as client:
            results.equal("and knows every image", {i: client.show(i).json()["name"] for i in names}, names)
            status, digest, _, _ = client.download(image_id)
            results.check("and serves the right bytes", status == 200 and digest == body.sha256, str(status))
        cluster.stop("host1")
        shutil.rmtree(saved)
        shutil.copytree(data, saved)
    cluster.start("host1")


if __name__ == "__main__":
    raise SystemExit(lib.run_test(os.path.basename(__file__), alone, hosts=1))
