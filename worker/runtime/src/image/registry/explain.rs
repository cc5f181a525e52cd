//! What a registry's answer means to a user.

use std::{error::Error, io};

use oci_client::errors::{OciDistributionError, OciErrorCode};
use proto::error::with_causes;

use crate::{RuntimeError, image::Reference};

/// Whether it says "not you".
pub fn is_unauthorized(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            true
        }
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .any(|e| matches!(e.code, OciErrorCode::Unauthorized | OciErrorCode::Denied)),
        OciDistributionError::ServerError { code, .. } => matches!(code, 401 | 403),
        OciDistributionError::RequestError(error) => {
            error.status().is_some_and(|status| matches!(status.as_u16(), 401 | 403))
        }
        _ => false,
    }
}

/// Whether a registry has answered at all.
pub fn is_answer(error: &OciDistributionError) -> bool {
    matches!(
        error,
        OciDistributionError::RegistryError { .. }
            | OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 400..500, .. }
    )
}

/// Whether the same request may succeed in a moment.
pub fn is_passing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|e| matches!(e.code, OciErrorCode::Toomanyrequests))
        }
        _ => false,
    }
}

/// For a user: which image, what is wrong, what to do.
pub fn error(error: OciDistributionError, image: &Reference, username: Option<&str>) -> RuntimeError {
    let registry = image.registry();
    if is_unauthorized(&error) {
        let message = match username {
            None => format!(
                "pull access denied for {}, repository does not exist or may require 'rnctl login {registry}' (for a service: \
                 then rnctl service update --with-registry-auth)",
                image.name()
            ),
            Some(user) => format!(
                "pull access denied for {}: registry {registry} does not accept the credentials of user {user:?}; \
                 rnctl login {registry} replaces them (for a service: then rnctl service update --with-registry-auth)",
                image.name()
            ),
        };
        return RuntimeError::Registry { message, denied: true };
    }
    let why = match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let first = envelope.errors.into_iter().next();
            match first.as_ref().map(|e| &e.code) {
                Some(OciErrorCode::ManifestUnknown | OciErrorCode::NotFound) => {
                    return missing(image, "manifest unknown");
                }
                Some(OciErrorCode::NameUnknown) => {
                    return missing(image, "repository name not known to registry");
                }
                _ => first.map_or_else(|| "an error without a reason".to_owned(), |e| e.message),
            }
        }
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => {
            return missing(image, "manifest unknown");
        }
        OciDistributionError::RequestError(error) => {
            let cause = innermost(&error);
            let message = if is_no_tls(cause) {
                format!(
                    "registry {registry} answers without TLS; to allow that: rnd --insecure-registry {registry}, \
                     or \"insecure-registries\" in its configuration"
                )
            } else {
                format!(
                    "registry {registry} cannot be reached: {cause}; check that it runs and that this node may use it"
                )
            };
            return RuntimeError::Registry { message, denied: false };
        }
        OciDistributionError::ServerError { code, message, .. } => {
            format!("status {code}: {}", message.trim().chars().take(200).collect::<String>())
        }
        OciDistributionError::DigestError(error) => {
            format!("what it sends is not what was asked for: {error}")
        }
        other => with_causes(&other),
    };
    RuntimeError::Registry {
        message: format!("registry {registry} does not give {image}: {why}"),
        denied: false,
    }
}

fn missing(image: &Reference, why: &str) -> RuntimeError {
    RuntimeError::NoSuchImage {
        image: image.to_string(),
        why: format!("{why}: registry {} has no such image", image.registry()),
    }
}

/// The innermost cause says what is wrong; the layers above only say where in the library it was noticed.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source().or_else(|| carried(cause)) {
        cause = inner;
    }
    cause
}

/// The error that one of the standard library carries, and leaves out of its sources.
fn carried<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let inner: &(dyn Error + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

/// Whether what came in answer to a TLS handshake is something else: HTTP, as a rule.
fn is_no_tls(cause: &(dyn Error + 'static)) -> bool {
    let no_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    cause.downcast_ref() == Some(&no_tls)
}
