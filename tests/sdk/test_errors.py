"""What is refused, with which code and whose name in the message.

The tables are bodies with one thing wrong each; every entry is a case of its
own (`run.py` counts them).
"""

import unittest

from clients import *

NOBODY = "0" * 32
MEMBER = dict(host="192.0.2.1")

# What is wrong, and the code and field of the answer, for creating a channel.
CHANNELS = [
    (dict(name=None), "APIG.2001", "name"),
    (dict(name=""), "APIG.2012", "name"),
    (dict(name="ab"), "APIG.2012", "name"),
    (dict(name="a" * 65), "APIG.2012", "name"),
    (dict(name="1abc"), "APIG.2012", "name"),
    (dict(name="a b c"), "APIG.2012", "name"),
    (dict(port=None), "APIG.2001", "port"),
    (dict(port=0), "APIG.2004", "port"),
    (dict(port=65536), "APIG.2004", "port"),
    (dict(port="80"), "APIG.2012", "port"),
    (dict(balance_strategy=None), "APIG.2001", "balance_strategy"),
    (dict(balance_strategy=0), "APIG.2004", "balance_strategy"),
    (dict(balance_strategy=5), "APIG.2004", "balance_strategy"),
    (dict(member_type="dns"), "APIG.2012", "member_type"),
    (dict(type=4), "APIG.2004", "type"),
    (dict(type=3, vpc_channel_type="builtin"), "APIG.2012", "type"),
    (dict(vpc_channel_type="other"), "APIG.2012", "vpc_channel_type"),
    (dict(vpc_channel_type="microservice"), "APIG.2001", "microservice_info"),
    (dict(dict_code="a b"), "APIG.2012", "dict_code"),
    (dict(members="192.0.2.1"), "APIG.2012", "members"),
    (dict(member_groups=[dict()]), "APIG.2001", "member_group_name"),
]

MEMBERS = [
    (dict(), "APIG.2001", "host"),
    (dict(host="http://192.0.2.1"), "APIG.2012", "host"),
    (dict(host="a" * 256), "APIG.2012", "host"),
    (dict(host="192.0.2.300"), "APIG.2012", "host"),
    (dict(MEMBER, weight=-1), "APIG.2004", "weight"),
    (dict(MEMBER, weight=10001), "APIG.2004", "weight"),
    (dict(MEMBER, weight=1.5), "APIG.2012", "weight"),
    (dict(MEMBER, port=-1), "APIG.2004", "port"),
    (dict(MEMBER, port=65536), "APIG.2004", "port"),
    (dict(MEMBER, status=0), "APIG.2004", "status"),
    (dict(MEMBER, status=3), "APIG.2004", "status"),
    (dict(MEMBER, is_backup="yes"), "APIG.2012", "is_backup"),
    (dict(MEMBER, member_group_name="nowhere"), "APIG.2012", "member_group_name"),
]

GROUPS = [
    (dict(), "APIG.2001", "member_group_name"),
    (dict(member_group_name="ab"), "APIG.2012", "member_group_name"),
    (dict(member_group_name="abc", member_group_weight=101), "APIG.2004", "member_group_weight"),
    (dict(member_group_name="abc", member_group_weight=-1), "APIG.2004", "member_group_weight"),
    (dict(member_group_name="abc", member_group_remark="a" * 256), "APIG.2012", "member_group_remark"),
    (dict(member_group_name="abc", microservice_port=65536), "APIG.2004", "microservice_port"),
    (dict(member_group_name="abc", microservice_version="a" * 65), "APIG.2012", "microservice_version"),
    (dict(member_group_name="abc", microservice_labels=[dict(label_name="a")]), "APIG.2001", "label_value"),
    (dict(member_group_name="abc", microservice_labels=[dict(label_name="-", label_value="b")]), "APIG.2012", "label_name"),
]

