"""Section 8: several domains, their administrators, service tokens, RC files."""
from contract import HEX32, length, like, row, section

V3 = "/identity/v3"
TOKENS = f"POST {V3}/auth/tokens"


def password(user, scope, secret="pw"):
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": {**user, "password": secret}}}, "scope": scope}}


section("8.3 domains")
NEW = {"domain": {"name": "d-<new>", "description": "d", "enabled": True, "options": {}, "tags": []}}
DOM = [("admin", f"POST {V3}/domains", NEW, {}, {"dom": "domain/id"})]
OFF = DOM + [("admin", f"PATCH {V3}/domains/<dom>", {"domain": {"enabled": False}})]
row("made", "admin", f"POST {V3}/domains", 201, body=NEW,
    has={"domain/id": HEX32, "domain/name": "d-<new>", "domain/description": "d", "domain/enabled": True, "domain/tags": [],
         "domain/options": {}, "domain/links/self": like("/domains/")})
row("made with an id of one's own", "admin", f"POST {V3}/domains", 201,
    body={"domain": {"name": "d-<new>", "explicit_domain_id": "0123456789abcdef0123456789abcdef"}},
    has={"domain/id": "0123456789abcdef0123456789abcdef"})
row("the same name is 409", "admin", f"POST {V3}/domains", 409, before=DOM, body=NEW)
row("made by a member is 403", "member", f"POST {V3}/domains", 403, body=NEW)
row("made by an administrator of one domain is 403", "domain", f"POST {V3}/domains", 403, body=NEW)
for what, body in (("no name", {"domain": {}}), ("an empty name", {"domain": {"name": ""}}), ("no domain", {}), ("a list", []),
                   ("a name that is no text", {"domain": {"name": 1}}), ("a name of 65 characters", {"domain": {"name": "x" * 65}}),
                   ("a name of blanks", {"domain": {"name": " "}}), ("a bad id", {"domain": {"name": "x", "explicit_domain_id": "x"}})):
    row(f"{what} is 400", "admin", f"POST {V3}/domains", 400, body=body)
row("changed", "admin", f"PATCH {V3}/domains/<dom>", 200, before=DOM, body={"domain": {"description": "e"}},
    has={"domain/description": "e", "domain/name": "d-<new>"})
row("changed by a member is 403", "member", f"PATCH {V3}/domains/default", 403, body={"domain": {"description": "e"}})
row("changing one that is not there is 404", "admin", f"PATCH {V3}/domains/<unknown>", 404, body={"domain": {"description": "e"}})
row("the default domain stays enabled", "admin", f"PATCH {V3}/domains/default", 403, body={"domain": {"enabled": False}})
row("deleted when it is enabled is 403", "admin", f"DELETE {V3}/domains/<dom>", 403, before=DOM)
row("deleted when it is disabled", "admin", f"DELETE {V3}/domains/<dom>", 204, before=OFF)
row("deleted is 404", "admin", f"GET {V3}/domains/<dom>", 404, before=OFF + [("admin", f"DELETE {V3}/domains/<dom>")])
row("deleting one that is not there is 404", "admin", f"DELETE {V3}/domains/<unknown>", 404)
row("found by name", "admin", f"GET {V3}/domains?name=d-<new>", 200, before=DOM, has={"domains": length(1), "domains/0/id": "<dom>"})
row("PUT is 405", "admin", f"PUT {V3}/domains/default", 405, body={}, gives={"Allow": "GET, PATCH, DELETE"})

section("8.3 users and projects of another domain")
USER = DOM + [("admin", f"POST {V3}/users", {"user": {"name": "librarian", "domain_id": "<dom>", "password": "pw"}}, {}, {"made": "user/id"})]
BOTH = USER + [("admin", f"POST {V3}/projects", {"project": {"name": "shelf", "domain_id": "<dom>"}}, {}, {"own": "project/id"}),
               ("admin", f"PUT {V3}/projects/<own>/users/<made>/roles/<role:member>")]
THERE = {"project": {"name": "shelf", "domain": {"id": "<dom>"}}}
BY_NAME = {"name": "librarian", "domain": {"name": "d-<new>"}}
row("a name may be used again there", "admin", f"POST {V3}/users", 201, before=DOM,
    body={"user": {"name": "librarian", "domain_id": "<dom>"}}, has={"user/domain_id": "<dom>"})
row("logged in by names", "none", TOKENS, 201, before=BOTH, body=password(BY_NAME, THERE),
    has={"token/user/domain": {"id": "<dom>", "name": "d-<new>"}, "token/project/id": "<own>", "token/project/domain/id": "<dom>"})
