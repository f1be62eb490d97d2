#!/usr/bin/env python3
"""The contract of the API, row by row (tests/contract): a wrapper, so that it is run among the scenarios."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.join(HERE, "..", "contract", "run")

if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, "-u", RUN, *sys.argv[1:]])
