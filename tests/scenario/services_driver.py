"""The image modules of Debian's nova and cinder, driven from outside: /usr/bin/python3 services_driver.py nova|cinder FILE.

FILE is a configuration file of the service. A request a line on standard input, {"call", "args", ...}; an answer a line
on standard output: {"result"} or {"error", "text"}. Besides the calls of the services there is

  context {user_id, project_id, token}   who acts from now on
  servers {urls}                         which hosts may be asked, in place of the configured ones
  stream {image_id, pause}               a download that tells the test when it has `pause` bytes, and waits
"""
import base64
import hashlib
import inspect
import json
import os
import sys


class Keys:
    """castellan's key manager: a certificate is a file in $SERVICES_KEYS named by its id."""

    def __init__(self, configuration=None):
        pass

    def get(self, _context, managed_object_id, metadata_only=False):  # pylint: disable=unused-argument
        from castellan.common.objects import x_509
        with open(os.path.join(os.environ["SERVICES_KEYS"], managed_object_id), "rb") as f:
            return x_509.X509(f.read())


def wait_for_word():
    answer({"event": "half"})
    sys.stdin.readline()


class PausingSink:
    """Counts what is written to it; once, it tells the test and waits for its word."""

    def __init__(self, pause):
        self.count, self.pause = 0, pause

    def write(self, data):
        self.count += len(data)
        if self.pause is not None and self.count >= self.pause:
            self.pause = None
            wait_for_word()

    def truncate(self, size):
        self.count = min(self.count, size)


class PausingFile:
    """A file whose reader, at half of it, tells the test and waits for its word."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.left = os.path.getsize(path) // 2

    def read(self, size=-1):
        data = self.file.read(size)
        if self.left is not None:
            self.left -= len(data)
            if self.left <= 0:
                self.left = None
                wait_for_word()
        return data


def sign(certificate_path, data_path):
    """Makes a key with its certificate, and returns the signature of a file, as Nova verifies it (RSA-PSS)."""
    import datetime
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "image signer")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(7).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    with open(certificate_path, "wb") as f:
        f.write(certificate.public_bytes(serialization.Encoding.DER))
    with open(data_path, "rb") as f:
        data = f.read()
    signature = key.sign(data, padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH),
                         hashes.SHA256())
    return base64.b64encode(signature).decode()


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def plain(value):
    """JSON of what a client returned: lists come as generators, all in wrappers with the request's id."""
    value = getattr(value, "wrapped", value)
    if inspect.isgenerator(value):
        value = [dict(getattr(item, "wrapped", item)) for item in value]
    return json.loads(json.dumps(value, default=str))


class Nova:
    def __init__(self, config):
        import nova.conf
        from nova import context, objects
        from nova.image import glance
        objects.register_all()
        nova.conf.CONF(["--config-file", config], project="nova")
        self.conf, self.context_class, self.api = nova.conf.CONF, context.RequestContext, glance.API()
        self.context = None

    def do_context(self, user_id, project_id, token):
        self.context = self.context_class(user_id=user_id, project_id=project_id, auth_token=token, is_admin=False)

    def do_servers(self, urls):
        self.conf.set_override("api_servers", urls, group="glance")

    def do_verify(self, on):
        self.conf.set_override("verify_glance_signatures", on, group="glance")

    def do_create(self, meta, path=None):
        return plain(self.api.create(self.context, meta, data=open(path, "rb") if path else None))

    def do_update(self, image_id, meta, path=None, purge=False, pausing=False):
        data = None if path is None else PausingFile(path) if pausing else open(path, "rb")
        return plain(self.api.update(self.context, image_id, meta, data=data, purge_props=purge))

    def do_get(self, image_id):
        return plain(self.api.get(self.context, image_id))

    def do_list(self):
        return [i["id"] for i in self.api.get_all(self.context)]

    def do_download(self, image_id, path):
        self.api.download(self.context, image_id, dest_path=path)
        return sha256(path)

    def do_stream(self, image_id, pause):
        sink = PausingSink(pause)
        self.api.download(self.context, image_id, data=sink)
        return sink.count

    def do_delete(self, image_id):
        return self.api.delete(self.context, image_id)


class Cinder:
    def __init__(self, config):
        from oslo_config import cfg
        from cinder import objects
        objects.register_all()
        from cinder import context, service_auth  # pylint: disable=unused-import
        from cinder.image import glance
        cfg.CONF(["--config-file", config], project="cinder")
        self.conf, self.context_class = cfg.CONF, context.RequestContext
        self.glance, self.context = glance, None
        self.api = glance.get_default_image_service()

    def do_context(self, user_id, project_id, token):
        self.context = self.context_class(user_id=user_id, project_id=project_id, auth_token=token, is_admin=False)

    def do_servers(self, urls):
        self.conf.set_override("glance_api_servers", urls)
        self.api = self.glance.get_default_image_service()

    def do_create(self, meta):
        return plain(self.api.create(self.context, meta))

    def do_update(self, image_id, meta, path=None, purge=False, store_id=None, base_image_ref=None):
        data = None if path is None else open(path, "rb")
        return plain(self.api.update(self.context, image_id, meta, data, purge_props=purge, store_id=store_id,
                                     base_image_ref=base_image_ref))

    def do_get(self, image_id):
        return plain(self.api.show(self.context, image_id))

    def do_list(self):
        return [i["id"] for i in self.api.detail(self.context)]

    def do_members(self, image_id):
        return plain(self.api.list_members(self.context, image_id))

    def do_stores(self):
        return plain(self.api.get_stores(self.context))

    def do_location(self, image_id):
        return plain(self.api.get_location(self.context, image_id))

    def do_download(self, image_id, path):
        with open(path, "wb") as f:
            self.api.download(self.context, image_id, f)
        return sha256(path)

    def do_delete(self, image_id):
        return self.api.delete(self.context, image_id)


ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")


def answer(message):
    ANSWERS.write(json.dumps(message) + "\n")
    ANSWERS.flush()


def main():
    os.dup2(2, 1)  # what the services print is no answer
    service = {"nova": Nova, "cinder": Cinder}[sys.argv[1]](sys.argv[2])
    answer({"result": "ready"})
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        call, args = request["call"], request["args"]
        try:
            result = sign(**args) if call == "sign" else getattr(service, "do_" + call)(**args)
            answer({"result": result})
        except Exception as error:  # pylint: disable=broad-except
            answer({"error": type(error).__name__, "text": str(error)[:500]})


if __name__ == "__main__":
    main()
