//! Which call a request is, and what it is about: read from method and path alone, so that
//! a request that no route has seen, or whose handler failed, has a name too.
//!
//! Pure. The words are the operations of `docs/openapi.json` without the family, in which a
//! test finds a missing one. A path that is not named here is still an event and counted,
//! as [`CallName::Unknown`].

/// A call, or a kind of requests that are no calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum CallName {
    ListInstances,
    ShowInstance,
    ListFeatures,
    SetFeature,
    ListSupportedFeatures,
    ListChannels,
    CreateChannel,
    ShowChannel,
    UpdateChannel,
    DeleteChannel,
    ListMembers,
    AddMembers,
    ReplaceMembers,
    DeleteMember,
    EnableMembers,
    DisableMembers,
    UpdateHealthCheck,
    ListGroups,
    AddGroups,
    ShowGroup,
    UpdateGroup,
    DeleteGroup,
    ListProjectChannels,
    CreateProjectChannels,
    UpdateProjectChannels,
    SyncProjectChannels,
    CreateToken,
    ShowToken,
    RevokeToken,
    /// Everything else below `/v3`.
    LookUp,
    Export,
    Reload,
    /// An operator's change of a member.
    ChangeMember,
    /// The daemon's own pages.
    Page,
    Unknown,
}

/// What an audit wants to know of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is counted, and an event only when it is refused.
    Look,
    /// It changes something, gives a credential or shows secrets: it is always an event.
    Deed,
}

/// What a request is about: ids and names as they stand in its path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CallTarget<'p> {
    pub(super) instance: Option<&'p str>,
    pub(super) channel: Option<&'p str>,
    pub(super) member: Option<&'p str>,
    pub(super) group: Option<&'p str>,
    /// What an operator does to the member: one of [`MEMBER_ACTIONS`].
    pub(super) action: Option<&'p str>,
}

/// What operators do to members, as paths have it.
const MEMBER_ACTIONS: [&str; 5] = ["enable", "disable", "drain", "weight", "reset"];

impl CallName {
    pub(super) const ALL: [Self; 35] = [
        Self::ListInstances,
        Self::ShowInstance,
        Self::ListFeatures,
        Self::SetFeature,
        Self::ListSupportedFeatures,
        Self::ListChannels,
        Self::CreateChannel,
        Self::ShowChannel,
        Self::UpdateChannel,
        Self::DeleteChannel,
        Self::ListMembers,
        Self::AddMembers,
        Self::ReplaceMembers,
        Self::DeleteMember,
        Self::EnableMembers,
        Self::DisableMembers,
        Self::UpdateHealthCheck,
        Self::ListGroups,
        Self::AddGroups,
        Self::ShowGroup,
        Self::UpdateGroup,
        Self::DeleteGroup,
        Self::ListProjectChannels,
        Self::CreateProjectChannels,
        Self::UpdateProjectChannels,
        Self::SyncProjectChannels,
        Self::CreateToken,
        Self::ShowToken,
        Self::RevokeToken,
        Self::LookUp,
        Self::Export,
        Self::Reload,
        Self::ChangeMember,
        Self::Page,
        Self::Unknown,
    ];

    /// The word in the log and in metrics; the weight; the status of success.
    const fn facts(self) -> (&'static str, Weight, u16) {
        use Weight::{Deed, Look};
        match self {
            Self::ListInstances => ("list_instances", Look, 200),
            Self::ShowInstance => ("show_instance", Look, 200),
            Self::ListFeatures => ("list_features", Look, 200),
            Self::SetFeature => ("set_feature", Deed, 201),
            Self::ListSupportedFeatures => ("list_supported_features", Look, 200),
            Self::ListChannels => ("list_channels", Look, 200),
            Self::CreateChannel => ("create_channel", Deed, 201),
            Self::ShowChannel => ("show_channel", Look, 200),
            Self::UpdateChannel => ("update_channel", Deed, 200),
            Self::DeleteChannel => ("delete_channel", Deed, 204),
            Self::ListMembers => ("list_members", Look, 200),
            Self::AddMembers => ("add_members", Deed, 201),
            Self::ReplaceMembers => ("replace_members", Deed, 200),
            Self::DeleteMember => ("delete_member", Deed, 204),
            Self::EnableMembers => ("enable_members", Deed, 204),
            Self::DisableMembers => ("disable_members", Deed, 204),
            Self::UpdateHealthCheck => ("update_health_check", Deed, 200),
            Self::ListGroups => ("list_groups", Look, 200),
            Self::AddGroups => ("add_groups", Deed, 201),
            Self::ShowGroup => ("show_group", Look, 200),
            Self::UpdateGroup => ("update_group", Deed, 200),
            Self::DeleteGroup => ("delete_group", Deed, 204),
            Self::ListProjectChannels => ("list_project_channels", Look, 200),
            Self::CreateProjectChannels => ("create_project_channels", Deed, 201),
            Self::UpdateProjectChannels => ("update_project_channels", Deed, 200),
            Self::SyncProjectChannels => ("sync_project_channels", Deed, 201),
            Self::CreateToken => ("create_token", Deed, 201),
            Self::ShowToken => ("show_token", Look, 200),
            Self::RevokeToken => ("revoke_token", Deed, 204),
            Self::LookUp => ("look_up", Look, 200),
            Self::Export => ("export", Deed, 200),
            Self::Reload => ("reload", Deed, 200),
            Self::ChangeMember => ("change_member", Deed, 200),
            Self::Page => ("page", Look, 200),
            Self::Unknown => ("unknown", Look, 200),
        }
    }

