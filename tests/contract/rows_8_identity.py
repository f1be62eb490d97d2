"""Section 8.1 to 8.3: the identity service."""
from contract import ANY, HEX32, NONE_GIVEN, TEXT, TIME_SIX, holds, length, like, one_of, row, section

V3 = "/identity/v3"
VERSION = {"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
           "links/0/href": "https://<address>/identity/v3/", "links/0/rel": "self",
           "media-types/0/type": "application/vnd.openstack.identity-v3+json"}

section("8.1 identity discovery")
for path in ("/identity", "/identity/"):
    row(f"{path} is 300", "none", f"GET {path}", 300, has={f"versions/values/0/{k}": v for k, v in VERSION.items()},
        gives={"Location": "https://<address>/identity/v3/"})
for path in (V3, f"{V3}/"):
    row(f"{path} is 200", "none", f"GET {path}", 200, has={f"version/{k}": v for k, v in VERSION.items()})
row("an unknown path is 404", "member", f"GET {V3}/nothing", 404)
row("an unknown path below /identity is 404", "none", "GET /identity/v2.0", 404)


def login(methods, body, scope=None):
    return {"auth": {"identity": {"methods": methods, **body}, **({"scope": scope} if scope is not None else {})}}


def password(user, scope=None, secret="<password:member>"):
    return login(["password"], {"password": {"user": {**user, "password": secret}}}, scope)


TOKENS = f"POST {V3}/auth/tokens"
MEMBER = {"name": "member", "domain": {"id": "default"}}
BY_ID = {"id": "<user:member>"}
ALPHA = {"project": {"id": "<alpha>"}}
FIELDS = {"token/methods": ["password"], "token/expires_at": TIME_SIX, "token/issued_at": TIME_SIX,
          "token/audit_ids/0": like(r"^[A-Za-z0-9_-]{22}$"), "token/user/id": "<user:member>", "token/user/name": "member",
          "token/user/domain": {"id": "default", "name": "Default"}, "token/user/password_expires_at": None}
SCOPED = {**FIELDS, "token/is_domain": False, "token/project/id": "<alpha>", "token/project/name": "alpha",
          "token/project/domain": {"id": "default", "name": "Default"}, "token/roles": length(2), "token/catalog": ANY}
SUBJECT = {"X-Subject-Token": like(r"^[!-~]{1,255}$")}

section("8.2 tokens")
for what, body in (
        ("name and domain id, project id", password(MEMBER, ALPHA)),
        ("name and domain name", password({"name": "member", "domain": {"name": "Default"}}, ALPHA)),
        ("user id", password(BY_ID, ALPHA)),
        ("project by name and domain id", password(BY_ID, {"project": {"name": "alpha", "domain": {"id": "default"}}})),
        ("project by name and domain name", password(BY_ID, {"project": {"name": "alpha", "domain": {"name": "Default"}}})),
        ("project by id with a domain beside", password(BY_ID, {"project": {"id": "<alpha>", "domain": {"id": "default"}}}))):
    row(f"password, {what}", "none", TOKENS, 201, body=body, has=SCOPED, gives=SUBJECT)
row("roles are expanded: member has reader", "none", TOKENS, 201, body=password(BY_ID, ALPHA),
    has={"token/roles/0/name": "member", "token/roles/1/name": "reader", "token/roles/0/id": HEX32})
row("roles are expanded: admin has both", "none", TOKENS, 201,
    body=password({"name": "admin", "domain": {"id": "default"}}, {"project": {"name": "admin", "domain": {"id": "default"}}},
                  "<password:admin>"), has={"token/roles": length(3), "token/roles/0/name": "admin"})
UNSCOPED = ("token/project", "token/roles", "token/catalog", "token/is_domain")
row("without scope: unscoped", "none", TOKENS, 201, body=password(BY_ID), has=FIELDS, lacks=UNSCOPED)
row("scope unscoped, as a text", "none", TOKENS, 201, body=password(BY_ID, "unscoped"), has=FIELDS, lacks=UNSCOPED)
row("the user's default project without scope", "none", TOKENS, 201,
    before=[("admin", f"POST {V3}/users", {"user": {"name": "<new>", "password": "pw-<new>", "default_project_id": "<alpha>"}}, {},
             {"made": "user/id"}), ("admin", f"PUT {V3}/projects/<alpha>/users/<made>/roles/<role:reader>")],
    body=password({"id": "<made>"}, None, "pw-<new>"), has={"token/project/id": "<alpha>"})
