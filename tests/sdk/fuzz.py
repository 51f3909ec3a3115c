"""A fuzzing client over the API's own description: no 5xx, no undocumented answer.

    fuzz.py BINARY [OPTION...]      options go to schemathesis, for example -n 100

Starts a vitald, reads its /v1/openapi.json, makes a channel with a member and a
group, puts their ids into the paths, and lets schemathesis send what fits the
description and what does not. Every status, header and body of an answer must
be as described. Says how many calls of every operation succeeded: a fuzzer that
is only ever refused finds little.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

from daemon import FIXED, INSTANCE, PROJECT, Daemon

# Not `unsupported_method`: it would send the DELETE that is left out below. The
# Rust tests compare the methods of every path.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# Of the oldest block and of an extension.
SOME_HAN = "\u3007\u4e00-\u9fff\U00020000-\U0002a6df"
BASE = f"/v2/{PROJECT}/apigw/instances/{INSTANCE}/vpc-channels"


ENDPOINT = None
TOKEN = None


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
    shorten_names(description["components"]["schemas"])
    return {**description, "paths": paths}


def shorten_names(schema):
    """Names of fewer characters: with all of Han they take minutes to make."""
    if isinstance(schema, dict):
        if schema.get("pattern", "").startswith(r"^[A-Za-z\u2e80"):
            schema["pattern"] = f"^[A-Za-z{SOME_HAN}][A-Za-z0-9{SOME_HAN}_.-]{{2,63}}$"
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            shorten_names(part)


def operations(description):
    """Every described call below /v2, with a pattern for its path."""
    for template, item in description["paths"].items():
        pattern = re.compile(re.sub(r"{[^}]*}", "[^/]+", template) + "$")
        for method in item:
            if method != "parameters":
                yield method.upper(), template, pattern


def tally(description, report):
    """Counts answers by operation and prints them."""
    with open(report) as file:
        entries = json.load(file)["log"]["entries"]
    answers = collections.defaultdict(collections.Counter)
    known = list(operations(description))
    for entry in entries:
        path = urllib.parse.urlsplit(entry["request"]["url"]).path
        for method, template, pattern in known:
            # The fixed word wins over a parameter: batch-enable is no member.
            if method == entry["request"]["method"] and pattern.search(path):
                answers[method, template][entry["response"]["status"] // 100] += 1
                break
    print(f"{'2xx':>6}{'4xx':>6}{'5xx':>6}")
    for method, template, _ in known:
        row = answers[method, template]
        print(f"{row[2]:>6}{row[4]:>6}{row[5]:>6}  {method} {template}")
    succeeded = sum(row[2] for row in answers.values())
    total = sum(sum(row.values()) for row in answers.values())
    print(f"{total} calls, {succeeded} succeeded, {sum(row[5] for row in answers.values())} met a 5xx")


def fuzz(options):
    description = json.loads(urllib.request.urlopen(ENDPOINT + "/v1/openapi.json").read())
    channel, member, group = make_channel()
    with tempfile.TemporaryDirectory() as place:
        schema, report = os.path.join(place, "openapi.json"), os.path.join(place, "report.har")
        with open(schema, "w") as file:
            json.dump(with_ids(description, channel, member, group), file)
        # Else one of a directory above would be taken.
        open(os.path.join(place, "schemathesis.toml"), "w").close()
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", schema]
        command += ["--url", ENDPOINT, "-H", f"X-Auth-Token: {TOKEN}", "--checks", ",".join(CHECKS)]
        # A machine that is slow to make data says nothing about the daemon.
        command += ["--suppress-health-check", "too_slow"]
        command += ["--phases", "coverage,fuzzing", "--report", "har", "--report-har-path", report, *(options or ["-n", "20"])]
        status = subprocess.run(command, check=False, cwd=place).returncode
        if os.path.exists(report):
            tally(description, report)
        else:
            print("no report: successes are not counted")
    return status


def main():
    global ENDPOINT, TOKEN
    with Daemon(sys.argv[1]) as daemon:
        ENDPOINT, TOKEN = daemon.endpoint, daemon.token()
        status = fuzz(sys.argv[2:])
        if '"ERROR"' in open(daemon.log).read():
            print("vitald logged an error:\n" + open(daemon.log).read())
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