    pub(super) fn word(self) -> &'static str {
        self.facts().0
    }

    pub(super) fn weight(self) -> Weight {
        self.facts().1
    }

    pub(super) fn success(self) -> u16 {
        self.facts().2
    }

    /// Whether the call is there only with a management API.
    pub(super) fn is_of_api(self) -> bool {
        !matches!(self, Self::Reload | Self::ChangeMember | Self::Page | Self::Unknown)
    }

    /// The call of a request, and what it is about.
    pub(super) fn of<'p>(method: &str, path: &'p str) -> (Self, CallTarget<'p>) {
        let mut parts = [""; LONGEST];
        let mut count = 0;
        // Below `/v2` and `/v3` a slash at the end means nothing.
        let path = path.strip_prefix('/').unwrap_or(path);
        for part in path.strip_suffix('/').unwrap_or(path).split('/') {
            let Some(place) = parts.get_mut(count) else { return (Self::Unknown, CallTarget::default()) };
            *place = part;
            count += 1;
        }
        match parts.get(..count) {
            Some(["v2", _, family @ ("apigw" | "apic"), rest @ ..]) => {
                (of_vendor(method, family, rest), target_of(rest))
            }
            Some(parts @ ["v1", "channels", channel, "members", member, action]) => {
                let (channel, member) = (Some(*channel), Some(*member));
                let action = Some(*action).filter(|action| MEMBER_ACTIONS.contains(action));
                (of_own(method, parts), CallTarget { channel, member, action, ..CallTarget::default() })
            }
            Some(parts) => (of_own(method, parts), CallTarget::default()),
            None => (Self::Unknown, CallTarget::default()),
        }
    }
}

/// Parts of the longest path of a call: `/v2/P/F/instances/I/vpc-channels/C/members/M`.
const LONGEST: usize = 9;

fn of_vendor(method: &str, family: &str, rest: &[&str]) -> CallName {
    use CallName as Call;
    match (method, rest) {
        ("GET", ["instances"]) => Call::ListInstances,
        ("GET", ["instances", _]) => Call::ShowInstance,
        ("GET", ["instances", _, "features"]) => Call::ListFeatures,
        ("POST", ["instances", _, "features"]) => Call::SetFeature,
        ("GET", ["instances", _, "instance-features"]) => Call::ListSupportedFeatures,
        ("GET", ["instances", _, "vpc-channels"]) => Call::ListChannels,
        ("POST", ["instances", _, "vpc-channels"]) => Call::CreateChannel,
        (_, ["instances", _, "vpc-channels", _, rest @ ..]) => of_channel(method, rest),
        ("GET", ["vpc-channels"]) if family == "apic" => Call::ListProjectChannels,
        ("POST", ["vpc-channels"]) if family == "apic" => Call::CreateProjectChannels,
        ("PUT", ["vpc-channels"]) if family == "apic" => Call::UpdateProjectChannels,
        ("POST", ["vpc-channels", "syncs"]) if family == "apic" => Call::SyncProjectChannels,
        _ => Call::Unknown,
    }
}

fn of_channel(method: &str, rest: &[&str]) -> CallName {
    use CallName as Call;
    match (method, rest) {
        ("GET", []) => Call::ShowChannel,
        ("PUT", []) => Call::UpdateChannel,
        ("DELETE", []) => Call::DeleteChannel,
        ("GET", ["members"]) => Call::ListMembers,
        ("POST", ["members"]) => Call::AddMembers,
        ("PUT", ["members"]) => Call::ReplaceMembers,
        ("POST", ["members", "batch-enable"]) => Call::EnableMembers,
        ("POST", ["members", "batch-disable"]) => Call::DisableMembers,
        ("DELETE", ["members", _]) => Call::DeleteMember,
        ("PUT", ["health-config"]) => Call::UpdateHealthCheck,
        ("GET", ["member-groups"]) => Call::ListGroups,
        ("POST", ["member-groups"]) => Call::AddGroups,
        ("GET", ["member-groups", _]) => Call::ShowGroup,
        ("PUT", ["member-groups", _]) => Call::UpdateGroup,
        ("DELETE", ["member-groups", _]) => Call::DeleteGroup,
        _ => Call::Unknown,
    }
}

