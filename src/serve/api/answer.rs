//! The API's answers, with exactly the JSON types its clients need.
//!
//! | file | what it answers |
//! |---|---|
//! | `channel` | Channel, ChannelDetail, ProjectChannel |
//! | `part` | Member, Group, HealthConfig |
//! | `instance` | instances and features |
//! | `verdict` | `health_status` and `status`, from a snapshot |

pub(super) mod channel;
pub(super) mod instance;
pub(super) mod part;
pub(super) mod verdict;

use serde::{Serialize, Serializer};

/// `{total, size, <name>: [..]}`.
pub(super) struct List<T> {
    /// What the list is called.
    pub(super) name: &'static str,
    /// How many match.
    pub(super) total: usize,
    /// The ones shown.
    pub(super) items: Vec<T>,
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("total", &self.total)?;
        map.serialize_entry("size", &self.items.len())?;
        map.serialize_entry(self.name, &self.items)?;
        map.end()
    }
}
