"""What the scenario tests share: a cluster of real hosts on ports of its own, a small Image API client that
speaks to one chosen host over TLS, bodies made from a seed, and the counting of results.

Only the standard library is used, so that nothing of the stock clients hides what a host answers."""
import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BIN = os.environ.get("TESSERA_BIN", os.path.join(ROOT, "build", "release", "bin"))
DEV_CLUSTER = os.path.join(ROOT, "tools", "dev-cluster")
LONG = os.environ.get("LONG", "") not in ("", "0")

MIB = 1 << 20
NETWORK_ERRORS = (OSError, http.client.HTTPException)


def seed_from_environment():
    """SEED=n repeats a run; else a new one, which the caller prints."""
    return int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)


# ---- results -----------------------------------------------------------------------------------------

class Results:
    """Counts named checks. One line each; the last line of a test program is the total."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = 0
        self.began = time.monotonic()
        self.lock = threading.Lock()

    def check(self, what, good, detail=""):
        with self.lock:
            if good:
                self.passed += 1
            else:
                self.failed += 1
            print(f"{'ok  ' if good else 'FAIL'} {what}" + (f": {detail}" if detail else ""), flush=True)
        return bool(good)

    def equal(self, what, got, expected):
        return self.check(what, got == expected, "" if got == expected else f"got {got!r}, expected {expected!r}")

    def note(self, text):
        with self.lock:
            print(f"     [{time.monotonic() - self.began:7.2f} s] {text}", flush=True)

    def close(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed ({time.monotonic() - self.began:.0f} s)",
              flush=True)
        return 1 if self.failed or not self.passed else 0


def run_test(name, body, **cluster_options):
    """Runs body(cluster, results) on a new cluster; a Python exception is a failed check."""
    results = Results(name)
    try:
        with Cluster(**cluster_options) as cluster:
            try:
                body(cluster, results)
            except Exception as error:  # pylint: disable=broad-except
                import traceback
                traceback.print_exc(file=sys.stdout)
                results.check("no exception", False, repr(error))
            for host in cluster.hosts():
                ended = cluster.unexpected_end(host)
                if ended:
                    results.check(f"{host['name']} still runs", False, ended)
            if results.failed:
                cluster.keep_logs()
    except ClusterFailure as failure:
        results.check("cluster", False, str(failure))
    return results.close()


def wait_until(check, seconds, pause=0.05):
    """Polls check(); returns its first true value, or None after `seconds`. Network errors count as false."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(*NETWORK_ERRORS, KeyError, ValueError):
            value = check()
            if value:
                return value
        if time.monotonic() > end:
            return None
        time.sleep(pause)


# ---- bodies ------------------------------------------------------------------------------------------

class Body:
    """Image data made from (seed, size): incompressible, never stored, known by its digests."""

    PIECE = 1 * MIB

    def __init__(self, seed, size):
        self.seed, self.size = seed, size
        self.sha256, self.md5, self.sha512 = hashlib.sha256(), hashlib.md5(), hashlib.sha512()
        for piece in self.pieces():
            for digest in (self.sha256, self.md5, self.sha512):
                digest.update(piece)
        self.sha256, self.md5, self.sha512 = (d.hexdigest() for d in (self.sha256, self.md5, self.sha512))

    def pieces(self):
        source = random.Random(self.seed)
        left = self.size
        while left:
            piece = source.randbytes(min(left, self.PIECE))
            left -= len(piece)
            yield piece

    def __bytes__(self):
        return b"".join(self.pieces())


# ---- the cluster -------------------------------------------------------------------------------------

class ClusterFailure(Exception):
    pass


def free_port_base(hosts):
    """A port P such that P.., P+100.., P+200.. and P+300.. are free for `hosts` hosts, below the ephemeral range."""
    source = random.SystemRandom()
    for _ in range(200):
        base = source.randrange(12000, 30000)
        with contextlib.ExitStack() as stack:
            try:
                for offset in (0, 100, 200, 300):
                    for k in range(hosts):
                        s = stack.enter_context(socket.socket())
                        s.bind(("127.0.0.1", base + offset + k))
                return base
            except OSError:
                continue
    raise ClusterFailure("no free ports")


