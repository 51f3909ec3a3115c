"""Every ROMA call, through the vendor's client, against a running vitald."""

import unittest

from clients import *


class SameCalls(ClientTest):
    """The calls that both families have, where ROMA's client is its own."""

    def setUp(self):
        super().setUp()
        body = roma.VpcCreate(
            name=unique("roma"),
            port=80,
            balance_strategy=1,
            member_type="ip",
            type=2,
            member_groups=[roma.MemberGroupCreate(member_group_name="blue")],
            members=[roma.MemberInfo(host="192.0.2.1", member_group_name="blue"), roma.MemberInfo(host="192.0.2.2")],
            vpc_health_config=roma.VpcHealthConfig(**HEALTH),
        )
        request = roma.CreateVpcChannelV2Request(instance_id=INSTANCE, body=body)
        self.channel = self.roma.create_vpc_channel_v2(request)
        self.addCleanup(self.delete_quietly, self.channel.id, INSTANCE)

    def ask(self, kind, **fields):
        return kind(instance_id=INSTANCE, vpc_channel_id=self.channel.id, **fields)

    def shown(self):
        return self.roma.show_details_of_vpc_channel_v2(self.ask(roma.ShowDetailsOfVpcChannelV2Request))

    def test_channels(self):
        self.assertEqual(self.channel.type, 2)
        listed = self.roma.list_vpc_channels_v2(roma.ListVpcChannelsV2Request(instance_id=INSTANCE, id=self.channel.id))
        self.assertEqual((listed.total, listed.vpc_channels[0].id), (1, self.channel.id))
        self.assertEqual(len(self.shown().members), 2)

    def test_an_empty_list_keeps_the_members(self):
        for members in ([], None):
            body = roma.VpcCreate(
                name=self.channel.name, port=81, balance_strategy=1, member_type="ip", members=members
            )
            updated = self.roma.update_vpc_channel_v2(self.ask(roma.UpdateVpcChannelV2Request, body=body))
            self.assertEqual(updated.port, 81)
            # The group is gone, and its member with it; the other stays.
            self.assertEqual([member.host for member in self.shown().members], ["192.0.2.2"])

    def test_members(self):
        body = roma.VpcMemberCreate(members=[roma.MemberInfo(host="192.0.2.3")])
        added = self.roma.adding_backend_instances_v2(self.ask(roma.AddingBackendInstancesV2Request, body=body))
        self.assertEqual(added.total, 1)
        listed = self.roma.list_backend_instances_v2(self.ask(roma.ListBackendInstancesV2Request))
        self.assertEqual(listed.total, 3)
        ids = [added.members[0].id]
        body = roma.MembersBatchEnableOrDisable(member_ids=ids)
        self.roma.batch_disable_members(self.ask(roma.BatchDisableMembersRequest, body=body))
        self.assertEqual([member.status for member in self.shown().members], [1, 1, 2])
        self.roma.batch_enable_members(self.ask(roma.BatchEnableMembersRequest, body=body))
        self.assertEqual([member.status for member in self.shown().members], [1, 1, 1])
        self.roma.delete_backend_instance_v2(self.ask(roma.DeleteBackendInstanceV2Request, member_id=ids[0]))
        body = roma.VpcMemberModify(members=[roma.MemberInfo(host="192.0.2.4")])
        replaced = self.roma.update_backend_instances_v2(self.ask(roma.UpdateBackendInstancesV2Request, body=body))
        self.assertEqual([member.host for member in replaced.members], ["192.0.2.4"])

    def test_groups_and_health(self):
        body = roma.MemberGroupCreateBatch(member_groups=[roma.MemberGroupCreate(member_group_name="green")])
        made = self.roma.create_member_group(self.ask(roma.CreateMemberGroupRequest, body=body))
        green = made.member_groups[0].member_group_id
        self.assertEqual(self.roma.list_member_groups(self.ask(roma.ListMemberGroupsRequest)).total, 2)
        body = roma.MemberGroupCreate(member_group_name="teal")
        self.roma.update_member_group(self.ask(roma.UpdateMemberGroupRequest, member_group_id=green, body=body))
        request = self.ask(roma.ShowDetailsOfMemberGroupRequest, member_group_id=green)
        self.assertEqual(self.roma.show_details_of_member_group(request).member_group_name, "teal")
        self.roma.delete_member_group(self.ask(roma.DeleteMemberGroupRequest, member_group_id=green))
        body = roma.VpcHealthConfig(**{**HEALTH, "protocol": "TCP"})
        put = self.roma.update_health_check(self.ask(roma.UpdateHealthCheckRequest, body=body))
        self.assertEqual((put.protocol, put.id), ("tcp", self.shown().vpc_health_config.id))

    def test_deleting(self):
        answer = self.roma.delete_vpc_channel_v2(self.ask(roma.DeleteVpcChannelV2Request))
        self.assertEqual(answer.status_code, 204)

    def test_instances_and_features(self):
        shown = self.roma.show_details_of_instance_v2(roma.ShowDetailsOfInstanceV2Request(instance_id=INSTANCE))
        self.assertEqual((shown.status, shown.instance_status), ("Running", 6))
        listed = self.roma.list_features_v2(roma.ListFeaturesV2Request(instance_id=INSTANCE))
        self.assertEqual(listed.total, 4)
        body = roma.FeatureToggleV2(name="vpc_name_modifiable", enable=True, config="on")
        made = self.roma.create_feature_v2(roma.CreateFeatureV2Request(instance_id=INSTANCE, body=body))
        self.assertTrue(made.enable)


