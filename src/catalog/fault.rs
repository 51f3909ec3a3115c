//! Why a call was refused: a closed list, each with the vendor's code, HTTP
//! status and message (docs/vendor-api.md, "Errors").

use std::fmt::Write as _;

use serde::Serialize;

use super::overrides::MOST_OVERRIDES;
use crate::channel::{Rule, Violation};

/// Longest part of a client's own text that an error repeats.
const LONGEST_ECHO: usize = 64;

/// Which of the vendor's two families of paths a call came by; few rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathFamily {
    /// `/apigw/`: API Gateway.
    Apig,
    /// `/apic/`: ROMA Connect.
    Roma,
}

/// Why a call was refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The body is no JSON object; the text says why.
    MalformedBody(String),
    /// Fields of the body break rules; never empty.
    Broken(Vec<Violation>),
    /// A parameter that must be given is not.
    Missing(&'static str),
    /// A number outside its range.
    OutOfRange(&'static str),
    /// A parameter with a value that will not do. The text says why, for people.
    Invalid(&'static str, String),
    /// No instance of that id in this project.
    NoInstance(String),
    /// No channel of that id in this instance.
    NoChannel(String),
    /// No member of that id in this channel.
    NoMember(String),
    /// No group of that id in this channel.
    NoGroup(String),
    /// The call makes no sense for this kind of channel.
    WrongKind(&'static str),
    /// The channel comes from a file; only that file changes it.
    FromFile(String),
    /// Another channel of the instance (for project calls: of the project) has the name.
    NameTaken(String),
    /// Too many channels; the limit.
    ChannelQuota(usize),
    /// Too many members; the limit.
    MemberQuota(usize),
    /// Too many groups; the limit.
    GroupQuota(usize),
    /// The vendor has no feature of that name.
    NoFeature(String),
    /// The instance's features do not allow the call; the text says which.
    FeatureOff(&'static str),
    /// A reference channel stands for this one; its name.
    Referenced(String),
    /// An operator's change of a member.
    MemberChange(MemberChangeError),
    /// The change could not be made durable; the text says why.
    NotStored(String),
    /// The daemon could not answer; the text says why.
    Unavailable(String),
}

/// Why a member is not changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberChangeError {
    /// No channel is known by that name.
    #[error("no channel is named \"{0}\"")]
    NoChannel(String),
    /// No member is called so.
    #[error("no member of \"{channel}\" is called \"{asked}\"{}", listed("its members", there))]
    NoMember {
        /// The channel.
        channel: String,
        /// What was asked for.
        asked: String,
        /// The members, the first of them.
        there: Vec<String>,
    },
    /// Several members are called so.
    #[error("several members of \"{channel}\" are called \"{asked}\"{}", listed("say which", meant))]
    Ambiguous {
        /// The channel.
        channel: String,
        /// What was asked for.
        asked: String,
        /// Those that it may be, the first of them.
        meant: Vec<String>,
    },
    /// The group of a member of an API channel has a weight.
    #[error(
        "the weight of the group \"{0}\" rules over those of its members: change the group's by the API, or \
         disable the member"
    )]
    GroupWeighs(String),
    /// A weight that no member can have.
    #[error("a weight is a whole number from 0 to 10000")]
    Weight,
    /// The members are other channels'.
    #[error("\"{0}\" has the members of the channels that it stands for: change them there")]
    Reference(String),
    /// There is nothing to take back.
    #[error(
        "nothing was said at run time of a member \"{asked}\" of \"{channel}\"{}",
        listed("there is", there)
    )]
    NoOverride {
        /// The channel.
        channel: String,
        /// What was asked for.
        asked: String,
        /// The members that have an override, the first of them.
        there: Vec<String>,
    },
    /// There are as many overrides as there may be.
    #[error(
        "there are {MOST_OVERRIDES} overrides, as many as may be: take some back with `vitald member reset`, or \
         write them into the file"
    )]
    TooMany,
}

fn listed(what: &str, names: &[String]) -> String {
    let mut text = String::new();
    for (place, name) in names.iter().enumerate() {
        // Writing to a text does not fail.
        let _ = match place {
            0 => write!(text, "; {what}: {name}"),
            _ => write!(text, ", {name}"),
        };
    }
    text
}

impl MemberChangeError {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoChannel(_) | Self::NoMember { .. } | Self::NoOverride { .. } => 404,
            Self::Weight => 400,
            Self::Ambiguous { .. } | Self::GroupWeighs(_) | Self::Reference(_) | Self::TooMany => 409,
        }
    }
}

impl From<MemberChangeError> for Fault {
    fn from(error: MemberChangeError) -> Self {
        Self::MemberChange(error)
    }
}

