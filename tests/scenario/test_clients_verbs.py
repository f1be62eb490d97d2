#!/usr/bin/env python3
"""Every verb of the stock openstack and glance clients, against three hosts behind one address, with Tessera's own
identity. With LONG=1 each command is a process of its own, as a user runs it."""
import os
import threading
import traceback

import clients
import lib
import test_import
import verbs_glance
import verbs_openstack


def drive(cloud, results, title, verbs):
    """All verbs of one client; an exception is a failed check."""
    with clients.Shell(cloud, results, title) as shell:
        try:
            verbs(shell, cloud)
        except Exception as error:  # pylint: disable=broad-except
            results.check(f"{title}: no exception", False, "".join(traceback.format_exception(error))[-1500:])
        results.note(f"{title}: {shell.count} commands")


def drive_both(results, origin, openstack_verbs, cloud_for):
    """Both clients at once, each with the cloud that cloud_for(title) makes; `origin` is the port of a web server."""
    both = {"openstack": openstack_verbs,
            "glance": lambda shell, cloud: verbs_glance.run(shell, cloud, f"http://127.0.0.1:{origin}")}
    threads = [threading.Thread(target=drive, args=(cloud_for(title), results, title, verbs)) for title, verbs in both.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    origin = test_import.serve(test_import.Source)
    with clients.Relay() as relay:
        def body(cluster, results):
            relay.spread_over(cluster)
            # Each client has projects of its own, so that lists hold what it made.
            drive_both(results, origin, verbs_openstack.run, lambda title: clients.embedded_cloud(
                cluster, relay.url, os.path.join(cluster.dir, title), title + "-"))

        settings = {**test_import.SETTINGS, "public_endpoint": relay.url, "import_ports": f"80, 443, {origin}"}
        return lib.run_test("clients_verbs", body, settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
