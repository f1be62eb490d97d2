#!/usr/bin/env python3
"""The request sequences of gophercloud, Terraform, Packer, Cluster API and Ansible, each request to the next host in turn.

The flows are in recorded.py: which codes each client takes as success, which fields it reads and of which type. A reply that its
decoder could not read fails here as it would there."""
import hashlib
import os
import re

import clients
import lib
import recorded
import test_import


def fill(value, words):
    """The value with every <word> replaced, in texts, lists and objects."""
    if isinstance(value, str):
        return re.sub(r"<(\w+)>", lambda m: str(words.get(m.group(1), m.group(0))), value)
    if isinstance(value, list):
        return [fill(item, words) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, words) for key, item in value.items()}
    return value


MISSING = object()


def at(body, path):
    """The value at a path like images/0/id; a key may hold a slash-free dot."""
    for key in path.split("/"):
        try:
            body = body[int(key)] if isinstance(body, list) else body[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return MISSING
    return body


def fits(got, wanted):
    if got is MISSING:
        return False
    if isinstance(wanted, tuple):
        return any(fits(got, w) for w in wanted)
    if wanted is None:
        return got is None
    if isinstance(wanted, type):
        return type(got) is wanted  # a boolean is no number, as in Go
    if isinstance(wanted, re.Pattern):
        return isinstance(got, str) and wanted.match(got) is not None
    return got == wanted


class Player:
    def __init__(self, cluster, words):
        self.cluster, self.words = cluster, dict(words)
        self.hosts = {name: lib.Client(cluster, name) for name in cluster.names()}
        self.turn = 0

    def close(self):
        for client in self.hosts.values():
            client.close()

    def send(self, step):
        name = self.cluster.names()[self.turn % len(self.hosts)]
        self.turn += 1
        method, path = fill(step.request, self.words).split(" ", 1)
        token = False if step.who is None else self.words["token"] if "token" in self.words and step.who == "alice" \
            else self.words["token_" + step.who]
        body, headers = fill(step.send, self.words), dict(step.headers)
        if step.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = iter([body[:10], body[10:70000], body[70000:]])
        return name, self.hosts[name].call(method, path, body, headers, token=token, chunked=step.chunked)

    def problem(self, step, reply):
        """What the client would stumble over; None if nothing."""
        if reply.status not in step.status:
            return f"{reply!r}"
        if step.data is not None:
            return None if reply.data == step.data else "other bytes"
        body = reply.json() if reply.data else None
        wanted = {**(recorded.IMAGE_TYPES if step.image else {}), **fill(step.has, self.words)}
        for path, value in wanted.items():
            if not fits(at(body, path), value):
                return f"{path}: {'missing' if at(body, path) is MISSING else repr(at(body, path))}, wanted {value!r}"
        for word, path in step.keep.items():
            self.words[word] = reply.headers.get(path[1:]) if path[0] == "@" else at(body, path)
            if self.words[word] in (None, MISSING, ""):
                return f"{path} is missing"
        return None

    def pending(self, step, reply):
        """True while a polled value is one that the client waits on; an unforeseen one raises, as the client gives up."""
        if not step.poll or reply.status not in step.status:
            return False
        (path, (values, wanted)), = step.poll.items()
        got = at(reply.json(), path)
        if got != wanted and got not in values:
            raise lib.ClusterFailure(f"{path} is {got!r}, for which the client gives up")
        return got != wanted

    def play(self, results, title, steps):
        for number, step in enumerate(steps, 1):
            name, reply = self.send(step)
            if self.pending(step, reply):
                reply = lib.wait_until(lambda s=step: (lambda r: None if self.pending(s, r) else r)(self.send(s)[1]), 60, 0.1)
            problem = self.problem(step, reply) if reply else "still pending after 60 s"
            if not results.check(f"{title}: {number}. {step.request[:90]}", problem is None, f"{name}: {problem}" if problem else ""):
                return


def main():
    origin = test_import.serve(test_import.Source)

    def body(cluster, results):
        cloud = clients.embedded_cloud(cluster, cluster.host(cluster.names()[0])["api_url"], os.path.join(cluster.dir, "cloud"))
        words = {"origin": f"http://127.0.0.1:{origin}", "md5": hashlib.md5(recorded.DATA).hexdigest(), **cloud.projects,
                 "user": cloud.accounts["alice"]["OS_USERNAME"], "password": cloud.accounts["alice"]["OS_PASSWORD"],
                 "project": cloud.accounts["alice"]["OS_PROJECT_NAME"]}
        words.update({f"token_{who}": clients.token_of(cluster, cloud, who) for who in ("alice", "bob")})
        for title, steps in recorded.FLOWS.items():
            player = Player(cluster, words)
            try:
                player.play(results, title, steps)
            finally:
                player.close()

    return lib.run_test("clients_recorded", body, settings={**test_import.SETTINGS, "import_ports": f"80, 443, {origin}"})


if __name__ == "__main__":
    raise SystemExit(main())
