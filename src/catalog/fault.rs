//! Why a call was refused: a closed list, each with the vendor's code, HTTP
//! status and message (docs/vendor-api.md, "Errors").

use crate::channel::{Rule, Violation};

/// Longest part of a client's own text that an error repeats.
const LONGEST_ECHO: usize = 64;

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
    /// The instance's features do not allow the call; the text says which.
    FeatureOff(&'static str),
    /// A reference channel stands for this one; its name.
    Referenced(String),
    /// The change could not be made durable; the text says why.
    NotStored(String),
    /// The daemon could not answer; the text says why.
    Unavailable(String),
}

/// One broken rule, for people: beside the vendor's one-line message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultDetail {
    /// The field with the way to it, such as `members[1].weight`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    /// The vendor's `error_code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MalformedBody(_) => "APIG.2000",
            Self::Broken(violations) => first(violations).map_or("APIG.2000", code_of),
            Self::Missing(_) => "APIG.2001",
            Self::OutOfRange(_) => "APIG.2004",
            Self::Invalid(..) => "APIG.2012",
            Self::NoInstance(_) => "APIG.3030",
            Self::NoChannel(_) | Self::NoGroup(_) => "APIG.3023",
            Self::NoMember(_) => "APIG.3024",
            Self::WrongKind(_) => "APIG.3471",
            Self::FromFile(_) => "APIG.1113",
            Self::NameTaken(_) => "APIG.3208",
            Self::ChannelQuota(_) => "APIG.3109",
            Self::MemberQuota(_) => "APIG.3110",
            Self::GroupQuota(_) => "APIG.3100",
            Self::FeatureOff(_) => "APIG.3458",
            Self::Referenced(_) => "APIG.3719",
            Self::NotStored(_) | Self::Unavailable(_) => "APIG.9999",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::MalformedBody(_)
            | Self::Broken(_)
            | Self::Missing(_)
            | Self::OutOfRange(_)
            | Self::Invalid(..)
            | Self::NameTaken(_) => 400,
            Self::WrongKind(_)
            | Self::FromFile(_)
            | Self::ChannelQuota(_)
            | Self::MemberQuota(_)
            | Self::GroupQuota(_) => 403,
            Self::NoInstance(_) | Self::NoChannel(_) | Self::NoMember(_) | Self::NoGroup(_) => 404,
            Self::Referenced(_) => 409,
            Self::FeatureOff(_) => 412,
            Self::NotStored(_) | Self::Unavailable(_) => 500,
        }
    }

    /// The vendor's `error_msg`: exact where a sample shows it (docs/vendor-api.md, "Errors").
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::MalformedBody(_) => "Parameter error.".to_owned(),
            Self::Broken(violations) => match first(violations) {
                Some(violation) => message_of(violation),
                None => "Parameter error.".to_owned(),
            },
            Self::Missing(field) => missing(field),
            Self::OutOfRange(field) => out_of_range(field),
            Self::Invalid(field, _) => invalid(field),
            Self::NoInstance(id) => format!("The instance does not exist;id:{}", echo(id)),
            Self::NoChannel(id) => format!("The VPC channel does not exist,id:{}", echo(id)),
            Self::NoMember(id) => format!("The VPC instance does not exist,id:{}", echo(id)),
            Self::NoGroup(id) => format!("The VPC channel member group does not exist,id:{}", echo(id)),
            Self::WrongKind(_) => "The operation cannot be performed on this type of VPC channel.".to_owned(),
            Self::FromFile(file) => format!(
                "No permissions to perform operations on this VPC channel. \
                 It comes from the file {file}: change it there and reload."
            ),
            Self::NameTaken(_) => "The VPC channel name already exists.".to_owned(),
            Self::ChannelQuota(_) => {
                "The number of VPC channels exceeds the maximum allowed limit.".to_owned()
            }
            Self::MemberQuota(_) => {
                "The number of cloud servers in the VPC channel exceeds the maximum allowed limit.".to_owned()
            }
            Self::GroupQuota(_) => "The number of resources exceeds the maximum allowed limit.".to_owned(),
            Self::FeatureOff(_) => "The feature is not supported by the current instance.".to_owned(),
            Self::Referenced(_) => "The load balance channel is referenced by another load balance channel \
                                    and cannot be deleted."
                .to_owned(),
            Self::NotStored(why) => {
                format!("System error: the change could not be stored, nothing has changed: {why}")
            }
            Self::Unavailable(why) => format!("System error: {why}"),
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
            Self::Broken(violations) => violations.iter().map(detail_of).collect(),
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

/// The violation that the one-line message names: the first one written down.
fn first(violations: &[Violation]) -> Option<&Violation> {
    violations.first()
}

fn code_of(violation: &Violation) -> &'static str {
    match (violation.path.field(), violation.rule) {
        (None, _) => "APIG.2000",
        (Some(_), Rule::Missing) => "APIG.2001",
        (Some(_), Rule::OutOfRange) => "APIG.2004",
        (Some(_), _) => "APIG.2012",
    }
}

fn message_of(violation: &Violation) -> String {
    match (violation.path.field(), violation.rule) {
        (None, _) => "Parameter error.".to_owned(),
        (Some(field), Rule::Missing) => missing(field),
        (Some(field), Rule::OutOfRange) => out_of_range(field),
        (Some(field), _) => invalid(field),
    }
}

fn detail_of(violation: &Violation) -> FaultDetail {
    FaultDetail {
        field: violation.path.to_string(),
        problem: violation.message.clone(),
        remedy: violation.remedy.clone(),
    }
}

fn missing(field: &str) -> String {
    format!("The request parameters must be specified, parameter name:{field}")
}

fn out_of_range(field: &str) -> String {
    format!(
        "The parameter value is outside the allowable range,parameterName:{field}. \
         Please refer to the support documentation"
    )
}

fn invalid(field: &str) -> String {
    format!("Invalid parameter value,parameterName:{field}. Please refer to the support documentation")
}

/// A client's own text, cut: an error must not be an amplifier.
fn echo(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST_ECHO).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
