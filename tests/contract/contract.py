"""The words in which the tables of the API's contract are written.

A row is one request and what must come back:

    row("a name of 256 characters is refused", "member", "POST /v2/images", 400, body={"name": "x" * 256})

name      what the row shows; a sentence
who       the caller: member and reader (of project alpha), other and otherreader (of project beta), librarian (of
          project shelf, whose images the listing rows look at), admin, service, system (scope), domain (scope), unscoped,
          none (no token), bad (a token that nobody issued)
request   method and path; the path is sent as it stands
status    the status that must come back

Beside these, by name:

given     the image that the row is about, in words: queued, active (10 bytes, "0123456789"), empty (0 bytes),
          deactivated, deleted, saving (an upload is running); private, shared, community, public; protected, hidden,
          noformats, ownerless; format:F, container:F; tag:T; prop:K=V; member:P (shared with that project), member:P=accepted.
          It is made by `member`, or by admin where that is needed. Its id is <id> from there on.
before    requests that come first, in a list: (who, request[, body[, headers[, keep[, status]]]]). Each must succeed, or be
          answered with that status; keep is what to remember of its reply: {"word": "path/in/body"} or "@Header", then <word>
body      dict or list: sent as JSON; text and bytes: sent as they are; Chunked(...): without Content-Length
headers   of the request
has       fields of the reply's JSON body, by path (a/b/0): a value, or a matcher from below
lacks     fields that must not be there
gives     headers of the reply: a value, or a matcher
data      the reply's body, bytes
names     names of the images in the reply, in order; a set where order does not matter
raw       the request as bytes; the first reply counts. rest: bytes sent once 100 Continue has come, which it must; the reply is
          the one after it. statuses: of all replies until the connection is closed
then      fields of the image afterwards, as an administrator sees it; or 404 when it must be gone
together  bodies of further requests like this one, sent at the same time through the other hosts; status is then the list of all
          statuses, sorted, and `same` a path in the bodies of the successful replies that must be equal
later     why the row can not pass yet: it is counted as skipped

Words in <> are replaced everywhere: <id>, <unknown> (an id that nothing has), <new> (another one for each row), <alpha>, <beta>,
<shelf> (ids of projects), <user:WHO>, <token:WHO>, <password:WHO>, <address> (of the host that is asked), <silent> (of a web server that
takes connections and never answers).

Not written in rows, but checked of every reply: the request id; Content-Length or chunks; 204 without a body; errors as
nested JSON with their own code; WWW-Authenticate with 401; Allow with 405; Retry-After with 503; all base fields with their
types wherever an image is shown.
"""
import dataclasses
import re
from typing import Any

ROWS = []
_section = ["?"]


@dataclasses.dataclass
class Row:
    section: str
    name: str
    who: str
    request: str
    status: Any
    given: str = ""
    before: list = dataclasses.field(default_factory=list)
    body: Any = None
    headers: dict = dataclasses.field(default_factory=dict)
    has: dict = dataclasses.field(default_factory=dict)
    lacks: tuple = ()
    gives: dict = dataclasses.field(default_factory=dict)
    data: Any = None
    names: Any = None
    then: Any = None
    raw: Any = None
    rest: Any = None
    statuses: Any = None
    together: Any = None
    same: str = ""
    later: str = ""


def section(title):
    _section[0] = title


def row(name, who, request, status, **more):
    ROWS.append(Row(_section[0], name, who, request, status, **more))


PATCH_1 = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
PATCH_0 = {"Content-Type": "application/openstack-images-v2.0-json-patch"}
OCTETS = {"Content-Type": "application/octet-stream"}


def patch(name, operations, status, who="member", given="queued", headers=None, **more):
    """A row with a patch of the given image, in the v2.1 form."""
    row(name, who, "PATCH /v2/images/<id>", status, given=given, body=operations, headers=headers or PATCH_1, **more)


def upload(name, body, status, who="member", given="queued", headers=None, **more):
    """A row with an upload into the given image."""
    row(name, who, "PUT /v2/images/<id>/file", status, given=given, body=body, headers={**OCTETS, **(headers or {})}, **more)


def set_(path, value):
    return [{"op": "replace", "path": path, "value": value}]


def add(path, value):
    return [{"op": "add", "path": path, "value": value}]


def remove(path):
    return [{"op": "remove", "path": path}]


class Chunked(bytes):
    """A body sent with Transfer-Encoding: chunked."""


@dataclasses.dataclass
class File:
    """Image data made by the runner: a real image of that name (see images.py), or its chunked upload."""
    name: str
    chunked: bool = False


# ---- matchers ----------------------------------------------------------------------------------------

class Matcher:
    def __init__(self, text, test):
        self.text, self.test = text, test

    def __call__(self, value):
        try:
            return bool(self.test(value))
        except (TypeError, ValueError, AttributeError):
            return False

    def __repr__(self):
        return self.text


UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ANY = Matcher("anything", lambda v: True)
TEXT = Matcher("a text", lambda v: isinstance(v, str) and v != "")
NUMBER = Matcher("a number", lambda v: isinstance(v, (int, float)) and not isinstance(v, bool))
NONE_GIVEN = Matcher("no such header", lambda v: v is None)
TIME = Matcher("a time", lambda v: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", v))
TIME_SIX = Matcher("a time with six digits", lambda v: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", v))
AN_ID = Matcher("a UUID", lambda v: re.fullmatch(UUID, v))
HEX32 = Matcher("32 hex digits", lambda v: re.fullmatch("[0-9a-f]{32}", v))


def like(pattern):
    return Matcher(f"like {pattern}", lambda v: re.search(pattern, v))


def holds(item):
    return Matcher(f"holds {item!r}", lambda v: item in v)


def without(item):
    return Matcher(f"without {item!r}", lambda v: item not in v)


def length(n):
    return Matcher(f"{n} items", lambda v: len(v) == n)


def one_of(*values):
    return Matcher(f"one of {values!r}", lambda v: v in values)


def matches(expected, value):
    if isinstance(expected, Matcher):
        return expected(value)
    return type(expected) is type(value) and expected == value or \
        (isinstance(expected, (int, float)) and not isinstance(expected, bool) and not isinstance(value, bool) and
         expected == value)
