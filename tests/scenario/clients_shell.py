"""Runs commands of the stock clients in one process, as their scripts would: a start costs a second of processor time.

usage: /usr/bin/python3 clients_shell.py

Each line of standard input is a command, {"words": ["openstack", ...], "env": {...}, "stdin": path or null}; each line of
standard output what became of it, {"code", "out", "err", "seconds"}. The clients' own main() is called with the words,
the environment and standard input of the command, so that what they send, print and exit with is what a user sees."""
import io
import json
import os
import sys
import time
import traceback

# Standard input as a person has it: from anything else the clients read image data.
TERMINAL = os.ttyname(os.openpty()[1])


def main_of(program):
    if program == "openstack":
        from openstackclient import shell
        forget_services()
        return shell.main
    from glanceclient import shell

    def run_glance(words):
        sys.argv = [program, *words]
        return shell.main()

    return run_glance


def forget_services():
    """A new process would have no connection yet; in this one the class keeps those of the last command's user."""
    from osc_lib import clientmanager
    for held in vars(clientmanager.ClientManager).values():
        if isinstance(held, clientmanager.ClientCache):
            held._handle = None


class Text(io.TextIOWrapper):
    """Standard output or error that is kept; `buffer` takes bytes, as of a download."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode("utf-8", "replace")

    def close(self):
        """A client that closes its output does not take away what it wrote."""


def run(command):
    program, *words = command["words"]
    os.environ.clear()
    os.environ.update(command["env"])
    kept = sys.stdin, sys.stdout, sys.stderr, sys.argv
    out, err = Text(), Text()
    began = time.monotonic()
    with open(command["stdin"] or TERMINAL, encoding="utf-8", errors="surrogateescape") as stdin:
        sys.stdin, sys.stdout, sys.stderr = stdin, out, err
        try:
            code = main_of(program)(words) or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                err.write(end.code)
        except Exception:  # pylint: disable=broad-except
            code = 1
            traceback.print_exc(file=err)
        finally:
            sys.stdin, sys.stdout, sys.stderr, sys.argv = kept
    return {"code": code, "out": out.text(), "err": err.text(), "seconds": round(time.monotonic() - began, 2)}


def main():
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a client writes past sys.stdout is no reply
    for line in sys.stdin:
        replies.write(json.dumps(run(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
