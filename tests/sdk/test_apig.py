"""Every APIG call, through the vendor's client, against a running vitald."""

import re
import unittest

from clients import *

ID = re.compile(r"^[0-9a-f]{32}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


class Channels(ClientTest):
    def test_the_life_of_a_channel(self):
        groups = [
            apig.MemberGroupCreate(member_group_name="blue", member_group_remark="b", member_group_weight=30),
            apig.MemberGroupCreate(member_group_name="green"),
        ]
        members = [
            apig.MemberInfo(host="127.0.0.1", weight=1, member_group_name="blue"),
            apig.MemberInfo(host="192.0.2.7", weight=2, is_backup=True, member_group_name="green", port=18081),
            apig.MemberInfo(host="app.example", weight=0, status=2),
        ]
        created = self.create(
            type=2, member_groups=groups, members=members, vpc_health_config=apig.VpcHealthConfig(**HEALTH)
        )
        self.assertRegex(created.id, ID)
        self.assertEqual((created.type, created.vpc_channel_type), (2, "builtin"))
        self.assertEqual((created.status, created.dict_code), (1, ""))
        self.assertEqual([group.member_group_name for group in created.member_groups], ["blue", "green"])
        self.assertIsNone(created.member_groups[1].member_group_weight)

        shown = self.show(created.id)
        first, second, third = shown.members
        # The group's weight rules; the port is resolved; an ip member is its own server.
        self.assertEqual((first.weight, first.port, first.ecs_id, first.ecs_name), (30, 18080) + ("127.0.0.1",) * 2)
        self.assertEqual((second.weight, second.port, second.is_backup), (2, 18081, True))
        self.assertEqual((third.weight, third.status, third.member_group_name), (0, 2, ""))
        self.assertEqual(third.member_group_id, "")
        self.assertEqual(first.member_group_id, shown.member_groups[0].member_group_id)
        for member in shown.members:
            self.assertRegex(member.id, ID)
            self.assertEqual(member.vpc_channel_id, created.id)
            self.assertIn(member.health_status, ("unknown", "healthy", "unhealthy"))
        health = shown.vpc_health_config
        self.assertEqual((health.protocol, health.method, health.http_code), ("http", "GET", "200,201,210-299"))
        self.assertEqual((health.port, health.time_interval, health.timeout, health.status), (0, 10, 5, 1))
        self.assertRegex(health.id, ID)
        self.assertEqual(health.vpc_channel_id, created.id)

        body = self.body(
            name="renamed",
            port=18090,
            balance_strategy=2,
            member_groups=[apig.MemberGroupCreate(member_group_name="green", member_group_weight=7)],
            members=[apig.MemberInfo(host="192.0.2.7", member_group_name="green", port=18081)],
        )
        request = apig.UpdateVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=created.id, body=body)
        updated = self.apig.update_vpc_channel_v2(request)
        self.assertEqual((updated.id, updated.name, updated.port), (created.id, body.name, 18090))
        again = self.show(created.id)
        self.assertEqual([member.id for member in again.members], [second.id])
        self.assertEqual(again.member_groups[0].member_group_id, shown.member_groups[1].member_group_id)
        # Not in the request, so left alone.
        self.assertEqual(again.vpc_health_config.id, health.id)

        self.assertEqual(self.delete(created.id).status_code, 204)
        self.refused(404, "APIG.3023", self.show, created.id)

    def test_the_smallest_body(self):
        created = self.create()
        shown = self.show(created.id)
        self.assertEqual((shown.members, shown.member_groups), ([], []))
        self.assertIsNone(shown.vpc_health_config)
        self.assertEqual(shown.member_type, "ip")

    def test_times_have_no_fraction(self):
        created = self.create(members=[apig.MemberInfo(host="192.0.2.1")])
        for time in (created.create_time, self.show(created.id).members[0].create_time):
            # With python-dateutil installed the client has parsed it already.
            self.assertRegex(time if isinstance(time, str) else time.strftime("%Y-%m-%dT%H:%M:%SZ"), TIME)
            self.assertEqual(getattr(time, "microsecond", 0), 0)

    def test_lists_filter_and_page(self):
        stem = unique("list")
        names = [f"{stem}_{number}" for number in range(3)]
        for number, name in enumerate(names):
            request = apig.CreateVpcChannelV2Request(
                instance_id=INSTANCE,
                body=apig.VpcCreate(
                    name=name,
                    port=80,
                    balance_strategy=1,
                    member_type="ip",
                    member_groups=[apig.MemberGroupCreate(member_group_name=f"group_{number}")],
                    members=[apig.MemberInfo(host=f"198.51.100.{number + 1}", port=8000 + number)],
                ),
            )
            created = self.apig.create_vpc_channel_v2(request)
            self.addCleanup(self.delete_quietly, created.id, INSTANCE)

        def found(**filters):
            request = apig.ListVpcChannelsV2Request(instance_id=INSTANCE, **filters)
            answer = self.apig.list_vpc_channels_v2(request)
            self.assertEqual(answer.size, len(answer.vpc_channels))
            return answer.total, sorted(channel.name for channel in answer.vpc_channels)

        self.assertEqual(found(name=stem), (3, names))
        self.assertEqual(found(name=stem, precise_search="name"), (0, []))
        self.assertEqual(found(name=names[1], precise_search="name,member_group_name"), (1, [names[1]]))
        self.assertEqual(found(name=stem, member_host="198.51.100.3"), (1, [names[2]]))
        self.assertEqual(found(name=stem, member_port=8001), (1, [names[1]]))
        self.assertEqual(found(name=stem, member_group_name="group_"), (3, names))
        self.assertEqual(found(name=stem, member_group_name="group_0", precise_search="member_group_name"), (1, [names[0]]))
        self.assertEqual(found(name=stem, vpc_channel_type="reference"), (0, []))
        self.assertEqual(found(name=stem, dict_code="ignored"), (3, names))
        total, page = found(name=stem, limit=2)
        self.assertEqual((total, len(page)), (3, 2))
        total, rest = found(name=stem, limit=2, offset=2)
        self.assertEqual((total, sorted(page + rest)), (3, names))
        self.assertEqual(found(name=stem, offset=99), (3, []))
        self.assertEqual(found(name=stem, offset=-1, limit=0), (3, names))


