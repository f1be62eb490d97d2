"""A Keystone that answers as a test wants: what the real one never says, and counts of what it was asked.

It logs the service user in, and knows the tokens that it was given by `tokens[text] = body`. `login` and `validate`
may be set to functions of the request that return (status, headers, bytes), or None to answer as usual."""
import http.server
import json
import threading
import time


def at(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + seconds))


def token_body(project="p" * 32, roles=("member", "reader"), seconds=3600, **more):
    body = {"methods": ["password"], "audit_ids": ["0123456789abcdefABCDEF"], "issued_at": at(0), "expires_at": at(seconds),
            "user": {"id": "u" * 32, "name": "user", "domain": {"id": "default", "name": "Default"}}, "is_domain": False}
    if project:
        body["project"] = {"id": project, "name": "project", "domain": {"id": "default", "name": "Default"}}
        body["roles"] = [{"id": name, "name": name} for name in roles]
    return {**body, **more}


class FakeKeystone:
    """Use it as a context."""

    def __init__(self):
        self.lock = threading.Lock()
        self.tokens = {}
        self.service_tokens = []
        self.logins = []       # bodies
        self.validations = []  # (subject, query)
        self.connections = set()
        self.login = self.validate = None
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                with fake.lock:
                    fake.connections.add(self.client_address)
                super().handle_one_request()

            def reply(self, status, headers, data):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.reply(*fake.answer_login(self, body))

            def do_GET(self):
                if "/auth/tokens" not in self.path:  # what the leader looks for in the catalog
                    self.reply(200, {"Content-Type": "application/json"}, b'{"services": [], "endpoints": []}')
                    return
                self.reply(*fake.answer_validate(self))

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # the client has gone

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer_login(self, request, body):
        with self.lock:
            self.logins.append(body)
            number = len(self.logins)
        special = self.login(request) if self.login else None
        if special:
            return special
        token = f"service-token-{number}"
        with self.lock:
            self.service_tokens.append(token)
        body = {"token": token_body("s" * 32, ("service",))}
        return 201, {"X-Subject-Token": token, "Content-Type": "application/json"}, json.dumps(body).encode()

    def answer_validate(self, request):
        subject, mine = request.headers.get("X-Subject-Token", ""), request.headers.get("X-Auth-Token", "")
        with self.lock:
            self.validations.append((subject, request.path))
        special = self.validate(request) if self.validate else None
        if special:
            return special
        if mine not in self.service_tokens:
            return 401, {}, b'{"error": {"code": 401}}'
        body = self.tokens.get(subject)
        if body is None:
            return 404, {}, b'{"error": {"code": 404}}'
        return 200, {"Content-Type": "application/json"}, json.dumps({"token": body}).encode()

    def asked(self, subject):
        with self.lock:
            return sum(s == subject for s, _ in self.validations)
