//! Drivers of networks, and their options.
//!
//! A driver's name and options come as text: from a command line, in Docker's JSON, on the wire. [`NetworkDriver::parse`] reads them
//! once, where they enter; behind it there are values only. A new driver is a variant with its options, and a row in [`DRIVERS`].

use std::collections::BTreeMap;

use super::Vni;
use crate::error::ApiError;

/// Overlay option: MTU of the endpoints.
pub const OPTION_MTU: &str = "com.docker.network.driver.mtu";
/// Overlay option: the VNIs to use, comma separated.
pub const OPTION_VNI: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// Overlay option: its presence asks for encryption, whatever its value.
pub const OPTION_ENCRYPTED: &str = "encrypted";

/// Options by Docker's names, as they are typed.
type Options = BTreeMap<String, String>;

/// How a network is made, with the options of that way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkDriver {
    /// Spans the nodes of the swarm, by VXLAN.
    Overlay(OverlayOptions),
}

/// Options of an overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// MTU of the endpoints, from 576 (RFC 791); none = what the smallest underlay of the nodes carries.
    pub mtu: Option<u32>,
    /// VNIs asked for. One serves all subnets here, so the first one counts. Empty = a free one.
    pub vnis: Vec<Vni>,
    /// Nothing of it may leave a node in the clear.
    pub encrypted: bool,
}

/// Where the networks of a driver are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkScope {
    /// On all nodes of a swarm that need it; made by the managers.
    Swarm,
    /// On one machine.
    Local,
}

impl NetworkScope {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Local => "local",
        }
    }
}

/// What there is to know of a driver by its name alone.
#[derive(Debug, Clone, Copy)]
pub struct DriverInfo {
    /// Docker's name.
    pub name: &'static str,
    /// Where its networks are.
    pub scope: NetworkScope,
    /// Reads the options of a network that a user makes; none where each machine has its one network of this driver and users make
    /// no other.
    parse: Option<fn(&Options) -> Result<NetworkDriver, DriverError>>,
}

/// All drivers, by name.
pub const DRIVERS: [DriverInfo; 3] = [
    DriverInfo { name: "host", scope: NetworkScope::Local, parse: None },
    DriverInfo { name: "null", scope: NetworkScope::Local, parse: None },
    DriverInfo { name: "overlay", scope: NetworkScope::Swarm, parse: Some(overlay) },
];

/// Why a driver or its options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// No network can be made with that driver.
    #[error("driver {0:?} cannot make a network that spans the swarm")]
    Driver(String),
    /// The driver has no such option.
    #[error("option {key:?} is not known to {driver} networks")]
    Option {
        /// The driver.
        driver: &'static str,
        /// The option.
        key: String,
    },
    /// Not a number, or out of range.
    #[error("invalid MTU {0:?}")]
    Mtu(String),
    /// Not a number, or out of range.
    #[error("invalid VXLAN id {0:?}")]
    Vni(String),
}

impl DriverError {
    /// The error for the one who wanted `network`.
    pub fn of(&self, network: &str) -> ApiError {
        let what = format!("network {network}: {self}");
        match self {
            Self::Driver(_) => {
                ApiError::unsupported(what).help(format!("rnctl network create -d overlay {network}"))
            }
            Self::Option { .. } => ApiError::unsupported(what)
                .help(format!("leave it out; there are {OPTION_MTU} and {OPTION_VNI}")),
            Self::Mtu(_) => {
                ApiError::invalid(what).help("it must be a number between 576 and 65535 (IPv6 needs 1280)")
            }
            Self::Vni(_) => {
                ApiError::invalid(what).help(format!("it must be a number between 1 and {}", Vni::LAST))
            }
        }
    }
}

impl Default for NetworkDriver {
    fn default() -> Self {
        Self::Overlay(OverlayOptions::default())
    }
}

impl NetworkDriver {
    /// Reads a driver and its options.
    ///
    /// # Errors
    /// Users make no networks with that driver, it has no such option, or an option has no sensible value.
    pub fn parse(driver: &str, options: &Options) -> Result<Self, DriverError> {
        match DRIVERS.iter().find(|row| row.name == driver).and_then(|row| row.parse) {
            Some(parse) => parse(options),
            None => Err(DriverError::Driver(driver.to_owned())),
        }
    }

