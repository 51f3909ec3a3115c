"""The vendor's Python clients of 2021, version 3.0.65: channels, members, refusals.

They run in an environment of their own, see requirements-3.0.txt, and share nothing with
the tests of the newest ones but where the daemon is.
"""

import os
import unittest

from huaweicloudsdkapig.v2 import *
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.http_config import HttpConfig

INSTANCE = os.environ["VITALD_INSTANCE"]


def client_with(secret_key):
    credentials = BasicCredentials(os.environ["VITALD_AK"], secret_key, os.environ["VITALD_PROJECT"])
    builder = ApigClient.new_builder().with_http_config(HttpConfig.get_default_config())
    return builder.with_credentials(credentials).with_endpoint(os.environ["VITALD_ENDPOINT"]).build()


class Old(unittest.TestCase):
    def test_channels_and_members(self):
        client = client_with(os.environ["VITALD_SK"])
        body = VpcCreate(name="old_clients", port=80, balance_strategy=1, member_type="ip", type=2, members=[])
        made = client.create_vpc_channel_v2(CreateVpcChannelV2Request(INSTANCE, body))
        path = dict(instance_id=INSTANCE, vpc_channel_id=made.id)
        members = VpcMemberCreate(members=[MemberInfo(host="192.0.2.12", weight=3)])
        added = client.adding_backend_instances_v2(AddingBackendInstancesV2Request(body=members, **path))
        self.assertEqual([(member.host, member.weight) for member in added.members], [("192.0.2.12", 3)])
        listed = client.list_vpc_channels_v2(ListVpcChannelsV2Request(INSTANCE, name="old_clients"))
        self.assertEqual([channel.id for channel in listed.vpc_channels], [made.id])
        shown = client.show_details_of_vpc_channel_v2(ShowDetailsOfVpcChannelV2Request(**path))
        self.assertEqual((shown.name, len(shown.members)), ("old_clients", 1))
        client.delete_vpc_channel_v2(DeleteVpcChannelV2Request(**path))
        with self.assertRaises(ClientRequestException) as caught:
            client.show_details_of_vpc_channel_v2(ShowDetailsOfVpcChannelV2Request(**path))
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (404, "APIG.3023"))

    def test_a_wrong_key_is_refused(self):
        with self.assertRaises(ClientRequestException) as caught:
            client_with("another").list_vpc_channels_v2(ListVpcChannelsV2Request(INSTANCE))
        self.assertEqual((caught.exception.status_code, caught.exception.error_code), (401, "APIG.0301"))


if __name__ == "__main__":
    unittest.main()