CHECKS = [
    (dict(protocol=None), "APIG.2001", "protocol"),
    (dict(protocol="UDP"), "APIG.2012", "protocol"),
    (dict(path=None), "APIG.2001", "path"),
    (dict(path="health"), "APIG.2012", "path"),
    (dict(method="POST"), "APIG.2012", "method"),
    (dict(port=65536), "APIG.2004", "port"),
    (dict(threshold_normal=None), "APIG.2001", "threshold_normal"),
    (dict(threshold_normal=0), "APIG.2004", "threshold_normal"),
    (dict(threshold_normal=11), "APIG.2004", "threshold_normal"),
    (dict(threshold_abnormal=None), "APIG.2001", "threshold_abnormal"),
    (dict(threshold_abnormal=11), "APIG.2004", "threshold_abnormal"),
    (dict(time_interval=None), "APIG.2001", "time_interval"),
    (dict(time_interval=301), "APIG.2004", "time_interval"),
    (dict(timeout=None), "APIG.2001", "timeout"),
    (dict(timeout=31, time_interval=60), "APIG.2004", "timeout"),
    (dict(timeout=6, time_interval=5), "APIG.2012", "timeout"),
    (dict(http_code=None), "APIG.2001", "http_code"),
    (dict(http_code="200, 201"), "APIG.2012", "http_code"),
    (dict(http_code="299-200"), "APIG.2012", "http_code"),
    (dict(http_code="99"), "APIG.2012", "http_code"),
    (dict(enable_client_ssl="no"), "APIG.2012", "enable_client_ssl"),
    (dict(protocol="HTTPS", enable_client_ssl=True), "APIG.2012", "enable_client_ssl"),
    (dict(status=3), "APIG.2004", "status"),
]

SERVICES = [
    (dict(), "APIG.2001", "microservice_info"),
    (dict(service_type="OTHER"), "APIG.2012", "service_type"),
    (dict(service_type="CSE"), "APIG.2001", "cse_info"),
    (dict(service_type="CSE", cse_info=dict(engine_id="e")), "APIG.2001", "service_id"),
    (dict(service_type="CCE", cce_info=dict(cluster_id="c", namespace="n", app_name="a", workload_type="pod")), "APIG.2012", "workload_type"),
    (dict(service_type="NACOS", nacos_info=dict(service_name="s", user_info=dict(user_name="u", password="p"))), "APIG.2001", "server_config"),
]


class Bodies(ClientTest):
    def names(self, error, field):
        texts = (
            f"parameter name:{field}",
            f"parameterName:{field}. Please refer to the support documentation",
        )
        self.assertTrue(any(text in error.error_msg for text in texts), error.error_msg)

    def run_table(self, table, call):
        for wrong, code, field in table:
            with self.subTest(wrong=wrong):
                error = self.refused(400, code, call, wrong)
                self.names(error, field)

    def make(self, fields):
        plain = {key: value for key, value in fields.items() if value is not None}
        body = apig.VpcCreate(**plain) if "name" in plain else plain
        request = apig.CreateVpcChannelV2Request(instance_id=INSTANCE, body=body)
        return self.apig.create_vpc_channel_v2(request)

    def test_channels(self):
        good = dict(name=unique("wrong"), port=80, balance_strategy=1, member_type="ip")
        self.run_table(CHANNELS, lambda wrong: self.make({**good, **wrong}))

    def test_members(self):
        channel = self.create()

        def add(wrong):
            request = apig.AddingBackendInstancesV2Request(
                instance_id=INSTANCE, vpc_channel_id=channel.id, body=apig.VpcMemberCreate(members=[wrong])
            )
            return self.apig.adding_backend_instances_v2(request)

        self.run_table(MEMBERS, add)
        self.assertEqual(self.members(channel.id).total, 0)

    def test_groups(self):
        channel = self.create()

        def add(wrong):
            request = apig.CreateMemberGroupRequest(
                instance_id=INSTANCE, vpc_channel_id=channel.id, body=apig.MemberGroupCreateBatch(member_groups=[wrong])
            )
            return self.apig.create_member_group(request)

        self.run_table(GROUPS, add)

    def test_health_checks(self):
        channel = self.create()

        def put(wrong):
            body = {key: value for key, value in {**HEALTH, **wrong}.items() if value is not None}
            request = apig.UpdateHealthCheckRequest(instance_id=INSTANCE, vpc_channel_id=channel.id, body=body)
            return self.apig.update_health_check(request)

        self.run_table(CHECKS, put)
        self.assertIsNone(self.show(channel.id).vpc_health_config)

    def test_microservices(self):
        def make(wrong):
            return self.create(vpc_channel_type="microservice", microservice_info=wrong)

        self.run_table(SERVICES, make)