class Members(ClientTest):
    def setUp(self):
        super().setUp()
        self.channel = self.create(
            member_groups=[apig.MemberGroupCreate(member_group_name=name) for name in ("blue", "green")],
            members=[
                apig.MemberInfo(host="192.0.2.1", weight=3, member_group_name="blue"),
                apig.MemberInfo(host="192.0.2.2", weight=4, member_group_name="green"),
            ],
        )
        self.before = {member.host: member.id for member in self.show(self.channel.id).members}

    def add(self, *members):
        body = apig.VpcMemberCreate(members=list(members))
        request = apig.AddingBackendInstancesV2Request(
            instance_id=INSTANCE, vpc_channel_id=self.channel.id, body=body
        )
        return self.apig.adding_backend_instances_v2(request)

    def replace(self, members, group=None):
        body = apig.VpcMemberModify(members=members, member_group_name=group)
        request = apig.UpdateBackendInstancesV2Request(
            instance_id=INSTANCE, vpc_channel_id=self.channel.id, body=body
        )
        return self.apig.update_backend_instances_v2(request)

    def test_adding_is_an_upsert(self):
        answer = self.add(
            apig.MemberInfo(host="192.0.2.1", port=18080, member_group_name="blue", is_backup=True),
            apig.MemberInfo(host="192.0.2.3"),
            apig.MemberInfo(host="192.0.2.3", weight=9),
        )
        self.assertEqual((answer.total, answer.size), (2, 2))
        known, new = answer.members
        # The same address, once inherited and once given: the same member, its weight kept.
        self.assertEqual((known.id, known.weight, known.is_backup), (self.before["192.0.2.1"], 3, True))
        self.assertEqual(new.weight, 1)
        self.assertEqual(self.members(self.channel.id).total, 3)

    def test_replacing_all_keeps_ids_of_known_addresses(self):
        answer = self.replace([apig.MemberInfo(host="192.0.2.2", member_group_name="green"), apig.MemberInfo(host="192.0.2.9")])
        self.assertEqual([member.host for member in answer.members], ["192.0.2.2", "192.0.2.9"])
        self.assertEqual(answer.members[0].id, self.before["192.0.2.2"])
        self.assertEqual(self.members(self.channel.id).total, 2)
        self.assertEqual(self.replace([]).total, 0)
        self.assertEqual(self.members(self.channel.id).total, 0)

    def test_replacing_one_group_ignores_the_others(self):
        answer = self.replace(
            [
                apig.MemberInfo(host="192.0.2.8", member_group_name="blue"),
                apig.MemberInfo(host="192.0.2.9", member_group_name="green"),
            ],
            group="blue",
        )
        self.assertEqual([member.host for member in answer.members], ["192.0.2.8"])
        hosts = sorted(member.host for member in self.members(self.channel.id).members)
        self.assertEqual(hosts, ["192.0.2.2", "192.0.2.8"])

    def test_lists_filter_and_page(self):
        self.assertEqual(self.members(self.channel.id, name="192.0.2").total, 2)
        self.assertEqual(self.members(self.channel.id, name="192.0.2", precise_search="name").total, 0)
        self.assertEqual(self.members(self.channel.id, member_group_name="blu").total, 1)
        group = self.channel.member_groups[1].member_group_id
        self.assertEqual(self.members(self.channel.id, member_group_id=group).members[0].host, "192.0.2.2")
        self.assertEqual(self.members(self.channel.id, limit=1).size, 1)

    def test_deleting_one(self):
        request = apig.DeleteBackendInstanceV2Request(
            instance_id=INSTANCE, vpc_channel_id=self.channel.id, member_id=self.before["192.0.2.1"]
        )
        self.assertEqual(self.apig.delete_backend_instance_v2(request).status_code, 204)
        self.assertEqual([member.host for member in self.members(self.channel.id).members], ["192.0.2.2"])
        self.refused(404, "APIG.3024", self.apig.delete_backend_instance_v2, request)

    def test_switching_off_and_on(self):
        ids = [self.before["192.0.2.1"], "0" * 32]
        body = apig.MembersBatchEnableOrDisable(member_ids=ids)

        def statuses():
            return {member.host: member.status for member in self.show(self.channel.id).members}

        disable = apig.BatchDisableMembersRequest(instance_id=INSTANCE, vpc_channel_id=self.channel.id, body=body)
        self.assertEqual(self.apig.batch_disable_members(disable).status_code, 204)
        self.assertEqual(statuses(), {"192.0.2.1": 2, "192.0.2.2": 1})
        enable = apig.BatchEnableMembersRequest(instance_id=INSTANCE, vpc_channel_id=self.channel.id, body=body)
        self.assertEqual(self.apig.batch_enable_members(enable).status_code, 204)
        self.assertEqual(statuses(), {"192.0.2.1": 1, "192.0.2.2": 1})