row("system scope", "none", TOKENS, 201, body=password({"id": "<user:wide>"}, {"system": {"all": True}}),
    has={"token/system/all": True, "token/roles/0/name": "admin"}, lacks=("token/project",))
row("domain scope", "none", TOKENS, 201, body=password({"id": "<user:wide>"}, {"domain": {"id": "default"}}),
    has={"token/domain/id": "default", "token/domain/name": "Default"}, lacks=("token/project",))
row("domain scope by name", "none", TOKENS, 201, body=password({"id": "<user:wide>"}, {"domain": {"name": "Default"}}),
    has={"token/domain/id": "default"})
row("without the catalog", "none", f"{TOKENS}?nocatalog", 201, body=password(BY_ID, ALPHA), has={"token/project/id": "<alpha>"},
    lacks=("token/catalog",))
row("the catalog has image and identity", "none", TOKENS, 201, body=password(BY_ID, ALPHA),
    has={"token/catalog": length(2), "token/catalog/0/type": one_of("image", "identity"),
         "token/catalog/0/name": one_of("glance", "keystone"), "token/catalog/0/endpoints": length(3),
         "token/catalog/1/endpoints": length(3), "token/catalog/1/endpoints/0/region_id": "RegionOne",
         "token/catalog/1/endpoints/0/region": "RegionOne"})
row("methods may be joined with a token", "none", TOKENS, 201, body=login(["token"], {"token": {"id": "<token:member>"}}, ALPHA),
    has={"token/methods": holds("token"), "token/project/id": "<alpha>", "token/user/id": "<user:member>"})
row("a token for another scope: unscoped to project", "none", TOKENS, 201,
    body=login(["token"], {"token": {"id": "<token:unscoped>"}}, ALPHA), has={"token/project/id": "<alpha>"})
row("a token for another scope keeps its end", "none", TOKENS, 201,
    before=[("none", TOKENS, password(BY_ID), {}, {"token:first": "@X-Subject-Token", "end": "token/expires_at"})],
    body=login(["token"], {"token": {"id": "<token:first>"}}, ALPHA), has={"token/expires_at": "<end>"})
row("a token for a project without role is 401", "none", TOKENS, 401,
    body=login(["token"], {"token": {"id": "<token:member>"}}, {"project": {"id": "<beta>"}}))
row("an unknown token is 401", "none", TOKENS, 401, body=login(["token"], {"token": {"id": "nonsense"}}, ALPHA))
SAME = {"error/message": "The request you have made requires authentication.", "error/title": "Unauthorized"}
for what, body in (
        ("a wrong password", password(BY_ID, ALPHA, "wrong")), ("an empty password", password(BY_ID, ALPHA, "")),
        ("an unknown user", password({"name": "nobody", "domain": {"id": "default"}}, ALPHA)),
        ("an unknown user id", password({"id": "<unknown>"}, ALPHA)),
        ("an unknown domain", password({"name": "member", "domain": {"name": "Elsewhere"}}, ALPHA)),
        ("an unknown project", password({"id": "<user:other>"}, {"project": {"id": "<unknown>"}})),
        ("an unknown project name", password({"id": "<user:other>"}, {"project": {"name": "nope", "domain": {"id": "default"}}})),
        ("a project without role", password({"id": "<user:other>"}, ALPHA)),
        ("the system without role", password({"id": "<user:other>"}, {"system": {"all": True}})),
        ("a domain without role", password({"id": "<user:other>"}, {"domain": {"id": "default"}})),
        ("an unknown method", login(["magic"], {"magic": {}})),
        ("an unknown application credential", login(["application_credential"], {"application_credential": {"id": "x", "secret": "y"}}))):
    row(f"{what} is 401, with the one text", "none", TOKENS, 401, body=body, has=SAME,
        gives={"WWW-Authenticate": like(r'^Keystone uri="https://.*/identity/v3"$'), "X-Subject-Token": NONE_GIVEN})
row("a disabled user is 401", "none", TOKENS, 401, has=SAME, body=password({"id": "<made>"}, None, "pw-<new>"),
    before=[("admin", f"POST {V3}/users", {"user": {"name": "<new>", "password": "pw-<new>", "enabled": False}}, {}, {"made": "user/id"})])