row("the same names in the default domain are others", "none", TOKENS, 401, before=BOTH,
    body=password({"name": "librarian", "domain": {"id": "default"}}, THERE))
row("listed by domain", "admin", f"GET {V3}/users?domain_id=<dom>", 200, before=BOTH, has={"users": length(1), "users/0/id": "<made>"})
row("projects listed by domain", "admin", f"GET {V3}/projects?domain_id=<dom>", 200, before=BOTH,
    has={"projects": length(1), "projects/0/id": "<own>", "projects/0/parent_id": "<dom>"})
ISSUED = BOTH + [("none", TOKENS, password(BY_NAME, THERE), {}, {"token:there": "@X-Subject-Token"})]
row("its token is good", "there", "GET /v2/images?limit=1", 200, before=ISSUED)
row("a disabled domain lets nobody in", "none", TOKENS, 401, body=password(BY_NAME, THERE),
    before=BOTH + [("admin", f"PATCH {V3}/domains/<dom>", {"domain": {"enabled": False}})])
row("a disabled domain ends the tokens of its users", "there", "GET /v2/images", 401,
    before=ISSUED + [("admin", f"PATCH {V3}/domains/<dom>", {"domain": {"enabled": False}})])
GONE = BOTH + [("admin", f"PATCH {V3}/domains/<dom>", {"domain": {"enabled": False}}), ("admin", f"DELETE {V3}/domains/<dom>")]
row("a deleted domain takes its users along", "admin", f"GET {V3}/users/<made>", 404, before=GONE)
row("a deleted domain takes its projects along", "admin", f"GET {V3}/projects/<own>", 404, before=GONE)
row("a deleted domain takes its assignments along", "admin", f"GET {V3}/role_assignments?user.id=<made>", 200, before=GONE,
    has={"role_assignments": []})

section("8.3 an administrator of one domain")
BOSS = BOTH + [("admin", f"POST {V3}/users", {"user": {"name": "boss", "domain_id": "<dom>", "password": "pw"}}, {}, {"chief": "user/id"}),
               ("admin", f"PUT {V3}/domains/<dom>/users/<chief>/roles/<role:admin>"),
               ("none", TOKENS, password({"id": "<chief>"}, {"domain": {"id": "<dom>"}}), {}, {"token:boss": "@X-Subject-Token"})]
row("makes users there", "boss", f"POST {V3}/users", 201, before=BOSS, body={"user": {"name": "u"}}, has={"user/domain_id": "<dom>"})
row("makes no users elsewhere", "boss", f"POST {V3}/users", 403, before=BOSS, body={"user": {"name": "u-<new>", "domain_id": "default"}})
row("makes projects there", "boss", f"POST {V3}/projects", 201, before=BOSS, body={"project": {"name": "p"}}, has={"project/domain_id": "<dom>"})
row("makes no projects elsewhere", "boss", f"POST {V3}/projects", 403, before=BOSS,
    body={"project": {"name": "p-<new>", "domain_id": "default"}})
row("sees the users there, and no others", "boss", f"GET {V3}/users", 200, before=BOSS, has={"users": length(2)})
row("sees the projects there, and no others", "boss", f"GET {V3}/projects", 200, before=BOSS, has={"projects": length(1)})
row("sees no user elsewhere by id", "boss", f"GET {V3}/users/<user:member>", 403, before=BOSS)
row("changes users there", "boss", f"PATCH {V3}/users/<made>", 200, before=BOSS, body={"user": {"email": "x"}}, has={"user/email": "x"})
row("changes no users elsewhere", "boss", f"PATCH {V3}/users/<user:member>", 403, before=BOSS, body={"user": {"email": "x"}})
row("changes no user who administers more", "boss", f"PATCH {V3}/users/<made>", 403, body={"user": {"password": "x"}},
    before=BOSS + [("admin", f"PUT {V3}/projects/<alpha>/users/<made>/roles/<role:admin>")])
row("deletes users there", "boss", f"DELETE {V3}/users/<made>", 204, before=BOSS)
row("deletes no users elsewhere", "boss", f"DELETE {V3}/users/<user:other>", 403, before=BOSS)
row("deletes projects there", "boss", f"DELETE {V3}/projects/<own>", 204, before=BOSS)
row("deletes no projects elsewhere", "boss", f"DELETE {V3}/projects/<beta>", 403, before=BOSS)
row("gives the role reader there", "boss", f"PUT {V3}/projects/<own>/users/<made>/roles/<role:reader>", 204, before=BOSS)
row("gives no role admin, which is one of the whole service", "boss", f"PUT {V3}/projects/<own>/users/<made>/roles/<role:admin>", 403,
    before=BOSS)
