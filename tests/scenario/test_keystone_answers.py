#!/usr/bin/env python3
"""One host against a Keystone that answers as no real one does on demand: how often it is asked, what its errors
become, and that nothing it says does harm."""
import concurrent.futures
import os
import socket
import tempfile
import time

import lib
from fake_keystone import FakeKeystone, token_body

TIMEOUT_S = 3


class Stage:
    def __init__(self, cluster, fake, results, secret):
        self.cluster, self.fake, self.results, self.secret = cluster, fake, results, secret
        self.name = cluster.names()[0]
        self.made = 0

    def new(self, **fields):
        """A token that Keystone knows and the host does not."""
        self.made += 1
        text = f"user-token-{self.made}"
        self.fake.tokens[text] = token_body(**fields)
        return text

    def call(self, token, method="GET", path="/v2/images?limit=1", **headers):
        with lib.Client(self.cluster, self.name) as client:
            return client.call(method, path, None, {k.replace("_", "-"): v for k, v in headers.items()}, token=token,
                               timeout=30)

    def status(self, token, **headers):
        return self.call(token, **headers).status


def test_economy(stage):
    """Keystone is asked once a token, over few connections, by one login."""
    results, fake = stage.results, stage.fake
    fake.validate = lambda request: time.sleep(0.3)
    token = stage.new()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(stage.status, [token] * 16))
    results.equal("16 requests at a time with one unknown token", (set(answers), fake.asked(token)), ({200}, 1))
    tokens = [stage.new() for _ in range(24)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(stage.status, tokens))
    results.equal("24 unknown tokens at a time", set(answers), {200})
    fake.validate = None
    results.equal("one login in all", len(fake.logins), 1)
    before = len(fake.connections)
    for token in [stage.new() for _ in range(12)]:
        stage.status(token)
    results.check("connections are kept", before <= 9 and len(fake.connections) == before,
                  f"{before}, then {len(fake.connections)}")
    results.check("the cached token is not asked about again", stage.status(tokens[0]) == 200
                  and fake.asked(tokens[0]) == 1)
    results.equal("an unknown token is asked about once in a while", ({stage.status("nobody's") for _ in range(4)},
                  fake.asked("nobody's")), ({401}, 1))
    results.check("the catalog is not asked for", all("nocatalog" in q for _, q in fake.validations))


def test_texts(stage):
    """What can be no token never reaches Keystone."""
    results, fake = stage.results, stage.fake
    asked = len(fake.validations)
    statuses = {stage.status("x" * 8193)}
    for raw in (b"two words", b"tab\there", b"caf\xc3\xa9", b""):
        statuses.add(raw_request(stage, raw))
    results.equal("odd token texts are refused without asking", (statuses, len(fake.validations) - asked), ({401}, 0))
    long = "y" * 8000
    fake.tokens[long] = token_body()
    results.equal("a long one is asked about", stage.status(long), 200)


def raw_request(stage, token):
    host = stage.cluster.host(stage.name)
    address = ("127.0.0.1", int(host["api_url"].rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=20) as plain, \
            stage.cluster.tls().wrap_socket(plain, server_hostname="127.0.0.1") as s:
        s.sendall(b"GET /v2/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Auth-Token: " + token + b"\r\n\r\n")
        return int(s.recv(4096).split()[1])


def test_errors(stage):
    """Errors of Keystone, or of its operator, are 503 to the client; never 401, never a crash."""
    results, fake = stage.results, stage.fake
    body = lambda status, data: lambda request: (status, {"Content-Type": "application/json"}, data)
    user = b'{"token": {"user": {"id": "%s"}, "expires_at": "2030-01-01T00:00:00.000000Z"}}'
    for what, answer in (
            ("an error", body(500, b"")), ("a gateway's page", body(502, b"<html>Bad Gateway</html>")),
            ("no JSON", body(200, b"hello")), ("an empty body", body(200, b"")), ("another object", body(200, b"{}")),
            ("a list", body(200, b"[" * 100)), ("an id too long", body(200, user % (b"i" * 65))),
            ("a huge body", body(200, b" " * (2 << 20))), ("a redirect", body(302, b"")),
            ("no right to check tokens", body(403, b"{}")), ("an odd status", body(299, b"{}"))):
        fake.validate = answer
        token = stage.new()
        reply = stage.call(token)
        results.check(f"Keystone answers with {what}: 503 with Retry-After", reply.status == 503
                      and reply.headers["Retry-After"], repr(reply))
        fake.validate = None
        if stage.status(token) != 200:
            results.check(f"after {what}, the same token works", False)
    status = stage.cluster.status(stage.name)
    results.check("afterwards the status is silent", "KEYSTONE_UNREACHABLE" not in str(status["warnings"]),
                  str(status["warnings"]))


def test_service_user(stage):
    """Its token is renewed once when Keystone refuses it; its own failure is no client's."""
    results, fake = stage.results, stage.fake
    logins = len(fake.logins)
    fake.service_tokens.clear()  # as after a restart with other keys
    results.equal("a stale service token is renewed, once", (stage.status(stage.new()), len(fake.logins) - logins), (200, 1))
    fake.validate = lambda request: (401, {}, b"{}")
    logins = len(fake.logins)
    results.equal("a new one that is refused too is 503", (stage.status(stage.new()), len(fake.logins) - logins), (503, 1))
    fake.validate = None
    fake.login = lambda request: (401, {}, b"{}")
    fake.service_tokens.clear()
    results.equal("a refused login is 503", stage.status(stage.new()), 503)
    warnings = [w["text"] for w in stage.cluster.status(stage.name)["warnings"] if w["code"] == "KEYSTONE_UNREACHABLE"]
    results.check("and the status names it", warnings and "login" in warnings[0], str(warnings))
    fake.login = lambda request: (201, {}, b"{}")
    results.equal("a login without a token is 503", stage.status(stage.new()), 503)
    fake.login = None
    with open(stage.secret, "w", encoding="utf-8") as f:
        f.write("second-secret\nmore\n")
    results.equal("it works again, with the secret that the file has by now",
                  (stage.status(stage.new()), b'"second-secret"' in fake.logins[-1]), (200, True))
    os.chmod(stage.secret, 0o644)
    fake.service_tokens.clear()
    results.equal("a secret that became open to all is not used", stage.status(stage.new()), 503)
    os.chmod(stage.secret, 0o600)
    results.equal("closed again it is", stage.status(stage.new()), 200)


def test_slow(stage):
    """A Keystone that hangs costs each request one time-out, however many wait, and a known token nothing."""
    results, fake = stage.results, stage.fake
    known = stage.new()
    stage.status(known)
    fake.service_tokens.clear()
    fake.validate = fake.login = lambda request: time.sleep(TIMEOUT_S * 3)
    tokens = [stage.new() for _ in range(60)]
    began = time.monotonic()

    def one(token):
        status = stage.status(token)
        return status, time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(one, token) for token in tokens]
        quick = [(stage.status(known), time.monotonic()) for _ in range(20)]
        done_at = time.monotonic() - began
        answers = [w.result() for w in waiting]
    results.equal("known tokens work meanwhile", {s for s, _ in quick}, {200})
    results.check("and need not wait", done_at < TIMEOUT_S, f"20 requests took {done_at:.1f} s")
    results.check("60 unknown ones get 503, all after one time-out", {s for s, _ in answers} == {503}
                  and max(t for _, t in answers) < TIMEOUT_S + 4, f"longest {max(t for _, t in answers):.1f} s")
    fake.validate = fake.login = None
    results.check("when it answers again, all is well", lib.wait_until(lambda: stage.status(tokens[0]) == 200, 20))


