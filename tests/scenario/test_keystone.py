#!/usr/bin/env python3
"""Three hosts with `identity = keystone` against a real Keystone: the stock clients, what tokens allow, service
tokens, registering in the catalog, the admin endpoint that follows its holder, and F35: Keystone down or hung."""
import concurrent.futures
import hashlib
import os
import subprocess
import threading
import time
import traceback

import lib
from real_keystone import ADMIN_PASSWORD, RealKeystone

CACHE_S = 12
TIMEOUT_S = 3
SLACK_S = 4  # a busy machine


class Stage:
    """The cluster, its Keystone, and two projects with a user each."""

    def __init__(self, cluster, keystone, results):
        self.cluster, self.keystone, self.results = cluster, keystone, results
        self.projects = {name: keystone.project(name) for name in ("alpha", "beta")}
        self.users = {}
        for user, project, role in (("alice", "alpha", "member"), ("bob", "beta", "member"), ("rita", "alpha", "reader")):
            self.users[user] = keystone.user(user, user + "-pw")
            keystone.grant(self.users[user], self.projects[project], role)

    def environment(self, user, project, **more):
        password = ADMIN_PASSWORD if user == "admin" else user + "-pw"
        return self.keystone.environment(user, password, project, OS_CACERT=os.path.join(self.cluster.dir, "ca.pem"),
                                         **more)

    def run(self, program, *words, user="alice", project="alpha", fails=False, what=None, **more):
        """A stock client's output, as text; a check that it did (or did not) do as it was told."""
        done = subprocess.run([program, *words], env=self.environment(user, project, **more), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
        good = (done.returncode != 0) == fails
        self.results.check(f"{program} {what or ' '.join(words[:3])}" + (" is refused" if fails else ""), good,
                           "" if good else f"exit {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
        return done.stderr if fails else done.stdout.strip()

    def token(self, user="alice", project="alpha", **more):
        return self.keystone.login(user, user + "-pw", project, **more)[0]

    def call(self, name, method, path, token, body=None, **headers):
        with lib.Client(self.cluster, name) as client:
            return client.call(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()}, token=token,
                               timeout=TIMEOUT_S * 4 + SLACK_S)

    def status(self, name, token, path="/v2/images?limit=1"):
        return self.call(name, "GET", path, token).status

    def living(self):
        return [n for n in self.cluster.names() if n not in self.cluster.expected_down]

    def register(self, *words):
        host = self.cluster.host(self.living()[0])
        done = subprocess.run([os.path.join(lib.BIN, "tessera"), "--socket", host["admin_socket"], "keystone", "register",
                               *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def admin_url(self):
        service = self.keystone.call("GET", "/v3/services?type=image")[2]["services"][0]["id"]
        found = self.keystone.call("GET", f"/v3/endpoints?service_id={service}&interface=admin")[2]["endpoints"]
        return found[0]["url"]


def test_register(stage):
    results = stage.results
    code, out = stage.register()
    results.check("register makes the service and its endpoints", code == 0 and out.count("made the ") == 3
                  and "made service image" in out, out)
    if code != 0:
        raise RuntimeError("without a catalog no client finds the service")
    code, out = stage.register()
    results.check("registering again changes nothing", code == 0 and "was there already" in out, out)
    endpoints = stage.keystone.call("GET", "/v3/endpoints")[2]["endpoints"]
    urls = {h["api_url"] for h in stage.cluster.hosts()}
    ours = [e for e in endpoints if e["url"] in urls]
    results.equal("there are three endpoints, without a version in the URL", sorted(e["interface"] for e in ours),
                  ["admin", "internal", "public"])
    host = stage.cluster.hosts()[1]
    code, out = stage.register("--public-url", host["api_url"] + "/v2/")
    results.check("another URL is put in place, without the version", code == 0 and "changed the public endpoint" in out
                  and f"to {host['api_url']}\n" in out, out)
    results.equal("a member of a project may not register", stage.call(host["name"], "POST", "/v1/keystone/register",
                  stage.token(), {}).status, 403)
    results.equal("an administrator may, as itself", stage.call(host["name"], "POST", "/v1/keystone/register",
                  stage.keystone.admin_token(), {"public_url": host["api_url"]}).status, 200)
    code, out = stage.register("--public-url", "not a URL")
    results.check("what is no URL is refused", code != 0 and "not valid" in out, out)


def test_openstack(stage):
    """The verbs that a user of a cloud needs, in order; the administrator shares by name."""
    results, folder = stage.results, stage.cluster.dir
    source, back = os.path.join(folder, "os.raw"), os.path.join(folder, "os.back")
    with open(source, "wb") as f:
        f.write(bytes(lib.Body("keystone", 3 * lib.MIB + 77)))
    sums = lambda path: hashlib.sha256(open(path, "rb").read()).hexdigest() if os.path.exists(path) else None
    image = stage.run("openstack", "image", "create", "--disk-format", "raw", "--file", source, "os-image", "-f", "value",
                      "-c", "id")
    shown = stage.run("openstack", "image", "show", "os-image", "-f", "value", "-c", "status", "-c", "owner")
    results.equal("it is active, and the project's", sorted(shown.split()), sorted(["active", stage.projects["alpha"]]))
    stage.run("openstack", "image", "set", "--property", "os_distro=debian", "--tag", "blue", "os-image")
    stage.run("openstack", "image", "add", "project", image, "beta", user="admin", project="admin",
              what="image add project, by name, as administrator")
    stage.run("openstack", "image", "set", "--accept", image, user="bob", project="beta", what="image set --accept")
    listed = stage.run("openstack", "image", "list", "-f", "value", "-c", "ID", user="bob", project="beta")
    results.check("the member sees it", image in listed.split(), listed)
    stage.run("openstack", "image", "save", "--file", back, image, user="bob", project="beta")
    results.equal("and gets its bytes", sums(back), sums(source))
    stage.run("openstack", "image", "delete", image, user="bob", project="beta", fails=True, what="image delete by a member")
    stage.run("openstack", "image", "delete", image)


def test_glance(stage):
    results, folder = stage.results, stage.cluster.dir
    source, back = os.path.join(folder, "glance.raw"), os.path.join(folder, "glance.back")
    with open(source, "wb") as f:
        f.write(bytes(lib.Body("glance", 2 * lib.MIB + 5)))
    made = stage.run("glance", "image-create", "--name", "glance-image", "--disk-format", "raw", "--container-format",
                     "bare", "--file", source)
    image = next((line.split("|")[2].strip() for line in made.splitlines() if line.startswith("| id ")), "none")
    listed = stage.run("glance", "image-list")
    results.check("glance lists it", image in listed, listed)
    stage.run("glance", "image-update", "--property", "tier=gold", image)
    stage.run("glance", "image-download", "--file", back, image)
    results.check("glance gets its bytes", open(source, "rb").read() == open(back, "rb").read())
    stage.run("glance", "image-delete", image)


def test_credential_cli(stage):
    """An application credential, made by the user and used by the stock client."""
    credential = stage.keystone.call(
        "POST", f"/v3/users/{stage.users['alice']}/application_credentials",
        {"application_credential": {"name": "cli"}}, token=stage.token())[2]["application_credential"]
    drop = dict.fromkeys(("OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME",
                          "OS_PROJECT_DOMAIN_NAME"), "")
    environment = {k: v for k, v in stage.environment("alice", "alpha").items() if k not in drop}
    environment.update(OS_AUTH_TYPE="v3applicationcredential", OS_APPLICATION_CREDENTIAL_ID=credential["id"],
                       OS_APPLICATION_CREDENTIAL_SECRET=credential["secret"])
    done = subprocess.run(["openstack", "image", "list"], env=environment, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    stage.results.equal("openstack logs in with an application credential", (done.returncode, done.stdout[-300:]
                        if done.returncode else ""), (0, ""))


def test_clients(stage):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(test_openstack, stage)
        second = pool.submit(lambda: (test_glance(stage), test_credential_cli(stage)))
        first.result()
        second.result()


def test_tokens(stage):
    """What other tokens than a member's may do, and how long a revoked one lives."""
    results, keystone = stage.results, stage.keystone
    one, two, three = stage.cluster.names()
    revoked, disabled = stage.token(), stage.token("bob", "beta")
    results.equal("tokens are good on every host", [stage.status(n, t) for n in (one, two, three)
                  for t in (revoked, disabled)], [200] * 6)
    keystone.revoke(revoked)
    keystone.call("PATCH", f"/v3/users/{stage.users['bob']}", {"user": {"enabled": False}})
    when = time.monotonic()

    reader = stage.token("rita")
    results.equal("a reader lists", stage.status(one, reader), 200)
    results.equal("a reader makes nothing", stage.call(one, "POST", "/v2/images", reader, {"name": "no"}).status, 403)
    unscoped = stage.token(project=None)
    results.equal("a token without a project: no list, but information",
                  [stage.status(one, unscoped), stage.status(one, unscoped, "/v2/info/import")], [403, 200])
    system = keystone.login("admin", ADMIN_PASSWORD, scope={"system": {"all": True}})[0]
    results.equal("an administrator of the system, or of a project, administers the cluster; a member does not",
                  [stage.status(one, t, "/v1/status") for t in (system, keystone.admin_token(), reader)], [200, 200, 403])
    reply = stage.call(two, "GET", "/v2/images", "gAAAAAB-no-such-token")
    results.equal("an unknown token is refused, with Keystone's address", (reply.status, reply.headers["WWW-Authenticate"]),
                  (401, f'Keystone uri="{keystone.base}"'))
    results.equal("no token either", stage.status(two, False), 401)
    reply = stage.call(two, "POST", "/identity/v3/auth/tokens", False, {"auth": {}})
    results.check("the embedded identity is not there", reply.status == 404 and keystone.base in reply.json()["error"]
                  ["message"], repr(reply))

    rules = [{"service": "image", "method": "GET", "path": "/v2/images/*"},
             {"service": "compute", "method": "GET", "path": "/v2/images"}]
    credential = keystone.call("POST", f"/v3/users/{stage.users['alice']}/application_credentials",
                               {"application_credential": {"name": "bound", "access_rules": rules}},
                               token=stage.token())[2]["application_credential"]
    bound = keystone.login(identity={"methods": ["application_credential"], "application_credential": {
        "id": credential["id"], "secret": credential["secret"]}})[0]
    results.equal("access rules bind an application credential: one image, but no list",
                  [stage.status(one, bound, "/v2/images/" + lib.new_id()), stage.status(one, bound)], [404, 401])

    limit = CACHE_S + SLACK_S
    took = lib.wait_until(lambda: all(stage.status(n, t) == 401 for n in (one, two, three) for t in (revoked, disabled))
                          and time.monotonic() - when, limit + 5, 0.3)
    results.check(f"a revoked token, and that of a disabled user, end within the cache's {CACHE_S} s everywhere",
                  took is not None and took <= limit, f"after {took}")
    keystone.call("PATCH", f"/v3/users/{stage.users['bob']}", {"user": {"enabled": True}})


def test_failover(stage):
    """The admin endpoint in Keystone follows the holder, which is killed."""
    results = stage.results
    before = stage.admin_url()
    holder = next(h["name"] for h in stage.cluster.hosts() if h["api_url"] == before)
    results.equal("the registered admin endpoint is the cluster's", stage.cluster.tessera(holder, "admin-endpoint", "show")
                  ["host"], holder)
    killed = stage.cluster.kill(holder)
    moved = lib.wait_until(lambda: stage.admin_url() != before and stage.admin_url(), 30, 0.2)
    took = time.monotonic() - killed
    others = {h["api_url"] for h in stage.cluster.hosts() if h["name"] != holder}
    results.check("after the holder's end the admin endpoint in Keystone is another host", moved in others, str(moved))
    results.note(f"moved in Keystone {took:.1f} s after the kill")
    image = stage.run("openstack", "image", "create", "--disk-format", "raw", "--file", os.path.join(stage.cluster.dir,
                      "os.raw"), "failover", "-f", "value", "-c", "id", OS_INTERFACE="admin",
                      what="image create --file by way of the admin endpoint")
    name = next(h["name"] for h in stage.cluster.hosts() if h["api_url"] == moved)
    results.equal("it is there", stage.call(name, "GET", f"/v2/images/{image}", stage.token()).json().get("status"), "active")
    stage.cluster.start(holder)
    stage.cluster.await_ready()

    # A later epoch than the cluster's own, as a replaced leader would find it: left alone, until it is no later one.
    path = endpoint_path(stage)
    stage.keystone.call("PATCH", path, {"endpoint": {"url": before, "tessera_epoch": 1000}})
    third = next(n for n in stage.cluster.names() if n not in (name, holder))
    stage.cluster.tessera(name, "admin-endpoint", "move", third)
    results.check("what a later leader has written is left alone, and the status tells", lib.wait_until(
        lambda: any("epoch" in w["text"] for n in stage.cluster.names() for w in stage.cluster.status(n)["warnings"]), 20)
        and stage.admin_url() == before)
    stage.keystone.call("PATCH", path, {"endpoint": {"tessera_epoch": 1}})
    url = stage.cluster.host(third)["api_url"]
    results.check("when it is no later one, the endpoint follows", lib.wait_until(lambda: stage.admin_url() == url, 40, 0.3),
                  stage.admin_url())

    stage.keystone.call("PATCH", path, {"endpoint": {"url": "https://images.example.org"}})
    stage.cluster.tessera(name, "admin-endpoint", "move", holder)
    time.sleep(2)  # nothing is to be seen: four looks of the leader
    results.equal("an admin URL that is none of the hosts is the operator's, and stays", stage.admin_url(),
                  "https://images.example.org")


def endpoint_path(stage):
    found = stage.keystone.call("GET", "/v3/endpoints?interface=admin")[2]["endpoints"]
    urls = {h["api_url"] for h in stage.cluster.hosts()}
    return "/v3/endpoints/" + next(e["id"] for e in found if e["url"] in urls)


def warnings(stage, name):
    status = stage.cluster.status(name)
    return [w["code"] for w in status["warnings"]] if status else None


def timed(stage, name, token):
    began = time.monotonic()
    reply = stage.call(name, "GET", "/v2/images?limit=1", token)
    return reply.status, time.monotonic() - began, reply.headers.get("Retry-After")


def test_outage(stage, known, what, fresh):
    """F35 while Keystone does not answer: `known` is cached on the living hosts, `fresh` are tokens nobody has seen."""
    results, names = stage.results, stage.living()
    stop = threading.Event()
    answers = []

    def read():
        while not stop.is_set():
            answers.append(timed(stage, names[0], known)[:2])

    reader = threading.Thread(target=read)
    reader.start()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        unknown = list(pool.map(lambda t: timed(stage, names[0], t), fresh * 2))
    stop.set()
    reader.join()
    results.equal(f"{what}: the cached token works on every host", [stage.status(n, known) for n in names], [200] * len(names))
    results.check(f"{what}: others get 503 with Retry-After, within {TIMEOUT_S} s and a bit",
                  all(s == 503 and t <= TIMEOUT_S + SLACK_S and retry for s, t, retry in unknown),
                  f"{sorted({s for s, _, _ in unknown})}, longest {max(t for _, t, _ in unknown):.1f} s")
    results.check(f"{what}: meanwhile {len(answers)} requests with the cached token, none refused",
                  answers and all(s == 200 for s, _ in answers), str({s for s, _ in answers}))
    results.check(f"{what}: none of them waited for the others", max(t for _, t in answers) < TIMEOUT_S,
                  f"longest {max(t for _, t in answers):.2f} s")
    results.check(f"{what}: the status says so, over the local socket", lib.wait_until(
        lambda: "KEYSTONE_UNREACHABLE" in warnings(stage, names[0]), 10), str(warnings(stage, names[0])))


def test_f35(stage):
    results, keystone, names = stage.results, stage.keystone, stage.living()
    fresh = [stage.token() for _ in range(16)]
    known = stage.token()
    results.equal("known before the outage", [stage.status(n, known) for n in names], [200] * len(names))
    keystone.pause()
    test_outage(stage, known, "Keystone hangs", fresh)
    keystone.resume()
    results.check("when it goes on, tokens are checked again", lib.wait_until(
        lambda: all(stage.status(n, fresh[0]) == 200 for n in names), 20))
    results.check("the status is silent again", lib.wait_until(
        lambda: "KEYSTONE_UNREACHABLE" not in warnings(stage, names[0]), 40), str(warnings(stage, names[0])))
    known = stage.token()
    results.equal("known before it ends", [stage.status(n, known) for n in names], [200] * len(names))
    keystone.kill()
    test_outage(stage, known, "Keystone is down", fresh[1:])


def test_expired(stage):
    """Keystone comes back, and its tokens live for some seconds only: ours is renewed, and a service's token carries
    a user's past its end."""
    results, keystone, names = stage.results, stage.keystone, stage.living()
    keystone.expiration = 6
    keystone.start()
    keystone.token = None
    user, body = keystone.login("alice", "alice-pw", "alpha")
    results.check("after its start, tokens are checked again", lib.wait_until(lambda: stage.status(names[0], user) == 200, 10))
    gone = lib.wait_until(lambda: stage.status(names[0], user) == 401, 30, 0.3)
    results.check(f"a token is refused after its end ({body['expires_at']}), cache or not", gone)
    service = keystone.login("glance", "glance-secret", "service")[0]
    other = keystone.login("bob", "bob-pw", "beta")[0]
    reply = stage.call(names[0], "POST", "/v2/images", user, {"name": "long call"}, X_Service_Token=service)
    results.equal("with a service's token beside it, it still counts, for its own project",
                  (reply.status, reply.json().get("owner")), (201, stage.projects["alpha"]))
    results.equal("a token without role service does not help",
                  stage.call(names[0], "GET", "/v2/images", user, X_Service_Token=other).status, 401)
    results.equal("nor one that is none", stage.call(names[1], "GET", "/v2/images", user, X_Service_Token="nonsense").status,
                  401)


def quiet_logs(stage):
    """No secret is in a log."""
    text = ""
    for host in stage.cluster.hosts():
        with open(host["log_file"], encoding="utf-8", errors="replace") as f:
            text += f.read()
    stage.results.check("no log holds a password or a token", "glance-secret" not in text and "gAAAAA" not in text)


def test(cluster, keystone, results):
    stage = Stage(cluster, keystone, results)
    test_register(stage)  # without a catalog no client finds the service
    for part in (test_clients, test_tokens, test_failover, test_f35, test_expired, quiet_logs):
        try:
            part(stage)
        except Exception as error:  # pylint: disable=broad-except
            traceback.print_exc()
            results.check(f"{part.__name__}: no exception", False, repr(error))
        results.note(f"{part.__name__} done")


def main():
    with RealKeystone() as keystone:
        keystone.service_user()
        settings = keystone.settings(keystone_cache_ms=f"{CACHE_S}s", keystone_timeout_ms=f"{TIMEOUT_S}s")
        return lib.run_test("keystone", lambda cluster, results: test(cluster, keystone, results), settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
