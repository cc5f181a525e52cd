//! Names and numbers of what a daemon makes, so that everything ours can be told from everything else, and several daemons
//! can share a machine.

use proto::model::Mac;

use crate::workload::WorkloadId;

/// Names that a daemon gives to kernel objects. Interface names have 15 characters at most (IFNAMSIZ).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Id of the daemon, kept in its data root.
    pub daemon: String,
    /// The gateway bridge.
    pub gateway_bridge: String,
    /// The mesh's VXLAN device.
    pub mesh_device: String,
    /// Table of the gateway bridge: masquerade, isolation, host-mode ports.
    pub gateway_table: String,
    /// Tables (`inet` and `netdev`) of the mesh.
    pub mesh_table: String,
    /// Table that says who may send VXLAN here.
    pub vxlan_table: String,
    /// Routing table of the mesh, reached by mark alone.
    pub mesh_routes: u32,
}

impl Names {
    /// The well-known names: for the only daemon, or the first, in a network namespace.
    pub fn well_known(daemon: &str) -> Self {
        Self {
            daemon: daemon.to_owned(),
            gateway_bridge: "rn_gwbridge".into(),
            mesh_device: "rn-ingress".into(),
            gateway_table: "rn-gateway".into(),
            mesh_table: "rn-mesh".into(),
            vxlan_table: "rn-vxlan".into(),
            mesh_routes: 0x726e, // "rn"
        }
    }

    /// Names of a daemon that shares its network namespace with another one.
    pub fn shared(daemon: &str) -> Self {
        let hash = u32::try_from(fnv1a(&[daemon]) >> 32).unwrap_or_default();
        let tag = format!("{hash:08x}");
        Self {
            daemon: daemon.to_owned(),
            gateway_bridge: format!("rngw-{tag}"),
            mesh_device: format!("rnin-{tag}"),
            gateway_table: format!("rn-gateway-{tag}"),
            mesh_table: format!("rn-mesh-{tag}"),
            vxlan_table: format!("rn-vxlan-{tag}"),
            mesh_routes: 0x726e_0000 | (hash & 0xffff),
        }
    }

    /// The end, in the host's namespace, of a sandbox's leg on the gateway bridge.
    pub fn gateway_port(&self, workload: &WorkloadId) -> String {
        format!("rng{:012x}", fnv1a(&[&self.daemon, workload.as_str()]) >> 16)
    }

    /// The end, in the overlay's namespace, of a sandbox's leg on that overlay.
    pub fn overlay_port(&self, workload: &WorkloadId) -> String {
        format!("rno{:012x}", fnv1a(&[&self.daemon, workload.as_str()]) >> 16)
    }
}

/// FNV-1a, 64 bits, of the parts with a separator.
pub(crate) fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|p| p.bytes().chain(std::iter::once(0xff)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// How the mesh marks packets and connections. Only the bits in `mask` say whose a mark is, so other software's marks pass
/// untouched; the bits outside it name, on connections that came from another node, that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    mask: u32,
    value: u32,
}

impl Default for Marks {
    /// `0x52` in the low byte.
    fn default() -> Self {
        Self { mask: 0xff, value: 0x52 }
    }
}

impl Marks {
    /// Marks that have `value` in the bits of `mask`. The lowest bit of the mask is kept for the direction, and 24 bits must
    /// be left for the node: none if `mask` has fewer than 2 or more than 8 bits, or `value` has bits outside it.
    pub fn new(mask: u32, value: u32) -> Option<Self> {
        let marks = Self { mask, value };
        let fits = (2..=8).contains(&mask.count_ones()) && value & !mask == 0;
        (fits && value != 0 && value & marks.direction() == 0).then_some(marks)
    }

    fn direction(self) -> u32 {
        self.mask & self.mask.wrapping_neg()
    }

    /// The bits that say whether a mark is ours, and its direction.
    pub fn mask(self) -> u32 {
        self.mask
    }

    /// A flow that entered the mesh on this node.
    pub fn entered(self) -> u32 {
        self.value
    }

    /// A flow that came through the mesh from another node, without the node.
    pub fn came(self) -> u32 {
        self.value | self.direction()
    }

    /// A flow that came through the mesh from the node with this MAC on `ingress`: its low 24 bits, in the free bits.
    pub fn from_node(self, mac: Mac) -> u32 {
        let [.., a, b, c] = mac.0;
        let mut number = u32::from_be_bytes([0, a, b, c]);
        let mut mark = self.came();
        for bit in (0..32).map(|n| 1u32 << n).filter(|bit| self.mask & bit == 0) {
            if number & 1 == 1 {
                mark |= bit;
            }
            number >>= 1;
        }
        mark
    }

    /// The conntrack zone of flows from the node with this MAC on `ingress`: its low 16 bits, all that tells nodes apart in
    /// an ingress subnet of up to 65,536 addresses.
    pub fn zone(mac: Mac) -> u16 {
        let [.., a, b] = mac.0;
        u16::from_be_bytes([a, b])
    }

    /// Value and mask of the routing rule that catches both directions.
    pub fn rule(self) -> (u32, u32) {
        (self.value, self.mask & !self.direction())
    }
}

/// Preference of the rule that leads there: after `local` (0), before all that others usually have.
pub const MESH_RULE_PREF: u32 = 90;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proto::model::ContainerId;

    use super::*;

    #[test]
    fn interface_names_fit() {
        let id = WorkloadId::Container(ContainerId::random());
        for names in [Names::well_known("d1"), Names::shared("d1")] {
            for name in [
                &names.gateway_bridge,
                &names.mesh_device,
                &names.gateway_port(&id),
                &names.overlay_port(&id),
            ] {
                assert!(name.len() <= 15, "{name}");
            }
        }
        assert_ne!(Names::shared("d1").gateway_bridge, Names::shared("d2").gateway_bridge);
    }

    #[test]
    fn marks_keep_to_their_bits() {
        let marks = Marks::default();
        assert_eq!(marks.entered(), 0x52);
        assert_eq!(marks.came(), 0x53);
        assert_eq!(marks.from_node("02:42:0a:00:01:02".parse().unwrap()), 0x0001_0253);
        assert_eq!(Marks::zone("02:42:0a:00:01:02".parse().unwrap()), 0x0102);
        assert_eq!(marks.rule(), (0x52, 0xfe));
        let high = Marks::new(0xff00_0000, 0x5200_0000).unwrap();
        assert_eq!(high.from_node("02:42:0a:00:01:02".parse().unwrap()), 0x5300_0102);
        assert_eq!(Marks::new(0xff, 0x53), None);
        assert_eq!(Marks::new(0xffff, 0x52), None);
    }
}