row("a disabled project is 401", "none", TOKENS, 401, has=SAME, body=password({"id": "<user:wide>"}, {"project": {"id": "<made>"}}),
    before=[("admin", f"POST {V3}/projects", {"project": {"name": "<new>", "enabled": False}}, {}, {"made": "project/id"}),
            ("admin", f"PUT {V3}/projects/<made>/users/<user:wide>/roles/<role:member>")])
for what, body in (
        ("no JSON", "{oops"), ("nothing", None), ("an empty object", {}), ("a list", []), ("no identity", {"auth": {}}),
        ("no methods", {"auth": {"identity": {}}}), ("empty methods", login([], {})), ("methods that are a text", login("password", {})),
        ("methods of numbers", login([1], {})),
        ("a method without its object", login(["password"], {})), ("no user", login(["password"], {"password": {}})),
        ("no password", login(["password"], {"password": {"user": {"id": "x"}}})),
        ("a name without domain", login(["password"], {"password": {"user": {"name": "member", "password": "x"}}})),
        ("a password that is no text", login(["password"], {"password": {"user": {"id": "x", "password": 1}}})),
        ("an empty scope", password(BY_ID, {})), ("two scopes", password(BY_ID, {**ALPHA, "system": {"all": True}})),
        ("a scope that is a list", password(BY_ID, [])), ("an unknown scope", password(BY_ID, {"galaxy": {}})),
        ("a project name without domain", password(BY_ID, {"project": {"name": "alpha"}})),
        ("a token that is no text", login(["token"], {"token": {"id": 1}}))):
    row(f"{what} is 400", "none", TOKENS, 400, body=body)

section("8.2 application credentials")
CREDS = f"{V3}/users/<user:member>/application_credentials"
CRED = {"application_credential": {"name": "<new>", "secret": "s-<new>"}}
MADE = [("member", f"POST {CREDS}", CRED, {}, {"cred": "application_credential/id"})]
row("made by the user itself: 201, with the secret", "member", f"POST {CREDS}", 201, body=CRED,
    has={"application_credential/secret": "s-<new>", "application_credential/name": "<new>", "application_credential/id": HEX32,
         "application_credential/project_id": "<alpha>", "application_credential/roles": ANY,
         "application_credential/unrestricted": False})
row("a secret is made where none is given", "member", f"POST {CREDS}", 201, body={"application_credential": {"name": "<new>"}},
    has={"application_credential/secret": TEXT})
row("as the stock client sends it", "member", f"POST {CREDS}", 201,
    body={"application_credential": {"name": "<new>", "unrestricted": False}}, has={"application_credential/id": HEX32})
row("only with fewer roles", "member", f"POST {CREDS}", 201,
    body={"application_credential": {"name": "<new>", "roles": [{"id": "<role:reader>"}]}}, has={"application_credential/roles": length(1)})
row("not with roles that the user lacks", "member", f"POST {CREDS}", (400, 403),
    body={"application_credential": {"name": "<new>", "roles": [{"id": "<role:admin>"}]}})
row("not for another user", "other", f"POST {CREDS}", 403, body=CRED)
row("without a name is 400", "member", f"POST {CREDS}", 400, body={"application_credential": {}})
row("the same name again is 409", "member", f"POST {CREDS}", 409, before=MADE, body=CRED)
row("login by id", "none", TOKENS, 201, before=MADE,
    body=login(["application_credential"], {"application_credential": {"id": "<cred>", "secret": "s-<new>"}}),
    has={"token/methods": ["application_credential"], "token/project/id": "<alpha>", "token/application_credential/id": "<cred>",
         "token/application_credential/name": "<new>", "token/application_credential/restricted": True})
row("login by name and user id", "none", TOKENS, 201, before=MADE,
    body=login(["application_credential"], {"application_credential": {"name": "<new>", "secret": "s-<new>", "user": BY_ID}}),
    has={"token/project/id": "<alpha>"})
row("login by name and user name", "none", TOKENS, 201, before=MADE,
    body=login(["application_credential"], {"application_credential": {"name": "<new>", "secret": "s-<new>", "user": MEMBER}}),
    has={"token/project/id": "<alpha>"})
