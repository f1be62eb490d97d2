"""A real Keystone (Debian's python3-keystone), started by a test for itself: SQLite, Fernet tokens, plain HTTP on
loopback, everything in a folder of its own. Nothing of it is Tessera's.

    with RealKeystone() as keystone:
        alpha = keystone.project("alpha")
        alice = keystone.user("alice", "secret")
        keystone.grant(alice, alpha, "member")
        environment = keystone.environment("alice", "secret", "alpha")

The service's threads may be killed, stopped and continued as a whole (kill, pause, resume, start), which is how tests
make it fail. Debian's modules are used through /usr/bin/python3, whatever python3 is on the path.
"""
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

PYTHON = "/usr/bin/python3"
REGION = "RegionOne"
ADMIN_PASSWORD = "keystone-admin-secret"
START_SECONDS = 60

# Serves the WSGI application with a thread a connection and HTTP/1.1 (kept connections), as a real front end does.
SERVE = """
import sys
from werkzeug import serving
from keystone.server.wsgi import initialize_public_application
port = int(sys.argv.pop(1))
class Handler(serving.WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    def log(self, type, message, *args):
        pass
application = initialize_public_application()
serving.make_server("127.0.0.1", port, application, threaded=True, request_handler=Handler).serve_forever()
"""

# Loading Keystone takes seconds, which this pays once for all commands.
MANAGE = """
import json, os, sys
from keystone.cmd import cli
for words in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        cli.main(argv=words)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("failed: " + words[3])
"""

CONFIG = """[DEFAULT]
log_file = {dir}/keystone.log
[database]
connection = sqlite:///{dir}/keystone.db
[token]
provider = fernet
expiration = {expiration}
allow_expired_window = 172800
[fernet_tokens]
key_repository = {dir}/fernet-keys
max_active_keys = 3
[credential]
key_repository = {dir}/credential-keys
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_rounds = 4
"""