/// One broken rule, for people: beside the vendor's one-line message. Answers leave out
/// what is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultDetail {
    /// The field with the way to it, such as `members[1].weight`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Fault {
    /// The vendor's `error_code`, as API Gateway has it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.answer(PathFamily::Apig).1
    }

    /// The vendor's `error_msg`, as API Gateway has it.
    #[must_use]
    pub fn message(&self) -> String {
        self.answer(PathFamily::Apig).2
    }

    /// The HTTP status, `error_code` and `error_msg` of the answer, the text exact where a
    /// sample shows it (docs/vendor-api.md, "Errors").
    #[must_use]
    pub fn answer(&self, family: PathFamily) -> (u16, &'static str, String) {
        let not_there = |what, mark: &str, id| format!("The {what} does not exist{mark}id:{}", echo(id));
        let own = |text: &str| text.to_owned();
        match self {
            Self::MalformedBody(_) => (400, "APIG.2000", own("Parameter error.")),
            // The one-line message names the first violation written down.
            Self::Broken(violations) => match violations.first().map(|it| (it.path.field(), it.rule)) {
                None | Some((None, _)) => (400, "APIG.2000", own("Parameter error.")),
                Some((Some(field), Rule::Missing)) => missing(field, family),
                Some((Some(field), Rule::OutOfRange)) => out_of_range(field),
                Some((Some(field), _)) => invalid(field),
            },
            Self::Missing(field) => missing(field, family),
            Self::OutOfRange(field) => out_of_range(field),
            Self::Invalid(field, _) => invalid(field),
            Self::NoInstance(id) => (404, "APIG.3030", not_there("instance", ";", id)),
            Self::NoChannel(id) => (404, "APIG.3023", not_there("VPC channel", ",", id)),
            Self::NoMember(id) => (404, "APIG.3024", not_there("VPC instance", ",", id)),
            Self::NoGroup(id) => (404, "APIG.3023", not_there("VPC channel member group", ",", id)),
            Self::WrongKind(_) => {
                (403, "APIG.3471", own("The operation cannot be performed on this type of VPC channel."))
            }
            Self::FromFile(file) => {
                let message = format!(
                    "No permissions to perform operations on this VPC channel. \
                     It comes from the file {file}: change it there and reload."
                );
                (403, "APIG.1113", message)
            }
            Self::NameTaken(_) => (400, "APIG.3208", own("The VPC channel name already exists.")),
            Self::ChannelQuota(_) => {
                let message = "The number of VPC channels exceeds the maximum allowed limit.";
                (403, "APIG.3109", own(message))
            }
            Self::MemberQuota(_) => {
                let message =
                    "The number of cloud servers in the VPC channel exceeds the maximum allowed limit.";
                (403, "APIG.3110", own(message))
            }
            Self::GroupQuota(_) => {
                (403, "APIG.3100", own("The number of resources exceeds the maximum allowed limit."))
            }
            Self::NoFeature(name) => (400, "APIG.2000", format!("unrecognized feature {}", echo(name))),
            Self::FeatureOff(_) => {
                (412, "APIG.3458", own("The feature is not supported by the current instance."))
            }
            Self::Referenced(_) => {
                let message = "The load balance channel is referenced by another load balance channel \
                               and cannot be deleted.";
                (409, "APIG.3719", own(message))
            }
            Self::MemberChange(error) => (error.status(), "APIG.2012", error.to_string()),
            Self::NotStored(why) => {
                let message =
                    format!("System error: the change could not be stored, nothing has changed: {why}");
                (500, "APIG.9999", message)
            }
            Self::Unavailable(why) => (500, "APIG.9999", format!("System error: {why}")),
        }
    }

    /// What the one-line message leaves out: every broken rule with its place.
    #[must_use]
    pub fn details(&self) -> Vec<FaultDetail> {
        let detail = |field: &str, problem: String, remedy: String| {
            vec![FaultDetail { field: field.to_owned(), problem, remedy }]
        };
        match self {
            Self::MalformedBody(why) => detail("", why.clone(), "send one JSON object".to_owned()),
            Self::Broken(violations) => {
                let detail = |violation: &Violation| FaultDetail {
                    field: violation.path.to_string(),
                    problem: violation.message.clone(),
                    remedy: violation.remedy.clone(),
                };
                violations.iter().map(detail).collect()
            }
            Self::Invalid(field, why) if !why.is_empty() => detail(field, why.clone(), String::new()),
            Self::WrongKind(why) | Self::FeatureOff(why) => detail("", (*why).to_owned(), String::new()),
            Self::NameTaken(name) => detail("name", format!("\"{name}\" is taken"), String::new()),
            Self::ChannelQuota(limit) | Self::MemberQuota(limit) | Self::GroupQuota(limit) => {
                detail("", format!("the limit is {limit}"), "raise it in [api.quotas]".to_owned())
            }
            Self::Referenced(name) => {
                detail("", format!("the reference channel \"{name}\" stands for it"), String::new())
            }
            _ => Vec::new(),
        }
    }
}

fn missing(field: &str, family: PathFamily) -> (u16, &'static str, String) {
    match family {
        PathFamily::Apig => {
            (400, "APIG.2001", format!("The request parameters must be specified, parameter name:{field}"))
        }
        PathFamily::Roma => {
            let message = format!(
                "The request parameters must be specified,parameterName:{field}. \
                 Please refer to the support documentation"
            );
            (400, "APIG.2011", message)
        }
    }
}

fn out_of_range(field: &str) -> (u16, &'static str, String) {
    let message = format!(
        "The parameter value is outside the allowable range,parameterName:{field}. \
         Please refer to the support documentation"
    );
    (400, "APIG.2004", message)
}

fn invalid(field: &str) -> (u16, &'static str, String) {
    let message =
        format!("Invalid parameter value,parameterName:{field}. Please refer to the support documentation");
    (400, "APIG.2012", message)
}

/// A client's own text, cut: an error must not be an amplifier.
fn echo(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST_ECHO).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