row("login with a scope is 401", "none", TOKENS, 401, before=MADE,
    body=login(["application_credential"], {"application_credential": {"id": "<cred>", "secret": "s-<new>"}}, ALPHA))
row("login with a wrong secret is 401", "none", TOKENS, 401, before=MADE,
    body=login(["application_credential"], {"application_credential": {"id": "<cred>", "secret": "wrong"}}))
row("the list has no secret", "member", f"GET {CREDS}", 200, before=MADE,
    has={"application_credentials": ANY, "links/self": ANY}, lacks=("application_credentials/0/secret",))
row("by name", "member", f"GET {CREDS}?name=<new>", 200, before=MADE, has={"application_credentials": length(1)})
row("one, without the secret", "member", f"GET {CREDS}/<cred>", 200, before=MADE, has={"application_credential/id": "<cred>"},
    lacks=("application_credential/secret",))
row("one that is not there is 404", "member", f"GET {CREDS}/<unknown>", 404)
row("others see none", "other", f"GET {CREDS}", 403)
row("deleted", "member", f"DELETE {CREDS}/<cred>", 204, before=MADE)
row("deleted: no login any more", "none", TOKENS, 401, before=MADE + [("member", f"DELETE {CREDS}/<cred>")],
    body=login(["application_credential"], {"application_credential": {"id": "<cred>", "secret": "s-<new>"}}))
FROM = MADE + [("none", TOKENS, login(["application_credential"], {"application_credential": {"id": "<cred>", "secret": "s-<new>"}}), {},
                {"token:cred": "@X-Subject-Token"})]
row("its token works on images", "cred", "POST /v2/images", 201, before=FROM, body={}, has={"owner": "<alpha>"})
row("its token makes no further credentials", "cred", f"POST {CREDS}", 403, before=FROM,
    body={"application_credential": {"name": "<new2>"}})
row("deleted: its token is 401", "cred", "GET /v2/images", 401, before=FROM + [("member", f"DELETE {CREDS}/<cred>")])

section("8.3 tokens as a subject")
OWN = f"{V3}/auth/tokens"
SUBJ = {"X-Subject-Token": "<token:member>"}
row("the own token", "member", f"GET {OWN}", 200, headers=SUBJ, has=SCOPED, gives={"X-Subject-Token": "<token:member>"})
row("an administrator validates it", "admin", f"GET {OWN}", 200, headers=SUBJ, has={"token/user/id": "<user:member>"})
row("a service validates it", "service", f"GET {OWN}", 200, headers=SUBJ, has={"token/user/id": "<user:member>"})
row("other users may not", "other", f"GET {OWN}", 403, headers=SUBJ)
row("a service without the catalog", "service", f"GET {OWN}?nocatalog", 200, headers=SUBJ, lacks=("token/catalog",))
row("an unknown subject is 404", "admin", f"GET {OWN}", 404, headers={"X-Subject-Token": "nonsense"})
row("no subject is 404 or 400", "admin", f"GET {OWN}", (400, 404))
row("a bad own token is 401", "bad", f"GET {OWN}", 401, headers=SUBJ)
row("HEAD is 200 without a body", "admin", f"HEAD {OWN}", 200, headers=SUBJ, data=b"")
row("HEAD of an unknown subject is 404", "admin", f"HEAD {OWN}", 404, headers={"X-Subject-Token": "nonsense"})
FRESH = [("none", TOKENS, password(BY_ID, ALPHA), {}, {"token:fresh": "@X-Subject-Token"})]
row("revoked by its owner", "fresh", f"DELETE {OWN}", 204, before=FRESH, headers={"X-Subject-Token": "<token:fresh>"})
row("revoked by an administrator", "admin", f"DELETE {OWN}", 204, before=FRESH, headers={"X-Subject-Token": "<token:fresh>"})
row("revoked by others: 403", "other", f"DELETE {OWN}", 403, before=FRESH, headers={"X-Subject-Token": "<token:fresh>"})
REVOKE = FRESH + [("admin", f"DELETE {OWN}", None, {"X-Subject-Token": "<token:fresh>"})]
row("revoked: validates as 404", "admin", f"GET {OWN}", 404, before=REVOKE, headers={"X-Subject-Token": "<token:fresh>"})
row("revoked: 401 at the image API", "fresh", "GET /v2/images", 401, before=REVOKE)
row("revoked: 401 at the image API for a change", "fresh", "PATCH /v2/images/<unknown>", 401, before=REVOKE, body=[],
    headers={"Content-Type": "application/openstack-images-v2.1-json-patch"})
