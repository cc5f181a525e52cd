//! Join tokens: `SWMTKN-1-<digest of the root certificate>-<secret>`.
//!
//! The digest tells the joiner whether the manager it reached is the one its operator meant; the secret tells the manager whether,
//! and as what, the joiner may come in. Worker and manager tokens share the digest and differ in the secret.

use std::{fmt, str::FromStr};

use proto::{error::ApiError, model, model::Role};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::{CertError, RootDigest, base36};

const PREFIX: &str = "SWMTKN";
const VERSION: &str = "1";
/// Digits of 256 bits in base 36.
const DIGEST_DIGITS: usize = 50;
/// Digits of 128 bits in base 36.
const SECRET_DIGITS: usize = 25;

/// A part of a token, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The digest of the root certificate.
    Digest,
    /// The secret.
    Secret,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Digest => "third part (the CA digest)",
            Part::Secret => "fourth part (the secret)",
        })
    }
}

/// What is wrong with a join token. No message repeats the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None given.
    #[error("join token is necessary")]
    Missing,
    /// Some other text.
    #[error("invalid join token: it begins with {0:?}, not with \"SWMTKN-\"")]
    Prefix(String),
    /// Cut off, or something pasted to it.
    #[error("invalid join token: it has {0} parts separated by \"-\", not 4")]
    Parts(usize),
    /// A format of another program or a later version.
    #[error("invalid join token: version {0:?} is not supported, only version 1 is")]
    Version(String),
    /// Cut off within a part.
    #[error("invalid join token: its {part} has {found} characters, not {wanted}")]
    Length {
        /// Which part.
        part: Part,
        /// Characters in it.
        found: usize,
        /// Characters that it should have.
        wanted: usize,
    },
    /// A character that no token has.
    #[error(
        "invalid join token: its {part} contains {character:?}; only digits and lower-case letters can occur"
    )]
    Alphabet {
        /// Which part.
        part: Part,
        /// The character.
        character: char,
    },
    /// A number that no digest or secret has.
    #[error("invalid join token: its {0} is not a possible value")]
    Range(Part),
    /// The token is for another cluster.
    #[error(
        "join token was made by another cluster's CA: its digest does not match this cluster's root certificate"
    )]
    OtherCluster,
    /// This cluster's, but not in force.
    #[error("join token is not valid: it was rotated, or its secret was altered")]
    NotInForce,
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let message = error.to_string();
        let fresh = "get a valid one on a manager of that cluster: rnctl swarm join-token worker";
        match error {
            TokenError::OtherCluster | TokenError::NotInForce => ApiError::denied(message).help(fresh),
            TokenError::Missing
            | TokenError::Prefix(_)
            | TokenError::Parts(_)
            | TokenError::Version(_)
            | TokenError::Length { .. }
            | TokenError::Alphabet { .. }
            | TokenError::Range(_) => ApiError::invalid(message).help(fresh),
        }
    }
}

/// A join token.
#[derive(Clone)]
pub struct JoinToken {
    digest: RootDigest,
    secret: [u8; 16],
}

impl JoinToken {
    /// A new token for the cluster whose root certificate has this digest.
    pub fn generate(digest: RootDigest) -> Result<Self, CertError> {
        let mut secret = [0; 16];
        SystemRandom::new().fill(&mut secret).map_err(|_| CertError::Random)?;
        Ok(Self { digest, secret })
    }

    /// The digest of the root certificate that the token pins.
    pub fn digest(&self) -> &RootDigest {
        &self.digest
    }

    /// Whether a root certificate (PEM, as a manager sent it) is the one that the token pins.
    pub fn verify_root(&self, root_pem: &str) -> Result<(), ApiError> {
        let digest = RootDigest::of_pem(root_pem).map_err(ApiError::from)?;
        if digest == self.digest { Ok(()) } else { Err(TokenError::OtherCluster.into()) }
    }

    /// Whether both carry the same secret. Takes the same time wherever they differ.
    pub fn same_secret(&self, other: &Self) -> bool {
        self.secret.ct_eq(&other.secret).into()
    }
}

/// The role that `presented` admits to, by the tokens in force in `ca`.
pub fn admitted_role(presented: &str, ca: &model::RootCa) -> Result<Role, TokenError> {
    let presented: JoinToken = presented.parse()?;
    let tokens = [(Role::Manager, &ca.manager_token), (Role::Worker, &ca.worker_token)];
    let in_force =
        tokens.into_iter().filter_map(|(role, text)| Some((role, text.parse::<JoinToken>().ok()?)));
    let (mut admitted, mut this_cluster) = (None, false);
    // Both are compared whatever the first says, so that the time tells nothing.
    for (role, token) in in_force {
        let same_root = token.digest == presented.digest;
        this_cluster |= same_root;
        if token.same_secret(&presented) && same_root {
            admitted = Some(role);
        }
    }
    match admitted {
        Some(role) => Ok(role),
        None if this_cluster => Err(TokenError::NotInForce),
        None => Err(TokenError::OtherCluster),
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = base36::encode(self.digest.as_bytes(), DIGEST_DIGITS);
        let secret = base36::encode(&self.secret, SECRET_DIGITS);
        write!(f, "{PREFIX}-{VERSION}-{digest}-{secret}")
    }
}

