//! Which path means which resource, and which methods it takes (docs/vendor-api.md, "Calls").
//!
//! Matched by hand, not by the router: both families share one table, and every
//! answer, also to an unknown path or method, is the API's own JSON.

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::catalog::{ChannelPath, PathFamily};

/// A path of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// The project in the path.
    pub(super) project: String,
    /// The family in the path.
    pub(super) family: PathFamily,
    /// What the path names.
    pub(super) place: ApiResource,
}

/// A resource, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiResource {
    /// `/instances`
    Instances,
    /// `/instances/{id}`
    Instance(String),
    /// `.../features`
    Features(String),
    /// `.../vpc-channels`
    Channels(String),
    /// `.../vpc-channels/{id}`
    Channel(ChannelPath),
    /// `.../members`
    Members(ChannelPath),
    /// `.../members/{id}`
    Member(ChannelPath, String),
    /// `.../members/batch-enable`
    BatchEnable(ChannelPath),
    /// `.../members/batch-disable`
    BatchDisable(ChannelPath),
    /// `.../health-config`
    HealthConfig(ChannelPath),
    /// `.../member-groups`
    Groups(ChannelPath),
    /// `.../member-groups/{id}`
    Group(ChannelPath, String),
    /// `/apic/vpc-channels`
    ProjectChannels,
    /// `/apic/vpc-channels/syncs`
    ProjectSyncs,
}

impl Route {
    /// The resource that a path names, if any.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        let segments: Option<Vec<String>> = rest.split('/').map(decode).collect();
        let segments = segments?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (project, family, rest) = match segments.as_slice() {
            [project, "apigw", rest @ ..] => (project, PathFamily::Apig, rest),
            [project, "apic", rest @ ..] => (project, PathFamily::Roma, rest),
            _ => return None,
        };
        let place = match (family, rest) {
            (PathFamily::Roma, ["vpc-channels"]) => ApiResource::ProjectChannels,
            (PathFamily::Roma, ["vpc-channels", "syncs"]) => ApiResource::ProjectSyncs,
            (_, ["instances"]) => ApiResource::Instances,
            (_, ["instances", instance, rest @ ..]) => of_instance((*instance).to_owned(), rest)?,
            _ => return None,
        };
        Some(Self { project: (*project).to_owned(), family, place })
    }
}

fn of_instance(instance: String, rest: &[&str]) -> Option<ApiResource> {
    let place = match rest {
        [] => ApiResource::Instance(instance),
        ["features"] => ApiResource::Features(instance),
        ["vpc-channels"] => ApiResource::Channels(instance),
        ["vpc-channels", channel, rest @ ..] => {
            of_channel(ChannelPath { instance, channel: (*channel).to_owned() }, rest)?
        }
        _ => return None,
    };
    Some(place)
}

fn of_channel(at: ChannelPath, rest: &[&str]) -> Option<ApiResource> {
    let place = match rest {
        [] => ApiResource::Channel(at),
        ["members"] => ApiResource::Members(at),
        ["members", "batch-enable"] => ApiResource::BatchEnable(at),
        ["members", "batch-disable"] => ApiResource::BatchDisable(at),
        ["members", member] => ApiResource::Member(at, (*member).to_owned()),
        ["health-config"] => ApiResource::HealthConfig(at),
        ["member-groups"] => ApiResource::Groups(at),
        ["member-groups", group] => ApiResource::Group(at, (*group).to_owned()),
        _ => return None,
    };
    Some(place)
}

/// One segment, decoded; none when it is empty or not UTF-8.
fn decode(segment: &str) -> Option<String> {
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}

impl ApiResource {
    /// The methods it takes.
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Instances | Self::Instance(_) => &[Method::GET],
            Self::Features(_) | Self::Channels(_) => &[Method::GET, Method::POST],
            Self::Channel(_) | Self::Group(..) => &[Method::GET, Method::PUT, Method::DELETE],
            Self::Members(_) => &[Method::GET, Method::POST, Method::PUT],
            Self::Member(..) => &[Method::DELETE],
            Self::BatchEnable(_) | Self::BatchDisable(_) | Self::ProjectSyncs => &[Method::POST],
            Self::HealthConfig(_) => &[Method::PUT],
            Self::Groups(_) => &[Method::GET, Method::POST],
            Self::ProjectChannels => &[Method::GET, Method::POST, Method::PUT],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> ChannelPath {
        ChannelPath { instance: "i".to_owned(), channel: "c".to_owned() }
    }

    #[test]
    fn paths_of_both_families_name_the_same_places() {
        let cases = [
            ("/instances/i/vpc-channels", ApiResource::Channels("i".to_owned())),
            ("/instances/i/vpc-channels/c", ApiResource::Channel(at())),
            ("/instances/i/vpc-channels/c/members", ApiResource::Members(at())),
            ("/instances/i/vpc-channels/c/members/m", ApiResource::Member(at(), "m".to_owned())),
            ("/instances/i/vpc-channels/c/members/batch-enable", ApiResource::BatchEnable(at())),
            ("/instances/i/vpc-channels/c/members/batch-disable", ApiResource::BatchDisable(at())),
            ("/instances/i/vpc-channels/c/health-config", ApiResource::HealthConfig(at())),
            ("/instances/i/vpc-channels/c/member-groups", ApiResource::Groups(at())),
            ("/instances/i/vpc-channels/c/member-groups/g", ApiResource::Group(at(), "g".to_owned())),
            ("/instances", ApiResource::Instances),
            ("/instances/i", ApiResource::Instance("i".to_owned())),
            ("/instances/i/features", ApiResource::Features("i".to_owned())),
        ];
        for (rest, place) in cases {
            for (word, family) in [("apigw", PathFamily::Apig), ("apic", PathFamily::Roma)] {
                let route = Route::of_path(&format!("/v2/p/{word}{rest}")).expect(rest);
                assert_eq!((route.family, &route.place), (family, &place));
                assert_eq!(route.project, "p");
            }
        }
        let roma = |rest: &str| Route::of_path(&format!("/v2/p/apic{rest}")).map(|route| route.place);
        assert_eq!(roma("/vpc-channels"), Some(ApiResource::ProjectChannels));
        assert_eq!(roma("/vpc-channels/syncs"), Some(ApiResource::ProjectSyncs));
    }

    #[test]
    fn other_paths_name_nothing() {
        let others = [
            "/v2",
            "/v2/p",
            "/v2/p/apigw",
            "/v2/p/apigw/vpc-channels",
            "/v2/p/apigw/instances/",
            "/v2//apigw/instances",
            "/v2/p/other/instances",
            "/v2/p/apigw/instances/i/vpc-channels/c/members/m/x",
            "/v2/p/apigw/instances/i/vpc-channels/%ff",
        ];
        assert!(others.iter().all(|path| Route::of_path(path).is_none()));
        let escaped = Route::of_path("/v2/p/apigw/instances/a%2Fb").map(|route| route.place);
        assert_eq!(escaped, Some(ApiResource::Instance("a/b".to_owned())));
    }
}
