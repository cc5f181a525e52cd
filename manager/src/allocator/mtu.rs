//! The MTU of an overlay: decided once, for all its endpoints.

use proto::model::{Network, NetworkDriver, Node, OverlayOptions};

use crate::store::state::State;

/// What a node's underlay is taken to carry before it has told.
const ETHERNET: u32 = 1500;
/// IPv4 header 20, UDP 8, VXLAN 8, inner Ethernet header 14 (RFC 7348).
const VXLAN_OVER_V4: u32 = 50;
/// The same with an IPv6 header of 40.
const VXLAN_OVER_V6: u32 = 70;
/// ESP in transport mode with AES-GCM and a 64-bit ICV (RFC 4106): SPI and sequence number 8, IV 8, ICV 8, trailer 2.
/// Its payload is padded to a multiple of four.
const ESP: u32 = 26;

/// The largest MTU that an overlay can have over an underlay of `underlay` bytes.
fn carried(underlay: u32, over_v6: bool, encrypted: bool) -> u32 {
    let overhead = if over_v6 { VXLAN_OVER_V6 } else { VXLAN_OVER_V4 };
    let plain = underlay.saturating_sub(overhead);
    if !encrypted {
        return plain;
    }
    // Inside ESP: UDP, VXLAN, the inner frame and the trailer, aligned to four bytes.
    let inner = overhead - if over_v6 { 40 } else { 20 };
    let sealed = plain.saturating_sub(ESP);
    sealed - (sealed + inner + 2) % 4
}

/// The MTU for a new overlay: what its options say, else what the smallest underlay among the nodes carries.
pub(super) fn choose(options: &OverlayOptions, state: &State) -> u32 {
    if let Some(mtu) = options.mtu {
        return mtu;
    }
    let described = || state.nodes.values().filter_map(|n| n.description.as_ref());
    let underlay = described().map(|d| d.underlay_mtu).filter(|mtu| *mtu != 0).min().unwrap_or(ETHERNET);
    let over_v6 = described().any(|d| d.data_path_addr.is_some_and(|a| a.is_ipv6()));
    carried(underlay, over_v6, options.encrypted)
}

/// The largest MTU of `network` that `node` can carry; none while the node has not told its underlay.
pub fn overlay_mtu(node: &Node, network: &Network) -> Option<u32> {
    let description = node.description.as_ref().filter(|d| d.underlay_mtu != 0)?;
    let over_v6 = description.data_path_addr.is_some_and(|a| a.is_ipv6());
    let NetworkDriver::Overlay(options) = &network.spec.driver;
    Some(carried(description.underlay_mtu, over_v6, options.encrypted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overheads_are_exact() {
        assert_eq!(carried(1500, false, false), 1450);
        assert_eq!(carried(1500, true, false), 1430);
        assert_eq!(carried(1500, false, true), 1424, "as Swarm's");
        assert_eq!(carried(9000, false, false), 8950);
        for underlay in 1400..1600 {
            for over_v6 in [false, true] {
                let mtu = carried(underlay, over_v6, true);
                let header = if over_v6 { 40 } else { 20 };
                let packet = |mtu: u32| header + 16 + (8 + 8 + 14 + mtu + 2).next_multiple_of(4) + 8;
                assert!(packet(mtu) <= underlay && packet(mtu + 4) > underlay, "{underlay} {mtu}");
            }
        }
    }
}
