//! What a reload takes away: the last channels of files, which is refused, and many
//! members at once, which the log says. Called by [`super::control`].
//!
//! A directory that is not mounted and a file cut short look like a smaller
//! configuration.

use std::collections::HashMap;

use crate::config::{Config, ProberSettings};

/// Fewer members than this are too few for their going to be a warning.
const LEAST_MEMBERS: usize = 10;

/// So many channels are named.
const NAMED: usize = 10;

/// The channels of files, by name, each with its count of members.
pub type FileChannels = HashMap<String, usize>;

/// The channels that a configuration's files hold.
#[must_use]
pub fn file_channels(config: &Config) -> FileChannels {
    let channels = config.channels.iter().map(|file| &file.channel);
    channels.map(|channel| (channel.name().to_owned(), channel.members().len())).collect()
}

/// Refuses a reload from some channels of files to none, unless `min_channels` says
/// how few there may be.
///
/// # Errors
/// It is one; the text says what to do.
pub fn refuse_empty(
    before: &FileChannels,
    after: &FileChannels,
    prober: &ProberSettings,
) -> Result<(), String> {
    if before.is_empty() || !after.is_empty() || prober.min_channels.is_some() {
        return Ok(());
    }
    Err(format!(
        "error: the configuration holds no channel, and the one in effect holds {}\n \
         = help: see whether a file or a mounted directory is missing; if it is meant, \
         set `[prober] min_channels = 0`",
        before.len()
    ))
}

/// The line for the log when a reload takes away a large share of the members of files.
#[must_use]
pub fn large_fall(before: &FileChannels, after: &FileChannels, prober: &ProberSettings) -> Option<String> {
    let (had, has): (usize, usize) = (before.values().sum(), after.values().sum());
    let gone = had.saturating_sub(has);
    if had < LEAST_MEMBERS || gone * 100 < had * prober.large_fall_percent as usize {
        return None;
    }
    let mut fell: Vec<(&str, usize, usize)> = Vec::new();
    for (name, &had) in before {
        let has = after.get(name).copied().unwrap_or(0);
        if has < had {
            fell.push((name, had, has));
        }
    }
    fell.sort_unstable();
    let named: Vec<String> =
        fell.iter().take(NAMED).map(|(name, had, has)| format!("{name} {had} -> {has}")).collect();
    let more = match fell.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("a reload takes {gone} of {had} members of files away: {}{more}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(counts: &[(&str, usize)]) -> FileChannels {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn a_reload_to_nothing_is_refused_unless_it_is_allowed() {
        let (some, none) = (channels(&[("web", 1)]), channels(&[]));
        let unset = ProberSettings::default();
        let refusal = refuse_empty(&some, &none, &unset).unwrap_err();
        assert!(refusal.contains("min_channels = 0"), "{refusal}");
        assert_eq!(refuse_empty(&none, &none, &unset), Ok(()));
        assert_eq!(refuse_empty(&some, &some, &unset), Ok(()));
        let zero = ProberSettings { min_channels: Some(0), ..unset };
        assert_eq!(refuse_empty(&some, &none, &zero), Ok(()));
    }

    #[test]
    fn a_large_fall_names_counts_and_channels() {
        let settings = |percent| ProberSettings { large_fall_percent: percent, ..ProberSettings::default() };
        let before = channels(&[("web", 8), ("shop", 4), ("same", 4)]);
        let after = channels(&[("web", 4), ("same", 4)]);
        assert_eq!(
            large_fall(&before, &after, &settings(50)).as_deref(),
            Some("a reload takes 8 of 16 members of files away: shop 4 -> 0, web 8 -> 4")
        );
        assert_eq!(large_fall(&before, &after, &settings(51)), None);
        assert_eq!(large_fall(&after, &before, &settings(50)), None);
        let few = channels(&[("web", 9)]);
        assert_eq!(large_fall(&few, &channels(&[]), &settings(50)), None);
    }
}