row("revoked: no token for it", "none", TOKENS, 401, before=REVOKE, body=login(["token"], {"token": {"id": "<token:fresh>"}}, ALPHA))

section("8.3 what a token may reach")
row("projects", "member", f"GET {V3}/auth/projects", 200, has={"projects": length(1), "projects/0/id": "<alpha>"})
row("projects of an unscoped token", "unscoped", f"GET {V3}/auth/projects", 200, has={"projects/0/id": "<alpha>"})
row("domains", "member", f"GET {V3}/auth/domains", 200, has={"domains": []})
row("domains of an administrator of one", "domain", f"GET {V3}/auth/domains", 200, has={"domains/0/id": "default"})
row("catalog", "member", f"GET {V3}/auth/catalog", 200, has={"catalog": length(2)})
row("system", "member", f"GET {V3}/auth/system", 200, has={"system": []})
row("system of an administrator", "system", f"GET {V3}/auth/system", 200, has={"system": ANY})
for path in ("projects", "domains", "catalog", "system"):
    row(f"{path} without token is 401", "none", f"GET {V3}/auth/{path}", 401)

section("8.3 look-ups")
PROJECT = {"id": "<alpha>", "name": "alpha", "domain_id": "default", "description": "", "enabled": True, "parent_id": "default",
           "is_domain": False, "tags": [], "options": {}, "links/self": like("/projects/")}
LIST = {"links/next": None, "links/previous": None, "links/self": ANY}
row("projects, by an administrator", "admin", f"GET {V3}/projects", 200, has={"projects": ANY, **LIST})
row("projects by name", "admin", f"GET {V3}/projects?name=alpha", 200, has={f"projects/0/{k}": v for k, v in PROJECT.items()})
row("projects by a name that is not there", "admin", f"GET {V3}/projects?name=nope", 200, has={"projects": []})
row("projects by domain", "admin", f"GET {V3}/projects?name=alpha&domain_id=elsewhere", 200, has={"projects": []})
row("projects that are disabled", "admin", f"GET {V3}/projects?name=alpha&enabled=false", 200, has={"projects": []})
row("a project by id", "admin", f"GET {V3}/projects/<alpha>", 200, has={f"project/{k}": v for k, v in PROJECT.items()})
row("a name in the place of an id is 404 for administrators", "admin", f"GET {V3}/projects/alpha", 404)
row("the own project", "member", f"GET {V3}/projects/<alpha>", 200, has={"project/id": "<alpha>"})
for path in ("projects", "projects/<beta>", "projects/nope", "projects?name=beta", "users", "users/<user:other>", "users/nope", "users?name=x",
             "services", "endpoints", "role_assignments"):
    row(f"a member's look at {path} is 403", "member", f"GET {V3}/{path}", 403)
    row(f"without token {path} is 401", "none", f"GET {V3}/{path}", 401)
row("a member's look at roles is answered or 403", "member", f"GET {V3}/roles", (200, 403))
row("a member's look at domains is answered or 403", "member", f"GET {V3}/domains", (200, 403))
row("users", "admin", f"GET {V3}/users", 200, has={"users": ANY, **LIST})
row("users by name", "admin", f"GET {V3}/users?name=member", 200,
    has={"users/0/id": "<user:member>", "users/0/domain_id": "default", "users/0/enabled": True, "users/0/password_expires_at": None,
         "users/0/options": {}, "users/0/links/self": ANY}, lacks=("users/0/password",))
row("a user by id", "admin", f"GET {V3}/users/<user:member>", 200, has={"user/name": "member"}, lacks=("user/password",))
row("a user's name in the place of its id is 404", "admin", f"GET {V3}/users/member", 404)
row("oneself", "member", f"GET {V3}/users/<user:member>", 200, has={"user/id": "<user:member>"})
row("the own projects", "member", f"GET {V3}/users/<user:member>/projects", 200, has={"projects/0/id": "<alpha>"})
row("another's projects are 403", "member", f"GET {V3}/users/<user:other>/projects", 403)
row("another's projects, by an administrator", "admin", f"GET {V3}/users/<user:other>/projects", 200, has={"projects/0/id": "<beta>"})
row("roles", "admin", f"GET {V3}/roles", 200, has={"roles": length(4)})
row("a role by name", "admin", f"GET {V3}/roles?name=member", 200,
    has={"roles": length(1), "roles/0/id": "<role:member>", "roles/0/domain_id": None, "roles/0/options": {}})