/// The daemon's own paths and Keystone's.
fn of_own(method: &str, parts: &[&str]) -> CallName {
    use CallName as Call;
    match (method, parts) {
        ("POST", ["v1", "reload"]) => Call::Reload,
        ("POST", ["v1", "channels", _, "members", _, action]) if MEMBER_ACTIONS.contains(action) => {
            Call::ChangeMember
        }
        ("GET" | "HEAD", ["v1", "export"]) => Call::Export,
        ("POST", ["v3", "auth", "tokens"]) => Call::CreateToken,
        ("GET" | "HEAD", ["v3", "auth", "tokens"]) => Call::ShowToken,
        ("DELETE", ["v3", "auth", "tokens"]) => Call::RevokeToken,
        (
            "GET" | "HEAD",
            ["v3"]
            | ["v3", "auth", "catalog" | "domains" | "projects"]
            | ["v3", "projects" | "users" | "regions"]
            | ["v3", "projects", _],
        ) => Call::LookUp,
        (
            "GET" | "HEAD",
            ["" | "livez" | "readyz" | "metrics"]
            | ["-", "healthy" | "ready"]
            | ["v1", "status" | "openapi.json"]
            | ["v1", "channels", _]
            | ["v1", "channels", _, "pick"],
        ) => Call::Page,
        _ => Call::Unknown,
    }
}

fn target_of<'p>(rest: &[&'p str]) -> CallTarget<'p> {
    let mut target = CallTarget::default();
    if let ["instances", instance, rest @ ..] = rest {
        target.instance = Some(*instance);
        if let ["vpc-channels", channel, rest @ ..] = rest {
            target.channel = Some(*channel);
            match rest {
                ["members", "batch-enable" | "batch-disable"] => {}
                ["members", member] => target.member = Some(*member),
                ["member-groups", group] => target.group = Some(*group),
                _ => {}
            }
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::serve::api::OPENAPI;

    /// Whoever adds a call to the description adds its name here.
    #[test]
    fn every_call_of_the_description_has_its_name() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
        let mut seen = HashSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let Some(id) = operation["operationId"].as_str() else { continue };
                let expected = id.trim_start_matches("apig_").trim_start_matches("roma_");
                let (call, _) = CallName::of(&method.to_uppercase(), path);
                assert_eq!(call.word(), expected, "{method} {path}");
                let success = operation["responses"].get(call.success().to_string());
                assert!(success.is_some(), "{method} {path}: another success than {}", call.success());
                assert_eq!(call.weight() == Weight::Deed, method != "get", "{method} {path}");
                seen.insert(call.word());
            }
        }
        assert!(seen.len() >= 26, "{seen:?}");
    }

    #[test]
    fn every_word_is_one_call_and_they_stand_in_their_order() {
        let words: HashSet<&str> = CallName::ALL.iter().map(|call| call.word()).collect();
        assert_eq!(words.len(), CallName::ALL.len());
        for (place, call) in CallName::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, place, "{}", call.word());
        }
    }

    #[test]
    fn own_paths_have_their_names() {
        let cases = [
            ("POST", "/v1/reload", "reload"),
            ("GET", "/v1/reload", "unknown"),
            ("GET", "/v1/export", "export"),
            ("POST", "/v1/channels/web/members/10.0.0.1%3A80/drain", "change_member"),
            ("GET", "/v1/channels/web/members/10.0.0.1%3A80/drain", "unknown"),
            ("POST", "/v1/channels/web/members/10.0.0.1%3A80/remove", "unknown"),
            ("POST", "/v3/auth/tokens", "create_token"),
            ("POST", "/v3/auth/tokens/", "create_token"),
            ("HEAD", "/v3/auth/tokens", "show_token"),
            ("DELETE", "/v3/auth/tokens", "revoke_token"),
            ("GET", "/v3", "look_up"),
            ("GET", "/v3/users", "look_up"),
            ("GET", "/v3/credentials", "unknown"),
            ("GET", "/", "page"),
            ("GET", "/livez", "page"),
            ("POST", "/livez", "unknown"),
            ("GET", "/v1/channels/web/pick", "page"),
            ("GET", "/.git/config", "unknown"),
            ("PUT", "/v2/p/apigw/vpc-channels", "unknown"),
            ("GET", "/a/b/c/d/e/f/g/h/i/j/k/l", "unknown"),
            ("GET", "*", "unknown"),
        ];
        for (method, path, word) in cases {
            assert_eq!(CallName::of(method, path).0.word(), word, "{method} {path}");
        }
    }

    #[test]
    fn the_path_says_what_a_call_is_about() {
        let channel = "/v2/p/apigw/instances/I/vpc-channels/C";
        let of = |rest: &str| {
            let path = format!("{channel}{rest}");
            let target = CallName::of("DELETE", &path).1;
            [target.instance, target.channel, target.member, target.group].map(|id| id.map(str::to_owned))
        };
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(of("/members/M"), [id("I"), id("C"), id("M"), None]);
        assert_eq!(of("/members/batch-disable"), [id("I"), id("C"), None, None]);
        assert_eq!(of("/member-groups/G"), [id("I"), id("C"), None, id("G")]);
    }
}
