#!/usr/bin/env python3
"""Tempest's image tests, and those of the identity that apply, against three hosts behind one address.

Each connection goes to the next host, so an image is made on one, filled on another and read on the third. The
accounts are made beforehand (no dynamic credentials). Every test must pass but those in SKIPPED, which must be skipped
for the reason that is given: a test that turns up, or starts to be skipped, is a failure of this program."""
import json
import os
import subprocess
import sys

import clients
import lib
import test_import

IMAGE = "tempest.api.image.v2."
IDENTITY = "tempest.api.identity.v3."
ROLES = "glance_tempest_plugin.tests.rbac.v2."

# Suite -> its processes, of about the same length. The second one makes its own projects, users and roles while it runs;
# the third is about what each host keeps on request, so all of it goes to one host.
ACCOUNTS, DYNAMIC, ONE_HOST = "accounts made beforehand", "accounts made by the tests", "one host"
SUITES = {
    ACCOUNTS: [
        [IMAGE + "test_images"],
        [IMAGE + "admin.test_images", IMAGE + "admin.test_images_metadefs_namespace_objects",
         IMAGE + "admin.test_images_metadefs_namespace_properties", IMAGE + "admin.test_images_metadefs_namespace_tags",
         IMAGE + "admin.test_images_metadefs_namespaces", IMAGE + "admin.test_images_metadefs_resource_types",
         IMAGE + "test_images_member", IMAGE + "test_images_member_negative", IMAGE + "test_images_metadefs_schema",
         IMAGE + "test_images_negative", IMAGE + "test_images_tags", IMAGE + "test_images_tags_negative",
         IMAGE + "test_versions", IDENTITY + "test_api_discovery", IDENTITY + "test_application_credentials",
         IDENTITY + "test_catalog", IDENTITY + "test_domains", IDENTITY + "test_projects", IDENTITY + "test_tokens",
         IDENTITY + "test_users"],
    ],
    # Access rules are here, because the test leaves credentials behind that others would list.
    DYNAMIC: [[ROLES + "test_project_members_tests", IDENTITY + "test_access_rules"], [ROLES + "test_project_reader_tests"]],
    ONE_HOST: [[IMAGE + "admin.test_image_caching"]],
}

# The end of a test's name (a whole class, or one test) -> why it is skipped.
COMPLIANCE = "password history and lockout by number are off, as in Keystone's defaults"
SKIPPED = {
    "ImageLocationsTest": "locations in the image record are off, as in Glance's defaults",
    "MultiStoresImportImagesTest": "needs several stores: a cluster is one store, replicas are not stores",
    "test_remote_import": "needs a second image service in the catalog; all hosts are one service here",
    "test_remote_delete": "needs a second image service in the catalog; all hosts are one service here",
    "test_password_history_check_self_service_api": COMPLIANCE,
    "test_user_account_lockout": COMPLIANCE,
    "test_user_update_own_password": COMPLIANCE,
}

CONFIG = """
[DEFAULT]
log_file = {folder}/tempest.log
debug = false

[oslo_concurrency]
lock_path = {folder}/locks

[auth]
{auth}

[identity]
auth_version = v3
uri_v3 = {url}/identity/v3
region = RegionOne
ca_certificates_file = {ca}
v3_endpoint_type = publicURL

[identity-feature-enabled]
api_v2 = false
api_v3 = true
trust = false
application_credentials = true
access_rules = true
security_compliance = false

[enforce_scope]
glance = true
keystone = true

[service_available]
glance = true
cinder = false
neutron = false
nova = false
swift = false
horizon = false

[image]
image_caching_enabled = true
endpoint_type = {endpoints}
http_image = {origin}/data/1048576
build_timeout = 60
build_interval = 1

[image-feature-enabled]
api_v1 = false
api_v2 = true
import_image = true
os_glance_reserved = true
manage_locations = false
"""


BEFOREHAND = "use_dynamic_credentials = false\ntest_accounts_file = {folder}/accounts.yaml\ntempest_roles = member"
AUTH = {
    ACCOUNTS: BEFOREHAND,
    ONE_HOST: BEFOREHAND,
    DYNAMIC: "use_dynamic_credentials = true\nadmin_username = {user}\nadmin_password = {password}\n"
             "admin_project_name = {project}\nadmin_domain_name = Default\nadmin_system = all",
}


