"""Runs Tempest's tests and writes what became of each, one line of JSON: {"id", "outcome", "why", "seconds"}.

usage: /usr/bin/python3 tempest_part.py RESULTS CLASS...

CLASS is module.Class. The system's Python runs this, as Tempest is a package of Debian; TEMPEST_CONFIG names the
settings."""
import json
import sys
import time
import unittest


class Lines(unittest.TestResult):
    """Each test's end is a line at once, so that a killed run leaves what it had."""

    def __init__(self, out):
        super().__init__()
        self.out = out
        self.began = {}

    def line(self, test, outcome, why=""):
        name = test.id()
        seconds = time.monotonic() - self.began.pop(name, time.monotonic())
        self.out.write(json.dumps({"id": name, "outcome": outcome, "why": why, "seconds": round(seconds, 2)}) + "\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.began[test.id()] = time.monotonic()

    @staticmethod
    def text(error, details):
        if error:
            return f"{error[0].__name__}: {error[1]}"
        return "\n".join(content.as_text() for name, content in (details or {}).items() if "traceback" in name)

    def addSuccess(self, test, details=None):
        self.line(test, "pass")

    def addSkip(self, test, reason=None, details=None):
        if reason is None and details and "reason" in details:
            reason = details["reason"].as_text()
        self.line(test, "skip", str(reason))

    def addError(self, test, error=None, details=None):
        self.line(test, "fail", self.text(error, details))

    def addFailure(self, test, error=None, details=None):
        self.line(test, "fail", self.text(error, details))

    def addExpectedFailure(self, test, error=None, details=None):
        self.line(test, "pass")

    def addUnexpectedSuccess(self, test, details=None):
        self.line(test, "fail", "succeeded unexpectedly")


def main():
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:])
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        suite.run(Lines(out))


if __name__ == "__main__":
    main()