class Groups(ClientTest):
    def setUp(self):
        super().setUp()
        self.channel = self.create(
            member_groups=[apig.MemberGroupCreate(member_group_name="blue", member_group_weight=5)],
            members=[apig.MemberInfo(host="192.0.2.1", weight=3, member_group_name="blue")],
        )
        self.blue = self.channel.member_groups[0].member_group_id

    def request(self, kind, **fields):
        return kind(instance_id=INSTANCE, vpc_channel_id=self.channel.id, **fields)

    def test_adding_is_an_upsert_by_name(self):
        body = apig.MemberGroupCreateBatch(
            member_groups=[
                apig.MemberGroupCreate(member_group_name="blue", member_group_remark="changed"),
                apig.MemberGroupCreate(member_group_name="green"),
                apig.MemberGroupCreate(member_group_name="green", member_group_remark="too late"),
            ]
        )
        answer = self.apig.create_member_group(self.request(apig.CreateMemberGroupRequest, body=body))
        self.assertEqual((answer.total, answer.size), (2, 2))
        blue, green = answer.member_groups
        self.assertEqual((blue.member_group_id, blue.member_group_remark), (self.blue, "changed"))
        self.assertEqual(green.member_group_remark, "")
        # Without a group weight the member's own counts again.
        self.assertEqual(self.show(self.channel.id).members[0].weight, 3)

    def test_lists_and_details(self):
        answer = self.apig.list_member_groups(self.request(apig.ListMemberGroupsRequest))
        self.assertEqual((answer.total, answer.member_groups[0].member_group_id), (1, self.blue))
        request = self.request(apig.ListMemberGroupsRequest, member_group_name="lu", precise_search="member_group_name")
        self.assertEqual(self.apig.list_member_groups(request).total, 0)
        request = self.request(apig.ShowDetailsOfMemberGroupRequest, member_group_id=self.blue)
        shown = self.apig.show_details_of_member_group(request)
        self.assertEqual((shown.member_group_name, shown.member_group_weight), ("blue", 5))
        self.assertEqual((shown.microservice_labels, shown.microservice_port, shown.dict_code), ([], 0, ""))

    def test_members_follow_a_new_name(self):
        body = apig.MemberGroupCreate(member_group_name="teal", member_group_weight=0)
        request = self.request(apig.UpdateMemberGroupRequest, member_group_id=self.blue, body=body)
        answer = self.apig.update_member_group(request)
        self.assertEqual((answer.member_group_id, answer.member_group_name), (self.blue, "teal"))
        member = self.show(self.channel.id).members[0]
        self.assertEqual((member.member_group_name, member.weight), ("teal", 0))

    def test_members_go_with_their_group(self):
        request = self.request(apig.DeleteMemberGroupRequest, member_group_id=self.blue)
        self.assertEqual(self.apig.delete_member_group(request).status_code, 204)
        shown = self.show(self.channel.id)
        self.assertEqual((shown.members, shown.member_groups), ([], []))


