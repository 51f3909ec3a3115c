"""Brings the channels of a gateway to a wished state, and says what it changed.

    pip install huaweicloudsdkapig
    export ENDPOINT=http://127.0.0.1:9650 PROJECT=... INSTANCE=... AK=... SK=...
    python apply_channels.py channels.json

channels.json holds a list of bodies as the API takes them to create a channel.
Run it again and nothing changes. The same script drives the vendor's cloud: only
the environment differs.
"""

import json
import os
import sys

from huaweicloudsdkapig.v2 import (
    ApigClient,
    CreateVpcChannelV2Request,
    ListVpcChannelsV2Request,
    ShowDetailsOfVpcChannelV2Request,
    UpdateVpcChannelV2Request,
    VpcCreate,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials

INSTANCE = os.environ["INSTANCE"]


def connect():
    credentials = BasicCredentials(os.environ["AK"], os.environ["SK"], os.environ["PROJECT"])
    return ApigClient.new_builder().with_credentials(credentials).with_endpoint(os.environ["ENDPOINT"]).build()


def find(client, name):
    """The channel of that name with its members, or None."""
    request = ListVpcChannelsV2Request(instance_id=INSTANCE, name=name, precise_search="name")
    for channel in client.list_vpc_channels_v2(request).vpc_channels:
        request = ShowDetailsOfVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=channel.id)
        return client.show_details_of_vpc_channel_v2(request).to_dict()
    return None


def differences(wished, found, place=""):
    """The places where what is found is not what is wished; what is not wished for does not count."""
    if isinstance(wished, dict):
        found = found or {}
        return [
            difference
            for key, value in wished.items()
            for difference in differences(value, found.get(key), f"{place}.{key}" if place else key)
        ]
    if isinstance(wished, list):
        if len(wished) != len(found or []):
            return [place]
        pairs = zip(wished, found)
        return [
            difference
            for number, (one, other) in enumerate(pairs)
            for difference in differences(one, other, f"{place}[{number}]")
        ]
    same = wished == found
    if isinstance(wished, str) and isinstance(found, str):
        # Words are answered in lower case.
        same = wished.lower() == found.lower()
    return [] if same else [place]


def apply(client, wished):
    found = find(client, wished["name"])
    if found is None:
        client.create_vpc_channel_v2(CreateVpcChannelV2Request(instance_id=INSTANCE, body=VpcCreate(**wished)))
        return "created"
    changed = differences(wished, found)
    if not changed:
        return "unchanged"
    request = UpdateVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=found["id"], body=VpcCreate(**wished))
    client.update_vpc_channel_v2(request)
    return "updated: " + ", ".join(changed)


def main():
    client = connect()
    with open(sys.argv[1]) as file:
        channels = json.load(file)
    for wished in channels:
        print(f"{wished['name']}: {apply(client, wished)}")


if __name__ == "__main__":
    main()