class Unknown(ClientTest):
    def test_instances(self):
        error = self.refused(404, "APIG.3030", lambda: self.show(NOBODY, instance="f" * 32))
        self.assertEqual(error.error_msg, "The instance does not exist;id:" + "f" * 32)

    def test_channels(self):
        error = self.refused(404, "APIG.3023", self.show, NOBODY)
        self.assertEqual(error.error_msg, f"The VPC channel does not exist,id:{NOBODY}")
        self.refused(404, "APIG.3023", self.delete, NOBODY)
        self.refused(404, "APIG.3023", self.show, "no id at all")

    def test_channels_of_another_instance(self):
        channel = self.create()
        self.refused(404, "APIG.3023", self.show, channel.id, FIXED)

    def test_members_and_groups(self):
        channel = self.create()
        request = apig.DeleteBackendInstanceV2Request(
            instance_id=INSTANCE, vpc_channel_id=channel.id, member_id=NOBODY
        )
        error = self.refused(404, "APIG.3024", self.apig.delete_backend_instance_v2, request)
        self.assertEqual(error.error_msg, f"The VPC instance does not exist,id:{NOBODY}")
        request = apig.ShowDetailsOfMemberGroupRequest(
            instance_id=INSTANCE, vpc_channel_id=channel.id, member_group_id=NOBODY
        )
        self.refused(404, "APIG.3023", self.apig.show_details_of_member_group, request)
        request = apig.DeleteMemberGroupRequest(
            instance_id=INSTANCE, vpc_channel_id=channel.id, member_group_id=NOBODY
        )
        self.refused(404, "APIG.3023", self.apig.delete_member_group, request)

    def test_projects(self):
        stranger = client_of(ApigClient, project="f" * 32)
        request = apig.ListVpcChannelsV2Request(instance_id=INSTANCE)
        self.refused(403, "APIG.1005", stranger.list_vpc_channels_v2, request)


class Rules(ClientTest):
    def test_names_are_unique(self):
        channel = self.create()
        body = apig.VpcCreate(name=channel.name, port=80, balance_strategy=1, member_type="ip")
        request = apig.CreateVpcChannelV2Request(instance_id=INSTANCE, body=body)
        self.refused(400, "APIG.3208", self.apig.create_vpc_channel_v2, request)
        other = self.create()
        request = apig.UpdateVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=other.id, body=body)
        self.refused(400, "APIG.3208", self.apig.update_vpc_channel_v2, request)

    def test_the_member_type_stays(self):
        channel = self.create()
        body = apig.VpcCreate(name=channel.name, port=80, balance_strategy=1, member_type="ecs")
        request = apig.UpdateVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=channel.id, body=body)
        self.refused(400, "APIG.2012", self.apig.update_vpc_channel_v2, request)

    def test_members_must_be_given(self):
        channel = self.create()
        for body in (apig.VpcMemberCreate(), apig.VpcMemberCreate(members=[])):
            request = apig.AddingBackendInstancesV2Request(
                instance_id=INSTANCE, vpc_channel_id=channel.id, body=body
            )
            self.refused(400, "APIG.2001", self.apig.adding_backend_instances_v2, request)
        request = apig.UpdateBackendInstancesV2Request(
            instance_id=INSTANCE, vpc_channel_id=channel.id, body=apig.VpcMemberModify()
        )
        self.refused(400, "APIG.2001", self.apig.update_backend_instances_v2, request)

    def test_group_names_are_unique(self):
        groups = [apig.MemberGroupCreate(member_group_name=name) for name in ("blue", "green")]
        channel = self.create(member_groups=groups)
        request = apig.UpdateMemberGroupRequest(
            instance_id=INSTANCE,
            vpc_channel_id=channel.id,
            member_group_id=channel.member_groups[0].member_group_id,
            body=groups[1],
        )
        self.refused(400, "APIG.2012", self.apig.update_member_group, request)

    def test_reference_channels_have_no_members_to_change(self):
        target = self.create()
        groups = [apig.MemberGroupCreate(member_group_name="all", reference_vpc_channel_id=target.id)]
        front = self.create(vpc_channel_type="reference", member_groups=groups)
        at = dict(instance_id=INSTANCE, vpc_channel_id=front.id)
        members = [apig.MemberInfo(host="192.0.2.1")]
        ids = apig.MembersBatchEnableOrDisable(member_ids=[NOBODY])
        calls = [
            (self.apig.adding_backend_instances_v2, apig.AddingBackendInstancesV2Request(**at, body=apig.VpcMemberCreate(members=members))),
            (self.apig.update_backend_instances_v2, apig.UpdateBackendInstancesV2Request(**at, body=apig.VpcMemberModify(members=members))),
            (self.apig.delete_backend_instance_v2, apig.DeleteBackendInstanceV2Request(**at, member_id=NOBODY)),
            (self.apig.batch_enable_members, apig.BatchEnableMembersRequest(**at, body=ids)),
            (self.apig.batch_disable_members, apig.BatchDisableMembersRequest(**at, body=ids)),
        ]
        for call, request in calls:
            with self.subTest(call=call.__name__):
                self.refused(403, "APIG.3471", call, request)

    def test_references_lead_somewhere_and_not_back(self):
        def reference(target):
            return [apig.MemberGroupCreate(member_group_name="all", reference_vpc_channel_id=target)]

        self.refused(400, "APIG.2012", lambda: self.create(vpc_channel_type="reference", member_groups=reference(NOBODY)))
        target = self.create()
        front = self.create(vpc_channel_type="reference", member_groups=reference(target.id))
        above = self.create(vpc_channel_type="reference", member_groups=reference(front.id))
        self.addCleanup(self.delete_quietly, front.id, INSTANCE)
        self.addCleanup(self.delete_quietly, above.id, INSTANCE)
        body = apig.VpcCreate(name=front.name, port=80, balance_strategy=1, member_groups=reference(above.id))
        request = apig.UpdateVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=front.id, body=body)
        self.refused(400, "APIG.2012", self.apig.update_vpc_channel_v2, request)

    def test_parameters(self):
        for wrong in (dict(limit="x"), dict(offset="1.5"), dict(member_port=65536), dict(vpc_channel_type="other")):
            with self.subTest(wrong=wrong):
                request = apig.ListVpcChannelsV2Request(instance_id=INSTANCE, **wrong)
                with self.assertRaises(ClientRequestException) as caught:
                    self.apig.list_vpc_channels_v2(request)
                self.assertIn(caught.exception.error_code, ("APIG.2012", "APIG.2004"))

    def test_features(self):
        def put(**fields):
            body = apig.FeatureToggle(**fields)
            return self.apig.create_feature_v2(apig.CreateFeatureV2Request(instance_id=INSTANCE, body=body))

        unknown = self.refused(400, "APIG.2000", lambda: put(name="app-api-key", enable=True))
        self.assertEqual(unknown.error_msg, "unrecognized feature app-api-key")
        self.refused(412, "APIG.3458", lambda: put(name="vpc_backup", enable=False))
        self.refused(400, "APIG.2001", lambda: put(name="vpc_health_status"))
        self.refused(400, "APIG.2012", lambda: put(name="vpc_health_status", enable=True, config="maybe"))
        self.refused(400, "APIG.2012", lambda: put(name="backend_client_certificate", enable=True, config="{}"))

    def test_project_calls_need_fixed_names(self):
        body = roma.ProjectVpcCreate(
            name=unique("project"), port=80, balance_strategy=1, member_type="ip", instance_ids=[INSTANCE]
        )
        request = roma.CreateProjectVpcChannelRequest(body=body)
        self.refused(412, "APIG.3458", self.roma.create_project_vpc_channel, request)


