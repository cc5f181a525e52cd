//! Subnets cut from pools.

use ipnet::IpNet;

use crate::{
    IpamError,
    range::{AddressRange, address, is_v6},
};

/// A subnet that has an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatedSubnet {
    /// The subnet.
    pub subnet: IpNet,
    /// Name of the network that holds it.
    pub holder: String,
}

/// The first block of length `prefix` in `pools`, in their order, that meets none of `held`.
///
/// # Errors
/// [`IpamError::PoolExhausted`] when there is none.
pub fn carve(pools: &[IpNet], prefix: u8, held: &[AllocatedSubnet]) -> Result<IpNet, IpamError> {
    let mut taken: Vec<AddressRange> = held.iter().map(|h| AddressRange::of(&h.subnet)).collect();
    taken.sort_unstable();
    pools.iter().find_map(|pool| first_free(pool, prefix, &taken)).ok_or_else(|| IpamError::PoolExhausted {
        prefix,
        pools: list(pools),
        networks: {
            let mut holders: Vec<&str> = held
                .iter()
                .filter(|h| pools.iter().any(|p| AddressRange::of(p).meets(&AddressRange::of(&h.subnet))))
                .map(|h| h.holder.as_str())
                .collect();
            holders.sort_unstable();
            holders.dedup();
            holders.len()
        },
    })
}

/// The holder of a subnet that `wanted` meets.
pub fn conflict<'a>(wanted: &IpNet, held: &'a [AllocatedSubnet]) -> Option<&'a AllocatedSubnet> {
    let wanted = AddressRange::of(wanted);
    held.iter().find(|h| AddressRange::of(&h.subnet).meets(&wanted))
}

/// `taken` is sorted. A sweep, so that a pool with thousands of networks costs one look at each.
fn first_free(pool: &IpNet, prefix: u8, taken: &[AddressRange]) -> Option<IpNet> {
    let v6 = is_v6(pool);
    let bits = pool.max_prefix_len();
    if prefix < pool.prefix_len() || prefix > bits || prefix == 0 {
        return None;
    }
    let size = 1u128 << (bits - prefix);
    let pool = AddressRange::of(pool);
    let mut first = pool.first;
    for span in taken.iter().filter(|s| s.v6 == v6) {
        let last = first.checked_add(size - 1)?;
        if span.last < first {
            continue;
        }
        if span.first > last {
            break;
        }
        // The next boundary behind the one that is in the way.
        first = span.last.checked_add(1)?.checked_next_multiple_of(size)?;
    }
    let last = first.checked_add(size - 1)?;
    if last > pool.last { None } else { IpNet::new(address(v6, first), prefix).ok() }
}

fn list(pools: &[IpNet]) -> String {
    if pools.is_empty() {
        return "the address pools (there are none)".into();
    }
    pools.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn held(subnets: &[&str]) -> Vec<AllocatedSubnet> {
        subnets
            .iter()
            .map(|s| AllocatedSubnet { subnet: s.parse().unwrap(), holder: format!("net-{s}") })
            .collect()
    }

    fn pools(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|p| p.parse().unwrap()).collect()
    }

    #[test]
    fn blocks_come_in_order_and_skip_what_is_held() {
        let pools = pools(&["10.0.0.0/8"]);
        assert_eq!(carve(&pools, 24, &[]).unwrap().to_string(), "10.0.0.0/24");
        assert_eq!(carve(&pools, 24, &held(&["10.0.0.0/24"])).unwrap().to_string(), "10.0.1.0/24");
        // A gap is filled, a larger foreign block is jumped over to the next boundary.
        assert_eq!(
            carve(&pools, 24, &held(&["10.0.0.0/24", "10.0.2.0/24"])).unwrap().to_string(),
            "10.0.1.0/24"
        );
        assert_eq!(carve(&pools, 16, &held(&["10.0.7.128/25"])).unwrap().to_string(), "10.1.0.0/16");
        // Nested holders.
        assert_eq!(
            carve(&pools, 24, &held(&["10.0.0.0/16", "10.0.3.0/24"])).unwrap().to_string(),
            "10.1.0.0/24"
        );
    }

    #[test]
    fn pools_are_used_in_turn_and_exhaustion_is_named() {
        let pools = pools(&["10.9.0.0/31", "192.168.8.0/23"]);
        let mut all = Vec::new();
        for _ in 0..2 {
            let subnet = carve(&pools, 24, &all).unwrap();
            all.push(AllocatedSubnet { subnet, holder: subnet.to_string() });
        }
        assert_eq!(all[1].subnet.to_string(), "192.168.9.0/24");
        assert_eq!(
            carve(&pools, 24, &all).unwrap_err().to_string(),
            "no free /24 left in 10.9.0.0/31, 192.168.8.0/23: 2 networks hold subnets there"
        );
    }

    #[test]
    fn ipv6_has_its_own_blocks() {
        let pools = pools(&["fd12:3456:789a::/48"]);
        let first = carve(&pools, 64, &held(&["10.0.0.0/8"])).unwrap();
        assert_eq!(first.to_string(), "fd12:3456:789a::/64");
        let second = carve(&pools, 64, &held(&["fd12:3456:789a::/64"])).unwrap();
        assert_eq!(second.to_string(), "fd12:3456:789a:1::/64");
    }

    #[test]
    fn the_end_of_the_address_space_is_no_overflow() {
        let pools = pools(&["255.255.255.0/24"]);
        assert!(carve(&pools, 25, &held(&["255.255.255.0/24"])).is_err());
        assert_eq!(
            carve(&pools, 25, &held(&["255.255.255.0/25"])).unwrap().to_string(),
            "255.255.255.128/25"
        );
    }

    proptest! {
        #[test]
        fn what_is_carved_is_free_aligned_and_in_the_pool(
            blocks in prop::collection::vec((0u32..0x4000, 18u8..30), 0..40),
            prefix in 18u8..30,
        ) {
            let pools = pools(&["10.64.0.0/16"]);
            let held: Vec<AllocatedSubnet> = blocks
                .iter()
                .map(|(offset, len)| {
                    let base = std::net::Ipv4Addr::from_bits(0x0a40_0000 + (offset << 2));
                    let subnet = IpNet::new(base.into(), *len).unwrap().trunc();
                    AllocatedSubnet { subnet, holder: "x".into() }
                })
                .collect();
            match carve(&pools, prefix, &held) {
                Ok(found) => {
                    prop_assert_eq!(found, found.trunc());
                    prop_assert!(pools[0].contains(&found));
                    prop_assert!(conflict(&found, &held).is_none());
                }
                Err(_) => {
                    let mut all = pools[0].subnets(prefix).unwrap();
                    prop_assert!(all.all(|s| conflict(&s, &held).is_some()));
                }
            }
        }
    }
}
