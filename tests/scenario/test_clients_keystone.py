#!/usr/bin/env python3
"""Every image verb of the stock openstack and glance clients again, with a real Keystone for identity: three hosts behind one
address, which is registered in Keystone's catalog. Keystone's own verbs are its business, and are not asked here."""
import os
import subprocess

import clients
import lib
import test_import
import verbs_openstack
from real_keystone import ADMIN_PASSWORD, RealKeystone
from test_clients_verbs import drive_both


def cloud_of(keystone, cluster, folder, prefix):
    """A Cloud whose accounts are Keystone's."""
    more = {"OS_CACERT": os.path.join(cluster.dir, "ca.pem")}

    def account(user, password, project):
        values = keystone.environment(user, password, project, **more)
        return {key: value for key, value in values.items() if key.startswith("OS_")}

    accounts, projects = {"admin": account("admin", ADMIN_PASSWORD, "admin")}, {}
    for user, project in (("alice", "alpha"), ("bob", "beta")):
        projects[project] = keystone.project(prefix + project)
        keystone.grant(keystone.user(prefix + user, user + "-secret"), projects[project], "member")
        accounts[user] = account(prefix + user, user + "-secret", prefix + project)
    return clients.Cloud(folder, accounts, projects, prefix)


def openstack_verbs(shell, cloud):
    client = verbs_openstack.Openstack(shell, cloud)
    images = client.create()
    client.lists(*images)
    client.change(images[0])
    client.shares(images[0])
    client.deletes(*images)
    client.tokens()


def main():
    origin = test_import.serve(test_import.Source)
    with clients.Relay() as relay, RealKeystone() as keystone:
        keystone.service_user()

        def body(cluster, results):
            relay.spread_over(cluster)
            host = cluster.host(cluster.names()[0])
            done = subprocess.run([os.path.join(lib.BIN, "tessera"), "--socket", host["admin_socket"], "keystone", "register"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=60, check=False)
            results.check("the service is registered in Keystone", done.returncode == 0, done.stdout[-500:])
            drive_both(results, origin, openstack_verbs,
                       lambda title: cloud_of(keystone, cluster, os.path.join(cluster.dir, title), title + "-"))
            shares = [relay.counts.get(name, 0) for name in cluster.names()]
            results.check("the requests were spread over all hosts", min(shares) * 4 > sum(shares), str(shares))

        settings = {**test_import.SETTINGS, **keystone.settings(), "public_endpoint": relay.url,
                    "import_ports": f"80, 443, {origin}"}
        return lib.run_test("clients_keystone", body, settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
