"""The vendor's signer and a Keystone client against a server with vitald's gate.

Called by tests/sdk_auth.rs with the server's address. Prints what it did; the
first surprise is an exception. The random numbers are seeded, so that a failure
comes again.
"""

import http.client
import random
import sys
from urllib.parse import quote

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import generic, v3

ADDRESS = sys.argv[1]
PROJECT = "0123456789abcdef0123456789abcdef"
CREDENTIALS = BasicCredentials("AK0000000000000000001", "probe-secret-key-0123456789", PROJECT)
RANDOM = random.Random(20260102)
LETTERS = "abcXYZ019 -._~!$&'()*+,;=:@/?#[]%\"<>\\^`{|}通道é\U0001f600"


def text(longest):
    return "".join(RANDOM.choice(LETTERS) for _ in range(RANDOM.randint(1, longest)))


def send(method, target, headers, body):
    connection = http.client.HTTPConnection(ADDRESS)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def signed():
    body = text(40).encode() if RANDOM.random() < 0.6 else b""
    segments = [quote(text(8), safe="") for _ in range(RANDOM.randint(1, 3))]
    query = []
    for name in {text(6) for _ in range(RANDOM.randint(0, 4))}:
        value = RANDOM.choice([text(8), RANDOM.randint(0, 500), RANDOM.random() < 0.5, [text(3), text(3)]])
        query.append((name, value))
    request = SdkRequest(
        method=RANDOM.choice(["GET", "POST", "PUT", "DELETE"]),
        schema="http",
        host=ADDRESS,
        resource_path=f"/v2/{PROJECT}/" + "/".join(segments),
        uri=None,
        query_params=query,
        header_params={
            "Content-Type": RANDOM.choice(["application/json", "application/json;charset=utf-8"]),
            "User-Agent": "probe/1 " + RANDOM.choice(["通道", "  inner  space  ", "x"]),
            "X-Project-Id": PROJECT,
        },
        body=body,
        stream=False,
        signing_algorithm=None,
    )
    return Signer(CREDENTIALS).sign(request)


def another(character):
    """A letter or digit that is not this one."""
    return RANDOM.choice([other for other in "abcdef0123456789" if other != character])


def changed(string, start, end):
    """The string with one letter or digit between the two places replaced."""
    places = [at for at in range(start, end) if string[at].isascii() and string[at].isalnum()]
    # Inside an escape another digit may mean the same: %2f and %2F.
    places = [at for at in places if "%" not in string[max(at - 2, 0):at]]
    if not places:
        return None
    at = RANDOM.choice(places)
    return string[:at] + another(string[at]) + string[at + 1:]


def check_signatures(count):
    refused = 0
    for _ in range(count):
        request = signed()
        headers = dict(request.header_params)
        status, answer = send(request.method, request.uri, headers, request.body)
        assert (status, answer) == (200, "access key AK0000000000000000001"), (request.uri, headers, answer)

        bent = []
        target = changed(request.uri, len(f"/v2/{PROJECT}/"), len(request.uri))
        if target:
            bent.append((request.method, target, headers, request.body))
        for name in ["Content-Type", "User-Agent", "X-Project-Id", "Host"]:
            value = headers[name]
            # Another host's name is refused before signatures are looked at; a port is not.
            other = value[:-1] + str((int(value[-1]) + 1) % 10) if name == "Host" else changed(value, 0, len(value))
            bent.append((request.method, request.uri, {**headers, name: other}, request.body))
        authorization = headers["Authorization"]
        signature = changed(authorization, authorization.index("Signature=") + 10, len(authorization))
        bent.append((request.method, request.uri, {**headers, "Authorization": signature}, request.body))
        at = RANDOM.randint(0, len(request.body))
        body = request.body[:at] + b"x" + request.body[at:]
        bent.append((request.method, request.uri, headers, body))
        method = RANDOM.choice([m for m in ["GET", "POST", "PUT", "DELETE"] if m != request.method])
        bent.append((method, request.uri, headers, request.body))
        for attempt in bent:
            status, answer = send(*attempt)
            assert status == 401 and "APIG.0301" in answer, (attempt, status, answer)
            refused += 1
    print(f"{count} signed requests accepted, {refused} changed ones refused")


def check_keystone():
    url = f"http://{ADDRESS}"
    who = {"username": "ops", "password": "hidden-password", "user_domain_name": "local"}
    scope = {"project_name": "cn-north-4", "project_domain_name": "local"}
    for plugin in [v3.Password, generic.Password]:
        client = session.Session(auth=plugin(auth_url=f"{url}/v3", **who, **scope))
        assert len(client.get_token()) == 64
        assert client.get_project_id() == PROJECT
        assert client.get_endpoint(service_type="apig") == url
        answer = client.get(f"/v2/{PROJECT}/things", endpoint_filter={"service_type": "apig"})
        assert answer.text == "ops@local", answer.text
        projects = client.get(f"{url}/v3/projects?name=cn-north-4").json()["projects"]
        assert [project["id"] for project in projects] == [PROJECT]
    unscoped = session.Session(auth=v3.Password(auth_url=f"{url}/v3", **who))
    try:
        unscoped.get(f"{url}/v2/{PROJECT}/things")
        raise AssertionError("a token without a project was let in")
    except exceptions.Unauthorized as refusal:
        assert "APIG.1003" in refusal.response.text
    wrong = session.Session(auth=v3.Password(auth_url=f"{url}/v3", **{**who, "password": "guess"}, **scope))
    try:
        wrong.get_token()
        raise AssertionError("a wrong password was let in")
    except exceptions.Unauthorized as refusal:
        assert "requires authentication" in str(refusal)
    print("keystoneauth1: two plugins logged in, discovered, used; two were refused")


check_keystone()
check_signatures(int(sys.argv[2]))