row("gives no roles elsewhere", "boss", f"PUT {V3}/projects/<alpha>/users/<made>/roles/<role:reader>", 403, before=BOSS)
row("gives no roles on the system", "boss", f"PUT {V3}/system/users/<made>/roles/<role:reader>", 403, before=BOSS)
row("finds its domain by name", "boss", f"GET {V3}/domains?name=d-<new>", 200, before=BOSS, has={"domains": length(1)})
row("finds no other domain", "boss", f"GET {V3}/domains?name=Default", 200, before=BOSS, has={"domains": []})
row("finds roles by name", "boss", f"GET {V3}/roles?name=member", 200, before=BOSS, has={"roles": length(1)})
row("sees who has roles there, and on its domain", "boss", f"GET {V3}/role_assignments", 200, before=BOSS,
    has={"role_assignments": length(2)})
row("sees who has roles on a project there", "boss", f"GET {V3}/role_assignments?scope.project.id=<own>&include_names=1", 200, before=BOSS,
    has={"role_assignments": length(1), "role_assignments/0/user/name": "librarian"})
row("sees who has roles on its domain", "boss", f"GET {V3}/role_assignments?scope.domain.id=<dom>", 200, before=BOSS,
    has={"role_assignments": length(1), "role_assignments/0/user/id": "<chief>"})
row("sees no roles elsewhere", "boss", f"GET {V3}/role_assignments?scope.project.id=<alpha>", 200, before=BOSS, has={"role_assignments": []})
row("sees no roles on the system", "boss", f"GET {V3}/role_assignments?scope.system=all", 200, before=BOSS, has={"role_assignments": []})
row("sees no roles of its users elsewhere", "boss", f"GET {V3}/role_assignments?user.id=<made>", 200, has={"role_assignments": length(1)},
    before=BOSS + [("admin", f"PUT {V3}/projects/<alpha>/users/<made>/roles/<role:reader>")])
row("administers no images", "boss", "GET /v2/images", 403, before=BOSS)

section("8.2 application credentials that may make others")
CRED = {"application_credential": {"name": "c-<new>", "secret": "s3cret", "unrestricted": True}}
LOGIN = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"id": "<cred>", "secret": "s3cret"}}}}
OWNER = [("admin", f"POST {V3}/users", {"user": {"name": "<new>", "password": "pw"}}, {}, {"made": "user/id"}),
         ("admin", f"PUT {V3}/projects/<alpha>/users/<made>/roles/<role:member>"),
         ("none", TOKENS, password({"id": "<made>"}, {"project": {"id": "<alpha>"}}), {}, {"token:own": "@X-Subject-Token"})]
FREE = OWNER + [("own", f"POST {V3}/users/<made>/application_credentials", CRED, {}, {"cred": "application_credential/id"}),
                ("none", TOKENS, LOGIN, {}, {"token:cred": "@X-Subject-Token"})]
BOUND = OWNER + [("own", f"POST {V3}/users/<made>/application_credentials",
                  {"application_credential": {"name": "c", "secret": "s3cret"}}, {}, {"cred": "application_credential/id"}),
                 ("none", TOKENS, LOGIN, {}, {"token:cred": "@X-Subject-Token"})]
ANOTHER = {"application_credential": {"name": "d"}}
row("an unrestricted one makes others", "cred", f"POST {V3}/users/<made>/application_credentials", 201, before=FREE, body=ANOTHER)
row("an unrestricted one deletes itself", "cred", f"DELETE {V3}/users/<made>/application_credentials/<cred>", 204, before=FREE)
row("a restricted one makes none", "cred", f"POST {V3}/users/<made>/application_credentials", 403, before=BOUND, body=ANOTHER)
row("its token says which it is", "none", TOKENS, 201, body=LOGIN, before=FREE, has={"token/application_credential/restricted": False})

section("8.2 access rules of application credentials")
CREDS = f"{V3}/users/<made>/application_credentials"
RULES = f"{V3}/users/<made>/access_rules"
LISTS = {"path": "/v2/images", "method": "GET", "service": "image"}
ONE = {"path": "/v2/images/{id}", "method": "GET", "service": "image"}
DEEP = {"path": "/v2/images/**", "method": "PUT", "service": "image"}
SELF = {"path": "/v3/auth/projects", "method": "GET", "service": "identity"}


def ruled(*rules, **more):
    return {"application_credential": {"name": "r", "secret": "s3cret", "access_rules": list(rules), **more}}


