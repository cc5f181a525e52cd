//! VXLAN network identifiers.

use std::collections::BTreeMap;

use proto::model::{NetworkSpec, Vni};

use super::AllocateError;

/// Docker's option that names the VNIs of a network. One VNI serves all subnets here, so the first one counts.
pub const OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// The VNI for a new network: the one its options name, else the lowest free one from [`Vni::FIRST`].
///
/// # Errors
/// The named one has an owner or cannot be read, or none is left.
pub fn choose(spec: &NetworkSpec, held: &BTreeMap<Vni, String>) -> Result<Vni, AllocateError> {
    if let Some(list) = spec.options.get(OPTION).filter(|l| !l.trim().is_empty()) {
        let vni = list
            .split(',')
            .next()
            .and_then(|text| text.trim().parse().ok())
            .map(Vni)
            .filter(|vni| (Vni(1)..=Vni::LAST).contains(vni))
            .ok_or_else(|| AllocateError::Option {
                key: OPTION,
                value: list.clone(),
                expected: format!("a VNI from 1 to {}", Vni::LAST),
            })?;
        return match held.get(&vni) {
            Some(holder) => Err(AllocateError::VniTaken { vni, holder: holder.clone() }),
            None => Ok(vni),
        };
    }
    let mut next = Vni::FIRST;
    for held in held.range(Vni::FIRST..).map(|(vni, _)| *vni) {
        if held > next {
            break;
        }
        next = Vni(held.0 + 1);
    }
    if next > Vni::LAST {
        return Err(AllocateError::VnisExhausted);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn held(vnis: &[u32]) -> BTreeMap<Vni, String> {
        vnis.iter().map(|v| (Vni(*v), format!("n{v}"))).collect()
    }

    fn named(list: &str) -> NetworkSpec {
        NetworkSpec { options: [(OPTION.to_owned(), list.to_owned())].into(), ..NetworkSpec::default() }
    }

    #[test]
    fn the_lowest_free_one_from_4096() {
        let spec = NetworkSpec::default();
        assert_eq!(choose(&spec, &held(&[])).unwrap(), Vni(4096));
        assert_eq!(choose(&spec, &held(&[7, 4096, 4097, 4099])).unwrap(), Vni(4098));
    }

    #[test]
    fn a_named_one_is_taken_as_asked_or_refused_with_its_holder() {
        assert_eq!(choose(&named("256,257"), &held(&[])).unwrap(), Vni(256));
        assert_eq!(
            choose(&named("4096"), &held(&[4096])).unwrap_err().to_string(),
            "VNI 4096 is in use by network n4096"
        );
        assert!(choose(&named("16777216"), &held(&[])).is_err());
        assert!(choose(&named("many"), &held(&[])).is_err());
    }
}
