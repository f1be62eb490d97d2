"""Hosts in network namespaces of their own, joined by two bridges: one for the hosts' talk, one for clients.

The test program moves into a new network namespace, which holds the bridges and stands for the clients; so nothing of
the machine's own network is touched, and all of it goes when the program ends. Each host's namespace is held by a
child process. Faults are iptables rules at the receiving end (each direction of each pair by itself) and bridge ports
that are taken down. Needs root; `unavailable()` says why it can not be had."""
import contextlib
import ctypes
import heapq
import json
import os
import random
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import lib

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
BRIDGE = "mas" "ter"  # what `ip link set` calls the bridge of a port
LIBC = ctypes.CDLL(None, use_errno=True)


def unshare_network():
    if LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))


def end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*words, check=True):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=30, check=False)
    if check and done.returncode != 0:
        raise lib.ClusterFailure(f"{' '.join(words)}: {done.stdout.strip()}")
    return done.stdout


def unavailable():
    """Why namespaces can not be made here, or None. In a child, so that nothing is changed."""
    for program in ("ip", "iptables", "nsenter"):
        if not shutil.which(program):
            return f"{program} is not installed"
    script = ("ip link set lo up && ip link add name bridge0 type bridge && ip link add name one type veth peer name two && "
              "iptables -w -A INPUT -m statistic --mode random --probability 0.5 -j DROP")
    done = subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30, check=False, preexec_fn=try_unshare)
    return None if done.returncode == 0 else f"no network namespace of our own: {done.stdout.strip()}"


def try_unshare():
    with contextlib.suppress(OSError):
        unshare_network()
        return
    os.write(1, b"unshare is refused (root is needed)\n")
    os._exit(1)