def bound(*rules):
    """A credential with these rules, and a token of it: caller `cred`."""
    return OWNER + [("own", f"POST {CREDS}", ruled(*rules), {}, {"cred": "application_credential/id",
                                                                 "rule": "application_credential/access_rules/0/id"}),
                    ("none", TOKENS, LOGIN, {}, {"token:cred": "@X-Subject-Token"})]


row("made with one: it is shown, with an id", "own", f"POST {CREDS}", 201, before=OWNER, body=ruled(LISTS),
    has={"application_credential/access_rules": length(1), "application_credential/access_rules/0/id": HEX32,
         "application_credential/access_rules/0/path": "/v2/images", "application_credential/access_rules/0/method": "GET",
         "application_credential/access_rules/0/service": "image"})
row("made with none in particular: no rules", "own", f"POST {CREDS}", 201, before=OWNER, body=ruled(),
    lacks=("application_credential/access_rules",))
row("shown with its rules", "own", f"GET {CREDS}/<cred>", 200, before=bound(LISTS, ONE),
    has={"application_credential/access_rules": length(2)})
row("its token says what it may do", "none", TOKENS, 201, body=LOGIN, before=bound(LISTS),
    has={"token/application_credential/access_rules/0/path": "/v2/images", "token/application_credential/access_rules/0/id": "<rule>"})
for what, rule in (("without a path", {"method": "GET", "service": "image"}), ("of another method", {**LISTS, "method": "BREW"}),
                   ("of a method in small letters", {**LISTS, "method": "get"}), ("whose path has no slash", {**LISTS, "path": "v2"}),
                   ("with an unknown key", {**LISTS, "colour": "x"}), ("without a service", {"path": "/x", "method": "GET"}),
                   ("with a path of 226 characters", {**LISTS, "path": "/" + "x" * 225}), ("that is a text", "x"),
                   ("with a number", {**LISTS, "path": 1})):
    row(f"a rule {what} is 400", "own", f"POST {CREDS}", 400, before=OWNER, body=ruled(rule))
row("rules that are no list are 400", "own", f"POST {CREDS}", 400, before=OWNER,
    body={"application_credential": {"name": "r", "access_rules": {}}})
row("a rule by its id", "own", f"POST {CREDS}", 201, before=bound(LISTS), body={"application_credential": {
    "name": "r2", "access_rules": [{"id": "<rule>"}]}}, has={"application_credential/access_rules/0/path": "/v2/images"})
row("a rule by an id that is not there is 404", "own", f"POST {CREDS}", 404, before=OWNER,
    body={"application_credential": {"name": "r", "access_rules": [{"id": "<unknown>"}]}})
row("what a rule names is allowed", "cred", "GET /v2/images?limit=1", 200, before=bound(LISTS))
row("what none names is 401", "cred", "GET /v2/images/<unknown>", 401, before=bound(LISTS))
row("another method is 401", "cred", "POST /v2/images", 401, before=bound(LISTS), body={})
row("another way to say the path is 401", "cred", "GET /v2.7/images", 401, before=bound(LISTS))
row("a name in braces is one part of a path", "cred", "GET /v2/images/<unknown>", 404, before=bound(ONE))
row("and not two", "cred", "GET /v2/images/<unknown>/file", 401, before=bound(ONE))
row("two stars are any number of parts", "cred", "PUT /v2/images/<unknown>/tags/t", 404, before=bound(DEEP))
row("a rule of another service does not count", "cred", "GET /v2/images", 401, before=bound({**LISTS, "service": "compute"}))
row("one of several rules is enough", "cred", "GET /v2/images?limit=1", 200, before=bound(ONE, DEEP, LISTS))
row("the cluster's own API is not the image service's list", "cred", "GET /v1/openrc", 401, before=bound(LISTS))
row("identity too is for who has a rule for it", "cred", f"GET {V3}/auth/projects", 401, before=bound(LISTS))
row("identity with a rule", "cred", f"GET {V3}/auth/projects", 200, before=bound(SELF))
row("a token may always be asked about itself", "cred", f"GET {V3}/auth/tokens", 200, before=bound(LISTS),
    headers={"X-Subject-Token": "<token:cred>", "OpenStack-Identity-Access-Rules": "1"},
    has={"token/application_credential/access_rules": length(1)})
row("who does not know of access rules gets no such token", "service", f"GET {V3}/auth/tokens", 404, before=bound(LISTS),
    headers={"X-Subject-Token": "<token:cred>"})
row("a service that acts for the user is not bound", "cred", "GET /v2/images/<unknown>", 404, before=bound(LISTS),
    headers={"X-Service-Token": "<token:service>"})
