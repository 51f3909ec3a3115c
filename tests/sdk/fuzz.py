"""A fuzzing client over the API's own description: no 5xx, no undocumented answer.

Reads /v1/openapi.json from a running vitald (see clients.py for where it is;
VITALD_TOKEN is a token with the role admin), makes a channel with a member and
a group, puts their ids into the paths, and lets schemathesis send what fits the
description and what does not. Every status, header and body of an answer must
be as described. Arguments go to schemathesis, for example `-n 100`.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

ENDPOINT = os.environ.get("VITALD_ENDPOINT", "http://127.0.0.1:9650")
PROJECT = os.environ.get("VITALD_PROJECT", "0123456789abcdef0123456789abcdef")
INSTANCE = os.environ.get("VITALD_INSTANCE", "eddc4d25480b4cd6b512f270a1b8b341")
FIXED = os.environ.get("VITALD_FIXED", "00000000-0000-4000-8000-000000000002")
TOKEN = os.environ.get("VITALD_TOKEN", "token")
# Not `unsupported_method`: it would send the DELETE that is left out below. The
# Rust tests compare the methods of every path.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
BASE = f"/v2/{PROJECT}/apigw/instances/{INSTANCE}/vpc-channels"


def send(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(ENDPOINT + path, data, {"X-Auth-Token": TOKEN}, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def make_channel():
    body = dict(
        name=f"fuzz_{os.getpid()}",
        port=80,
        balance_strategy=1,
        member_type="ip",
        member_groups=[dict(member_group_name="blue")],
        members=[dict(host="192.0.2.1", member_group_name="blue"), dict(host="192.0.2.2")],
    )
    channel = send("POST", BASE, body)
    member = send("GET", f"{BASE}/{channel['id']}/members?name=192.0.2.2")["members"][0]
    return channel["id"], member["id"], channel["member_groups"][0]["member_group_id"]


def channels():
    """The ids of all channels, in every instance."""
    found, offset = {}, 0
    while True:
        page = send("GET", f"/v2/{PROJECT}/apic/vpc-channels?limit=500&offset={offset}")
        found.update((item["id"], item["instance_id"]) for item in page["project_vpc_channels"])
        offset += page["size"]
        if page["size"] == 0:
            return found


def remove(ids):
    """Deletes channels; one that another stands for goes after it."""
    while ids:
        left = {}
        for channel, instance in ids.items():
            try:
                send("DELETE", f"/v2/{PROJECT}/apigw/instances/{instance}/vpc-channels/{channel}")
            except urllib.error.HTTPError as error:
                if error.code == 409:
                    left[channel] = instance
                elif error.code != 404:
                    raise
        if len(left) == len(ids):
            raise SystemExit(f"channels that cannot be deleted: {left}")
        ids = left


def with_ids(description, channel, member, group):
    """The same calls at paths with ids that exist, beside those without."""
    ids = {
        "{project_id}": PROJECT,
        "{instance_id}": INSTANCE,
        "{vpc_channel_id}": channel,
        "{member_id}": member,
        "{member_group_id}": group,
    }
    paths = {}
    for template, item in description["paths"].items():
        path = template
        for name, value in ids.items():
            path = path.replace(name, value)
        item = {key: value for key, value in item.items() if key != "parameters"}
        if path.endswith(channel):
            # The channel is needed to the end.
            item = {key: value for key, value in item.items() if key != "delete"}
        for call in item.values():
            call["operationId"] = "at_" + call["operationId"]
        paths[path] = item
        half = template.replace("{project_id}", PROJECT).replace("{instance_id}", INSTANCE)
        if "{" in half:
            item = json.loads(json.dumps(description["paths"][template]))
            item["parameters"] = [
                {**parameter, "schema": {"type": "string", "pattern": "^unknown"}}
                for parameter in item["parameters"]
                if "{%s}" % parameter["name"] in half
            ]
            if half.endswith("{vpc_channel_id}"):
                # Ids that answers mention find their way in here.
                item.pop("delete", None)
            for call in item.values():
                if isinstance(call, dict):
                    call["operationId"] = "near_" + call["operationId"].removeprefix("at_")
            paths[half] = item
    for schema in ("ProjectVpcCreate", "ProjectVpcSync"):
        ids = description["components"]["schemas"][schema]["properties"]["instance_ids"]
        ids["items"] = {"type": "string", "enum": [FIXED, INSTANCE, "unknown"]}
    return {**description, "paths": paths}


def main():
    description = json.loads(urllib.request.urlopen(ENDPOINT + "/v1/openapi.json").read())
    before = channels()
    channel, member, group = make_channel()
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(with_ids(description, channel, member, group), file)
            file.flush()
            command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", file.name]
            command += ["--url", ENDPOINT, "-H", f"X-Auth-Token: {TOKEN}", "--checks", ",".join(CHECKS)]
            command += ["--phases", "coverage,fuzzing", *sys.argv[1:]]
            return subprocess.run(command, check=False).returncode
    finally:
        remove({id: instance for id, instance in channels().items() if id not in before})


if __name__ == "__main__":
    sys.exit(main())