class FromFiles(ClientTest):
    """Channels that a file describes are shown, and nothing here changes them."""

    def test_every_write_is_refused_and_names_the_file(self):
        request = apig.ListVpcChannelsV2Request(instance_id=INSTANCE, name="from-file", precise_search="name")
        (held,) = self.apig.list_vpc_channels_v2(request).vpc_channels
        at = dict(instance_id=INSTANCE, vpc_channel_id=held.id)
        (member,) = self.members(held.id).members
        body = self.body(name="from-file")
        ids = apig.MembersBatchEnableOrDisable(member_ids=[member.id])
        members = apig.VpcMemberCreate(members=[apig.MemberInfo(host="192.0.2.9")])
        writes = [
            (self.apig.update_vpc_channel_v2, apig.UpdateVpcChannelV2Request(**at, body=body)),
            (self.apig.delete_vpc_channel_v2, apig.DeleteVpcChannelV2Request(**at)),
            (self.apig.adding_backend_instances_v2, apig.AddingBackendInstancesV2Request(**at, body=members)),
            (self.apig.batch_disable_members, apig.BatchDisableMembersRequest(**at, body=ids)),
            (self.apig.delete_backend_instance_v2, apig.DeleteBackendInstanceV2Request(**at, member_id=member.id)),
            (self.apig.update_health_check, apig.UpdateHealthCheckRequest(**at, body=apig.VpcHealthConfig(**HEALTH))),
        ]
        for call, request in writes:
            error = self.refused(403, "APIG.1113", call, request)
            self.assertIn("vitald.toml", error.error_msg)
        body = apig.VpcCreate(name="from-file", port=80, balance_strategy=1, member_type="ip")
        taken = apig.CreateVpcChannelV2Request(instance_id=INSTANCE, body=body)
        self.refused(400, "APIG.3208", self.apig.create_vpc_channel_v2, taken)
        self.assertEqual(self.show(held.id).members[0].status, 1)


if __name__ == "__main__":
    unittest.main()
