//! Containers and sandboxes in memory.

use super::*;

/// Containers in memory. What was done is written down.
#[derive(Default)]
pub(super) struct FakeRuntime {
    pub(super) containers: Mutex<BTreeMap<ContainerId, (ContainerRecord, watch::Sender<ContainerState>)>>,
    pub(super) log: Mutex<Vec<String>>,
    pub(super) ignores_term: bool,
    /// How many containers may be created; none: any number.
    pub(super) creating: Option<Arc<Semaphore>>,
    /// Exit code of what is exec'd.
    pub(super) check: Mutex<i32>,
}

impl FakeRuntime {
    pub(super) fn note(&self, what: &str) {
        self.log.lock().unwrap().push(what.to_owned());
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn exit(&self, code: i32) {
        for (_, state) in self.containers.lock().unwrap().values() {
            state.send_replace(ContainerState::Exited(ExitStatus { code, ..ExitStatus::default() }));
        }
    }

    pub(super) fn put(&self, task: &Task, state: ContainerState) {
        let config = ContainerConfig {
            id: ContainerId::random(),
            name: task.name(),
            task: Some(TaskRef {
                task: task.id.clone(),
                service: task.service_id.clone(),
                service_name: task.service_name.clone(),
                node: id("a"),
            }),
            spec: task.spec.container.clone(),
            limits: Default::default(),
            netns: Some("/netns".into()),
            addrs: Vec::new(),
            search: Vec::new(),
            files: Vec::new(),
        };
        self.insert(config, state);
    }

    pub(super) fn insert(&self, config: ContainerConfig, state: ContainerState) -> Container {
        let record = ContainerRecord {
            hostname: config.id.short().to_owned(),
            id: config.id.clone(),
            name: config.name,
            task: config.task,
            image: config.spec.image,
            image_id: String::new(),
            command: Vec::new(),
            labels: BTreeMap::new(),
            created_at: 0,
            netns: config.netns,
            stop_signal: 15,
            stop_grace_ms: 100,
            tty: false,
            health: config.spec.healthcheck.as_ref().map(|h| HealthCheck {
                args: h.test.clone(),
                interval: Duration::from_millis(20),
                timeout: Duration::from_secs(1),
                retries: 2,
                start_period: Duration::ZERO,
                start_interval: Duration::ZERO,
            }),
        };
        let sender = watch::Sender::new(state.clone());
        self.containers.lock().unwrap().insert(config.id, (record.clone(), sender));
        Container { record, state, paused: false }
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn resolve_image(&self, reference: &str) -> RuntimeResult<Image> {
        if reference == "missing" {
            return Err(RuntimeError::NoSuchImage { image: reference.into(), why: String::new() });
        }
        if reference == "stalled" {
            // Its registry has taken the connection, and says nothing.
            std::future::pending::<()>().await;
        }
        Ok(fake_image(reference))
    }

    async fn create(&self, config: ContainerConfig) -> RuntimeResult<Container> {
        self.note("create");
        if let Some(creating) = &self.creating {
            creating.acquire().await.unwrap().forget();
        }
        Ok(self.insert(config, ContainerState::Created { pid: 7 }))
    }

    async fn start(&self, id: &ContainerId) -> RuntimeResult<i32> {
        self.note("start");
        let containers = self.containers.lock().unwrap();
        let (record, state) =
            containers.get(id).ok_or_else(|| RuntimeError::NoSuchContainer(id.to_string()))?;
        if record.image == "broken" {
            return Err(RuntimeError::Create("exec: no such file".into()));
        }
        state.send_replace(ContainerState::Running { pid: 7, started_at: 1 });
        Ok(7)
    }

    async fn signal(&self, id: &ContainerId, signal: i32) -> RuntimeResult<()> {
        self.note(&format!("signal {signal}"));
        if signal == 9 || !self.ignores_term {
            let containers = self.containers.lock().unwrap();
            let status = ExitStatus { code: 128 + signal, ..ExitStatus::default() };
            containers[id].1.send_replace(ContainerState::Exited(status));
        }
        Ok(())
    }

    fn watch(&self, id: &ContainerId) -> RuntimeResult<watch::Receiver<ContainerState>> {
        let containers = self.containers.lock().unwrap();
        containers
            .get(id)
            .map(|c| c.1.subscribe())
            .ok_or_else(|| RuntimeError::NoSuchContainer(id.to_string()))
    }

    async fn delete(&self, id: &ContainerId, _: bool) -> RuntimeResult<()> {
        self.note("delete");
        self.containers.lock().unwrap().remove(id);
        Ok(())
    }

    fn list(&self) -> Vec<Container> {
        let containers = self.containers.lock().unwrap();
        containers
            .values()
            .map(|(r, s)| Container { record: r.clone(), state: s.borrow().clone(), paused: false })
            .collect()
    }

    async fn inspect(&self, id: &ContainerId) -> RuntimeResult<ContainerDetail> {
        Err(RuntimeError::NoSuchContainer(id.to_string()))
    }

    async fn exec(&self, _: &ContainerId, _: ExecConfig) -> RuntimeResult<ExecSession> {
        // What checks of health get to see; its pipes are those of a program that says a word.
        let mut child = tokio::process::Command::new("echo")
            .arg("checked")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .map_err(|e| RuntimeError::Create(e.to_string()))?;
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        child.wait().await.unwrap();
        let (sender, exit) = tokio::sync::oneshot::channel();
        let code = *self.check.lock().unwrap();
        sender.send(code).unwrap();
        Ok(ExecSession { io: ExecIo::Pipes { stdin: None, stdout, stderr }, keeper: None, exit })
    }

    async fn logs(
        &self,
        id: &ContainerId,
        _: LogOptions,
    ) -> RuntimeResult<BoxStream<'static, RuntimeResult<LogLine>>> {
        Err(RuntimeError::NoSuchContainer(id.to_string()))
    }

    async fn park(&self, _: &ContainerId, _: &str, _: Vec<OwnedFd>) -> RuntimeResult<()> {
        Ok(())
    }

    async fn unpark(&self, _: &ContainerId, _: &str) -> RuntimeResult<Vec<OwnedFd>> {
        Ok(Vec::new())
    }
}

fn fake_image(reference: &str) -> Image {
    Image {
        id: "sha256:0".into(),
        digests: Vec::new(),
        tags: vec![reference.into()],
        created_at: 0,
        size: 0,
        config_json: String::new(),
        document: Default::default(),
        layers: Vec::new(),
    }
}

/// Sandboxes in memory.
#[derive(Default)]
pub(super) struct FakeNetwork {
    pub(super) up: Mutex<BTreeSet<WorkloadId>>,
    pub(super) log: Mutex<Vec<String>>,
    pub(super) listening: FakeSockets,
}

/// What tasks listen on, and how often that was looked at; none = nobody can tell.
#[derive(Clone, Default)]
pub(super) struct FakeSockets(pub(super) Arc<Mutex<(Option<BTreeSet<Port>>, usize)>>);

impl Sockets for FakeSockets {
    fn ports(&mut self, _: Protocol) -> Result<BTreeSet<Port>, String> {
        let mut seen = self.0.lock().unwrap();
        seen.1 += 1;
        seen.0.clone().ok_or_else(|| "the module inet_diag is missing".into())
    }
}

#[async_trait]
impl Network for FakeNetwork {
    async fn up(&self, workload: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        self.log.lock().unwrap().push("up".into());
        if workload.name.starts_with("conflict.") {
            let conflict = network::reconciler::PortConflict {
                protocol: Protocol::Tcp,
                port: 8080,
                wanted_by: workload.name.clone(),
                holder: Some("nginx (pid 12)".into()),
                reason: "Address already in use".into(),
            };
            return Err(NetworkError::Sandbox(conflict.into()));
        }
        self.up.lock().unwrap().insert(workload.id.clone());
        Ok(TaskNetwork { netns: Some("/netns".into()), addrs: Vec::new(), host_ports: Vec::new() })
    }

    async fn created(&self, _: &Arc<Workload>, _: &ContainerId) {}

    async fn adopt(&self, workload: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        self.log.lock().unwrap().push("adopt".into());
        self.up.lock().unwrap().insert(workload.id.clone());
        Ok(TaskNetwork { netns: Some("/netns".into()), addrs: Vec::new(), host_ports: Vec::new() })
    }

    async fn sockets(&self, _: Option<&Path>, _: i32) -> Result<Box<dyn Sockets>, String> {
        Ok(Box::new(self.listening.clone()))
    }

    async fn down(&self, workload: &WorkloadId) {
        self.log.lock().unwrap().push("down".into());
        self.up.lock().unwrap().remove(workload);
    }
}
