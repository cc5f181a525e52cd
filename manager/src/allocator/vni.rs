//! VXLAN network identifiers.

use std::collections::BTreeMap;

use proto::model::{OverlayOptions, Vni};

use super::AllocateError;

/// The VNI for a new overlay: the one its options name, else the lowest free one from [`Vni::FIRST`]. One VNI serves all subnets
/// here, so of several the first one counts.
///
/// # Errors
/// The named one has an owner, or none is left.
pub fn choose(options: &OverlayOptions, held: &BTreeMap<Vni, String>) -> Result<Vni, AllocateError> {
    if let Some(vni) = options.vnis.first().copied() {
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

    fn named(vnis: &[u32]) -> OverlayOptions {
        OverlayOptions { vnis: vnis.iter().copied().map(Vni).collect(), ..OverlayOptions::default() }
    }

    #[test]
    fn the_lowest_free_one_from_4096() {
        let spec = OverlayOptions::default();
        assert_eq!(choose(&spec, &held(&[])).unwrap(), Vni(4096));
        assert_eq!(choose(&spec, &held(&[7, 4096, 4097, 4099])).unwrap(), Vni(4098));
    }

    #[test]
    fn a_named_one_is_taken_as_asked_or_refused_with_its_holder() {
        assert_eq!(choose(&named(&[256, 257]), &held(&[])).unwrap(), Vni(256));
        assert_eq!(
            choose(&named(&[4096]), &held(&[4096])).unwrap_err().to_string(),
            "VNI 4096 is in use by network n4096"
        );
    }
}