class KeystoneFailure(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RealKeystone:
    """Use it as a context."""

    def __init__(self, expiration=3600):
        self.expiration = expiration  # seconds that a token lives; a change counts from the next start on
        self.dir = None
        self.port = None
        self.process = None
        self.token = None

    @property
    def base(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self):
        return self.base + "/v3"

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="tessera-keystone-", dir=os.environ.get("TESSERA_SCENARIO_DIR"))
        try:
            began = time.monotonic()
            self.port = free_port()
            self.write_config()
            # A journal of its own: with the default one, a reader that Keystone leaves open locks out every writer.
            with contextlib.closing(sqlite3.connect(os.path.join(self.dir, "keystone.db"))) as database:
                database.execute("PRAGMA journal_mode=WAL")
            ids = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
            self.manage(["db_sync"], ["fernet_setup", *ids], ["credential_setup", *ids],
                        ["bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", REGION,
                         "--bootstrap-public-url", self.url + "/", "--bootstrap-internal-url", self.url + "/",
                         "--bootstrap-admin-url", self.url + "/"])
            self.start()
            print(f"     keystone at {self.url}, ready in {time.monotonic() - began:.1f} s", flush=True)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- the process ----

    def manage(self, *commands):
        """Commands of keystone-manage, one after the other, in children of one process that has loaded it."""
        words = [["keystone-manage", "--config-file", os.path.join(self.dir, "keystone.conf"), *c] for c in commands]
        done = subprocess.run([PYTHON, "-c", MANAGE, json.dumps(words)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False)
        if done.returncode != 0:
            raise KeystoneFailure(f"keystone-manage: {done.stdout[-2000:]}")

    def write_config(self):
        with open(os.path.join(self.dir, "keystone.conf"), "w", encoding="utf-8") as f:
            f.write(CONFIG.format(dir=self.dir, expiration=self.expiration))

    def start(self):
        """Starts the service, and returns when it answers."""
        self.write_config()
        environment = {**os.environ, "OS_KEYSTONE_CONFIG_FILES": os.path.join(self.dir, "keystone.conf")}
        with open(os.path.join(self.dir, "stderr.log"), "ab") as log:
            self.process = subprocess.Popen([PYTHON, "-c", SERVE, str(self.port)], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=environment)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError, KeystoneFailure):
                self.call("GET", "/v3", timeout=5, token=False)
                return
            if self.process.poll() is not None or time.monotonic() > end:
                raise KeystoneFailure(f"keystone does not start: {self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self):
        text = ""
        for name in ("stderr.log", "keystone.log"):
            with contextlib.suppress(OSError), open(os.path.join(self.dir, name), encoding="utf-8") as f:
                text += f.read()[-1500:]
        return text

    def kill(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self):
        """SIGSTOP: connections are accepted by the kernel, and nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    # ---- its API ----

    def call(self, method, path, body=None, token=None, timeout=30, headers=None, status=None):
        """(status, headers, JSON body or None). token False: without; None: the administrator's. A status other
        than `status` (None: any 2xx) raises KeystoneFailure."""
        fields = dict(headers or {})
        if body is not None:
            fields["Content-Type"] = "application/json"
        if token is not False:
            fields["X-Auth-Token"] = token or self.admin_token()
        request = urllib.request.Request(self.base + path, method=method, headers=fields,
                                         data=json.dumps(body).encode() if body is not None else None)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as reply:
                code, got, data = reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            code, got, data = error.code, error.headers, error.read()
        if (code != status) if status else not 200 <= code < 300:
            raise KeystoneFailure(f"{method} {path}: {code} {data[:300]!r}")
        return code, got, json.loads(data) if data else None

    def login(self, user=None, password=None, project=None, identity=None, scope=None):
        """(token, its body) of a user by name, or for a whole `identity` object."""
        identity = identity or {"methods": ["password"], "password": {"user": {
            "name": user, "password": password, "domain": {"id": "default"}}}}
        auth = {"identity": identity}
        if scope or project:
            auth["scope"] = scope or {"project": {"name": project, "domain": {"id": "default"}}}
        _, headers, body = self.call("POST", "/v3/auth/tokens", {"auth": auth}, token=False, status=201)
        return headers["X-Subject-Token"], body["token"]

    def admin_token(self):
        if not self.token:
            self.token = self.login("admin", ADMIN_PASSWORD, "admin")[0]
        return self.token

    def ensure(self, things, thing, name, **fields):
        """The object of that name, made where it is missing."""
        found = self.call("GET", f"/v3/{things}?name={name}")[2][things]
        return found[0] if found else self.call("POST", f"/v3/{things}", {thing: {"name": name, **fields}})[2][thing]

    def project(self, name, domain="default"):
        return self.ensure("projects", "project", name, domain_id=domain)["id"]

    def user(self, name, password, domain="default"):
        return self.ensure("users", "user", name, domain_id=domain, password=password)["id"]

    def role(self, name):
        return self.ensure("roles", "role", name)["id"]

    def grant(self, user, project, *roles):
        for role in roles:
            self.call("PUT", f"/v3/projects/{project}/users/{user}/roles/{self.role(role)}")

    def service_user(self, name="glance", password="glance-secret", roles=("admin", "service")):
        """The user with which an image service checks tokens: on project service."""
        user = self.user(name, password)
        self.grant(user, self.project("service"), *roles)
        return user

    def settings(self, **more):
        """Settings of hosts that check tokens here, as service user glance (service_user)."""
        secret = os.path.join(self.dir, "password")
        with open(secret, "w", encoding="utf-8") as f:
            os.chmod(secret, 0o600)
            f.write("glance-secret\n")
        return {"identity": "keystone", "keystone_url": self.base, "keystone_username": "glance",
                "keystone_password_file": secret, **more}

    def revoke(self, token):
        self.call("DELETE", "/v3/auth/tokens", headers={"X-Subject-Token": token})

    def environment(self, user, password, project, **more):
        """The variables of an RC file, for the stock clients, in an environment without other OS_ ones."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OS_") and "proxy" not in k.lower()}
        return {**clean, "OS_AUTH_TYPE": "password", "OS_AUTH_URL": self.url, "OS_USERNAME": user,
                "OS_PASSWORD": password, "OS_PROJECT_NAME": project, "OS_USER_DOMAIN_NAME": "Default",
                "OS_PROJECT_DOMAIN_NAME": "Default", "OS_IDENTITY_API_VERSION": "3", "OS_IMAGE_API_VERSION": "2",
                "OS_REGION_NAME": REGION, **more}
