"""A channel made through the SDK over real nginx members: verdicts and rotation."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

from clients import *

PATIENCE = 30

NGINX = """
daemon off;
worker_processes 1;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /health {{ return 204; }}
        location / {{ return 404; }}
    }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nginx:
    """One server on a port of its own."""

    def __init__(self):
        self.place = tempfile.TemporaryDirectory(prefix="vitald-nginx-")
        self.port = free_port()
        path = os.path.join(self.place.name, "nginx.conf")
        with open(path, "w") as file:
            file.write(NGINX.format(place=self.place.name, port=self.port))
        binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        command = [binary, "-p", self.place.name, "-c", path, "-e", os.path.join(self.place.name, "error.log")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)
        self.place.cleanup()


def has_nginx():
    return shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") is not None


@unittest.skipUnless(has_nginx(), "nginx is not installed")
class LiveMembers(ClientTest):
    def setUp(self):
        super().setUp()
        self.servers = [Nginx(), Nginx()]
        for server in self.servers:
            self.addCleanup(server.stop)
        check = {**HEALTH, "http_code": "204", "threshold_abnormal": 2, "time_interval": 1, "timeout": 1}
        self.channel = self.create(
            name="live",
            members=[apig.MemberInfo(host="127.0.0.1", port=server.port) for server in self.servers],
            vpc_health_config=apig.VpcHealthConfig(**check),
        )

    def health(self):
        """What the SDK reads of each member, by port."""
        return {member.port: member.health_status for member in self.members(self.channel.id).members}

    def wait_for(self, *wanted):
        expected = {server.port: health for server, health in zip(self.servers, wanted)}
        deadline = time.monotonic() + PATIENCE
        while (found := self.health()) != expected:
            if time.monotonic() > deadline:
                self.fail(f"waited {PATIENCE} s for {expected}, the last answer is {found}")
            time.sleep(0.1)

    def picked(self):
        """Who would be picked now; the order of the rotation plays no part in it."""
        with urllib.request.urlopen(f"{ENDPOINT}/v1/channels/{self.channel.name}/pick") as answer:
            member = json.load(answer)["member"]
        return member and member["address"]

    def rotation(self):
        """Who is in rotation, as the status page says it."""
        with urllib.request.urlopen(f"{ENDPOINT}/v1/channels/{self.channel.name}") as answer:
            members = json.load(answer)["members"]
        return [member["address"] for member in members if member["in_rotation"]]

    def switch(self, call, kind, *servers):
        ports = [server.port for server in servers]
        ids = [member.id for member in self.members(self.channel.id).members if member.port in ports]
        body = apig.MembersBatchEnableOrDisable(member_ids=ids)
        call(kind(instance_id=INSTANCE, vpc_channel_id=self.channel.id, body=body))

    def address(self, server):
        return f"127.0.0.1:{server.port}"

    def test_verdicts_follow_the_servers(self):
        healthy, unhealthy = "healthy", "unhealthy"
        self.wait_for(healthy, healthy)
        first, second = self.servers
        first.stop()
        self.wait_for(unhealthy, healthy)
        self.assertEqual(self.rotation(), [self.address(second)])
        second.stop()
        self.wait_for(unhealthy, unhealthy)
        self.assertIsNone(self.picked())
        # Every enabled member is unhealthy: the channel is abnormal.
        self.assertEqual(self.show(self.channel.id).status, 2)

    def test_disabling_takes_effect_at_once(self):
        self.wait_for("healthy", "healthy")
        first, second = self.servers
        disable, enable = self.apig.batch_disable_members, self.apig.batch_enable_members
        for _ in range(20):
            # No waiting anywhere: once it is answered, it is so.
            self.switch(disable, apig.BatchDisableMembersRequest, first)
            self.assertEqual((self.rotation(), self.picked()), ([self.address(second)], self.address(second)))
            self.switch(disable, apig.BatchDisableMembersRequest, second)
            self.assertEqual((self.rotation(), self.picked()), ([], None))
            self.switch(enable, apig.BatchEnableMembersRequest, first)
            self.assertEqual((self.rotation(), self.picked()), ([self.address(first)], self.address(first)))
            self.switch(enable, apig.BatchEnableMembersRequest, second)
            self.assertEqual(len(self.rotation()), 2)


if __name__ == "__main__":
    unittest.main()