row("a role by id", "admin", f"GET {V3}/roles/<role:admin>", 200, has={"role/name": "admin"})
row("a role's name in the place of its id is 404", "admin", f"GET {V3}/roles/member", 404)
row("domains", "admin", f"GET {V3}/domains", 200, has={"domains": ANY, "domains/0/enabled": True, **LIST})
row("domains by name", "admin", f"GET {V3}/domains?name=Default", 200, has={"domains": length(1)})
row("a domain by id", "admin", f"GET {V3}/domains/default", 200, has={"domain/name": "Default"})
row("a domain's name in the place of its id is 404", "admin", f"GET {V3}/domains/Default", 404)
row("services", "admin", f"GET {V3}/services", 200, has={"services": length(2), "services/0/enabled": True, "services/0/id": TEXT})
row("services by type", "admin", f"GET {V3}/services?type=image", 200, has={"services": length(1), "services/0/name": "glance"})
row("services by name", "admin", f"GET {V3}/services?name=keystone", 200, has={"services/0/type": "identity"})
row("a service's type in the place of its id is 404", "admin", f"GET {V3}/services/image", 404)
row("endpoints", "admin", f"GET {V3}/endpoints", 200,
    has={"endpoints": length(6), "endpoints/0/region_id": "RegionOne", "endpoints/0/service_id": TEXT, "endpoints/0/enabled": True})
row("endpoints by interface", "admin", f"GET {V3}/endpoints?interface=public", 200, has={"endpoints": length(2)})
row("endpoints of a service", "admin", f"GET {V3}/endpoints?service_id=<made>", 200, has={"endpoints": length(3)},
    before=[("admin", f"GET {V3}/services?type=image", None, {}, {"made": "services/0/id"})])
row("regions", "admin", f"GET {V3}/regions", 200, has={"regions/0/id": "RegionOne"})
row("a region", "admin", f"GET {V3}/regions/RegionOne", 200, has={"region/id": "RegionOne"})
row("role assignments of a project", "admin", f"GET {V3}/role_assignments?scope.project.id=<alpha>&user.id=<user:member>", 200,
    has={"role_assignments": length(1), "role_assignments/0/role/id": "<role:member>", "role_assignments/0/user/id": "<user:member>",
         "role_assignments/0/scope/project/id": "<alpha>", "role_assignments/0/links/assignment": ANY})
row("role assignments with names", "admin", f"GET {V3}/role_assignments?user.id=<user:member>&include_names=True", 200,
    has={"role_assignments/0/role/name": "member", "role_assignments/0/user/name": "member",
         "role_assignments/0/scope/project/name": "alpha"})
row("effective role assignments", "admin", f"GET {V3}/role_assignments?user.id=<user:member>&effective", 200,
    has={"role_assignments": length(2)})
for path in ("groups", "credentials", "limits"):
    row(f"{path} are an empty list or 404", "admin", f"GET {V3}/{path}", (200, 404))

section("8.3 projects")
NEW = {"project": {"name": "<new>", "domain_id": "default", "enabled": True, "options": {}, "tags": []}}
PROJ = [("admin", f"POST {V3}/projects", NEW, {}, {"made": "project/id"})]
row("made", "admin", f"POST {V3}/projects", 201, body=NEW, has={"project/name": "<new>", "project/id": HEX32, "project/enabled": True,
                                                               "project/domain_id": "default"})
row("made without a domain", "admin", f"POST {V3}/projects", 201, body={"project": {"name": "<new>"}}, has={"project/domain_id": "default"})
row("made with a description", "admin", f"POST {V3}/projects", 201, body={"project": {"name": "<new>", "description": "d"}},
    has={"project/description": "d"})
