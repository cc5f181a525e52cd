//! Versions of the API, and the prefix of a path that names one.

use std::{fmt, str::FromStr};

use proto::error::ApiError;

/// A version of the API: `1.41`. Ordered as numbers, not as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// The oldest that is spoken: that of Docker 1.12, which brought swarm mode.
    pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 24 };
    /// The newest that is spoken, and what a path without a version means.
    pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 47 };

    /// Version 1.`minor`.
    pub const fn minor(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    /// Whether it is spoken here.
    ///
    /// # Errors
    /// It is too new or too old (wording as Docker's).
    pub fn spoken(self) -> Result<Self, ApiError> {
        if self > Self::NEWEST {
            return Err(ApiError::invalid(format!(
                "client version {self} is too new. Maximum supported API version is {}",
                Self::NEWEST
            )));
        }
        if self < Self::OLDEST {
            return Err(ApiError::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
                Self::OLDEST
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // More digits than fit are a version of some other world, and newer than any.
            digits.then(|| text.parse().unwrap_or(u32::MAX)).ok_or(())
        };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// Takes `/v1.41` off a path. A path without a version is left as it is.
pub fn split(path: &str) -> (Option<ApiVersion>, &str) {
    let named = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let (version, rest) = rest.split_at(end);
        Some((version.parse().ok()?, rest))
    });
    match named {
        Some((version, rest)) => (Some(version), rest),
        None => (None, path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_prefix_is_taken_off() {
        assert_eq!(split("/v1.41/info"), (Some(ApiVersion::minor(41)), "/info"));
        assert_eq!(split("/info"), (None, "/info"));
        assert_eq!(split("/volumes/v1.2"), (None, "/volumes/v1.2"));
        assert_eq!(split("/v1.x/info"), (None, "/v1.x/info"));
        assert_eq!(split("/v1.24"), (None, "/v1.24"));
        assert_eq!(split("/v/info"), (None, "/v/info"));
    }

    #[test]
    fn versions_are_ordered_as_numbers_and_bounded() {
        assert!("1.9".parse::<ApiVersion>().unwrap() < "1.24".parse().unwrap());
        assert!(ApiVersion::NEWEST.spoken().is_ok() && ApiVersion::OLDEST.spoken().is_ok());
        let new = "1.99".parse::<ApiVersion>().unwrap().spoken().unwrap_err();
        assert_eq!(
            new.message,
            format!(
                "client version 1.99 is too new. Maximum supported API version is {}",
                ApiVersion::NEWEST
            )
        );
        let old = "1.12".parse::<ApiVersion>().unwrap().spoken().unwrap_err();
        assert!(old.message.starts_with(
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade"
        ));
        assert!("99999999999999999999.1".parse::<ApiVersion>().unwrap().spoken().is_err());
    }
}
