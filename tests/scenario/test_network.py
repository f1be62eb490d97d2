#!/usr/bin/env python3
"""Three hosts in network namespaces, and what networks do to them: a leader cut off, two hosts that can not reach each
other, loss in one direction, loss of a fifth, frames late, out of order and twice, a host that starts out of the leader's reach,
a paused process, a client network that dies.

Through all of it clients at every host create, change, read and delete images and download one; what they were told
is checked for linearizability afterwards. SEED=n repeats the clients' choices; LONG=1 (or tools/test --long) takes
every pair, and a pause of 60 s."""
import contextlib
import os
import random
import signal
import sys
import threading
import time

import history
import lib
import netlab
from lib import LONG, NETWORK_ERRORS

ALONE = True
CHANGE_LIMIT_S = 3.0
HOLD_S = 10 if LONG else 3  # how long a fault stays once it has been survived
PAUSE_S = 60 if LONG else 15
REGISTERS = 6  # alive at once
PATCH = "application/openstack-images-v2.1-json-patch"


class Traffic:
    """Clients with a history: one at each host, and two that go from host to host; downloads at each host."""

    def __init__(self, cluster, seed):
        self.cluster, self.seed = cluster, seed
        self.history = history.History()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.live = []  # (image id, deleted soon)
        self.stale_reads = self.fresh_reads = 0
        self.values = {}  # per image: every value that was ever sent
        self.wrong = []
        self.downloads = {name: [] for name in cluster.names()}  # times of those that were whole
        self.failed_downloads = {name: [] for name in cluster.names()}
        self.image_id = self.body = None
        names = cluster.names()
        self.threads = [threading.Thread(target=self.guard, args=(self.client, k, names[k % 5:][:1] or names),
                                         daemon=True) for k in range(5)]
        self.threads += [threading.Thread(target=self.guard, args=(self.download, name), daemon=True)
                         for name in names]

    def start(self):
        with lib.Client(self.cluster, "host1") as client:
            self.body = lib.Body(self.seed, 3 * lib.MIB)
            self.image_id = client.create("downloaded").json()["id"]
            if client.upload(self.image_id, self.body).status != 204:
                raise lib.ClusterFailure("the first upload failed")
        lib.wait_until(lambda: all(h["report"]["replicas_present"] == 1 for h in
                                   self.cluster.status("host1")["hosts"]), 20)
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        return not any(thread.is_alive() for thread in self.threads)

    def guard(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(f"{function.__name__}: {error!r}")

    def client(self, number, names):
        source, count, clients = random.Random(f"{self.seed}/{number}"), 0, {}
        while not self.stopping.is_set():
            name, count = source.choice(names), count + 1
            client = clients.setdefault(name, lib.Client(self.cluster, name))
            with self.lock:
                image_id = source.choice(self.live) if len(self.live) >= REGISTERS else None
            try:
                self.operation(client, source, image_id, f"{number}.{count}")
            except NETWORK_ERRORS:
                client.close()
            self.stopping.wait(0.02)

    def operation(self, client, source, image_id, value):
        if image_id is None:
            self.create(client, lib.new_id(), value)
            return
        dice = source.random()
        if dice < 0.6:
            self.read(client, image_id)
        elif dice < 0.98:
            self.write(client, image_id, value)
        else:
            with self.lock:
                if image_id in self.live:
                    self.live.remove(image_id)
            op = self.history.send(image_id, "delete", None, client.name)
            self.changed(op, client.delete(image_id, timeout=4))

    def create(self, client, image_id, value):
        with self.lock:
            self.live.append(image_id)
            self.values[image_id] = {value}
        op = self.history.send(image_id, "create", value, client.name)
        self.changed(op, client.create("register", image_id, reg=value, timeout=4))

    def write(self, client, image_id, value):
        self.values[image_id].add(value)
        op = self.history.send(image_id, "write", value, client.name)
        self.changed(op, client.call("PATCH", f"/v2/images/{image_id}",
                                     [{"op": "add", "path": "/reg", "value": value}], {"Content-Type": PATCH}, timeout=4))

    def changed(self, op, reply):
        """5xx: it may have happened or not. Anything else but success and 404 is a fault of the service."""
        if reply.status in (200, 201, 204):
            self.history.returned(op, history.OK)
        elif reply.status == 404:
            self.history.returned(op, history.MISSING)
        elif reply.status < 500 and not (op.kind == "create" and reply.status == 409):
            self.wrong.append(f"{op!r}: {reply!r}")

    def read(self, client, image_id):
        op = self.history.send(image_id, "read", None, client.name)
        reply = client.show(image_id, timeout=4)
        value = reply.json().get("reg") if reply.status == 200 else None
        if "X-Tessera-Stale" in reply.headers:
            self.stale_reads += 1  # only ever a value that was sent
            if reply.status == 200 and value not in self.values[image_id]:
                self.wrong.append(f"{op!r}: stale read of {value}")
        elif reply.status in (200, 404):
            self.fresh_reads += 1
            self.history.returned(op, history.OK if reply.status == 200 else history.MISSING, value)
        elif reply.status < 500:
            self.wrong.append(f"{op!r}: {reply!r}")

    def download(self, name):
        client = lib.Client(self.cluster, name)
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                status, digest, _, _ = client.download(self.image_id, timeout=8)
                if status != 200:
                    self.failed_downloads[name].append((began, str(status)))
                elif digest != self.body.sha256:
                    self.wrong.append(f"{name} served other bytes")
                else:
                    self.downloads[name].append(time.monotonic())
            except NETWORK_ERRORS as error:
                client.close()
                self.failed_downloads[name].append((began, repr(error)))
            self.stopping.wait(0.15)


class Holders:
    """Who says that it is the admin endpoint, all the time. Two that take turns within a second both hold it."""

    def __init__(self, cluster):
        self.cluster, self.said, self.stopping = cluster, [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(name,), daemon=True) for name in cluster.names()]
        for thread in self.threads:
            thread.start()

    def ask(self, name):
        client = lib.Client(self.cluster, name)
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                if client.call("GET", "/health/admin", token=False, timeout=2).status == 200:
                    self.said.append((began, time.monotonic(), name))
            except NETWORK_ERRORS:
                client.close()
            self.stopping.wait(0.1)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(10)

    def overlaps(self):
        """A said so, then B, then A again, each answer after the one before, within a second."""
        said, found = sorted(self.said, key=lambda s: s[1]), []
        for n, (_, first_end, name) in enumerate(said):
            for m in range(n + 1, len(said)):
                begin, end, other = said[m]
                if end > first_end + 1:
                    break
                if other == name or begin < first_end:
                    continue
                if any(again == name and end < at < first_end + 1 for at, _, again in said[m + 1:m + 40]):
                    found.append((name, other, first_end))
        return found

    def holder(self, since):
        names = {name for begin, _, name in self.said if begin >= since}
        return names.pop() if len(names) == 1 else None


