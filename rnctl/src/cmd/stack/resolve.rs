//! Which digest an image has now, so that all nodes run the same one.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use serde_json::json;

use crate::{api::Client, credentials::Credentials, exit::Failure, output::complain, parse::image::registry};

/// The header with credentials.
pub(super) const AUTH: &str = "x-registry-auth";

/// The user's credentials for an image's registry, as the header holds them.
pub(super) fn credentials(image: &str) -> Result<Option<String>, Failure> {
    let registry = registry(image);
    let found = Credentials::load()?.get(registry);
    Ok(found.map(|auth| {
        let auth = json!({"username": auth.username, "password": auth.password, "serveraddress": registry});
        URL_SAFE.encode(auth.to_string())
    }))
}

/// The image with its digest; none where its registry does not tell, which is said.
pub(super) async fn pinned(rn: &Client, image: &str) -> Option<String> {
    if image.contains('@') {
        return Some(image.to_owned());
    }
    let mut request = rn.get(&["distribution", image, "json"]);
    if let Ok(Some(auth)) = credentials(image) {
        request = request.header(AUTH, &auth);
    }
    let answer = request.object().await.ok();
    let digest = answer.as_ref().and_then(|a| a.get("Descriptor")?.get("digest")?.as_str());
    if digest.is_none() {
        // In Docker's words.
        complain(&format!(
            "image {image} could not be accessed on a registry to record\nits digest. Each node will access {image} independently,\npossibly leading to different nodes running different\nversions of the image.\n"
        ));
    }
    let tagged = image.parse::<proto::parse::reference::Reference>().ok()?;
    digest.map(|digest| format!("{}@{digest}", tagged.tagged()))
}
