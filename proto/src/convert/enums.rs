//! Enumerations. An unknown number from a newer peer becomes the default where that is safe, else an error.

use super::{Malformed, Result};
use crate::{model, pb};

macro_rules! enums {
    ($($model:ident: $field:literal { $($variant:ident),* $(,)? } $(else $default:ident)?;)*) => {$(
        impl From<model::$model> for pb::$model {
            fn from(value: model::$model) -> Self {
                match value { $(model::$model::$variant => pb::$model::$variant),* }
            }
        }

        impl From<model::$model> for i32 {
            fn from(value: model::$model) -> i32 {
                pb::$model::from(value) as i32
            }
        }

        impl TryFrom<pb::$model> for model::$model {
            type Error = Malformed;

            fn try_from(value: pb::$model) -> Result<Self> {
                #[allow(unreachable_patterns)]
                match value {
                    $(pb::$model::$variant => Ok(model::$model::$variant),)*
                    $(pb::$model::Unspecified => Ok(model::$model::$default),)?
                    #[allow(unreachable_patterns)]
                    other => Err(Malformed { field: $field, reason: format!("{other:?}") }),
                }
            }
        }

        impl model::$model {
            /// Reads the wire's number.
            pub fn from_wire(number: i32) -> Result<Self> {
                pb::$model::try_from(number)
                    .map_err(|_| Malformed { field: $field, reason: format!("unknown value {number}") })?
                    .try_into()
            }
        }
    )*};
}

enums! {
    Role: "role" { Worker, Manager } else Worker;
    Availability: "availability" { Active, Pause, Drain } else Active;
    NodeState: "node state" { Unknown, Down, Ready, Disconnected };
    Reachability: "reachability" { Unknown, Unreachable, Reachable };
    Protocol: "protocol" { Tcp, Udp, Sctp } else Tcp;
    PublishMode: "publish mode" { Ingress, Host } else Ingress;
    RestartCondition: "restart condition" { None, OnFailure, Any } else Any;
    UpdateOrder: "update order" { StopFirst, StartFirst } else StopFirst;
    UpdateState: "update state" {
        Updating, Paused, Completed, RollbackStarted, RollbackPaused, RollbackCompleted,
    };
    FailureAction: "failure action" { Pause, Continue, Rollback } else Pause;
    TaskState: "task state" {
        New, Pending, Assigned, Accepted, Preparing, Ready, Starting, Running, Complete, Shutdown, Failed, Rejected,
        Remove, Orphaned,
    };
}

// The generated name differs (`Dnsrr`), so this one is written out.
impl From<model::EndpointMode> for i32 {
    fn from(value: model::EndpointMode) -> i32 {
        match value {
            model::EndpointMode::Vip => pb::EndpointMode::Vip as i32,
            model::EndpointMode::DnsRr => pb::EndpointMode::Dnsrr as i32,
        }
    }
}

impl model::EndpointMode {
    /// Reads the wire's number.
    pub fn from_wire(number: i32) -> Result<Self> {
        match pb::EndpointMode::try_from(number) {
            Ok(pb::EndpointMode::Vip | pb::EndpointMode::Unspecified) => Ok(Self::Vip),
            Ok(pb::EndpointMode::Dnsrr) => Ok(Self::DnsRr),
            Err(_) => Err(Malformed { field: "endpoint mode", reason: format!("unknown value {number}") }),
        }
    }
}

impl From<model::KeySubsystem> for String {
    fn from(value: model::KeySubsystem) -> String {
        match value {
            model::KeySubsystem::Gossip => "gossip".into(),
            model::KeySubsystem::Data => "data".into(),
        }
    }
}

impl std::str::FromStr for model::KeySubsystem {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "gossip" => Ok(Self::Gossip),
            "data" => Ok(Self::Data),
            other => Err(Malformed { field: "subsystem", reason: format!("{other:?}") }),
        }
    }
}
