#!/usr/bin/env python3
"""openstacksdk against three hosts behind one address: uploads, downloads that are verified, imports, members, paging over
2,000 images, identity. What it does is in sdk_flows.py, which the system's Python runs."""
import json
import os
import subprocess
import threading

import clients
import lib
import test_import

COUNT = 2000


def make_images(cluster, cloud):
    """COUNT images of alice's, through all hosts: page-NNNN, tagged page, and even where they are."""
    token = clients.token_of(cluster, cloud, "alice")
    problems = []

    def work(name, numbers):
        with lib.Client(cluster, name) as client:
            for number in numbers:
                image = {"name": f"page-{number:04}", "disk_format": "raw", "container_format": "bare", "number": str(number),
                         "min_ram": number, "tags": ["page"] + (["even"] if number % 2 == 0 else [])}
                reply = client.call("POST", "/v2/images", image, token=token)
                if reply.status != 201:
                    problems.append(repr(reply))

    names = cluster.names()
    threads = [threading.Thread(target=work, args=(names[k % len(names)], range(k, COUNT, 6))) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def main():
    origin = test_import.serve(test_import.Source)
    with clients.Relay() as relay:
        def body(cluster, results):
            relay.spread_over(cluster)
            results.note(f"openstacksdk {clients.version_of('python3-openstacksdk')}")
            cloud = clients.embedded_cloud(cluster, relay.url, os.path.join(cluster.dir, "cloud"))
            results.equal(f"{COUNT} images are made", make_images(cluster, cloud)[:3], [])
            results.note("made")
            others = {name: cloud.accounts[name] for name in ("bob", "admin")}
            with subprocess.Popen([clients.PYTHON, os.path.join(clients.HERE, "sdk_flows.py"), f"http://127.0.0.1:{origin}",
                                   str(COUNT), cloud.folder, json.dumps(others)], env=cloud.environment("alice"),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                out, err = process.communicate(timeout=300)
            for line in out.splitlines():
                found = json.loads(line)
                results.check(found["what"], found["good"], found["detail"])
            results.check("the SDK's program ends well", process.returncode == 0, err[-1500:] if process.returncode else "")

        settings = {**test_import.SETTINGS, "public_endpoint": relay.url, "import_ports": f"80, 443, {origin}"}
        return lib.run_test("clients_sdk", body, settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