class HealthChecks(ClientTest):
    def put(self, channel_id, **fields):
        body = apig.VpcHealthConfig(**{**HEALTH, **fields})
        request = apig.UpdateHealthCheckRequest(instance_id=INSTANCE, vpc_channel_id=channel_id, body=body)
        return self.apig.update_health_check(request)

    def test_one_is_made_and_replaced(self):
        channel = self.create()
        made = self.put(channel.id)
        changed = self.put(channel.id, protocol="tcp", path="", http_code="", method=None, port=99, status=2)
        self.assertEqual(changed.id, made.id)
        self.assertEqual((changed.protocol, changed.path, changed.http_code, changed.method), ("tcp", "", "", ""))
        self.assertEqual((changed.port, changed.status), (99, 2))
        self.assertEqual(self.show(channel.id).vpc_health_config.id, made.id)

    def test_equal_timeout_and_interval_are_taken(self):
        channel = self.create()
        made = self.put(channel.id, time_interval=1, timeout=1, threshold_normal=1, threshold_abnormal=1)
        self.assertEqual((made.time_interval, made.timeout), (1, 1))

    def test_https_needs_no_code(self):
        channel = self.create()
        made = self.put(channel.id, protocol="HTTPS", http_code=None, method="HEAD")
        self.assertEqual((made.protocol, made.http_code, made.method), ("https", "200", "HEAD"))