impl fmt::Debug for JoinToken {
    // The secret must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Missing);
        }
        let parts: Vec<&str> = text.split('-').collect();
        match parts.as_slice() {
            [prefix, ..] if *prefix != PREFIX => Err(TokenError::Prefix(prefix.chars().take(16).collect())),
            [_, version, ..] if *version != VERSION => {
                Err(TokenError::Version(version.chars().take(16).collect()))
            }
            [_, _, digest, secret] => Ok(Self {
                digest: RootDigest::from_bytes(number(Part::Digest, digest, DIGEST_DIGITS)?),
                secret: number(Part::Secret, secret, SECRET_DIGITS)?,
            }),
            _ => Err(TokenError::Parts(parts.len())),
        }
    }
}

fn number<const N: usize>(part: Part, text: &str, wanted: usize) -> Result<[u8; N], TokenError> {
    let found = text.chars().count();
    if found != wanted {
        return Err(TokenError::Length { part, found, wanted });
    }
    base36::decode(text).map_err(|bad| match bad {
        base36::Bad::Character(character) => TokenError::Alphabet { part, character },
        base36::Bad::TooLarge => TokenError::Range(part),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn token(digest: [u8; 32], secret: [u8; 16]) -> JoinToken {
        JoinToken { digest: RootDigest::from_bytes(digest), secret }
    }

    proptest! {
        #[test]
        fn a_token_survives_its_text(digest: [u8; 32], secret: [u8; 16]) {
            let token = token(digest, secret);
            let text = token.to_string();
            prop_assert_eq!(text.len(), "SWMTKN-1--".len() + 50 + 25);
            let read: JoinToken = text.parse().unwrap();
            prop_assert_eq!(read.digest(), token.digest());
            prop_assert!(read.same_secret(&token));
        }

        #[test]
        fn a_token_with_one_character_changed_is_not_the_token(
            digest: [u8; 32], secret: [u8; 16], at in 0usize..85, to in "[0-9a-zA-Z-]",
        ) {
            let text = token(digest, secret).to_string();
            let mut altered = text.clone();
            altered.replace_range(at..=at, &to);
            prop_assume!(altered != text);
            if let Ok(read) = altered.parse::<JoinToken>() {
                prop_assert!(read.digest() != token(digest, secret).digest() || !read.same_secret(&token(digest, secret)));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("SWMTKN-1-{text}").parse::<JoinToken>();
        }
    }

    #[test]
    fn known_values_have_their_known_text() {
        assert_eq!(
            token([0; 32], [0; 16]).to_string(),
            format!("SWMTKN-1-{}-{}", "0".repeat(50), "0".repeat(25))
        );
        // 2^128 - 1 in base 36, and 2^256 - 1.
        assert_eq!(
            token([0xff; 32], [0xff; 16]).to_string(),
            "SWMTKN-1-6dp5qcb22im238nr3wvp0ic7q99w035jmy2iw7i6n43d37jtof-f5lxx1zz5pnorynqglhzmsp33"
        );
    }

    #[test]
    fn each_defect_has_its_own_message() {
        let good = token([7; 32], [9; 16]).to_string();
        let (digest, secret) = (&good[9..59], &good[60..]);
        let cases = [
            (String::new(), "join token is necessary"),
            ("SWMKEY-1-abc".into(), "begins with \"SWMKEY\""),
            ("SWMTKN".into(), "has 1 parts"),
            (format!("SWMTKN-1-{digest}"), "has 3 parts"),
            (format!("{good}-x"), "has 5 parts"),
            (format!("SWMTKN-2-0-{digest}-{secret}"), "version \"2\" is not supported"),
            (
                format!("SWMTKN-1-{}-{secret}", &digest[1..]),
                "third part (the CA digest) has 49 characters, not 50",
            ),
            (format!("SWMTKN-1-{digest}-{secret}0"), "fourth part (the secret) has 26 characters, not 25"),
            (format!("SWMTKN-1-{}-{secret}", digest.to_uppercase()), "only digits and lower-case letters"),
            (
                format!("SWMTKN-1-{}-{secret}", "z".repeat(50)),
                "third part (the CA digest) is not a possible value",
            ),
            (
                format!("SWMTKN-1-{digest}-{}", "z".repeat(25)),
                "fourth part (the secret) is not a possible value",
            ),
        ];
        for (text, wanted) in cases {
            let error = text.parse::<JoinToken>().expect_err(&text).to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert!(format!("  {good}\n").parse::<JoinToken>().is_ok(), "white space of a paste is no defect");
    }

    #[test]
    fn the_secret_decides_the_role() {
        let (worker, manager) = (token([1; 32], [2; 16]), token([1; 32], [3; 16]));
        let ca = model::RootCa {
            worker_token: worker.to_string(),
            manager_token: manager.to_string(),
            ..model::RootCa::default()
        };
        assert_eq!(admitted_role(&worker.to_string(), &ca), Ok(Role::Worker));
        assert_eq!(admitted_role(&manager.to_string(), &ca), Ok(Role::Manager));
        assert_eq!(admitted_role(&token([1; 32], [4; 16]).to_string(), &ca), Err(TokenError::NotInForce));
        assert_eq!(admitted_role(&token([5; 32], [2; 16]).to_string(), &ca), Err(TokenError::OtherCluster));
        assert_eq!(admitted_role("", &ca), Err(TokenError::Missing));
    }

    #[test]
    fn the_secret_is_not_printed() {
        let token = token([1; 32], [0xab; 16]);
        let secret = token.to_string()[60..].to_owned();
        assert!(!format!("{token:?}").contains(&secret));
    }
}