class ProjectCalls(ClientTest):
    """One channel on several instances; names are fixed there."""

    def setUp(self):
        super().setUp()
        self.fix_names(INSTANCE, True)
        self.addCleanup(self.fix_names, INSTANCE, False)
        self.name = unique("project")

    def fix_names(self, instance, is_fixed):
        body = apig.FeatureToggle(name="vpc_name_modifiable", enable=True, config="off" if is_fixed else "on")
        self.apig.create_feature_v2(apig.CreateFeatureV2Request(instance_id=instance, body=body))

    def body(self, **fields):
        defaults = dict(
            name=self.name,
            port=80,
            balance_strategy=1,
            member_type="ip",
            type=2,
            instance_ids=[INSTANCE, FIXED],
            member_groups=[roma.MemberGroupCreate(member_group_name="blue")],
            members=[roma.MemberInfo(host="192.0.2.1", member_group_name="blue")],
            vpc_health_config=roma.VpcHealthConfig(**HEALTH),
        )
        return roma.ProjectVpcCreate(**{**defaults, **fields})

    def make(self, **fields):
        request = roma.CreateProjectVpcChannelRequest(body=self.body(**fields))
        channels = self.roma.create_project_vpc_channel(request).project_vpc_channels
        for channel in channels:
            self.addCleanup(self.delete_quietly, channel.id, channel.instance_id)
        return channels

    def test_one_channel_on_each_instance(self):
        first, second = self.make()
        self.assertEqual((first.instance_id, second.instance_id), (INSTANCE, FIXED))
        self.assertEqual((first.type, second.type), ("BUILTIN", "BUILTIN"))
        self.assertNotEqual(first.id, second.id)
        self.assertNotEqual(first.members[0].id, second.members[0].id)
        self.assertNotEqual(first.member_groups[0].member_group_id, second.member_groups[0].member_group_id)
        self.assertEqual(first.vpc_health_config.vpc_channel_id, first.id)
        self.assertTrue(first.instance_name)

        def found(**filters):
            return self.roma.list_project_vpc_channels_v2(roma.ListProjectVpcChannelsV2Request(name=self.name, **filters))

        self.assertEqual(found().total, 2)
        self.assertIsNone(found().project_vpc_channels[0].members)
        self.assertEqual(len(found(members_return=True).project_vpc_channels[0].members), 1)
        self.assertEqual(found(member_host="192.0.2.1", member_port=80, limit=1).size, 1)
        self.assertEqual(found(id=first.id).total, 1)

    def test_updating_makes_what_is_missing(self):
        (first,) = self.make(instance_ids=[INSTANCE])
        request = roma.UpdateProjectVpcChannelRequest(body=self.body(port=90))
        updated, made = self.roma.update_project_vpc_channel(request).project_vpc_channels
        self.addCleanup(self.delete_quietly, made.id, made.instance_id)
        self.assertEqual((updated.id, updated.port), (first.id, 90))
        self.assertEqual((made.instance_id, made.port), (FIXED, 90))

    def test_copying_a_channel(self):
        (first,) = self.make(instance_ids=[INSTANCE])

        def sync(force):
            body = roma.ProjectVpcSync(vpc_channel_id=first.id, instance_ids=[FIXED], force_sync=force)
            request = roma.CreateProjectVpcChannelSyncsRequest(body=body)
            return self.roma.create_project_vpc_channel_syncs(request).project_vpc_channels

        (copy,) = sync(False)
        self.addCleanup(self.delete_quietly, copy.id, copy.instance_id)
        self.assertEqual((copy.name, copy.instance_id), (self.name, FIXED))
        self.assertEqual([member.host for member in copy.members], ["192.0.2.1"])
        self.refused(400, "APIG.3208", sync, False)
        (again,) = sync(True)
        self.assertEqual((again.id, again.members[0].id), (copy.id, copy.members[0].id))

    def test_names_are_unique_in_the_project(self):
        self.make(instance_ids=[INSTANCE])
        self.refused(400, "APIG.3208", self.make)

    def test_an_unknown_instance_changes_nothing(self):
        self.refused(404, "APIG.3030", lambda: self.make(instance_ids=[INSTANCE, "0" * 32]))
        answer = self.roma.list_project_vpc_channels_v2(roma.ListProjectVpcChannelsV2Request(name=self.name))
        self.assertEqual(answer.total, 0)

    def test_instances_are_listed_once_to_ten_times(self):
        self.refused(400, "APIG.2012", lambda: self.make(instance_ids=[]))
        self.refused(400, "APIG.2012", lambda: self.make(instance_ids=["0" * 32] * 11))
        self.assertEqual(len(self.make(instance_ids=[INSTANCE, INSTANCE])), 1)

    def test_names_must_be_fixed(self):
        self.fix_names(INSTANCE, False)
        self.refused(412, "APIG.3458", self.make)

    def test_a_fixed_name_cannot_be_changed(self):
        (first,) = self.make(instance_ids=[INSTANCE])
        body = apig.VpcCreate(name=unique("other"), port=80, balance_strategy=1, member_type="ip")
        request = apig.UpdateVpcChannelV2Request(instance_id=INSTANCE, vpc_channel_id=first.id, body=body)
        self.refused(412, "APIG.3458", self.apig.update_vpc_channel_v2, request)

    def test_what_a_copy_needs(self):
        def sync(**fields):
            body = roma.ProjectVpcSync(**fields)
            return self.roma.create_project_vpc_channel_syncs(roma.CreateProjectVpcChannelSyncsRequest(body=body))

        self.refused(400, "APIG.2011", lambda: sync(instance_ids=[FIXED]))
        self.refused(400, "APIG.2011", lambda: sync(vpc_channel_id="0" * 32))
        self.refused(404, "APIG.3023", lambda: sync(vpc_channel_id="0" * 32, instance_ids=[FIXED]))


if __name__ == "__main__":
    unittest.main()