row("made with a name of 64 characters", "admin", f"POST {V3}/projects", 201, body={"project": {"name": "<new>" + "\u00fc" * 28}})
TAGGED = [("admin", f"POST {V3}/projects", {"project": {"name": "<new>", "tags": ["red", "<new>"]}}, {}, {"made": "project/id"})]
row("made with tags", "admin", f"GET {V3}/projects/<made>", 200, before=TAGGED, has={"project/tags": holds("red")})
for query, count in (("tags=<new>", 1), ("tags=<new>,red", 1), ("tags=<new>,blue", 0), ("tags-any=<new>,blue", 1),
                     ("name=<new>&not-tags=<new>,red", 0), ("name=<new>&not-tags=red,blue", 1),
                     ("name=<new>&not-tags-any=red,blue", 0), ("name=<new>&not-tags-any=blue", 1)):
    row(f"listed by {query}", "admin", f"GET {V3}/projects?{query}", 200, before=TAGGED, has={"projects": length(count)})
row("renamed to 65 characters is 400", "admin", f"PATCH {V3}/projects/<made>", 400, before=PROJ, body={"project": {"name": "x" * 65}})
row("the same name is 409", "admin", f"POST {V3}/projects", 409, before=PROJ, body=NEW)
row("by a member is 403", "member", f"POST {V3}/projects", 403, body=NEW)
for what, body in (("no name", {"project": {}}), ("an empty name", {"project": {"name": ""}}), ("no project", {}), ("a list", []),
                   ("a name that is no text", {"project": {"name": 1}}), ("enabled that is no boolean", {"project": {"name": "<new>", "enabled": "x"}}),
                   ("a name of blanks", {"project": {"name": "  "}}), ("a name that is null", {"project": {"name": None}}),
                   ("a name of 65 characters", {"project": {"name": "x" * 65}})):
    row(f"{what} is 400", "admin", f"POST {V3}/projects", 400, body=body)
row("an unknown domain is 404 or 400", "admin", f"POST {V3}/projects", (400, 404), body={"project": {"name": "<new>", "domain_id": "nope"}})
row("changed", "admin", f"PATCH {V3}/projects/<made>", 200, before=PROJ, body={"project": {"name": "<new2>", "description": "d"}},
    has={"project/name": "<new2>", "project/description": "d"})
row("changed by a member is 403", "member", f"PATCH {V3}/projects/<alpha>", 403, body={"project": {"name": "x"}})
row("changing one that is not there is 404", "admin", f"PATCH {V3}/projects/<unknown>", 404, body={"project": {"description": "x"}})
row("changed to a name in use is 409", "admin", f"PATCH {V3}/projects/<made>", 409, before=PROJ, body={"project": {"name": "alpha"}})
row("PUT is 405", "admin", f"PUT {V3}/projects/<alpha>", 405, body={}, gives={"Allow": "GET, PATCH, DELETE"})
row("deleted", "admin", f"DELETE {V3}/projects/<made>", 204, before=PROJ)
row("deleted by a member is 403", "member", f"DELETE {V3}/projects/<alpha>", 403)
row("deleting one that is not there is 404", "admin", f"DELETE {V3}/projects/<unknown>", 404)
row("deleted is 404", "admin", f"GET {V3}/projects/<made>", 404, before=PROJ + [("admin", f"DELETE {V3}/projects/<made>")])

section("8.3 users")
NEW = {"user": {"name": "<new>", "domain_id": "default", "password": "pw", "enabled": True, "options": {}}}
USER = [("admin", f"POST {V3}/users", NEW, {}, {"made": "user/id"})]
row("made", "admin", f"POST {V3}/users", 201, body=NEW, has={"user/name": "<new>", "user/id": HEX32, "user/enabled": True},
    lacks=("user/password",))
row("made with a name of 255 characters", "admin", f"POST {V3}/users", 201, body={"user": {"name": "<new>" + "x" * 219}})
row("made without a password", "admin", f"POST {V3}/users", 201, body={"user": {"name": "<new>"}})
row("made with e-mail, description, default project", "admin", f"POST {V3}/users", 201,
    body={"user": {"name": "<new>", "email": "a@b", "description": "d", "default_project_id": "<alpha>"}},
    has={"user/email": "a@b", "user/description": "d", "user/default_project_id": "<alpha>"})
