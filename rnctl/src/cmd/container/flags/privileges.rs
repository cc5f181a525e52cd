//! What a container sees of its machine.

use clap::Args;
use docker_api::container_config::{Device, DeviceRequest, HostConfig};

use crate::parse::container::{cgroupns_mode, device, gpus, ipc_mode, pid_mode, userns_mode, uts_mode};

/// Privileges. Which of them there are, the daemon says: it refuses the others by name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Privileges")]
pub struct PrivilegeFlags {
    /// All capabilities and devices
    #[arg(long)]
    privileged: bool,
    /// Device of the machine; may be repeated
    #[arg(long, value_name = "PATH[:PATH][:rwm]", value_parser = device)]
    device: Vec<Device>,
    /// GPUs: all, a number, or device=0
    #[arg(long, value_name = "GPUS", value_parser = gpus)]
    gpus: Vec<DeviceRequest>,
    /// Whose processes it sees: host, container:NAME [default: its own]
    #[arg(long, value_name = "MODE", value_parser = pid_mode)]
    pid: Option<String>,
    /// Whose shared memory it has: host, container:NAME, private, shareable, none [default: its own]
    #[arg(long, value_name = "MODE", value_parser = ipc_mode)]
    ipc: Option<String>,
    /// Whose host name it has: host [default: its own]
    #[arg(long, value_name = "MODE", value_parser = uts_mode)]
    uts: Option<String>,
    /// Whose user ids it has: host
    #[arg(long, value_name = "MODE", value_parser = userns_mode)]
    userns: Option<String>,
    /// Whose control groups it sees: private, host
    #[arg(long, value_name = "MODE", value_parser = cgroupns_mode)]
    cgroupns: Option<String>,
    /// Option of AppArmor, seccomp, SELinux; may be repeated
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl PrivilegeFlags {
    /// Sets what was given.
    pub fn apply(self, host: &mut HostConfig) {
        host.privileged = self.privileged;
        host.devices = self.device;
        host.device_requests = self.gpus;
        host.pid_mode = self.pid.unwrap_or_default();
        host.ipc_mode = self.ipc.unwrap_or_default();
        host.uts_mode = self.uts.unwrap_or_default();
        host.userns_mode = self.userns.unwrap_or_default();
        host.cgroupns_mode = self.cgroupns.unwrap_or_default();
        host.security_opt = self.security_opt;
    }
}
