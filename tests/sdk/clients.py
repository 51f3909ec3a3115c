"""The vendor's Python clients, pointed at a vitald, and what the tests share.

Where the daemon is and who may use it comes from the environment:

    VITALD_ENDPOINT      http://127.0.0.1:9650
    VITALD_PROJECT       the project's id
    VITALD_INSTANCE      an instance with vpc_name_modifiable on
    VITALD_FIXED         an instance with vpc_name_modifiable off
    VITALD_AK, VITALD_SK an access key with the role admin
"""

import os
import unittest
import uuid

from huaweicloudsdkapig.v2 import ApigClient
from huaweicloudsdkapig.v2 import model as apig
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkroma.v2 import RomaClient
from huaweicloudsdkroma.v2 import model as roma

ENDPOINT = os.environ.get("VITALD_ENDPOINT", "http://127.0.0.1:9650")
PROJECT = os.environ.get("VITALD_PROJECT", "0123456789abcdef0123456789abcdef")
INSTANCE = os.environ.get("VITALD_INSTANCE", "eddc4d25480b4cd6b512f270a1b8b341")
FIXED = os.environ.get("VITALD_FIXED", "00000000-0000-4000-8000-000000000002")
ACCESS_KEY = os.environ.get("VITALD_AK", "AK0000000000000000001")
SECRET_KEY = os.environ.get("VITALD_SK", "secret-key-of-the-tests")

HEALTH = dict(
    protocol="HTTP",
    path="/health",
    method="GET",
    port=0,
    threshold_normal=2,
    threshold_abnormal=5,
    time_interval=10,
    timeout=5,
    http_code="200,201,210-299",
    enable_client_ssl=False,
)


# What was called, as (client, method); and what was refused, as (status, code).
CALLS = set()
REFUSED = []


class Recorded:
    """A client that notes which of its calls are made."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        CALLS.add((type(self._client).__name__, name))
        return getattr(self._client, name)


def client_of(kind, access_key=ACCESS_KEY, secret_key=SECRET_KEY, project=PROJECT):
    credentials = BasicCredentials(access_key, secret_key, project)
    return Recorded(kind.new_builder().with_credentials(credentials).with_endpoint(ENDPOINT).build())


def unique(stem):
    """A channel name that no other test uses."""
    return f"{stem}_{uuid.uuid4().hex[:12]}"


class ClientTest(unittest.TestCase):
    """Clients, and channels that are gone after the test."""

    maxDiff = None

    def setUp(self):
        self.apig = client_of(ApigClient)
        self.roma = client_of(RomaClient)

    def body(self, name="web", **fields):
        """A small VpcCreate of the APIG client."""
        defaults = dict(name=unique(name), port=18080, balance_strategy=1, member_type="ip")
        return apig.VpcCreate(**{**defaults, **fields})

    def create(self, instance=INSTANCE, **fields):
        """A channel that is deleted when the test ends."""
        request = apig.CreateVpcChannelV2Request(instance_id=instance, body=self.body(**fields))
        channel = self.apig.create_vpc_channel_v2(request)
        self.addCleanup(self.delete_quietly, channel.id, instance)
        return channel

    def delete(self, channel_id, instance=INSTANCE):
        request = apig.DeleteVpcChannelV2Request(instance_id=instance, vpc_channel_id=channel_id)
        return self.apig.delete_vpc_channel_v2(request)

    def delete_quietly(self, channel_id, instance):
        try:
            self.delete(channel_id, instance)
        except ClientRequestException as error:
            if error.error_code != "APIG.3023":
                raise

    def show(self, channel_id, instance=INSTANCE):
        request = apig.ShowDetailsOfVpcChannelV2Request(instance_id=instance, vpc_channel_id=channel_id)
        return self.apig.show_details_of_vpc_channel_v2(request)

    def members(self, channel_id, instance=INSTANCE, **filters):
        request = apig.ListBackendInstancesV2Request(
            instance_id=instance, vpc_channel_id=channel_id, **filters
        )
        return self.apig.list_backend_instances_v2(request)

    def refused(self, status, code, call, *arguments):
        """Calls, and expects the vendor's error; returns it."""
        with self.assertRaises(ClientRequestException) as caught:
            call(*arguments)
        error = caught.exception
        found = (error.status_code, error.error_code)
        self.assertEqual(found, (status, code), error.error_msg)
        self.assertTrue(error.request_id, "no X-Request-Id")
        REFUSED.append((status, code))
        return error


__all__ = [name for name in dir() if not name.startswith("_")]
