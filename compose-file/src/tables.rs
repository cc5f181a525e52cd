//! The keys of compose files, since which version each is known, and what each holds.

use crate::schema::{
    Field, Fields, NEVER,
    Shape::{
        self, Anything, Boolean, Duration, Integer, List, Mapping, Named, Null, Number, OneOf, Ports, Set,
        Text, Word,
    },
};

const fn since(minor: u8, name: &'static str, shape: Shape) -> Field {
    Field { name, since: minor, shape }
}

const fn key(name: &'static str, shape: Shape) -> Field {
    since(0, name, shape)
}

/// A mapping that has no other keys.
const fn closed(known: &'static [Field]) -> Fields {
    Fields { known, required: &[], extensions: NEVER, open: NEVER }
}

/// A mapping whose other keys are not looked at.
const fn open(known: &'static [Field]) -> Fields {
    Fields { known, required: &[], extensions: 0, open: 0 }
}

/// A mapping that may have keys with `x-`.
const fn extensible(known: &'static [Field]) -> Fields {
    Fields { known, required: &[], extensions: 7, open: NEVER }
}

const TEXTS: Shape = Set(&Text);
const TEXT_OR_LIST: Shape = OneOf(&[Text, TEXTS]);
const COMMAND: Shape = OneOf(&[Text, List(&Text)]);
const SCALAR: Shape = OneOf(&[Text, Number]);
const LIST_OR_MAP: Shape = OneOf(&[Mapping(&OneOf(&[Text, Number, Null])), TEXTS]);
const OPTIONS: Shape = Mapping(&SCALAR);

/// All of a file.
pub(crate) static FILE: Fields = Fields {
    known: &[
        key("version", Text),
        key("services", Named(&Shape::Fields(&SERVICE))),
        key("networks", Named(&OneOf(&[Shape::Fields(&NETWORK), Null]))),
        key("volumes", Named(&OneOf(&[Shape::Fields(&VOLUME), Null]))),
        since(1, "secrets", Named(&Shape::Fields(&SECRET))),
        since(3, "configs", Named(&Shape::Fields(&CONFIG))),
    ],
    required: &[],
    extensions: 4,
    open: NEVER,
};

static SERVICE: Fields = extensible(&[
    key("deploy", OneOf(&[Shape::Fields(&DEPLOY), Null])),
    key("build", OneOf(&[Text, Shape::Fields(&BUILD)])),
    key("cap_add", TEXTS),
    key("cap_drop", TEXTS),
    since(9, "cgroupns_mode", Text),
    key("cgroup_parent", Text),
    key("command", COMMAND),
    since(3, "configs", List(&OneOf(&[Text, Shape::Fields(&FILE_REFERENCE)]))),
    key("container_name", Text),
    since(3, "credential_spec", Shape::Fields(&CREDENTIAL_SPEC)),
    key("depends_on", TEXTS),
    key("devices", TEXTS),
    key("dns", TEXT_OR_LIST),
    key("dns_search", TEXT_OR_LIST),
    key("domainname", Text),
    key("entrypoint", COMMAND),
    key("env_file", TEXT_OR_LIST),
    key("environment", LIST_OR_MAP),
    key("expose", Set(&SCALAR)),
    key("external_links", TEXTS),
    key("extra_hosts", LIST_OR_MAP),
    key("healthcheck", Shape::Fields(&HEALTHCHECK)),
    key("hostname", Text),
    key("image", Text),
    since(7, "init", Boolean),
    key("ipc", Text),
    since(5, "isolation", Text),
    key("labels", LIST_OR_MAP),
    key("links", TEXTS),
    key("logging", Shape::Fields(&LOGGING)),
    key("mac_address", Text),
    key("network_mode", Text),
    key("networks", OneOf(&[TEXTS, Named(&OneOf(&[Shape::Fields(&SERVICE_NETWORK), Null]))])),
    since(13, "oom_score_adj", Integer),
    key("pid", OneOf(&[Text, Null])),
    key("ports", Set(&OneOf(&[Ports, Shape::Fields(&PORT)]))),
    key("privileged", Boolean),
    key("read_only", Boolean),
    key("restart", Text),
    since(1, "secrets", List(&OneOf(&[Text, Shape::Fields(&FILE_REFERENCE)]))),
    key("security_opt", TEXTS),
    key("shm_size", SCALAR),
    key("stdin_open", Boolean),
    key("stop_grace_period", Duration),
    key("stop_signal", Text),
    key("sysctls", LIST_OR_MAP),
    key("tmpfs", TEXT_OR_LIST),
    key("tty", Boolean),
    key("ulimits", Mapping(&OneOf(&[Integer, Shape::Fields(&ULIMIT)]))),
    key("user", Text),
    key("userns_mode", Text),
    key("volumes", Set(&OneOf(&[Text, Shape::Fields(&SERVICE_VOLUME)]))),
    key("working_dir", Text),
]);

static BUILD: Fields = Fields {
    known: &[
        key("context", Text),
        key("dockerfile", Text),
        key("args", LIST_OR_MAP),
        since(2, "cache_from", TEXTS),
        since(3, "labels", LIST_OR_MAP),
        since(4, "network", Text),
        since(4, "target", Text),
        since(5, "shm_size", SCALAR),
        since(9, "extra_hosts", LIST_OR_MAP),
    ],
    required: &[],
    extensions: NEVER,
    open: 11,
};

static FILE_REFERENCE: Fields = open(&[
    key("source", Text),
    key("target", Text),
    key("uid", Text),
    key("gid", Text),
    key("mode", Number),
]);