class Run:
    def __init__(self, cluster, results):
        self.cluster, self.results = cluster, results
        self.seed = lib.seed_from_environment()
        results.note(f"SEED={self.seed}")
        self.traffic = Traffic(cluster, self.seed).start()
        self.holders = Holders(cluster)

    def leader(self, among=None):
        return lib.wait_until(lambda: self.cluster.leader(among), 10)

    def changes(self, what, names, began, limit=CHANGE_LIMIT_S):
        """A change is accepted through each of these hosts, the first of them within the limit."""
        first = None
        for name in names:
            with lib.Client(self.cluster, name) as client:
                good = lib.wait_until(lambda client=client: client.create("probe", timeout=2).status == 201, 15)
            first = first or (time.monotonic() - began)
            self.results.check(f"{what}: changes through {name}", good)
        self.results.check(f"{what}: within {limit:g} s", first <= limit, f"{first:.2f} s")

    def term(self, name):
        return self.cluster.status(name)["term"]

    def calm(self, what, names, seconds, changes=0):
        """One leader the whole time, on that side of the cut."""
        before = self.term(names[0])
        time.sleep(seconds)
        after = self.term(names[0])
        leaders = {self.cluster.status(name)["leader"] for name in names}
        self.results.check(f"{what}: no flapping in {seconds} s", len(leaders) == 1 and after - before <= changes,
                           f"term {before} to {after}, leaders {leaders}")
        return leaders.pop()

    def went_on(self, what, names, since):
        for name in names:
            whole = sum(when > since for when in self.traffic.downloads[name])
            broken = [why for when, why in self.traffic.failed_downloads[name] if when > since]
            self.results.check(f"{what}: downloads from {name} went on", whole > 1 and not broken,
                               f"{whole} whole, {broken[:2]}")

    def upload(self, name):
        """An upload through a host that can not push to one of the others (it leads, or reaches the leader), beside
        all else; call what is returned for the result."""
        outcome = []

        def body_of_it():
            began, data = time.monotonic(), lib.Body(self.seed + 1, 2 * lib.MIB)
            try:
                with lib.Client(self.cluster, name) as client:
                    image_id = client.create("upload", timeout=15).json()["id"]
                    status = client.upload(image_id, data, timeout=40).status
                    took = time.monotonic() - began
                    good = status == 204 and client.download(image_id)[1] == data.sha256
                    outcome.append((good, f"{status}, {took:.1f} s"))
            except (*NETWORK_ERRORS, KeyError) as error:
                outcome.append((False, repr(error)))
        thread = threading.Thread(target=body_of_it, daemon=True)
        thread.start()

        def end(what):
            thread.join(60)
            good, detail = outcome[0] if outcome else (False, "no end")
            self.results.check(f"{what}: an upload through {name}", good, detail)
        return end

    def healed(self, what):
        began, taken = time.monotonic(), self.cluster.heal()
        if taken is not None and "pause" not in what and "client" not in what:
            self.results.check(f"{what}: packets were lost", taken > 0, str(taken))
        good = self.cluster.await_ready(30)
        self.results.check(f"{what}: healed", good is not None, f"{time.monotonic() - began:.1f} s")

    def stale_on(self, what, name):
        """No majority in reach: changes are refused, an image is shown and marked, status answers and says why."""
        with lib.Client(self.cluster, name) as client:
            def marked():
                reply = client.show(self.traffic.image_id, timeout=4)
                return reply.status == 200 and reply.headers.get("X-Tessera-Stale")
            age = lib.wait_until(marked, 6)
            self.results.check(f"{what}: {name} shows an image, marked stale", age is not None, str(age))
            reply = client.create("refused", timeout=8)
            self.results.check(f"{what}: {name} refuses changes with 503 and Retry-After",
                               reply.status == 503 and reply.headers.get("Retry-After"), repr(reply))
        status = self.cluster.status(name)
        codes = {warning["code"] for warning in (status or {}).get("warnings", [])}
        self.results.check(f"{what}: status of {name} answers, and names NO_QUORUM", "NO_QUORUM" in codes, str(codes))

    # ---- the faults ----

    def leader_cut_off(self):
        what, leader = "F25 leader cut off", self.leader()
        others = [name for name in self.cluster.names() if name != leader]
        began = time.monotonic()
        self.cluster.isolate(leader)
        self.changes(what, others, began)
        self.stale_on(what, leader)
        self.calm(what, others, HOLD_S)
        self.results.check(f"{what}: the others name one of themselves", self.cluster.leader(others) in others)
        self.went_on(what, self.cluster.names(), began)
        self.healed(what)

    def two_hosts_apart(self, leads):
        """A | B, both reach W. `leads`: whether the leader is one of the two."""
        leader = self.leader()
        others = [name for name in self.cluster.names() if name != leader]
        pair = (leader, others[0]) if leads else tuple(others)
        what = f"F26 {pair[0]} | {pair[1]}" + (", the leader one of them" if leads else "")
        middle = next(name for name in self.cluster.names() if name not in pair)
        began = time.monotonic()
        self.cluster.cut(*pair)
        self.changes(what, [middle], began)
        uploaded = self.upload(pair[0])
        self.calm(what, [middle], 2, changes=3 if leads else 1)
        led = self.calm(what, [middle], HOLD_S + 2)
        uploaded(what)
        self.results.check(f"{what}: one leads", led in self.cluster.names(), str(led))
        self.went_on(what, self.cluster.names(), began)
        self.healed(what)

    def one_way(self, source, target):
        what = f"F27 {source} is not heard by {target}"
        began, others = time.monotonic(), [name for name in self.cluster.names() if name not in (source, target)]
        self.cluster.drop(source, target)
        self.changes(what, others, began)
        uploaded = self.upload(target if self.cluster.leader(others) == target else source)
        self.calm(what, others, HOLD_S, changes=3)
        uploaded(what)
        self.went_on(what, self.cluster.names(), began)
        self.healed(what)

    def one_way_each(self):
        leader = self.leader()
        others = [name for name in self.cluster.names() if name != leader]
        pairs = [(leader, others[0]), (others[1], leader), (others[0], others[1])]
        if LONG:
            pairs = [(a, b) for a in self.cluster.names() for b in self.cluster.names() if a != b]
        for source, target in pairs:
            self.one_way(source, target)

    def lossy_create(self):
        for name in self.cluster.names():
            with contextlib.suppress(*NETWORK_ERRORS), lib.Client(self.cluster, name) as client:
                if client.create("lossy", timeout=5).status == 201:
                    return True
        return False

    def lossy(self):
        what, began = "F29 a fifth of the packets lost", time.monotonic()
        for a in self.cluster.names():
            for b in self.cluster.names():
                if a != b:
                    self.cluster.drop(a, b, 0.2)
        before, done = self.term(self.cluster.names()[0]), self.traffic.history.counts()[history.OK]
        time.sleep(2 * HOLD_S)
        accepted = self.traffic.history.counts()[history.OK] - done
        changes = lib.wait_until(lambda: self.term(self.cluster.names()[0]), 5) - before
        self.results.check(f"{what}: the service goes on", accepted > 5, f"{accepted} operations answered")
        self.results.check(f"{what}: leadership does not run away", changes <= 2 * HOLD_S, f"{changes} terms")
        # "Correct, only slower": every request has an end, and one of them gets through.
        self.results.check(f"{what}: a change is accepted", lib.wait_until(self.lossy_create, 60))
        self.healed(what)
        self.results.note(f"{what}: {time.monotonic() - began:.0f} s")

    def disorder(self, what, delay_s, serves):
        """Frames late, out of order, some twice, some lost."""
        began, done = time.monotonic(), self.traffic.history.counts()[history.OK]
        self.cluster.relay(self.seed, delay_s, twice=0.05, lost=0.02)
        time.sleep(2 * HOLD_S)
        accepted = self.traffic.history.counts()[history.OK] - done
        counts = self.cluster.relayed.counts
        self.results.check(f"{what}: it happened", min(counts.values()) > 0, str(counts))
        if serves:
            self.results.check(f"{what}: the service goes on", accepted > 5, f"{accepted} operations answered")
            self.changes(what, self.cluster.names(), time.monotonic())
        self.healed(what)
        self.results.note(f"{what}: {time.monotonic() - began:.0f} s")

    def paused(self):
        what, leader = f"F07 leader and admin endpoint paused for {PAUSE_S} s", self.leader()
        self.cluster.tessera(leader, "admin-endpoint", "move", leader)
        lib.wait_until(lambda: self.cluster.status(leader)["admin_endpoint"]["host"] == leader, 5)
        others = [name for name in self.cluster.names() if name != leader]
        pid = self.cluster.member(leader).process.pid
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            self.changes(what, others, began)
            good = lib.wait_until(lambda: self.cluster.status(others[0])["admin_endpoint"]["host"] != leader, 10)
            self.results.check(f"{what}: the admin endpoint is elsewhere within 6 s",
                               good and time.monotonic() - began < 6, f"{time.monotonic() - began:.2f} s")
            time.sleep(max(0, PAUSE_S - (time.monotonic() - began)))
        finally:
            os.kill(pid, signal.SIGCONT)
        with lib.Client(self.cluster, leader) as client:
            self.results.equal(f"{what}: resumed, it does not claim the admin endpoint",
                               client.call("GET", "/health/admin", token=False, timeout=5).status, 503)
        self.went_on(what, others, began)
        self.healed(what)

    def restarted_apart(self):
        """A follower is killed and started again while the leader is out of its reach: the leader's word for its earlier
        process, handed round for a while, does not make two of them."""
        what, leader = "F34 started again, the leader out of reach", self.leader()
        name, other = [name for name in self.cluster.names() if name != leader]
        member = self.cluster.member(name)
        self.cluster.cut(leader, name)
        member.process.kill()
        member.process.wait()
        member.start()
        ended = lib.wait_until(lambda: member.process.poll() is not None, 6)
        self.results.check(f"{what}: it runs on", not ended, f"exit {member.process.poll()}")
        codes = {warning["code"] for warning in self.cluster.status(other)["warnings"]}
        self.results.check(f"{what}: no HOST_TWICE", "HOST_TWICE" not in codes, str(codes))
        self.healed(what)

    def clients_gone(self):
        """The holder's client network dies, while the hosts still reach each other: F31."""
        what = "F31 client network of the admin endpoint dead"
        holder = self.cluster.status("host1")["admin_endpoint"]["host"]
        others = [name for name in self.cluster.names() if name != holder]
        began = time.monotonic()
        self.cluster.client_port(holder, False)
        self.changes(what, others, began)

        def codes_of():
            return {warning["code"] for warning in self.cluster.status(others[0])["warnings"]}
        good = lib.wait_until(lambda: self.cluster.status(others[0])["admin_endpoint"]["host"] != holder, 15)
        self.results.check(f"{what}: the admin endpoint moves away", good, f"{time.monotonic() - began:.1f} s")
        lib.wait_until(lambda: "API_UNREACHABLE" in codes_of(), 5)
        codes = codes_of()
        self.results.check(f"{what}: status names API_UNREACHABLE, and no host down",
                           "API_UNREACHABLE" in codes and "HOST_DOWN" not in codes, str(codes))
        self.results.check(f"{what}: the host's own health says so", lib.wait_until(
            lambda: self.inner_health(holder) == 503, 5))
        self.went_on(what, others, began)
        self.cluster.client_port(holder, True)
        self.results.check(f"{what}: and is well again when clients are back", lib.wait_until(
            lambda: self.inner_health(holder) == 200, 15))
        self.healed(what)

    def inner_health(self, name):
        """/health/ready, asked for on the host itself."""
        member = self.cluster.member(name)
        ask = ("import http.client, ssl, sys\n"
               "c = http.client.HTTPSConnection(sys.argv[1], 9292, timeout=5,\n"
               "                                context=ssl.create_default_context(cafile=sys.argv[2]))\n"
               "c.request('GET', '/health/ready')\n"
               "print(c.getresponse().status)\n")
        out = member.inside(sys.executable, "-c", ask, member.client_ip, os.path.join(self.cluster.dir, "ca.pem"),
                            check=False).strip()
        return int(out) if out.isdigit() else 0

    # ---- at the end ----

    def finish(self):
        results, traffic = self.results, self.traffic
        self.holders.stop()
        results.check("clients ended", traffic.stop())
        results.check("no answer that the service must not give", not traffic.wrong, str(traffic.wrong[:3]))
        counts = traffic.history.counts()
        results.note(f"history: {counts}, {traffic.stale_reads} stale reads, {traffic.fresh_reads} fresh ones")
        results.check("the history has many operations, some without an answer, and stale reads",
                      counts[history.OK] > 1000 and counts[history.UNKNOWN] > 5 and traffic.stale_reads > 5, str(counts))
        began = time.monotonic()
        violations = traffic.history.violations()
        for op, near in violations[:2]:
            print(f"     can not be placed: {op!r}")
            for other in near[-40:]:
                print(f"       {other!r}")
        results.check("the history is linearizable", not violations,
                      f"{len(traffic.history.registers)} registers checked in {time.monotonic() - began:.1f} s")
        terms = self.cluster.leading_terms()
        results.check("one leader a term", all(len(names) == 1 for names in terms.values()) and len(terms) > 2,
                      f"{len(terms)} terms")
        results.check("never two holders of the admin endpoint", not self.holders.overlaps() and self.holders.said,
                      str(self.holders.overlaps()[:3]))
        names = self.cluster.names()
        same = lib.wait_until(lambda: len({self.cluster.state(name) for name in names}) == 1, 15, 0.3)
        results.check("all hosts hold the same, at the same index", same,
                      str([(name, self.cluster.state(name)[0]) for name in names]))


