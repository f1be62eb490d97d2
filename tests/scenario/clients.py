"""What the tests of stock clients share: a relay that spreads connections over the hosts, accounts made through the
identity API, and programs run by the system's Python, where Debian puts the clients."""
import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import threading

import lib

PYTHON = "/usr/bin/python3"  # the stock clients are Debian's packages: another Python does not see them
HERE = os.path.dirname(os.path.abspath(__file__))


class Relay:
    """One address of loopback in front of all hosts: each connection goes to the next host that accepts it.

    It passes bytes on without looking at them, so TLS ends at the hosts. `counts` says how many connections each host
    got. Use it as a context; give the hosts once they are there."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.targets = []
        self.counts = {}
        self.turn = 0
        self.tasks = set()
        self.loop = self.stopping = None
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)

    def spread_over(self, cluster, url="api_url"):
        self.targets = [(h["name"], int(h[url].rsplit(":", 1)[1])) for h in cluster.hosts()]

    def _run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        """Until told to stop; asyncio.run then cancels what is still under way, and waits for it."""
        self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._client, sock=self.listener):
            self.ready.set()
            await self.stopping.wait()

    async def _connect(self):
        """The next host in turn; one that refuses is passed over, as a load balancer does."""
        for _ in range(len(self.targets)):
            name, port = self.targets[self.turn % len(self.targets)]
            self.turn += 1
            with contextlib.suppress(OSError):
                pair = await asyncio.open_connection("127.0.0.1", port)
                self.counts[name] = self.counts.get(name, 0) + 1
                return pair
        return None

    async def _client(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)  # the loop alone would not keep it
        host = await self._connect()
        with contextlib.suppress(asyncio.CancelledError):
            if host:
                await asyncio.gather(self._pump(reader, host[1]), self._pump(host[0], writer))
        if host:
            host[1].close()
        writer.close()
        self.tasks.discard(task)

    @staticmethod
    async def _pump(source, sink):
        """Until the end of one direction; a broken connection ends both."""
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
        except OSError:
            sink.transport.abort()


class Identity:
    """Projects and users made through one host's identity API, as its administrator."""

    def __init__(self, cluster, name):
        self.client = lib.Client(cluster, name)
        roles = self.call("GET", "/roles")["roles"]
        self.roles = {role["name"]: role["id"] for role in roles}

    def call(self, method, path, body=None):
        reply = self.client.call(method, "/identity/v3" + path, body)
        if reply.status >= 300:
            raise lib.ClusterFailure(f"{method} {path}: {reply!r}")
        return reply.json() if reply.data else None

    def project(self, name):
        return self.call("POST", "/projects", {"project": {"name": name, "domain_id": "default"}})["project"]["id"]

    def user(self, name, project_id, *roles):
        """(user id, password) of a new user with the roles on the project."""
        password = secrets.token_urlsafe(12)
        user = {"name": name, "domain_id": "default", "password": password}
        user_id = self.call("POST", "/users", {"user": user})["user"]["id"]
        for role in roles:
            self.call("PUT", f"/projects/{project_id}/users/{user_id}/roles/{self.roles[role]}")
        return user_id, password


def clean_environment(**more):
    """The environment without OS_* and proxies, which would change where a client goes."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OS_") and "proxy" not in k.lower()}
    return {**kept, **more}


def version_of(package):
    """The version of an installed Debian package; None if it is not installed."""
    done = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", package], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    state, _, version = done.stdout.partition(" ")
    return version if state == "installed" else None


class Cloud:
    """An address, and who may ask there: what a stock client's environment needs, whoever keeps the accounts.

    `accounts` is name -> OS_* variables, with at least admin, alice (member of project alpha) and bob (of beta);
    `projects` is name -> id. Where the users and projects really have a prefix before these names, it is `prefix`."""

    def __init__(self, folder, accounts, projects, prefix=""):
        self.folder, self.accounts, self.projects, self.prefix = folder, accounts, projects, prefix
        os.makedirs(folder, exist_ok=True)

    def environment(self, account, **more):
        base = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL") if k in os.environ}
        # The home is the test's own: clients keep files there (glance: schemas).
        values = {**base, "HOME": self.folder, **self.accounts[account], **more}
        return {key: value for key, value in values.items() if value is not None}

    def file(self, name, data=None):
        path = os.path.join(self.folder, name)
        if data is not None:
            with open(path, "wb") as f:
                f.write(data)
        return path


def embedded_cloud(cluster, url, folder, prefix=""):
    """A Cloud on the cluster's own identity, reached at `url`; its names begin with the prefix."""
    identity = Identity(cluster, cluster.names()[0])
    base = {**cluster.rc("admin"), "OS_AUTH_URL": url + "/identity/v3"}
    projects = {name: identity.project(prefix + name) for name in ("alpha", "beta")}
    accounts = {"admin": base}
    for user, project in (("alice", "alpha"), ("bob", "beta")):
        _, password = identity.user(prefix + user, projects[project], "member")
        accounts[user] = {**base, "OS_USERNAME": prefix + user, "OS_PASSWORD": password,
                          "OS_PROJECT_NAME": prefix + project}
    return Cloud(folder, accounts, projects, prefix)