static CREDENTIAL_SPEC: Fields =
    closed(&[since(8, "config", Text), key("file", Text), key("registry", Text)]);

static HEALTHCHECK: Fields = closed(&[
    key("disable", Boolean),
    key("interval", Duration),
    key("retries", Number),
    key("test", COMMAND),
    key("timeout", Duration),
    since(4, "start_period", Duration),
    since(12, "start_interval", Duration),
]);

static LOGGING: Fields =
    closed(&[key("driver", Text), key("options", Mapping(&OneOf(&[Text, Number, Null])))]);

static SERVICE_NETWORK: Fields = closed(&[
    key("aliases", TEXTS),
    since(13, "driver_opts", OPTIONS),
    key("ipv4_address", Text),
    key("ipv6_address", Text),
]);

static PORT: Fields =
    closed(&[key("mode", Text), key("target", Integer), key("published", Integer), key("protocol", Text)]);

static ULIMIT: Fields = Fields {
    known: &[key("hard", Integer), key("soft", Integer)],
    required: &["soft", "hard"],
    extensions: NEVER,
    open: NEVER,
};

static SERVICE_VOLUME: Fields = Fields {
    known: &[
        key("type", Text),
        key("source", Text),
        key("target", Text),
        key("read_only", Boolean),
        key("consistency", Text),
        key("bind", Shape::Fields(&BIND)),
        key("volume", Shape::Fields(&VOLUME_OPTIONS)),
        since(6, "tmpfs", Shape::Fields(&TMPFS)),
    ],
    required: &["type"],
    extensions: NEVER,
    open: NEVER,
};

static BIND: Fields = open(&[key("propagation", Text)]);
static VOLUME_OPTIONS: Fields = open(&[key("nocopy", Boolean), key("subpath", Text)]);
static TMPFS: Fields = open(&[key("size", Integer)]);

static DEPLOY: Fields = closed(&[
    key("mode", Text),
    since(2, "endpoint_mode", Text),
    key("replicas", Integer),
    key("labels", LIST_OR_MAP),
    since(7, "rollback_config", Shape::Fields(&UPDATE_CONFIG)),
    key("update_config", Shape::Fields(&UPDATE_CONFIG)),
    key("resources", Shape::Fields(&RESOURCES)),
    key("restart_policy", Shape::Fields(&RESTART_POLICY)),
    key("placement", Shape::Fields(&PLACEMENT)),
]);

static UPDATE_CONFIG: Fields = closed(&[
    key("parallelism", Integer),
    key("delay", Duration),
    key("failure_action", Text),
    key("monitor", Duration),
    key("max_failure_ratio", Number),
    since(4, "order", Word(&["start-first", "stop-first"])),
]);

static RESOURCES: Fields =
    closed(&[key("limits", Shape::Fields(&LIMITS)), key("reservations", Shape::Fields(&RESERVATIONS))]);

static LIMITS: Fields = closed(&[key("cpus", Text), key("memory", Text), since(9, "pids", Integer)]);

static RESERVATIONS: Fields = closed(&[
    key("cpus", Text),
    key("memory", Text),
    since(5, "generic_resources", List(&Shape::Fields(&GENERIC_RESOURCE))),
]);

static GENERIC_RESOURCE: Fields = closed(&[key("discrete_resource_spec", Shape::Fields(&DISCRETE_RESOURCE))]);
static DISCRETE_RESOURCE: Fields = closed(&[key("kind", Text), key("value", Number)]);

static RESTART_POLICY: Fields = closed(&[
    key("condition", Text),
    key("delay", Duration),
    key("max_attempts", Integer),
    key("window", Duration),
]);

static PLACEMENT: Fields = closed(&[
    key("constraints", List(&Text)),
    since(3, "preferences", List(&Shape::Fields(&PREFERENCE))),
    since(8, "max_replicas_per_node", Integer),
]);

static PREFERENCE: Fields = closed(&[key("spread", Text)]);

static EXTERNAL: Fields = closed(&[key("name", Text)]);
const EXTERNAL_OR_BOOLEAN: Shape = OneOf(&[Boolean, Shape::Fields(&EXTERNAL)]);

static NETWORK: Fields = extensible(&[
    since(5, "name", Text),
    key("driver", Text),
    key("driver_opts", OPTIONS),
    key("ipam", Shape::Fields(&IPAM)),
    key("external", EXTERNAL_OR_BOOLEAN),
    key("internal", Boolean),
    since(2, "attachable", Boolean),
    key("labels", LIST_OR_MAP),
]);

static IPAM: Fields = closed(&[key("driver", Text), key("config", List(&Shape::Fields(&IPAM_SUBNET)))]);
static IPAM_SUBNET: Fields = closed(&[key("subnet", Text)]);

static VOLUME: Fields = extensible(&[
    since(4, "name", Text),
    key("driver", Text),
    key("driver_opts", OPTIONS),
    key("external", EXTERNAL_OR_BOOLEAN),
    since(1, "labels", LIST_OR_MAP),
    since(10, "x-cluster-spec", Anything),
]);

static SECRET: Fields = extensible(&[
    since(5, "name", Text),
    key("file", Text),
    key("external", EXTERNAL_OR_BOOLEAN),
    key("labels", LIST_OR_MAP),
    since(8, "driver", Text),
    since(8, "driver_opts", OPTIONS),
    since(8, "template_driver", Text),
]);

static CONFIG: Fields = extensible(&[
    since(5, "name", Text),
    key("file", Text),
    key("external", EXTERNAL_OR_BOOLEAN),
    key("labels", LIST_OR_MAP),
    since(8, "template_driver", Text),
]);