class Relay(threading.Thread):
    """Carries the frames between the hosts' ports in place of the bridge: late, out of order, some twice, some never.

    Each frame waits for a time drawn from the seed, between `delay_s`'s bounds. The sockets carry the kernel's own
    header before each frame, in which it notes checksums and segments that are left to the card."""

    SOL_PACKET, PACKET_VNET_HDR, OUTGOING, FRAME_MAX = 263, 15, 4, 70000

    def __init__(self, ports, seed, delay_s, twice, lost):
        super().__init__(daemon=True)
        self.source, self.delay_s, self.twice, self.lost = random.Random(seed), delay_s, twice, lost
        self.counts = {"carried": 0, "twice": 0, "lost": 0, "overtaken": 0}
        self.ending, self.waiting, self.number, self.last_sent = threading.Event(), [], 0, 0
        self.sockets = []
        for port in ports:
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.setsockopt(self.SOL_PACKET, self.PACKET_VNET_HDR, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            s.bind((port, 3))
            s.setblocking(False)
            self.sockets.append(s)
        self.start()

    def take(self, s):
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, where = s.recvfrom(self.FRAME_MAX)
                if where[2] == self.OUTGOING:  # our own, on its way to the host
                    continue
                dice = self.source.random()
                if dice < self.lost:
                    self.counts["lost"] += 1
                    continue
                copies = 2 if dice > 1 - self.twice else 1
                self.counts["twice"] += copies - 1
                for _ in range(copies):
                    self.number += 1
                    heapq.heappush(self.waiting, (time.monotonic() + self.source.uniform(*self.delay_s), self.number, s,
                                                  frame))

    def deliver(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, number, origin, frame = heapq.heappop(self.waiting)
            self.counts["carried"] += 1
            self.counts["overtaken"] += number < self.last_sent
            self.last_sent = max(number, self.last_sent)
            for s in self.sockets:
                if s is not origin:  # the hosts' cards drop what is for others
                    with contextlib.suppress(OSError):
                        s.send(frame)

    def run(self):
        while not self.ending.is_set():
            wait = max(0, self.waiting[0][0] - time.monotonic()) if self.waiting else 0.05
            for s in select.select(self.sockets, [], [], min(wait, 0.05))[0]:
                self.take(s)
            self.deliver()

    def end(self):
        self.ending.set()
        self.join(5)
        for s in self.sockets:
            s.close()
        return self.counts


class NetHost:
    """One host: its namespace, two interfaces (`peers`, `clients`), its tesserad."""

    def __init__(self, lab, number):
        self.lab, self.number, self.name = lab, number, f"host{number}"
        self.peer_ip, self.client_ip = f"10.77.1.{number}", f"10.77.2.{number}"
        self.folder = os.path.join(lab.dir, self.name)
        self.socket = os.path.join(self.folder, "admin.sock")
        self.log_file = os.path.join(self.folder, "tesserad.log")
        self.process = None
        os.makedirs(os.path.join(self.folder, "data"), mode=0o700)
        self.holder = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            ["sleep", "infinity"], preexec_fn=lambda: (end_with_parent(), unshare_network()))
        self.inside("ip", "link", "set", "lo", "up")
        for net, ip in (("peers", self.peer_ip), ("clients", self.client_ip)):
            port = f"{net[0]}{number}"
            run("ip", "link", "add", "name", port, "type", "veth", "peer", "name", net, "netns", str(self.holder.pid))
            run("ip", "link", "set", port, BRIDGE, net, "up")
            self.inside("ip", "addr", "add", ip + "/24", "dev", net)
            self.inside("ip", "link", "set", net, "up")

    def inside(self, *words, check=True):
        return run("nsenter", "-t", str(self.holder.pid), "-n", *words, check=check)

    def start(self):
        values = {"data_dir": os.path.join(self.folder, "data"), "host_name": self.name,
                  "api_listen": f"{self.client_ip}:9292", "peer_listen": f"{self.peer_ip}:9293",
                  "raft_listen": f"{self.peer_ip}:9294", "log_file": self.log_file, "admin_socket": self.socket,
                  **self.lab.settings}
        config = os.path.join(self.folder, "tesserad.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.writelines(f"{key} = {value}\n" for key, value in values.items())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        with open(os.path.join(self.folder, "stderr.log"), "ab") as err:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
                ["nsenter", "-t", str(self.holder.pid), "-n", os.path.join(lib.BIN, "tesserad"), "--config", config],
                stdin=subprocess.DEVNULL, stdout=err, stderr=err, preexec_fn=end_with_parent)
        if not lib.wait_until(lambda: os.path.exists(self.socket), 20):
            raise lib.ClusterFailure(f"{self.name} did not start")

    def record(self):
        return {"name": self.name, "pid": self.process.pid if self.process else None,
                "api_url": f"https://{self.client_ip}:9292", "data_dir": os.path.join(self.folder, "data"),
                "log_file": self.log_file, "admin_socket": self.socket}

    def close(self):
        for process in (self.process, self.holder):
            if process:
                process.kill()  # ends a stopped one too
                process.wait()


class NetCluster(lib.Cluster):
    """A cluster whose hosts are NetHosts; the rest is as in lib.Cluster."""

    def __init__(self, hosts=3, settings=None):
        super().__init__(hosts, settings)
        self.members = []
        self.relayed = None
        self.password = secrets.token_urlsafe(18)

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="tessera-network-", dir=os.environ.get("TESSERA_SCENARIO_DIR"))
        try:
            unshare_network()
            run("ip", "link", "set", "lo", "up")
            for net, ip in (("peers", "10.77.1.254"), ("clients", "10.77.2.254")):
                run("ip", "link", "add", "name", net, "type", "bridge")
                run("ip", "addr", "add", ip + "/24", "dev", net)
                run("ip", "link", "set", net, "up")
            began = time.monotonic()
            for number in range(1, self.count + 1):
                self.members.append(NetHost(self, number))
            self.form()
            print(f"     cluster of {self.count} in namespaces formed in {time.monotonic() - began:.1f} s, {self.dir}",
                  flush=True)
        except BaseException:
            self.keep_logs()
            self.close()
            raise
        return self

    def form(self):
        for member in self.members:
            member.start()
        secret = os.path.join(self.dir, "admin-password")
        with open(secret, "w", encoding="utf-8") as f:
            f.write(self.password + "\n")
        first = self.members[0]
        self.must(first.name, "cluster", "init", "--admin-password-file", secret)
        shutil.copyfile(os.path.join(first.folder, "data", "certs", "ca.pem"), os.path.join(self.dir, "ca.pem"))
        for member in self.members[1:]:
            self.must(member.name, "cluster", "join", self.must(first.name, "cluster", "token", "create")["token"])
        if self.await_ready(60) is None:
            raise lib.ClusterFailure("the hosts did not become ready")

    def must(self, name, *words):
        answer = self.tessera(name, *words, timeout=60)
        if answer is None:
            raise lib.ClusterFailure(f"{name}: tessera {' '.join(words[:2])} failed")
        return answer

    def close(self):
        for member in self.members:
            member.close()
        if self.keep:
            print(f"     kept: {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def hosts(self):
        return [member.record() for member in self.members]

    def rc(self, account):
        return {"OS_USERNAME": account, "OS_PASSWORD": self.password, "OS_PROJECT_NAME": account}

    def member(self, name):
        return next(m for m in self.members if m.name == name)

    # ---- faults ----

    def drop(self, source, target, probability=None):
        """What `source` sends to `target` over the hosts' network is lost, all of it or by chance."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", str(probability)] if probability else []
        self.member(target).inside("iptables", "-w", "-A", "INPUT", "-i", "peers", "-s", self.member(source).peer_ip,
                                   *chance, "-j", "DROP")

    def cut(self, one, other):
        self.drop(one, other)
        self.drop(other, one)

    def isolate(self, name):
        """From every other host; clients still reach it."""
        for other in self.names():
            if other != name:
                self.cut(name, other)

    def client_port(self, name, up):
        run("ip", "link", "set", f"c{self.member(name).number}", "up" if up else "down")

    def relay(self, seed, delay_s, twice=0.0, lost=0.0):
        """From now on, a Relay carries what the hosts say to each other, until heal()."""
        ports = [f"p{member.number}" for member in self.members]
        for port in ports:
            run("ip", "link", "set", port, "no" + BRIDGE)
        self.relayed = Relay(ports, seed, delay_s, twice, lost)

    def dropped(self):
        """Packets that the rules have taken so far: a fault that took none did not happen."""
        total = 0
        for member in self.members:
            for line in member.inside("iptables", "-w", "-nvxL", "INPUT").splitlines():
                words = line.split()
                if "DROP" in words and words[0].isdigit():
                    total += int(words[0])
        return total

    def heal(self):
        """All rules and ports as at the start; returns the packets that were dropped."""
        taken = self.dropped()
        if self.relayed:
            taken += self.relayed.end()["lost"]
            self.relayed = None
            for member in self.members:
                run("ip", "link", "set", f"p{member.number}", BRIDGE, "peers")
        for member in self.members:
            member.inside("iptables", "-w", "-F", "INPUT")
            self.client_port(member.name, True)
        return taken

    def leading_terms(self):
        """{term: {hosts whose log says that they led in it}}"""
        terms = {}
        for member in self.members:
            with open(member.log_file, encoding="utf-8", errors="replace") as f:
                for line in f:
                    if "leading term=" in line:
                        term = int(line.rpartition("leading term=")[2].split()[0].rstrip('"}'))
                        terms.setdefault(term, set()).add(member.name)
        return terms

    def state(self, name):
        """What the host holds, from its own store: (applied index, all images with all fields)."""
        with lib.Client(self, name) as client:
            status = self.status(name)
            images = client.list("limit=200&sort=id:asc")
        return status["applied"], json.dumps(images, sort_keys=True)
