"""openstacksdk, its command line, and T Cloud's extensions log in, look up and manage.

All are given what the vendor's own clouds.yaml has: an `auth_url` (here without `/v3`), a
user with a domain, and a project without one.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import openstack
from clients import *
from daemon import PASSWORD, REGION, USER
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import generic
from otcextensions import sdk as otc

LOGIN = dict(
    auth_url=ENDPOINT,
    username=USER,
    password=PASSWORD,
    user_domain_name="local",
    project_name=REGION,
)


def connected():
    cloud = dict(auth=LOGIN, region_name=REGION)
    return openstack.connect(load_yaml_config=False, load_envvars=False, **cloud)


class OpenStack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = connected()
        cls.cloud.authorize()

    def test_who_and_what_there_is(self):
        cloud = self.cloud
        self.assertEqual(cloud.current_project_id, PROJECT)
        self.assertEqual([user.name for user in cloud.identity.users(name=USER)], [USER])
        self.assertEqual([region.id for region in cloud.identity.regions()], [REGION])
        project = cloud.identity.find_project(REGION, ignore_missing=False)
        self.assertEqual(project.id, PROJECT)
        self.assertEqual(cloud.identity.get_project(PROJECT).domain_id, project.domain_id)
        domains = cloud.session.get("/auth/domains", endpoint_filter=dict(service_type="identity")).json()
        self.assertEqual([domain["id"] for domain in domains["domains"]], [project.domain_id])
        self.assertEqual(cloud.current_user_id, next(cloud.identity.users(name=USER)).id)

    def test_a_token_is_validated_and_serves_for_another(self):
        token = self.cloud.auth_token
        headers = {"X-Subject-Token": token}
        told = self.cloud.session.get(f"{ENDPOINT}/v3/auth/tokens", headers=headers)
        self.assertEqual(told.json()["token"]["project"]["id"], PROJECT)
        self.assertEqual(told.headers["X-Subject-Token"], token)
        self.assertEqual(self.cloud.session.head(f"{ENDPOINT}/v3/auth/tokens", headers=headers).status_code, 200)
        again = session.Session(auth=generic.Token(auth_url=ENDPOINT, token=token, project_name=REGION))
        self.assertEqual(again.get_project_id(), PROJECT)
        self.assertNotEqual(again.get_token(), token)
        wrong = session.Session(auth=generic.Token(auth_url=ENDPOINT, token="0" * 64, project_name=REGION))
        with self.assertRaises(exceptions.Unauthorized):
            wrong.get_token()

    def test_an_unknown_path_is_keystones_error(self):
        with self.assertRaises(exceptions.NotFound) as caught:
            self.cloud.session.get(f"{ENDPOINT}/v3/services")
        self.assertIn("The resource could not be found.", caught.exception.message)
        self.assertEqual(len(caught.exception.request_id), 32)


class CommandLine(unittest.TestCase):
    def run_client(self, *command):
        environment = {f"OS_{name.upper()}": value for name, value in LOGIN.items()}
        environment.update(OS_REGION_NAME=REGION, OS_IDENTITY_API_VERSION="3", PATH=os.environ["PATH"], HOME=self.home)
        whole = [sys.executable, "-m", "openstackclient.shell", *command, "-f", "json"]
        run = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=120)
        self.assertEqual(run.returncode, 0, f"{command}: {run.stdout}{run.stderr}")
        return json.loads(run.stdout)

    def test_commands(self):
        with tempfile.TemporaryDirectory() as self.home:
            self.assertEqual(self.run_client("token", "issue")["project_id"], PROJECT)
            catalog = self.run_client("catalog", "list")
            self.assertLessEqual({"apig", "apigv2", "apic", "iam"}, {service["Type"] for service in catalog})
            self.assertEqual(self.run_client("project", "show", REGION)["id"], PROJECT)


class Extensions(unittest.TestCase):
    """T Cloud's SDK finds the API by the catalog's `apigv2`."""

    @classmethod
    def setUpClass(cls):
        cls.cloud = connected()
        cls.cloud.authorize()
        otc.register_single_service(cls.cloud, "apig")

    def test_channels(self):
        apig, gateway = self.cloud.apig, self.cloud.apig.get_gateway(INSTANCE)
        self.assertEqual(gateway.id, INSTANCE)
        name = unique("extensions")
        made = apig.create_vpc_channel(gateway, name=name, port=80, balance_strategy=1, member_type="ip")
        try:
            added = apig.add_or_update_backend_servers(gateway, made, members=[dict(host="192.0.2.11")])
            self.assertEqual([member.host for member in added], ["192.0.2.11"])
            self.assertEqual(apig.get_vpc_channel(gateway, made.id).name, name)
            self.assertIn(made.id, [channel.id for channel in apig.vpc_channels(gateway, name=name)])
        finally:
            apig.delete_vpc_channel(gateway, made.id)

    def test_features(self):
        apig, gateway = self.cloud.apig, self.cloud.apig.get_gateway(INSTANCE)
        config = json.dumps(dict(api_limits=300))
        made = apig.configure_gateway_feature(gateway, name="ratelimit", enable=True, config=config)
        self.assertEqual((made.name, made.config), ("ratelimit", config))
        found = {feature.name: feature.config for feature in apig.gateway_features(gateway)}
        self.assertEqual(found["ratelimit"], config)
        self.assertIn("vpc_name_modifiable", apig.supported_gateway_features(gateway))


if __name__ == "__main__":
    unittest.main()
