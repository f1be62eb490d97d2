#!/usr/bin/env python3
"""The check for linearizability, checked: histories by hand, and many made at random, some of them spoiled."""
import os
import random

import history
import lib
from history import ABSENT, CONFLICT, DELETED, FOREVER, MISSING, OK, UNKNOWN


def op(kind, value, sent, returned, outcome=OK):
    made = history.Op("r", kind, value, sent)
    made.returned, made.outcome = returned, outcome
    return made


CREATED = op("create", "0", 0, 1)
BY_HAND = [
    ("what one client does in turn", True, [CREATED, op("read", "0", 2, 3), op("write", "1", 4, 5),
                                            op("read", "1", 6, 7), op("delete", None, 8, 9),
                                            op("read", None, 10, 11, MISSING)]),
    ("a read of the value before", False, [CREATED, op("write", "1", 2, 3), op("read", "0", 4, 5)]),
    ("the same while the write is under way", True, [CREATED, op("write", "1", 2, 5), op("read", "0", 3, 4)]),
    ("new, then old, both while the write is under way", False,
     [CREATED, op("write", "1", 2, 9), op("read", "1", 3, 4), op("read", "0", 5, 6)]),
    ("an acknowledged write that is lost", False,
     [CREATED, op("write", "1", 2, 3), op("write", "2", 4, 5), op("read", "1", 6, 7)]),
    ("two writes at once, in either order", True,
     [CREATED, op("write", "1", 2, 6), op("write", "2", 3, 5), op("read", "1", 7, 8)]),
    ("two writes at once, and both last", False,
     [CREATED, op("write", "1", 2, 6), op("write", "2", 3, 5), op("read", "1", 7, 8), op("read", "2", 9, 10)]),
    ("a write without an answer that happened later", True,
     [CREATED, op("write", "1", 2, FOREVER, UNKNOWN), op("read", "0", 3, 4), op("read", "1", 9, 10)]),
    ("a write without an answer that came and went", False,
     [CREATED, op("write", "1", 2, FOREVER, UNKNOWN), op("read", "1", 3, 4), op("read", "0", 5, 6)]),
    ("a write without an answer before it was sent", False,
     [CREATED, op("read", "1", 2, 3), op("write", "1", 4, FOREVER, UNKNOWN)]),
    ("a create without an answer, then a conflict", True,
     [op("create", "0", 0, FOREVER, UNKNOWN), op("create", "0", 2, 3, CONFLICT), op("read", "0", 4, 5)]),
    ("a conflict with nothing", False, [op("create", "0", 2, 3, CONFLICT)]),
    ("two creates that both succeed", False, [CREATED, op("create", "1", 2, 3)]),
    ("a value that comes back from the dead", False,
     [CREATED, op("delete", None, 2, 3), op("read", "0", 4, 5)]),
    ("a thing not found that is there", False, [CREATED, op("read", None, 2, 3, MISSING)]),
    ("a delete without an answer, that nobody noticed yet", True,
     [CREATED, op("delete", None, 2, FOREVER, UNKNOWN), op("read", "0", 3, 4), op("write", "1", 5, 6)]),
]


def made_at_random(source, clients=5, length=300):
    """Operations of clients at once on a single copy, each at one moment of its time: linearizable."""
    state, clock, ops, busy = ABSENT, 0.0, [], {}
    while len(ops) < length or busy:
        clock += source.random()
        client = source.randrange(clients)
        if client not in busy:
            if len(ops) < length:
                kind = source.choice(("read", "read", "read", "write", "write", "create")) if source.random() < .99 \
                    else "delete"
                busy[client] = op(kind, str(len(ops)) if kind != "read" else None, clock, FOREVER, UNKNOWN)
                busy[client].note = False
                ops.append(busy[client])
            continue
        running = busy[client]
        if not running.note:  # it happens now
            running.note = True
            there = state not in (ABSENT, DELETED)
            if running.kind == "create":
                running.outcome = OK if state == ABSENT else CONFLICT
                state = running.value if state == ABSENT else state
            elif not there:
                running.outcome = MISSING
            else:
                running.outcome = OK
                if running.kind == "read":
                    running.value = state
                else:
                    state = running.value if running.kind == "write" else DELETED
            continue
        del busy[client]
        if source.random() < 0.05:
            running.outcome = UNKNOWN
        else:
            running.returned = clock
    return ops


def spoil(source, ops):
    """One read gets the value of a read that had ended before the value that it saw was even sent."""
    reads = [o for o in ops if o.kind == "read" and o.outcome == OK]
    for late in source.sample(reads, len(reads)):
        write = next((o for o in ops if o.value == late.value and o.kind in ("write", "create")), None)
        after = [o for o in ops if o.kind == "read" and o.outcome == OK and o.value == late.value and
                 o.returned < late.sent] if write else []
        early = [o for o in reads if write and o.returned < write.sent and o.value != late.value]
        if after and early:
            late.value = source.choice(early).value
            return True
    return False


def main():
    results = lib.Results(os.path.basename(__file__))
    for what, good, ops in BY_HAND:
        results.equal(what, history.violation(ops) is None, good)
    source = random.Random(1)
    wrong = sum(history.violation(made_at_random(source)) is not None for _ in range(100))
    results.equal("100 histories of a single copy are linearizable", wrong, 0)
    spoiled = missed = 0
    while spoiled < 100:
        ops = made_at_random(source)
        if spoil(source, ops):
            spoiled += 1
            missed += history.violation(ops) is None
    results.equal("100 with one read of the past are not", missed, 0)
    return results.close()


if __name__ == "__main__":
    raise SystemExit(main())
