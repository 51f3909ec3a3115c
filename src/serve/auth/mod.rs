//! Who may use the management API.
//!
//! | file | what it does |
//! |---|---|
//! | `signature` | `SDK-HMAC-SHA256`: pure |

pub mod signature;
