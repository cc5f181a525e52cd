//! Credentials of registries, as clients send them.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use proto::error::ApiError;
use serde::{Deserialize, Serialize};

/// The header that carries them.
pub const HEADER: &str = "X-Registry-Auth";

/// The host of Docker's own registry, which clients name by an address of its first version.
const DOCKER_HUB: &str = "docker.io";

/// With padding or without: clients do both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for a registry: the body of `POST /auth`, and what the header has in base64.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub struct AuthConfig {
    /// Who.
    pub username: String,
    /// The password.
    pub password: String,
    /// Where; empty = Docker's own registry.
    pub serveraddress: String,
    /// A token in place of a password. Not taken.
    pub identitytoken: String,
    /// The same for one registry. Not taken.
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    // Passwords must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig").field("serveraddress", &self.serveraddress).finish_non_exhaustive()
    }
}

/// Reads the header; none where there is nobody named in it.
///
/// # Errors
/// It is not base64 of JSON, or has a token where a password is needed.
pub fn header(text: &str) -> Result<Option<AuthConfig>, ApiError> {
    let bad = |why: &str| ApiError::invalid(format!("invalid {HEADER} header: {why}"));
    if text.is_empty() {
        return Ok(None);
    }
    let decoded = BASE64.decode(text).map_err(|error| bad(&error.to_string()))?;
    if decoded.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let auth: AuthConfig = crate::json::read(&decoded).map_err(|error| bad(&error.message))?;
    if auth.username.is_empty()
        && auth.password.is_empty()
        && auth.identitytoken.is_empty()
        && auth.registrytoken.is_empty()
    {
        return Ok(None);
    }
    auth.check().map(Some)
}

impl AuthConfig {
    /// Whether it is a kind of credentials that rn has a use for.
    ///
    /// # Errors
    /// There is a token.
    pub fn check(self) -> Result<Self, ApiError> {
        if !self.identitytoken.is_empty() || !self.registrytoken.is_empty() {
            return Err(ApiError::unsupported("registry credentials: tokens are not supported")
                .help("log in with a user name and a password"));
        }
        Ok(self)
    }

    /// The registry's host, with a port where one is given.
    pub fn registry(&self) -> &str {
        let address = self.serveraddress.as_str();
        let address =
            address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
        match address.split('/').next().unwrap_or_default() {
            "" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            host => host,
        }
    }
}

/// For the model.
impl From<AuthConfig> for proto::model::RegistryAuth {
    fn from(auth: AuthConfig) -> Self {
        Self { server: auth.registry().to_owned(), username: auth.username, password: auth.password }
    }
}

/// The answer to `POST /auth`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AuthStatus {
    /// What to tell the user.
    pub status: String,
    /// Always empty: passwords stay passwords.
    pub identity_token: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_header_is_read_with_and_without_padding() {
        let json = br#"{"username":"a","password":"b","serveraddress":"https://reg.example:5000/v1/"}"#;
        let text = base64::engine::general_purpose::URL_SAFE.encode(json);
        for text in [text.as_str(), text.trim_end_matches('=')] {
            let auth = header(text).unwrap().unwrap();
            assert_eq!((auth.username.as_str(), auth.registry()), ("a", "reg.example:5000"));
        }
        assert_eq!(header("").unwrap(), None);
        assert_eq!(header("e30=").unwrap(), None, "an empty object");
        for bad in ["%", "eA==", "bnVsbA=="] {
            assert!(header(bad).is_err(), "{bad}");
        }
        let token = base64::engine::general_purpose::URL_SAFE.encode(br#"{"identitytoken":"x"}"#);
        assert!(header(&token).is_err());
    }

    #[test]
    fn dockers_own_registry_has_many_names() {
        for address in ["", "https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"] {
            let auth = AuthConfig { serveraddress: address.into(), ..AuthConfig::default() };
            assert_eq!(auth.registry(), "docker.io", "{address}");
        }
    }
}
