//! The data plane: agent, gossip, planners, kernel, container runtime and DNS.