row("listed", "own", f"GET {RULES}", 200, before=bound(LISTS, ONE),
    has={"access_rules": length(2), "links/self": like("/access_rules"), "access_rules/0/links/self": like("/access_rules/")})
row("listed by path", "own", f"GET {RULES}?path=/v2/images", 200, before=bound(LISTS, ONE),
    has={"access_rules": length(1), "access_rules/0/id": "<rule>", "access_rules/0/service": "image", "access_rules/0/method": "GET"})
row("the same rule again is the same entry", "own", f"GET {RULES}", 200, has={"access_rules": length(1)},
    before=bound(LISTS) + [("own", f"POST {CREDS}", {"application_credential": {"name": "r2", "access_rules": [LISTS]}})])
row("one", "own", f"GET {RULES}/<rule>", 200, before=bound(LISTS), has={"access_rule/path": "/v2/images", "access_rule/id": "<rule>"})
row("one that is not there is 404", "own", f"GET {RULES}/<unknown>", 404, before=OWNER)
row("others see none", "other", f"GET {RULES}", 403, before=bound(LISTS))
row("others see not one", "other", f"GET {RULES}/<rule>", 403, before=bound(LISTS))
row("another's rule is not the own one", "other", f"GET {V3}/users/<user:other>/access_rules/<rule>", 404, before=bound(LISTS))
row("deleted while a credential has it is 403", "own", f"DELETE {RULES}/<rule>", 403, before=bound(LISTS))
GONE = bound(LISTS) + [("own", f"DELETE {CREDS}/<cred>")]
row("it outlives its credential", "own", f"GET {RULES}", 200, before=GONE, has={"access_rules": length(1)})
row("deleted", "own", f"DELETE {RULES}/<rule>", 204, before=GONE)
row("deleted is 404", "own", f"GET {RULES}/<rule>", 404, before=GONE + [("own", f"DELETE {RULES}/<rule>")])
row("deleting one that is not there is 404", "own", f"DELETE {RULES}/<unknown>", 404, before=OWNER)
row("deleted by others is 403", "other", f"DELETE {RULES}/<rule>", 403, before=GONE)
row("PUT is 405", "own", f"PUT {RULES}/<rule>", 405, before=bound(LISTS), body={}, gives={"Allow": "GET, DELETE"})
row("a deleted user's rules are gone", "admin", f"GET {RULES}", 200, has={"access_rules": []},
    before=bound(LISTS) + [("admin", f"DELETE {V3}/users/<made>")])

section("8.3 RC files")
row("an RC file", "member", "GET /v1/openrc", 200, gives={"Content-Type": "text/plain; charset=utf-8"})
row("an RC file as JSON", "member", "GET /v1/openrc?format=json", 200,
    has={"openrc": like(r"(?s)export OS_AUTH_URL='https://[^ ]*/identity/v3'.*OS_INTERFACE='public'.*OS_PROJECT_NAME='alpha'"
                        r".*OS_USERNAME='member'")})
row("for the admin endpoint", "admin", "GET /v1/openrc?format=json&interface=admin", 200, has={"openrc": like("OS_INTERFACE='admin'")})
row("for another project", "admin", "GET /v1/openrc?format=json&project=beta", 200, has={"openrc": like("OS_PROJECT_NAME='beta'")})
row("names can not break out of their quotes", "admin", "GET /v1/openrc?format=json&user=x%27%3Bid%3B%27", 200,
    has={"openrc": like(r"OS_USERNAME='x'\\'';id;'\\'''")})
row("of an unknown project is 404", "admin", "GET /v1/openrc?project=nope-<new>", 404)
row("of an unknown interface is 400", "admin", "GET /v1/openrc?interface=x", 400)
row("without a token is 401", "none", "GET /v1/openrc", 401)

section("1.2 a service's token beside a user's")
BESIDE = {"X-Service-Token": "<token:service>"}
row("is fine", "member", "GET /v2/images?limit=1", 200, headers=BESIDE)
row("saves no bad token", "bad", "GET /v2/images", 401, headers=BESIDE)
row("saves no revoked token", "fresh", "GET /v2/images", 401, headers=BESIDE,
    before=[("none", TOKENS, password({"id": "<user:member>"}, {"project": {"id": "<alpha>"}}, "<password:member>"), {},
             {"token:fresh": "@X-Subject-Token"}),
            ("admin", f"DELETE {V3}/auth/tokens", None, {"X-Subject-Token": "<token:fresh>"})])
row("that is bad does not matter when the user's is good", "member", "GET /v2/images?limit=1", 200, headers={"X-Service-Token": "x"})
