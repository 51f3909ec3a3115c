"""A real vitald with its management API on, in a directory of its own."""

import json
import os
import subprocess
import tempfile
import time
import urllib.request

PROJECT = "0123456789abcdef0123456789abcdef"
REGION = "cn-north-4"
INSTANCE = "eddc4d25480b4cd6b512f270a1b8b341"
FIXED = "00000000-0000-4000-8000-000000000002"
ACCESS_KEY = "AK0000000000000000001"
SECRET_KEY = "secret-key-of-the-tests"
USER = "ops"
PASSWORD = "password-of-the-tests"
PATIENCE = 30

CONFIG = """
[server]
listen = "127.0.0.1:0"
socket = "{directory}/vitald.sock"
{server}

[store]
path = "{directory}/state"

[api]
[api.project]
id = "{project}"
name = "{region}"

[api.quotas]
channels = {channels}
members = 200000

[[api.instances]]
id = "{instance}"
name = "local"

[[api.instances]]
id = "{fixed}"
name = "second"
features = {{ vpc_name_modifiable = "off" }}

[[api.users]]
name = "{user}"
password_hash_file = "user.hash"
role = "admin"

[[api.users]]
name = "eye"
password_hash_file = "user.hash"
role = "viewer"

[[api.access_keys]]
id = "{access_key}"
secret_file = "ak.secret"
role = "admin"

[[channels]]
name = "from-file"
port = 8080
balance_strategy = 1
member_type = "ip"

[[channels.members]]
host = "192.0.2.50"
"""


class Daemon:
    """Started on entering, ended in order on leaving."""

    def __init__(self, binary, channels=20000, more="", server=""):
        self.binary = os.path.abspath(binary)
        self.place = tempfile.TemporaryDirectory(prefix="vitald-sdk-")
        self.directory = self.place.name
        self.process = None
        self.endpoint = None
        self.write("ak.secret", SECRET_KEY)
        self.write("user.hash", self.run("hash-password", input=PASSWORD))
        config = CONFIG.format(
            directory=self.directory,
            server=server,
            project=PROJECT,
            region=REGION,
            channels=channels,
            instance=INSTANCE,
            fixed=FIXED,
            user=USER,
            access_key=ACCESS_KEY,
        )
        self.config = self.write("vitald.toml", config + more)
        self.log = os.path.join(self.directory, "vitald.log")

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return path

    def run(self, *arguments, **options):
        """Another command of the binary, to its end."""
        command = [self.binary, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout

    def start(self):
        with open(self.log, "a") as log:
            begin = log.tell()
            command = [self.binary, "run", "--config", self.config, "--log-format", "json"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with open(self.log) as log:
                log.seek(begin)
                lines = [line for line in log if line.endswith("\n")]
            for line in map(json.loads, lines):
                if line["message"] == "probing":
                    self.endpoint = f"http://{line['address']}"
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"vitald did not start:\n{open(self.log).read()}")

    def stop(self):
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        if status != 0:
            raise RuntimeError(f"vitald ended with {status}:\n{open(self.log).read()}")

    def environment(self):
        """What clients.py and fuzz.py read."""
        return dict(
            VITALD_ENDPOINT=self.endpoint,
            VITALD_PROJECT=PROJECT,
            VITALD_INSTANCE=INSTANCE,
            VITALD_FIXED=FIXED,
            VITALD_AK=ACCESS_KEY,
            VITALD_SK=SECRET_KEY,
        )

    def token(self):
        """A token with the role admin."""
        user = dict(name=USER, domain=dict(name="local"), password=PASSWORD)
        identity = dict(methods=["password"], password=dict(user=user))
        body = dict(auth=dict(identity=identity, scope=dict(project=dict(name=REGION))))
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.endpoint + "/v3/auth/tokens", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return answer.headers["X-Subject-Token"]

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.place.cleanup()
            raise

    def __exit__(self, *_):
        try:
            if self.process.poll() is None:
                self.stop()
            else:
                raise RuntimeError(f"vitald ended by itself:\n{open(self.log).read()}")
        finally:
            self.place.cleanup()