def write_accounts(cluster, folder, processes, prefix):
    """Two members and an administrator for each process, each in a project of its own."""
    identity = clients.Identity(cluster, cluster.names()[0])
    lines = []
    for kind, count in (("member", 2 * processes), ("admin", processes)):
        for number in range(count):
            name = f"{prefix}-{kind}-{number}"
            _, password = identity.user(name, identity.project(name), kind)
            lines += [f"- username: {name}", f"  project_name: {name}", f"  password: '{password}'",
                      "  domain_name: Default", "  roles:", f"  - {kind}"]
            lines += ["  types:", "  - admin"] if kind == "admin" else []
    with open(os.path.join(folder, "accounts.yaml"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def write_config(cluster, suite, folder, url, origin):
    os.makedirs(os.path.join(folder, "locks"))
    rc = cluster.rc("admin")
    auth = AUTH[suite].format(folder=folder, user=rc["OS_USERNAME"], password=rc["OS_PASSWORD"],
                              project=rc["OS_PROJECT_NAME"])
    # A host names itself as the internal endpoint.
    endpoints = "internalURL" if suite == ONE_HOST else "publicURL"
    with open(os.path.join(folder, "tempest.conf"), "w", encoding="utf-8") as f:
        f.write(CONFIG.format(folder=folder, url=url, ca=os.path.join(cluster.dir, "ca.pem"), auth=auth,
                              endpoints=endpoints, origin=f"http://127.0.0.1:{origin}"))


def run_parts(folder, parts):
    """The results of all processes: test id -> its line."""
    env = clients.clean_environment(TEMPEST_CONFIG=os.path.join(folder, "tempest.conf"), TEMPEST_CONFIG_DIR=folder)
    running = []
    for number, modules in enumerate(parts):
        path = os.path.join(folder, f"results-{number}")
        process = subprocess.Popen([clients.PYTHON, os.path.join(clients.HERE, "tempest_part.py"), path, *modules],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, env=env, cwd=folder)
        running.append((path, process))
    results = {}
    for path, process in running:
        output = process.communicate(timeout=600)[0]
        if process.returncode != 0:
            raise lib.ClusterFailure(f"tempest ended with {process.returncode}: {output[-2000:]}")
        with open(path, encoding="utf-8") as f:
            lines = [json.loads(line) for line in f]
        results.update({line["id"]: line for line in lines})
    return results


def judge(results, lines, skipped):
    used = set()
    for name, line in sorted(lines.items()):
        short = name.replace("tempest.api.", "").replace("glance_tempest_plugin.tests.", "").split("[")[0]
        known = [part for part in skipped if part in name]
        used.update(known)
        if line["outcome"] == "skip":
            results.check(f"{short} is skipped", known, skipped[known[0]] if known else f"unexpected: {line['why']}")
        elif known:
            results.check(short, False, "runs, though it is listed as skipped")
        else:
            passed = line["outcome"] == "pass"
            results.check(short, passed, f"{line['seconds']} s" if passed else line["why"][-1500:])
    results.equal("each listed skip is one of a test", sorted(set(skipped) - used), [])


def main():
    origin = test_import.serve(test_import.Source)
    with clients.Relay() as relay, clients.Relay() as plain:
        def body(cluster, results):
            relay.spread_over(cluster)
            plain.spread_over(cluster, "plain_url")  # "the other region" is this one, without TLS
            results.note(f"tempest {clients.version_of('python3-tempest')}, "
                         f"glance-tempest-plugin {clients.version_of('glance-tempest-plugin')}")
            lines = {}
            for number, (suite, parts) in enumerate(SUITES.items()):
                folder = os.path.join(cluster.dir, f"tempest-{number}")
                first = cluster.host(cluster.names()[0])["api_url"]
                write_config(cluster, suite, folder, first if suite == ONE_HOST else relay.url, origin)
                if suite != DYNAMIC:
                    write_accounts(cluster, folder, len(parts), f"tempest-{number}")
                lines.update(run_parts(folder, parts))
                results.note(f"{suite}: done")
            judge(results, lines, SKIPPED)
            shares = [relay.counts.get(name, 0) for name in cluster.names()]
            results.check("the requests were spread over all hosts", min(shares) * 4 > sum(shares),
                          ", ".join(f"{n}: {c}" for n, c in zip(cluster.names(), shares)))

        settings = {**test_import.SETTINGS, "public_endpoint": relay.url, "import_ports": f"80, 443, {origin}",
                    "import_methods": "glance-direct, web-download, copy-image, glance-download",
                    "glance_regions": f"RegionOne=http://127.0.0.1:{plain.port}"}
        return lib.run_test("tempest", body, settings=settings, plain=True)


if __name__ == "__main__":
    sys.exit(main())