def body(cluster, results):
    run = Run(cluster, results)
    run.leader_cut_off()
    run.two_hosts_apart(leads=True)
    run.two_hosts_apart(leads=False)
    run.one_way_each()
    run.lossy()
    run.disorder("F29 frames 5 to 60 ms late, out of order, some twice", (0.005, 0.06), True)
    if LONG:
        run.disorder("F29 frames about a second late", (0.8, 1.2), False)
    run.restarted_apart()
    run.paused()
    run.clients_gone()
    run.finish()


def main():
    name = os.path.basename(__file__)
    why = netlab.unavailable()
    if why:
        print(f"SKIPPED {name}: {why}")
        print(f"{name}: 0 passed, 0 failed (skipped: {why})")
        return 0
    results = lib.Results(name)
    try:
        with netlab.NetCluster() as cluster:
            try:
                body(cluster, results)
            except Exception as error:  # pylint: disable=broad-except
                import traceback
                traceback.print_exc()
                results.check("no exception", False, repr(error))
            for host in cluster.hosts():
                ended = cluster.unexpected_end(host)
                if ended:
                    results.check(f"{host['name']} still runs", False, ended)
            if results.failed:
                cluster.keep_logs()
    except lib.ClusterFailure as failure:
        results.check("cluster", False, str(failure))
    return results.close()


if __name__ == "__main__":
    raise SystemExit(main())