def test_flood(stage):
    """Thousands of invented tokens evict no good one."""
    results, fake = stage.results, stage.fake
    good = stage.new()
    stage.status(good)

    def some(first):
        with lib.Client(stage.cluster, stage.name) as client:
            return {client.call("GET", "/v2/images?limit=1", token=f"invented-{i}").status
                    for i in range(first, 2500, 8)}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = set().union(*pool.map(some, range(8)))
    results.equal("2,500 invented tokens", statuses, {401})
    results.equal("a good one is still known", (stage.status(good), fake.asked(good)), (200, 1))


def test_stop(stage):
    """A host that is stopped while requests wait for Keystone answers them, and ends cleanly."""
    results, fake = stage.results, stage.fake
    fake.validate = lambda request: time.sleep(TIMEOUT_S * 3)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(stage.status, stage.new()) for _ in range(12)]
        lib.wait_until(lambda: len(fake.validations) and fake.asked("user-token-" + str(stage.made)), 10)
        began = time.monotonic()
        stage.cluster.stop(stage.name)
        took = time.monotonic() - began
        answers = [w.result() for w in waiting]
    fake.validate = None
    with open(os.path.join(stage.cluster.dir, stage.name, "tesserad.log"), encoding="utf-8") as f:
        log = f.read()
    results.equal("requests that wait are answered", set(answers), {503})
    results.check("the host ends soon and in order", took < TIMEOUT_S + 12 and log.rstrip().endswith("stopped"),
                  f"{took:.1f} s, {log[-200:]}")


def test_start(stage):
    """A secret that everybody may read ends the start, with the reason; a Keystone that is not there does not."""
    results, host = stage.results, stage.cluster.host(stage.name)
    os.chmod(stage.secret, 0o644)
    try:
        stage.cluster.start(stage.name)
        results.check("a start with an open secret is refused", False)
    except lib.ClusterFailure:
        with open(host["log_file"], encoding="utf-8") as f:
            last = f.read().splitlines()[-1]
        results.check("a start with an open secret is refused", "can not start" in last and "open to everybody" in last, last)
    os.chmod(stage.secret, 0o600)
    stage.fake.login = lambda request: (500, {}, b"")
    stage.cluster.start(stage.name)
    results.equal("without a Keystone the host starts, and knows no token", stage.status(stage.new()), 503)
    stage.fake.login = None
    results.equal("with it, it does", stage.status(stage.new()), 200)


def test(cluster, fake, results, secret):
    stage = Stage(cluster, fake, results, secret)
    for part in (test_economy, test_texts, test_errors, test_service_user, test_slow, test_flood, test_stop, test_start):
        part(stage)
        results.note(f"{part.__name__} done")


def main():
    with FakeKeystone() as fake, tempfile.TemporaryDirectory(prefix="tessera-secret-") as folder:
        secret = os.path.join(folder, "secret")
        with open(secret, "w", encoding="utf-8") as f:
            os.chmod(secret, 0o600)
            f.write("first-secret\n")
        settings = {"identity": "keystone", "keystone_url": fake.url + "/v3/", "keystone_username": "tessera",
                    "keystone_password_file": secret, "keystone_timeout_ms": f"{TIMEOUT_S}s", "workers": "2"}
        return lib.run_test("keystone answers", lambda cluster, results: test(cluster, fake, results, secret), hosts=1,
                            settings=settings)


if __name__ == "__main__":
    raise SystemExit(main())