class Cluster:
    """A cluster in a folder of its own, through tools/dev-cluster. Use it as a context."""

    def __init__(self, hosts=3, settings=None, plain=False, keep=None):
        self.count = hosts
        self.settings = settings or {}
        self.plain = plain
        self.keep = keep if keep is not None else bool(os.environ.get("KEEP"))
        self.dir = None
        self.base = None
        self.expected_down = set()
        self.tokens = {}
        self.lock = threading.Lock()

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="tessera-scenario-", dir=os.environ.get("TESSERA_SCENARIO_DIR"))
        try:
            self.base = free_port_base(self.count)
            options = ["--hosts", str(self.count), "--api-port", str(self.base)]
            if self.plain:
                options += ["--plain-port", str(self.base + 300)]
            for key, value in self.settings.items():
                options += ["--set", f"{key}={value}"]
            began = time.monotonic()
            self.verb("up", *options, timeout=180)
            print(f"     cluster of {self.count} formed in {time.monotonic() - began:.1f} s, {self.dir}", flush=True)
        except BaseException:
            self.keep_logs()
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(ClusterFailure):
            names = [h["name"] for h in self.hosts()]
            if names:
                self.verb("kill", *names)
        if self.keep:
            print(f"     kept: {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def keep_logs(self):
        """Copies logs (not data) to build/scenario-logs, so that a failure can be studied."""
        target = os.path.join(ROOT, "build", "scenario-logs", os.path.basename(self.dir))
        for name in sorted(os.listdir(self.dir)):
            folder = os.path.join(self.dir, name)
            if not os.path.isdir(folder):
                continue
            os.makedirs(os.path.join(target, name), exist_ok=True)
            for file in ("tesserad.log", "stderr.log", "tesserad.conf"):
                with contextlib.suppress(OSError):
                    shutil.copy(os.path.join(folder, file), os.path.join(target, name))
        print(f"     logs: {target}", flush=True)

    def verb(self, *words, timeout=120):
        done = subprocess.run([sys.executable, DEV_CLUSTER, *words, "--dir", self.dir], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise ClusterFailure(f"dev-cluster {' '.join(words[:3])}: {done.stdout.strip()}")
        return done.stdout

    def hosts(self):
        try:
            with open(os.path.join(self.dir, "hosts.json"), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return []

    def names(self):
        return [h["name"] for h in self.hosts()]

    def host(self, name):
        return next(h for h in self.hosts() if h["name"] == name)

    def kill(self, *names):
        """SIGKILL now (the signal goes out before this returns its time); hosts.json follows."""
        pids = [self.host(n)["pid"] for n in names]
        self.expected_down.update(names)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        when = time.monotonic()
        self.verb("kill", *names)
        return when

    def stop(self, *names):
        self.expected_down.update(names)
        return self.verb("stop", *names)

    def start(self, *names):
        out = self.verb("start", *names)
        self.expected_down.difference_update(names)
        return out

    def wipe(self, *names):
        self.expected_down.update(names)
        return self.verb("wipe", *names)

    def unexpected_end(self, host):
        """None while the host's process is as it should be, else what its log says last."""
        if host["name"] in self.expected_down:
            return None
        try:
            with open(f"/proc/{host['pid']}/stat", encoding="utf-8") as f:
                if f.read().rpartition(")")[2].split()[0] not in "ZX":
                    return None
        except OSError:
            pass
        tail = ""
        for file in (host["log_file"], os.path.join(os.path.dirname(host["log_file"]), "stderr.log")):
            with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as f:
                tail += "\n".join(f.read().splitlines()[-12:]) + "\n"
        return "its process has ended:\n" + tail

    def tessera(self, name, *words, timeout=30):
        """The operator's command against one host; its JSON output, or None when it fails."""
        done = subprocess.run([os.path.join(BIN, "tessera"), "--socket", self.host(name)["admin_socket"], *words,
                               "-o", "json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            return None
        with contextlib.suppress(ValueError):
            return json.loads(done.stdout)
        return None

    def status(self, name):
        return self.tessera(name, "status")

    def leader(self, among=None):
        for name in among or [n for n in self.names() if n not in self.expected_down]:
            status = self.status(name)
            if status and status.get("leader"):
                return status["leader"]
        return None

    def await_ready(self, seconds=60):
        """Until every host takes changes and sees every host up; the seconds it took, or None."""
        began = time.monotonic()

        def ready():
            names = self.names()
            for name in names:
                with Client(self, name) as client:
                    if client.call("GET", "/health/write", token=False, timeout=3).status != 200:
                        return False
            status = self.status(names[0])
            return status and all(h["state"] == "up" for h in status["hosts"]) and len(status["hosts"]) == len(names)

        return time.monotonic() - began if wait_until(ready, seconds, 0.1) else None

    def rc(self, account):
        """The OS_* variables of openrc ("admin") or openrc-demo ("demo")."""
        values = {}
        with open(os.path.join(self.dir, "openrc" if account == "admin" else "openrc-demo"), encoding="utf-8") as f:
            for line in f:
                key, _, value = line.removeprefix("export ").strip().partition("=")
                values[key] = value.strip("'")
        return values

    def environment(self, name, account="admin", **more):
        """The environment for a stock client that talks to one host."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OS_") and "proxy" not in k.lower()}
        return {**clean, **self.rc(account), "OS_AUTH_URL": self.host(name)["api_url"] + "/identity/v3", **more}

    def tls(self):
        context = ssl.create_default_context(cafile=os.path.join(self.dir, "ca.pem"))
        return context

    def token(self, name, account="admin"):
        """A token of the account, asked for at a host once and used at all of them."""
        with self.lock:
            token, when = self.tokens.get(account, (None, 0))
            if token and time.monotonic() - when < 1800:
                return token
        token = self.authenticate(name, account)[0]
        with self.lock:
            self.tokens[account] = (token, time.monotonic())
        return token

    def authenticate(self, name, account="admin", timeout=30):
        """(token, token body) from one host's identity service."""
        rc = self.rc(account)
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": rc["OS_USERNAME"], "password": rc["OS_PASSWORD"], "domain": {"name": "Default"}}}},
            "scope": {"project": {"name": rc["OS_PROJECT_NAME"], "domain": {"name": "Default"}}}}}
        with Client(self, name) as client:
            reply = client.call("POST", "/identity/v3/auth/tokens", body, token=False, timeout=timeout)
        if reply.status != 201:
            raise ClusterFailure(f"no token from {name}: {reply.status} {reply.data[:300]!r}")
        return reply.headers["X-Subject-Token"], reply.json()["token"]

    def disk_bytes(self, name):
        """Bytes that a host's data directory takes on disk (allocated, not apparent)."""
        total = 0
        for where, _, files in os.walk(self.host(name)["data_dir"]):
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(where, file)).st_blocks * 512
        return total

    def chunk_bytes(self, name):
        """Bytes on disk below the host's folders named `chunks`: image data alone."""
        total = 0
        for where, _, files in os.walk(self.host(name)["data_dir"]):
            if "chunks" not in where[len(self.dir):].split(os.sep):
                continue
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(where, file)).st_blocks * 512
        return total


# ---- the client --------------------------------------------------------------------------------------

class Reply:
    def __init__(self, status, headers, data):
        self.status, self.headers, self.data = status, headers, data

    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"<{self.status} {self.data[:200]!r}>"


class Client:
    """One connection to one host; not for several threads. A broken connection raises NETWORK_ERRORS."""

    def __init__(self, cluster, name, account="admin"):
        self.cluster, self.name, self.account = cluster, name, account
        self.address = urllib.parse.urlparse(cluster.host(name)["api_url"])
        self.connection = None
        self.context = cluster.tls()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def connect(self, timeout):
        if not self.connection:
            self.connection = http.client.HTTPSConnection(self.address.hostname, self.address.port, timeout=timeout,
                                                          context=self.context)
        self.connection.timeout = timeout
        if self.connection.sock:
            self.connection.sock.settimeout(timeout)
        return self.connection

    def headers(self, token):
        if token is False:
            return {}
        return {"X-Auth-Token": token or self.cluster.token(self.name, self.account)}

    def send(self, method, path, body=None, headers=None, token=None, timeout=30, chunked=False):
        """Sends a request, and returns the open http.client response."""
        fields = {**self.headers(token), **(headers or {})}
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            fields.setdefault("Content-Type", "application/json")
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, fields, encode_chunked=chunked)
            return connection.getresponse()
        except NETWORK_ERRORS:
            self.close()
            raise

    def call(self, method, path, body=None, headers=None, token=None, timeout=30, chunked=False):
        response = self.send(method, path, body, headers, token, timeout, chunked)
        try:
            data = response.read()
        except NETWORK_ERRORS:
            self.close()
            raise
        if response.will_close:
            self.close()
        return Reply(response.status, response.headers, data)

    # ---- images ----

    def create(self, name, image_id=None, disk_format="raw", timeout=30, **fields):
        body = {"name": name, "disk_format": disk_format, "container_format": "bare", **fields}
        if image_id:
            body["id"] = image_id
        return self.call("POST", "/v2/images", body, timeout=timeout)

    def upload(self, image_id, body, chunked=False, timeout=60, headers=None):
        """PUT of a Body, bytes, an open file or an iterable of bytes; with Content-Length unless chunked."""
        fields = {"Content-Type": "application/octet-stream", **(headers or {})}
        if isinstance(body, Body):
            size, data = body.size, body.pieces()
        elif isinstance(body, bytes):
            size, data = len(body), body
        elif hasattr(body, "fileno"):
            size, data = os.fstat(body.fileno()).st_size, body
        else:
            size, data, chunked = None, body, True
        if chunked:
            fields["Transfer-Encoding"] = "chunked"
            data = iter([data]) if isinstance(data, bytes) else data
        else:
            fields["Content-Length"] = str(size)
        return self.call("PUT", f"/v2/images/{image_id}/file", data, fields, timeout=timeout, chunked=chunked)

    def download(self, image_id, timeout=60, headers=None, sink=None):
        """(status, sha256 of the body, its length, headers); raises when the body ends early."""
        response = self.send("GET", f"/v2/images/{image_id}/file", headers=headers, timeout=timeout)
        digest, size = hashlib.sha256(), 0
        try:
            while True:
                piece = response.read(256 * 1024)
                if not piece:
                    break
                digest.update(piece)
                size += len(piece)
                if sink:
                    sink(piece)
        except NETWORK_ERRORS:
            self.close()
            raise
        expected = response.headers.get("Content-Length")
        if expected is not None and response.status in (200, 206) and size != int(expected):
            self.close()
            raise http.client.IncompleteRead(b"", int(expected) - size)
        if response.will_close:
            self.close()
        return response.status, digest.hexdigest(), size, response.headers

    def show(self, image_id, timeout=30):
        return self.call("GET", f"/v2/images/{image_id}", timeout=timeout)

    def delete(self, image_id, timeout=30):
        return self.call("DELETE", f"/v2/images/{image_id}", timeout=timeout)

    def patch(self, image_id, operations, timeout=30):
        return self.call("PATCH", f"/v2/images/{image_id}", operations,
                         {"Content-Type": "application/openstack-images-v2.1-json-patch"}, timeout=timeout)

    def list(self, query="limit=100", timeout=30):
        """Every image, page after page."""
        path, images = f"/v2/images?{query}", []
        while path:
            reply = self.call("GET", path, timeout=timeout)
            if reply.status != 200:
                raise ClusterFailure(f"list on {self.name}: {reply!r}")
            page = reply.json()
            images += page["images"]
            path = page.get("next")
        return images


def new_id():
    return str(uuid.uuid4())


def openstack(cluster, name, *words, account="admin", stdin=None, timeout=120, env=None):
    """The stock client as a user runs it: (exit code, standard output, standard error)."""
    done = subprocess.run(["openstack", *words], env={**cluster.environment(name, account), **(env or {})},
                          stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, check=False)
    return done.returncode, done.stdout, done.stderr
