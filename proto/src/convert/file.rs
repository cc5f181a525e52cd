//! Secrets and configs.

use std::{fmt::Display, str::FromStr};

use super::{Malformed, meta, need, parse, parse_opt, text};
use crate::{
    model::{self, FileReference, Payload, Templating},
    pb,
};

impl From<model::FileSpec> for pb::FileSpec {
    fn from(m: model::FileSpec) -> Self {
        Self {
            name: m.name,
            labels: m.labels,
            data: m.data.0,
            templating: m.templating.map_or(String::new(), |t| t.as_str().to_owned()),
        }
    }
}

impl TryFrom<pb::FileSpec> for model::FileSpec {
    type Error = Malformed;

    fn try_from(p: pb::FileSpec) -> Result<Self, Malformed> {
        let templating = match p.templating.as_str() {
            "" => None,
            "golang" => Some(Templating::Golang),
            other => {
                let reason = format!("{other:?} is not a template driver; there is golang");
                return Err(Malformed { field: "templating", reason });
            }
        };
        Ok(Self { name: p.name, labels: p.labels, data: Payload(p.data), templating })
    }
}

macro_rules! kinds {
    ($($kind:ident),*) => {$(
        impl From<model::$kind> for pb::$kind {
            fn from(m: model::$kind) -> Self {
                Self { id: m.id.to_string(), meta: Some(m.meta.into()), spec: Some(m.spec.into()) }
            }
        }

        impl TryFrom<pb::$kind> for model::$kind {
            type Error = Malformed;

            fn try_from(p: pb::$kind) -> Result<Self, Malformed> {
                Ok(Self {
                    id: parse("id", &p.id)?,
                    meta: meta(p.meta),
                    spec: need("spec", p.spec)?.try_into()?,
                })
            }
        }
    )*};
}
kinds!(Secret, Config);

impl<Id: Display> From<FileReference<Id>> for pb::FileReference {
    fn from(m: FileReference<Id>) -> Self {
        Self {
            id: text(&m.id),
            name: m.name,
            target: m.target,
            uid: m.uid.to_string(),
            gid: m.gid.to_string(),
            mode: m.mode,
        }
    }
}

impl<Id: FromStr<Err: Display>> TryFrom<pb::FileReference> for FileReference<Id> {
    type Error = Malformed;

    fn try_from(p: pb::FileReference) -> Result<Self, Malformed> {
        let number = |field, text: &str| if text.is_empty() { Ok(0) } else { parse(field, text) };
        Ok(Self {
            id: parse_opt("id", &p.id)?,
            name: p.name,
            target: p.target,
            uid: number("uid", &p.uid)?,
            gid: number("gid", &p.gid)?,
            mode: p.mode,
        })
    }
}
