"""What the SDK's users do during test_soak.py: each thread makes an image, reads it back, changes and deletes it, again and again.

usage: /usr/bin/python3 soak_sdk.py THREADS

The environment (OS_*) says where and who. Runs until its standard input ends. Each round prints a line {"outcome", "detail"}:
"done"; "cut", an error that a client may meet while a host dies (no connection, 5xx); or "wrong", anything else."""
import hashlib
import json
import os
import random
import sys
import threading

import keystoneauth1.exceptions
import openstack
import requests

CUT = (keystoneauth1.exceptions.ConnectFailure, keystoneauth1.exceptions.ServiceUnavailable, requests.RequestException,
       keystoneauth1.exceptions.HttpServerError, keystoneauth1.exceptions.DiscoveryFailure, keystoneauth1.exceptions.SSLError,
       ConnectionError)
# The SDK sends an upload once more when its connection broke: with what is left of the body, which is refused. The
# first one may be under way yet, have been cut off, or have been whole.
REPEATED = ("transition from saving to saving", "what is left", "transition from active to saving")
printing = threading.Lock()
stopping = threading.Event()


class Wrong(Exception):
    pass


def expect(what, good):
    if not good:
        raise Wrong(what)


def connect():
    env = os.environ
    return openstack.connect(auth_url=env["OS_AUTH_URL"], username=env["OS_USERNAME"], password=env["OS_PASSWORD"],
                             project_name=env["OS_PROJECT_NAME"], user_domain_name="Default", project_domain_name="Default",
                             region_name="RegionOne", cacert=env["OS_CACERT"], load_envvars=False, load_yaml_config=False)


def one_round(conn, source, name):
    data = source.randbytes(source.choice([1, 5000, 300000, 1 << 20]))
    image = conn.image.create_image(name, disk_format="raw", container_format="bare", allow_duplicates=True)
    image.data = (data[at:at + 65536] for at in range(0, len(data), 65536)) if source.random() < 0.5 else data
    reply = image.upload(conn.image)
    if reply.status_code >= 500 or (reply.status_code == 409 and any(text in reply.text for text in REPEATED)):
        raise ConnectionError(str(reply.status_code))
    expect(f"upload: {reply.status_code} {reply.text[:200]}", reply.status_code == 204)
    shown = conn.image.get_image(image.id)
    expect(f"shown after the upload: {shown.status}, {shown.size} of {len(data)}", shown.status == "active" and shown.size == len(data)
           and shown.hash_value == hashlib.sha512(data).hexdigest())
    got = conn.image.download_image(image.id)
    if got.status_code >= 500:
        raise ConnectionError(str(got.status_code))
    expect(f"downloaded bytes, {len(got.content)} of {len(data)}", got.content == data)
    conn.image.add_tag(shown, "soak")
    changed = conn.image.update_image(image.id, name=name + "-changed")
    expect("what was changed is shown", (changed.name, changed.tags) == (name + "-changed", ["soak"]))
    expect("listed", image.id in [i.id for i in conn.image.images(tag="soak", limit=100)])
    conn.image.delete_image(image.id, ignore_missing=False)
    expect("a deleted image is not found", conn.image.find_image(image.id) is None)


def say(outcome, detail=""):
    with printing:
        print(json.dumps({"outcome": outcome, "detail": detail[:500]}), flush=True)


def work(number):
    source, count, conn = random.Random(number), 0, None
    while not stopping.is_set():
        count += 1
        try:
            conn = conn or connect()
            one_round(conn, source, f"sdk{number}-{count}")
            say("done")
        except Wrong as error:
            say("wrong", str(error))
        except CUT as error:
            say("cut", repr(error))
            stopping.wait(0.2)
        except openstack.exceptions.HttpException as error:
            say("cut" if error.status_code is None or error.status_code >= 500 else "wrong", repr(error))
            stopping.wait(0.2)
        except openstack.exceptions.SDKException as error:
            say("cut" if isinstance(error.__cause__ or error.__context__, CUT) else "wrong", repr(error))
        except Exception as error:  # pylint: disable=broad-except
            say("wrong", repr(error))
            stopping.wait(0.2)


def main():
    threads = [threading.Thread(target=work, args=(number,)) for number in range(int(sys.argv[1]))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
