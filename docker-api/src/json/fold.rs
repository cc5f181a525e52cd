//! Names of fields whatever their case.
//!
//! Docker's daemon reads JSON by Go's `encoding/json`, which takes `replicated` for `Replicated`; clients rely on it (docker-py's
//! modes of services are lower case). Without this such fields would be taken for unknown ones, and not looked at.

use std::vec;

use serde::{
    Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StringDeserializer},
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value};

/// A value whose objects, where they are read as structures, name fields in any case. Keys of maps (labels) stay as they are.
pub(super) struct Folded(pub Value);

/// The fields of an object under the names that the structure has for them: a name spelled exactly goes before others, of others the
/// last counts.
fn renamed(object: Map<String, Value>, fields: &'static [&'static str]) -> Vec<(String, Value)> {
    let mut named: Vec<(String, Value, bool)> = Vec::with_capacity(object.len());
    for (key, value) in object {
        let exact = fields.contains(&key.as_str());
        let name = match fields.iter().find(|f| !exact && f.eq_ignore_ascii_case(&key)) {
            Some(field) => (*field).to_owned(),
            None => key,
        };
        match named.iter_mut().find(|(other, ..)| *other == name) {
            Some(known) if !known.2 || exact => *known = (name, value, exact),
            Some(_) => {}
            None => named.push((name, value, exact)),
        }
    }
    named.into_iter().map(|(name, value, _)| (name, value)).collect()
}

impl<'de> Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(values) => visitor.visit_seq(Items(values.into_iter())),
            Value::Object(fields) => visitor
                .visit_map(Fields { rest: fields.into_iter().collect::<Vec<_>>().into_iter(), value: None }),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => {
                visitor.visit_map(Fields { rest: renamed(object, fields).into_iter(), value: None })
            }
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items(vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Folded(value))).transpose()
    }
}

struct Fields {
    rest: vec::IntoIter<(String, Value)>,
    value: Option<Value>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        let key: StringDeserializer<Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Folded(self.value.take().unwrap_or_default()))
    }
}
