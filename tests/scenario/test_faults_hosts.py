#!/usr/bin/env python3
"""A host that loses its disk, and one that is paused: the leader and holder of the admin endpoint, each time; a host that
starts without enough file descriptors or threads; one whose idle clients would take them all."""
import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time

import lib


def downloads(cluster, results, what, images, names=None):
    for name in names or cluster.names():
        with lib.Client(cluster, name) as client:
            wrong = 0
            for image_id, body in images:
                status, digest, _, _ = client.download(image_id)
                wrong += status != 200 or digest != body.sha256
            results.equal(f"{what}: {name} serves every byte", wrong, 0)


def upload(cluster, name, seed, size=9 * lib.MIB):
    with lib.Client(cluster, name) as client:
        image_id, body = client.create(f"image {seed}").json()["id"], lib.Body(seed, size)
        reply = client.upload(image_id, body)
        if reply.status != 204:
            print(f"     upload through {name}: {reply}")
        return (image_id, body) if reply.status == 204 else None


def wiped(cluster, results):
    """The leader and holder of the admin endpoint loses its disk, while uploads run elsewhere."""
    images = [upload(cluster, "host1", seed) for seed in range(3)]
    victim = cluster.leader()
    others = [name for name in cluster.names() if name != victim]
    stop, made, failed = threading.Event(), [], []

    def uploads(name, seed):
        while not stop.is_set():
            seed += 1
            try:
                image = upload(cluster, name, seed, 3 * lib.MIB)
                (made if image else failed).append(image)
            except (*lib.NETWORK_ERRORS, KeyError) as error:
                failed.append(repr(error))
                time.sleep(0.1)
    threads = [threading.Thread(target=uploads, args=(name, 1000 * k)) for k, name in enumerate(others, 1)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    cluster.wipe(victim)
    cluster.start(victim)
    results.check(f"{victim}, leader and admin endpoint, was wiped and is part of the cluster again",
                  cluster.await_ready(30) is not None)
    stop.set()
    for thread in threads:
        thread.join()
    results.check("uploads through the others went on", len(made) > 5 and not failed, f"{len(made)}, {failed[:3]}")

    def converged():
        status = cluster.status(others[0])
        record = next(h for h in status["hosts"] if h["name"] == victim)
        reports = [h["report"] for h in status["hosts"]]
        return (status["health"] == "OK" and len(status["hosts"]) == 3 and record["incarnation"] == 2 and
                all(h["raft_role"] == "voter" for h in status["hosts"]) and
                all(r["replicas_missing"] == 0 and r["replicas_present"] == reports[0]["replicas_present"]
                    for r in reports) and status)
    status = lib.wait_until(converged, 40)
    results.check("three voters, one new incarnation, all replicas back", status, str(cluster.status(others[0])["warnings"]))
    results.check("every host names the same admin endpoint, not two", lib.wait_until(
        lambda: len({cluster.status(n)["admin_endpoint"]["host"] for n in cluster.names()}) == 1, 10))
    downloads(cluster, results, "after the wipe", images + made[:6])


def paused(cluster, results):
    """SIGSTOP of the leader and holder of the admin endpoint, then SIGCONT."""
    (image_id, body), victim = upload(cluster, "host1", 50), cluster.leader()
    with lib.Client(cluster, victim) as client:
        client.call("POST", "/v1/admin-endpoint", {"host": victim})  # 409 where it is there already
    results.check("one host leads and is the admin endpoint", lib.wait_until(
        lambda: cluster.status(victim)["admin_endpoint"]["host"] == victim and cluster.leader() == victim, 10))
    pid, others = cluster.host(victim)["pid"], [name for name in cluster.names() if name != victim]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with lib.Client(cluster, others[0]) as client:
            good = lib.wait_until(lambda: client.create("meanwhile", timeout=6).status == 201, 10)
            results.check("changes go on within 3 s of the pause", good and time.monotonic() - began < 3,
                          f"{time.monotonic() - began:.2f} s")
            good = lib.wait_until(lambda: cluster.status(others[1])["admin_endpoint"]["host"] != victim, 10)
            results.check("the admin endpoint is with another host within 6 s", good and time.monotonic() - began < 6,
                          f"{time.monotonic() - began:.2f} s")
            time.sleep(max(0.0, 12 - (time.monotonic() - began)))
            client.patch(image_id, [{"op": "replace", "path": "/name", "value": "renamed"}])
            gone = client.create("gone").json()["id"]
            client.delete(gone)
    finally:
        os.kill(pid, signal.SIGCONT)
    for _ in range(10):
        with lib.Client(cluster, victim) as client:
            reply = client.show(image_id)
            fresh = reply.status == 200 and "X-Tessera-Stale" not in reply.headers
            results.check("the resumed host answers from the present, or says that it is stale",
                          reply.json()["name"] == "renamed" or not fresh, repr(reply))
            results.equal("and does not claim the admin endpoint",
                          client.call("GET", "/health/admin", token=False).status, 503)
            if fresh:
                break
    with lib.Client(cluster, victim) as client:
        results.equal("what was deleted meanwhile is gone", client.show(gone).status, 404)
    results.check("all are up again", cluster.await_ready(20) is not None)
    downloads(cluster, results, "after the pause", [(image_id, body)])


def start_without(cluster, library, kind, nth):
    """A start whose call number `nth` of that kind fails: (whether there was such a call, exit code or None when it
    ran, the exit code after a SIGTERM then, the ERROR lines of its log)."""
    host, mark = cluster.host("host1"), os.path.join(cluster.dir, "mark")
    at = os.path.getsize(host["log_file"])
    environment = {**os.environ, "LD_PRELOAD": library, "FAIL_CALL": kind, "FAIL_NTH": str(nth), "FAIL_MARK": mark}
    with subprocess.Popen([os.path.join(lib.BIN, "tesserad"), "--config", host["config_file"]], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        lib.wait_until(lambda: process.poll() is not None or (cluster.status("host1") or {}).get("leader"), 15, 0.02)
        code = process.poll()
        if code is None:
            process.send_signal(signal.SIGTERM)
        try:
            end = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            end = "hangs"
    hit = os.path.exists(mark)
    if hit:
        os.unlink(mark)
    with open(host["log_file"], encoding="utf-8", errors="replace") as f:
        f.seek(at)
        return hit, code, end, [line.split(" ", 1)[1].strip() for line in f if " ERROR " in line]


def second_process(cluster):
    """Of host1's data_dir, with addresses of its own: exit code, and whether its log gives the reason."""
    host, config = cluster.host("host1"), os.path.join(cluster.dir, "second.conf")
    with open(host["config_file"], encoding="utf-8") as f:
        lines = [line for line in f if not line.startswith(("api_listen", "peer_listen", "raft_listen", "admin_socket", "log_file"))]
    port = lib.free_port_base(1)
    lines += [f"{key}_listen = 127.0.0.1:{port + 100 * n}\n" for n, key in enumerate(("api", "peer", "raft"))]
    with open(config, "w", encoding="utf-8") as f:
        f.writelines(lines + [f"admin_socket = {config}.sock\n"])
    done = subprocess.run([os.path.join(lib.BIN, "tesserad"), "--config", config], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    return done.returncode, "another process runs on it" in done.stdout


def without(cluster, results):
    """F09: the N-th file, socket or thread of a start is refused: it ends with 71 and one reason, or works; nothing is
    damaged. LONG=1 takes every N."""
    image = upload(cluster, "host1", 3, 5 * lib.MIB)
    library = os.path.join(cluster.dir, "nth_call.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library,
                    os.path.join(lib.ROOT, "tests", "scenario", "nth_call.c"), "-ldl"], check=True)
    cluster.stop("host1")
    rng = random.Random(lib.seed_from_environment())
    for kind in ("open", "socket", "thread"):
        nth, seen, refused, wrong = 0 if lib.LONG else rng.randrange(3), 0, 0, []
        while True:
            hit, code, end, lines = start_without(cluster, library, kind, nth)
            if code is None:
                wrong += [(nth, end, lines)] if end != 0 else []
            else:
                wrong += [(nth, code, lines)] if code != 71 or len(lines) > 1 else []
            if not hit:
                break
            seen, refused, nth = seen + 1, refused + (code == 71), nth + (1 if lib.LONG else rng.randrange(4, 9))
        results.check(f"F09 {kind} fails at a start, {seen} times: it ends with 71 and one reason, or works",
                      not wrong and refused > 0, f"{refused} ended, wrong {wrong}")
    ends = [start_without(cluster, library, "nothing", 0)[2] for _ in range(12)]
    results.equal("a stop right after the election ends with 0", ends, [0] * 12)
    cluster.start("host1")
    results.check("F09 then it starts as if nothing had been", cluster.await_ready(20) is not None)
    downloads(cluster, results, "F09", [image])
    results.equal("F34 a second process on the same data_dir is refused before it opens anything there",
                  second_process(cluster), (69, True))
    downloads(cluster, results, "F34", [image])


def crowded(cluster, results):
    """F09: idle clients take all the descriptors that they can get: the host's own work goes on."""
    name, limit = "host3", 400
    host = cluster.host(name)
    cluster.stop(name)
    with subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn
            [os.path.join(lib.BIN, "tesserad"), "--config", host["config_file"]], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) as process:
        try:
            results.check("F09 a host with few descriptors takes part", cluster.await_ready(30) is not None)
            address = ("127.0.0.1", int(host["api_url"].rsplit(":", 1)[1]))
            with contextlib.ExitStack() as crowd, lib.Client(cluster, name) as client:
                image_id = client.create("before").json()["id"]
                for _ in range(2 * limit):
                    with contextlib.suppress(OSError):
                        crowd.enter_context(cluster.tls().wrap_socket(socket.create_connection(address, 5),
                                                                      server_hostname="127.0.0.1"))
                body = lib.Body(1, 20 * lib.MIB)
                reply = client.upload(image_id, body)
                results.check(f"F09 {2 * limit} idle clients at it: an upload through it", reply.status == 204, repr(reply))
                results.equal("F09 a download through it", client.download(image_id)[1], body.sha256)
                image = upload(cluster, "host1", 2, 20 * lib.MIB)
                results.check("F09 an upload through another host", image is not None)
                stored = lib.wait_until(lambda: [r for r in client.call("GET", f"/v1/images/{image[0]}/replicas").json()["replicas"]
                                                 if r["host"] == name and r["state"] == "present"], 20)
                results.check("F09 which it stores, too", stored)
        finally:
            process.terminate()
            process.wait()
    cluster.start(name)
    results.check("F09 then it starts as usual", cluster.await_ready(20) is not None)

if __name__ == "__main__":
    NAME = os.path.basename(__file__)
    FAILED = [lib.run_test(f"{NAME} wiped", wiped), lib.run_test(f"{NAME} paused", paused),
              lib.run_test(f"{NAME} without", without, hosts=1), lib.run_test(f"{NAME} crowded", crowded)]
    raise SystemExit(any(FAILED))
