//! `Accept-Encoding`: gzip or nothing (RFC 9110, 12.5.3).

use axum::http::HeaderValue;

/// How a long answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Identity,
    /// Compressed with gzip.
    Gzip,
}

/// Gzip if the client accepts it and does not prefer the plain text.
pub(super) fn negotiate<'a>(fields: impl IntoIterator<Item = &'a HeaderValue>) -> Encoding {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for field in fields {
        for item in field.to_str().unwrap_or_default().split(',') {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let weight = thousandths(weight);
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => identity = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    if gzip > 0 && gzip >= identity.unwrap_or(0) { Encoding::Gzip } else { Encoding::Identity }
}

/// `q=0.5` as 500; 1000 when absent, 0 when unreadable.
fn thousandths(parameter: &str) -> u16 {
    let parameter = parameter.trim();
    if parameter.is_empty() {
        return 1000;
    }
    let Some(value) = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")) else {
        return 0;
    };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.parse::<u16>()) {
        ("1", Ok(0)) => 1000,
        ("0", Ok(value)) if digits.len() == 3 => value,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_when_it_is_accepted_and_not_outweighed() {
        use Encoding::{Gzip, Identity};
        let cases: [(&[&str], Encoding); 20] = [
            (&[], Identity),
            (&[""], Identity),
            (&["gzip"], Gzip),
            (&["GZIP"], Gzip),
            (&["x-gzip"], Gzip),
            (&["deflate, gzip;q=1.0, *;q=0.5"], Gzip),
            (&["deflate", "br, gzip"], Gzip),
            (&["gzip;q=0"], Identity),
            (&["gzip;q=0.000"], Identity),
            (&["gzip;q=0.001"], Gzip),
            (&["gzip ; q=0.5 , identity;q=0.4"], Gzip),
            (&["gzip;q=0.5, identity"], Identity),
            (&["identity;q=0.5, gzip;q=0.5"], Gzip),
            (&["*"], Gzip),
            (&["*;q=0"], Identity),
            (&["gzip;q=0, *"], Identity),
            (&["br, zstd"], Identity),
            (&["gzip;q=2"], Identity),
            (&["gzip;level=9"], Identity),
            (&["gzip;q=0.1234"], Identity),
        ];
        for (fields, expected) in cases {
            let values: Vec<HeaderValue> =
                fields.iter().map(|field| HeaderValue::from_static(field)).collect();
            assert_eq!(negotiate(&values), expected, "{fields:?}");
        }
    }
}