row("the same name is 409", "admin", f"POST {V3}/users", 409, before=USER, body=NEW)
row("by a member is 403", "member", f"POST {V3}/users", 403, body=NEW)
for what, body in (("no name", {"user": {}}), ("no user", {}), ("an empty name", {"user": {"name": ""}}), ("a name that is no text", {"user": {"name": 1}}),
                   ("a password that is no text", {"user": {"name": "<new>", "password": 1}}),
                   ("a name of blanks", {"user": {"name": " "}}), ("a name of 256 characters", {"user": {"name": "x" * 256}})):
    row(f"{what} is 400", "admin", f"POST {V3}/users", 400, body=body)
row("changed", "admin", f"PATCH {V3}/users/<made>", 200, before=USER, body={"user": {"email": "x@y"}}, has={"user/email": "x@y"})
row("changed by a member is 403", "member", f"PATCH {V3}/users/<user:other>", 403, body={"user": {"email": "x"}})
row("changing one that is not there is 404", "admin", f"PATCH {V3}/users/<unknown>", 404, body={"user": {"email": "x"}})
row("deleted", "admin", f"DELETE {V3}/users/<made>", 204, before=USER)
row("deleted by a member is 403", "member", f"DELETE {V3}/users/<user:other>", 403)
row("deleting one that is not there is 404", "admin", f"DELETE {V3}/users/<unknown>", 404)
GRANT = USER + [("admin", f"PUT {V3}/projects/<alpha>/users/<made>/roles/<role:member>")]
SELF = GRANT + [("none", TOKENS, password({"id": "<made>"}, ALPHA, "pw"), {}, {"token:self": "@X-Subject-Token"})]
row("the own password is changed", "self", f"POST {V3}/users/<made>/password", 204, before=SELF,
    body={"user": {"original_password": "pw", "password": "new"}})
row("and the new one lets in", "none", TOKENS, 201, body=password({"id": "<made>"}, ALPHA, "new"),
    before=SELF + [("self", f"POST {V3}/users/<made>/password", {"user": {"original_password": "pw", "password": "new"}})])
row("and the old one does not", "none", TOKENS, 401, body=password({"id": "<made>"}, ALPHA, "pw"),
    before=SELF + [("self", f"POST {V3}/users/<made>/password", {"user": {"original_password": "pw", "password": "new"}})])
row("a wrong original password is 401", "self", f"POST {V3}/users/<made>/password", 401, before=SELF,
    body={"user": {"original_password": "wrong", "password": "new"}})
row("another's password is 403", "member", f"POST {V3}/users/<user:other>/password", 403,
    body={"user": {"original_password": "x", "password": "y"}})
row("a password change without the original is 400", "self", f"POST {V3}/users/<made>/password", 400, before=SELF,
    body={"user": {"password": "new"}})

section("8.3 grants")
ROLE = f"{V3}/projects/<alpha>/users/<made>/roles"
row("given", "admin", f"PUT {ROLE}/<role:member>", 204, before=USER)
row("given again", "admin", f"PUT {ROLE}/<role:member>", 204, before=GRANT)
row("looked at", "admin", f"HEAD {ROLE}/<role:member>", 204, before=GRANT)
row("looked at where there is none", "admin", f"HEAD {ROLE}/<role:reader>", 404, before=GRANT)
row("listed", "admin", f"GET {ROLE}", 200, before=GRANT, has={"roles": length(1), "roles/0/name": "member"})
row("taken", "admin", f"DELETE {ROLE}/<role:member>", 204, before=GRANT)
row("taken where there is none is 404", "admin", f"DELETE {ROLE}/<role:reader>", 404, before=GRANT)
row("by a member is 403", "member", f"PUT {V3}/projects/<alpha>/users/<user:other>/roles/<role:member>", 403)
row("an unknown role is 404", "admin", f"PUT {V3}/projects/<alpha>/users/<user:other>/roles/<unknown>", 404)
row("an unknown user is 404", "admin", f"PUT {V3}/projects/<alpha>/users/<unknown>/roles/<role:member>", 404)
row("an unknown project is 404", "admin", f"PUT {V3}/projects/<unknown>/users/<user:other>/roles/<role:member>", 404)
row("on the system", "admin", f"PUT {V3}/system/users/<made>/roles/<role:member>", 204, before=USER)
row("on a domain", "admin", f"PUT {V3}/domains/default/users/<made>/roles/<role:member>", 204, before=USER)
