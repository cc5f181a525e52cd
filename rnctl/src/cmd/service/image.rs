//! Which image a spec means: its digest, and who may pull it.

use clap::{Args, ValueEnum};
use proto::{model::RegistryAuth, pb};

use crate::{
    connect::Daemon,
    credentials::Credentials,
    exit::Failure,
    output::complain,
    parse::image::{registry, without_digest},
};

/// When the registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Resolve {
    /// Each time
    Always,
    /// When the image's name is new
    Changed,
    /// Each node asks by itself
    Never,
}

/// Flags about the image.
#[derive(Debug, Args)]
pub struct ImageFlags {
    /// Send the credentials for the image's registry to the nodes that pull it
    #[arg(long)]
    with_registry_auth: bool,
    /// Do not ask the registry for the image's digest; the same as --resolve-image never
    #[arg(long)]
    no_resolve_image: bool,
    /// When to ask the registry which digest the image's name means; all tasks then run that one
    #[arg(long, value_enum, default_value = "changed")]
    resolve_image: Resolve,
}

/// What a spec is to say.
#[derive(Debug, Default)]
pub struct Pinned {
    /// The image; none = as it is.
    pub image: Option<String>,
    /// Who pulls it; none = as it is.
    pub auth: Option<RegistryAuth>,
}

impl ImageFlags {
    /// Asks what has to be asked. `image` is new if `changed`. A registry that does not answer is only warned of.
    pub async fn pin(&self, rn: &Daemon, image: &str, changed: bool) -> Result<Pinned, Failure> {
        let mut pinned = Pinned { image: changed.then(|| image.to_owned()), auth: None };
        let auth = match self.with_registry_auth {
            true => Credentials::load()?.get(registry(image)),
            false => None,
        };
        let ask = !self.no_resolve_image
            && match self.resolve_image {
                Resolve::Always => true,
                Resolve::Changed => changed,
                Resolve::Never => false,
            };
        if ask {
            let name = if changed { image } else { without_digest(image) };
            let request = pb::ResolveImageRequest { reference: name.to_owned(), auth: auth.clone() };
            match rn.local().resolve_image(request).await {
                Ok(reply) => match reply.into_inner().reference {
                    reference if reference.is_empty() => {}
                    reference => pinned.image = Some(reference),
                },
                Err(status) => {
                    let failure = Failure::from(status);
                    complain(&format!(
                        "image {name} could not be accessed on a registry to record\nits digest. Each node will access \
                         {name} independently,\npossibly leading to different nodes running different\nversions of the \
                         image.\n"
                    ));
                    complain(&format!("({failure})\n"));
                }
            }
        }
        pinned.auth =
            auth.map(|a| RegistryAuth { server: a.server, username: a.username, password: a.password });
        Ok(pinned)
    }

    /// Whether the current image's name is to be asked for although it has not changed.
    pub fn asks_again(&self) -> bool {
        self.with_registry_auth || (!self.no_resolve_image && self.resolve_image == Resolve::Always)
    }
}
