"""A history of what clients asked and were told, and the check that it is linearizable.

A register is an image with one property: it is absent, has a value, or was deleted. Each operation has the time at
which it was sent and the time at which its answer came; linearizable means that each can be given one moment between
the two, so that all of them, in the order of those moments, are what a single copy would have answered. An operation
whose answer never came may have happened at any time after it was sent, or never.

The check walks through the times in order and keeps every configuration that is still possible: (state, operations
that have happened but not returned). When an operation returns, it must have happened: configurations in which it can
not are dropped, and when none is left the history is not linearizable. Registers are independent of each other, so
each is checked alone. (Wing and Gong 1993, with Lowe's just-in-time order of 2017.)"""
import threading
import time

ABSENT, DELETED = "absent", "deleted"
OK, MISSING, CONFLICT, UNKNOWN = "ok", "missing", "conflict", "unknown"
FOREVER = float("inf")


class Op:
    __slots__ = ("register", "kind", "value", "outcome", "sent", "returned", "note")

    def __init__(self, register, kind, value, sent, note=""):
        self.register, self.kind, self.value, self.sent, self.note = register, kind, value, sent, note
        self.outcome, self.returned = UNKNOWN, FOREVER

    def __repr__(self):
        return (f"[{self.sent:9.3f} .. {self.returned:9.3f}] {self.note} {self.kind} {self.register} "
                f"{self.value} {self.outcome}")


def step(op, state):
    """The state after the operation, or None if it can not have had this outcome in `state`."""
    there = state not in (ABSENT, DELETED)
    if op.outcome == MISSING:
        return None if there else state
    if op.outcome == CONFLICT:  # of a create: the id is taken, or was
        return None if state == ABSENT else state
    if op.kind == "read":
        return state if state == op.value else None
    if op.kind == "create":
        return op.value if state == ABSENT else None
    if op.kind == "write":
        return op.value if there else None
    if op.kind == "delete":
        return DELETED if there else None
    raise ValueError(op.kind)


def matters(ops):
    """Without reads that ended without an answer, and writes of that kind whose (unique) value nobody ever saw:
    had one happened, leaving it out would be allowed too."""
    seen = {op.value for op in ops if op.kind == "read" and op.outcome == OK}
    return [op for op in ops if op.outcome != UNKNOWN or
            (op.kind != "read" and (op.kind != "write" or op.value in seen))]


def close(configurations, pending, op):
    """All configurations that can be reached in which `op` has happened."""
    reached, unlooked, found = set(configurations), list(configurations), set()
    while unlooked:
        state, happened = unlooked.pop()
        if op in happened:
            found.add((state, happened))
            continue
        for other in pending:
            if other in happened:
                continue
            after = step(other, state)
            if after is None:
                continue
            configuration = (after, happened | {other})
            if configuration not in reached:
                reached.add(configuration)
                unlooked.append(configuration)
    return found


def violation(ops):
    """None if the operations on one register are linearizable, else the first that can not be placed."""
    ops = matters(ops)
    events = sorted([(op.sent, 0, n) for n, op in enumerate(ops)] +
                    [(op.returned, 1, n) for n, op in enumerate(ops) if op.returned != FOREVER])
    configurations, pending = {(ABSENT, frozenset())}, []
    for _, returned, n in events:
        op = ops[n]
        if not returned:
            pending.append(op)
            continue
        configurations = {(state, happened - {op}) for state, happened in close(configurations, pending, op)}
        pending.remove(op)
        if not configurations:
            return op
    return None


class History:
    """Recorded by several client threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.registers = {}

    def send(self, register, kind, value=None, note=""):
        op = Op(register, kind, value, time.monotonic(), note)
        with self.lock:
            self.registers.setdefault(register, []).append(op)
        return op

    @staticmethod
    def returned(op, outcome, value=None):
        op.returned = time.monotonic()
        if op.kind == "read":
            op.value = value
        op.outcome = outcome

    def counts(self):
        with self.lock:
            ops = [op for register in self.registers.values() for op in register]
        return {outcome: sum(op.outcome == outcome for op in ops) for outcome in (OK, MISSING, CONFLICT, UNKNOWN)}

    def violations(self):
        """[(operation that can not be placed, what happened on that register around it)]"""
        found = []
        for ops in self.registers.values():
            op = violation(ops)
            if op:
                near = [o for o in ops if o.sent <= op.returned and o.returned >= op.sent - 3]
                found.append((op, sorted(near, key=lambda o: o.sent)))
        return found