class Kinds(ClientTest):
    def test_reference_channels_follow_their_targets(self):
        target = self.create(name="target", members=[apig.MemberInfo(host="192.0.2.1")])
        front = self.create(
            name="front",
            vpc_channel_type="reference",
            members=[apig.MemberInfo(host="192.0.2.99")],
            member_groups=[apig.MemberGroupCreate(member_group_name="all", reference_vpc_channel_id=target.id)],
        )
        self.assertEqual((front.vpc_channel_type, front.type), ("reference", 2))
        shown = self.show(front.id)
        self.assertEqual(shown.members, [])
        self.assertEqual(shown.member_groups[0].reference_vpc_channel_id, target.id)
        self.assertEqual(self.members(front.id).total, 0)
        self.refused(409, "APIG.3719", self.delete, target.id)
        self.delete(front.id)
        self.delete(target.id)

    def test_microservice_channels_keep_what_they_were_told(self):
        info = apig.MicroServiceCreate(
            service_type="NACOS",
            nacos_info=apig.MicroServiceInfoNacosBase(
                service_name="orders",
                server_config=[apig.NacosServerConfig(ip_address="192.0.2.1", port=8848)],
                user_info=apig.NacosUserInfo(user_name="nacos", password="not kept"),
            ),
        )
        channel = self.create(type=3, microservice_info=info, members=[apig.MemberInfo(host="192.0.2.1")])
        self.assertEqual((channel.type, channel.vpc_channel_type), (3, "microservice"))
        nacos = channel.microservice_info.nacos_info
        self.assertEqual((nacos.service_name, nacos.cluster_name, nacos.group_name), ("orders", "DEFAULT", "DEFAULT_GROUP"))
        self.assertEqual(nacos.server_config[0].grpc_port, 9848)
        self.assertEqual((nacos.user_info.user_name, nacos.user_info.password), ("nacos", "******"))
        self.assertEqual(channel.microservice_info.service_type, "NACOS")

    def test_a_group_port_rules_over_members_of_microservice_channels(self):
        info = apig.MicroServiceCreate(
            service_type="CCE",
            cce_info=apig.MicroServiceInfoCCEBase(
                cluster_id="c", namespace="n", workload_type="deployment", app_name="shop"
            ),
        )
        channel = self.create(
            vpc_channel_type="microservice",
            microservice_info=info,
            member_groups=[apig.MemberGroupCreate(member_group_name="pods", microservice_port=9000)],
            members=[apig.MemberInfo(host="192.0.2.1", port=8000, member_group_name="pods")],
        )
        self.assertEqual(self.show(channel.id).members[0].port, 9000)
        cce = channel.microservice_info.cce_info
        # As it was written, without the label that the name stands for.
        self.assertEqual((cce.app_name, cce.label_key, cce.label_value), ("shop", "", ""))

    def test_cloud_servers_keep_their_names(self):
        member = apig.MemberInfo(host="192.0.2.1", ecs_id="server-1", ecs_name="web-1")
        channel = self.create(member_type="ecs", members=[member])
        shown = self.show(channel.id).members[0]
        self.assertEqual((shown.ecs_id, shown.ecs_name, shown.host), ("server-1", "web-1", "192.0.2.1"))
        self.assertEqual(self.members(channel.id, name="web-1", precise_search="name").total, 1)


class Instances(ClientTest):
    def test_lists_and_details(self):
        answer = self.apig.list_instances_v2(apig.ListInstancesV2Request(instance_id=INSTANCE))
        self.assertEqual((answer.total, answer.instances[0].id), (1, INSTANCE))
        request = apig.ShowDetailsOfInstanceV2Request(instance_id=INSTANCE)
        shown = self.apig.show_details_of_instance_v2(request)
        self.assertEqual((shown.status, shown.instance_status), ("Running", 6))
        self.assertIn("backend_client_certificate", shown.supported_features)
        self.assertIsInstance(shown.create_time, int)

    def test_features_are_set_and_listed(self):
        def names():
            answer = self.apig.list_features_v2(apig.ListFeaturesV2Request(instance_id=INSTANCE))
            return {feature.name: (feature.enable, feature.config) for feature in answer.features}

        def put(name, enable, config=None):
            body = apig.FeatureToggle(name=name, enable=enable, config=config)
            return self.apig.create_feature_v2(apig.CreateFeatureV2Request(instance_id=INSTANCE, body=body))

        channel = self.create(members=[apig.MemberInfo(host="192.0.2.1")])
        self.addCleanup(put, "vpc_health_status", True, "on")
        self.assertEqual(put("vpc_health_status", True, "off").enable, False)
        self.assertEqual(names()["vpc_health_status"], (False, "off"))
        self.assertIsNone(self.show(channel.id).members[0].health_status)
        put("vpc_health_status", True, "on")
        self.assertEqual(self.show(channel.id).members[0].health_status, "unknown")


if __name__ == "__main__":
    unittest.main()