    /// Docker's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Overlay(_) => "overlay",
        }
    }

    /// Its options by Docker's names, as the wire and users have them.
    pub fn options(&self) -> Options {
        let Self::Overlay(OverlayOptions { mtu, vnis, encrypted }) = self;
        let list = vnis.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mtu = mtu.map(|mtu| (OPTION_MTU, mtu.to_string()));
        let list = (!vnis.is_empty()).then_some((OPTION_VNI, list));
        let encrypted = encrypted.then(|| (OPTION_ENCRYPTED, String::new()));
        [mtu, list, encrypted].into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn overlay(options: &Options) -> Result<NetworkDriver, DriverError> {
    let mut read = OverlayOptions::default();
    for (key, value) in options {
        match key.as_str() {
            OPTION_MTU => match value.trim().parse() {
                Ok(mtu @ 576..=65535) => read.mtu = Some(mtu),
                _ => return Err(DriverError::Mtu(value.clone())),
            },
            OPTION_VNI => {
                let vni = |text: &str| match text.trim().parse().map(Vni) {
                    Ok(vni) if (Vni(1)..=Vni::LAST).contains(&vni) => Ok(vni),
                    _ => Err(DriverError::Vni(text.to_owned())),
                };
                read.vnis = value.split(',').map(vni).collect::<Result<_, _>>()?;
            }
            OPTION_ENCRYPTED => read.encrypted = true,
            _ => return Err(DriverError::Option { driver: "overlay", key: key.clone() }),
        }
    }
    Ok(NetworkDriver::Overlay(read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn parse(key: &str, value: &str) -> Result<NetworkDriver, DriverError> {
        NetworkDriver::parse("overlay", &[(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn options_are_read_and_written() {
        let options: Options = [(OPTION_MTU, "1400"), (OPTION_VNI, "256,257"), (OPTION_ENCRYPTED, "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let driver = NetworkDriver::parse("overlay", &options);
        let read = OverlayOptions { mtu: Some(1400), vnis: vec![Vni(256), Vni(257)], encrypted: true };
        assert_eq!(driver, Ok(NetworkDriver::Overlay(read)));
        assert_eq!(driver.map(|d| (d.name(), d.options())), Ok(("overlay", options)));
        assert_eq!(NetworkDriver::parse("overlay", &Options::new()), Ok(NetworkDriver::default()));
        assert_eq!(parse(OPTION_ENCRYPTED, "true"), parse(OPTION_ENCRYPTED, ""));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (key, value, kind, words) in [
            (
                "com.docker.network.bridge.name",
                "br0",
                Kind::Unsupported,
                "bridge.name\" is not known to overlay",
            ),
            (OPTION_MTU, "100", Kind::Invalid, "invalid MTU \"100\""),
            (OPTION_MTU, "big", Kind::Invalid, "invalid MTU"),
            (OPTION_MTU, "65536", Kind::Invalid, "invalid MTU"),
            (OPTION_VNI, "0", Kind::Invalid, "invalid VXLAN id \"0\""),
            (OPTION_VNI, "5,16777216", Kind::Invalid, "invalid VXLAN id \"16777216\""),
            (OPTION_VNI, "", Kind::Invalid, "invalid VXLAN id"),
        ] {
            let error = parse(key, value).map_err(|e| e.of("app")).err();
            let told = error
                .as_ref()
                .is_some_and(|e| e.kind == kind && e.message.contains(words) && e.help.is_some());
            assert!(told && error.is_some_and(|e| e.message.starts_with("network app: ")), "{key}={value}");
        }
        for driver in ["bridge", "host", "null", "weave", ""] {
            assert_eq!(
                NetworkDriver::parse(driver, &Options::new()),
                Err(DriverError::Driver(driver.to_owned()))
            );
        }
    }

    #[test]
    fn rows_have_the_names_of_what_they_make() {
        let made = DRIVERS.iter().filter_map(|row| Some((row.name, row.parse?(&Options::new()))));
        for (name, driver) in made {
            assert_eq!(driver.map(|d| d.name()), Ok(name));
        }
    }
}
