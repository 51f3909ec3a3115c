"""Tokens: keystoneauth1 logs in by password; the vendor's client uses its token."""

import json
import unittest
import urllib.error
import urllib.request

from clients import *
from daemon import PASSWORD, REGION, USER
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import generic, v3

SCOPE = dict(project_name=REGION, project_domain_name="local")
WHO = dict(user_domain_name="local", username=USER, password=PASSWORD)


def logged_in(plugin=v3.Password, **changes):
    return session.Session(auth=plugin(auth_url=f"{ENDPOINT}/v3", **{**WHO, **SCOPE, **changes}))


class Tokens(ClientTest):
    def test_a_token_by_password_is_used(self):
        for plugin in (v3.Password, generic.Password):
            keystone = logged_in(plugin)
            self.assertEqual(keystone.get_project_id(), PROJECT)
            path = f"/v2/{PROJECT}/apigw/instances/{INSTANCE}/vpc-channels"
            body = dict(name=unique("token"), port=80, balance_strategy=1, member_type="ip")
            # The catalog leads to this very daemon.
            where = dict(service_type="apig")
            made = keystone.post(path, json=body, endpoint_filter=where)
            self.assertEqual(made.status_code, 201)
            channel = made.json()["id"]
            listed = keystone.get(f"{path}?id={channel}", endpoint_filter=where).json()
            self.assertEqual((listed["total"], listed["vpc_channels"][0]["name"]), (1, body["name"]))
            gone = keystone.delete(f"{path}/{channel}", endpoint_filter=where)
            self.assertEqual(gone.status_code, 204)

    def test_a_viewer_looks_and_does_not_touch(self):
        viewer = logged_in(username="eye")
        path = f"{ENDPOINT}/v2/{PROJECT}/apigw/instances/{INSTANCE}/vpc-channels"
        self.assertEqual(viewer.get(path).status_code, 200)
        body = dict(name=unique("token"), port=80, balance_strategy=1, member_type="ip")
        with self.assertRaises(exceptions.Forbidden) as caught:
            viewer.post(path, json=body)
        self.assertIn("APIG.1005", caught.exception.response.text)

    def test_a_wrong_password_gets_no_token(self):
        with self.assertRaises(exceptions.Unauthorized):
            logged_in(password="guess").get_token()

    def test_without_a_project_there_is_no_access(self):
        unscoped = session.Session(auth=v3.Password(auth_url=f"{ENDPOINT}/v3", **WHO))
        with self.assertRaises(exceptions.Unauthorized) as caught:
            unscoped.get(f"{ENDPOINT}/v2/{PROJECT}/apigw/instances")
        self.assertIn("APIG.1003", caught.exception.response.text)

    def test_a_token_that_was_ended_is_no_token(self):
        keystone = logged_in()
        token = keystone.get_token()
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        ending = urllib.request.Request(f"{ENDPOINT}/v3/auth/tokens", headers=headers, method="DELETE")
        with urllib.request.urlopen(ending) as answer:
            self.assertEqual(answer.status, 204)
        asking = urllib.request.Request(f"{ENDPOINT}/v2/{PROJECT}/apigw/instances", headers=headers)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(asking)
        self.assertEqual(caught.exception.code, 401)
        self.assertEqual(json.load(caught.exception)["error_code"], "APIG.1002")

    def test_the_project_is_found_by_its_name(self):
        answer = logged_in().get(f"{ENDPOINT}/v3/projects?name={REGION}").json()
        self.assertEqual([project["id"] for project in answer["projects"]], [PROJECT])


class Signatures(ClientTest):
    def test_a_wrong_key_is_refused(self):
        request = apig.ListVpcChannelsV2Request(instance_id=INSTANCE)
        for access_key, secret_key in [(ACCESS_KEY, "another"), ("AKNOBODY", SECRET_KEY)]:
            client = client_of(ApigClient, access_key, secret_key)
            self.refused(401, "APIG.0301", client.list_vpc_channels_v2, request)

    def test_another_project_is_refused(self):
        client = client_of(ApigClient, project="f" * 32)
        request = apig.ListVpcChannelsV2Request(instance_id=INSTANCE)
        self.refused(403, "APIG.1005", client.list_vpc_channels_v2, request)


if __name__ == "__main__":
    unittest.main()