class Shell:
    """Stock clients' commands, checked: all in one process of their Python, or each in its own with LONG=1."""

    def __init__(self, cloud, results, title):
        self.cloud, self.results, self.title = cloud, results, title
        self.process = self.pair = None
        self.one_process = not lib.LONG
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait(30)
        for end in self.pair or ():
            os.close(end)

    def _in_one_process(self, command):
        if not self.process:
            self.process = subprocess.Popen([PYTHON, os.path.join(HERE, "clients_shell.py")], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True, env=command["env"], cwd=self.cloud.folder)
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def _in_its_own(self, command):
        with contextlib.ExitStack() as stack:
            stdin = stack.enter_context(open(command["stdin"], "rb")) if command["stdin"] else self.terminal()
            done = subprocess.run(command["words"], env=command["env"], cwd=self.cloud.folder, stdin=stdin, timeout=120,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        return {"code": done.returncode, "out": done.stdout.decode(errors="replace"),
                "err": done.stderr.decode(errors="replace")}

    def terminal(self):
        """Standard input as a person has it: from anything else the clients read image data."""
        if not self.pair:
            self.pair = os.openpty()
        return self.pair[1]

    def call(self, *words, account="alice", stdin=None, **env):
        self.count += 1
        command = {"words": words, "env": self.cloud.environment(account, **env), "stdin": stdin}
        return self._in_one_process(command) if self.one_process else self._in_its_own(command)

    def ok(self, *words, **options):
        """The output of a command that must succeed."""
        reply = self.call(*words, **options)
        self.results.check(f"{self.title} {' '.join(words[1:6])}", reply["code"] == 0,
                           "" if reply["code"] == 0 else f"exit {reply['code']}: {(reply['err'] or reply['out'])[-600:]}")
        return reply["out"]

    def fails(self, *words, saying="", **options):
        """A command that must fail, with a text in what it prints."""
        reply = self.call(*words, **options)
        good = reply["code"] != 0 and saying in reply["err"] + reply["out"]
        self.results.check(f"{self.title} {' '.join(words[1:6])} is refused" + (f" ({saying})" if saying else ""), good,
                           "" if good else f"exit {reply['code']}: {(reply['err'] + reply['out'])[-600:]}")

    def json(self, *words, **options):
        """The openstack client's output as data; {} (after a failed check) when it is none."""
        out = self.ok(*words, "-f", "json", **options)
        try:
            return json.loads(out)
        except ValueError:
            return {}

    def equal(self, what, got, expected):
        return self.results.equal(f"{self.title} {what}", got, expected)

    def check(self, what, good, detail=""):
        return self.results.check(f"{self.title} {what}", good, detail)


def token_of(cluster, cloud, account):
    """A token of one of the cloud's accounts, from the cluster's own identity, without a stock client."""
    rc = cloud.accounts[account]
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": rc["OS_USERNAME"], "password": rc["OS_PASSWORD"], "domain": {"name": "Default"}}}},
        "scope": {"project": {"name": rc["OS_PROJECT_NAME"], "domain": {"name": "Default"}}}}}
    with lib.Client(cluster, cluster.names()[0]) as client:
        reply = client.call("POST", "/identity/v3/auth/tokens", body, token=False)
    if reply.status != 201:
        raise lib.ClusterFailure(f"no token for {account}: {reply!r}")
    return reply.headers["X-Subject-Token"]
