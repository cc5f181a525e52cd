//! How long a start takes.

use super::*;

/// Says how long each kind of step took.
struct Timed(LinuxKernel, std::sync::Mutex<std::collections::BTreeMap<String, (u32, Duration)>>);

impl Kernel for Timed {
    fn observe(&self, scope: &kernel::Scope) -> Result<kernel::Observed, kernel::KernelError> {
        let began = Instant::now();
        let seen = self.0.observe(scope);
        self.note("observe".into(), began);
        seen
    }

    fn execute(&self, step: &kernel::Step) -> Result<(), kernel::KernelError> {
        let began = Instant::now();
        let done = self.0.execute(step);
        let kind = format!("{step:?}");
        self.note(kind.split_whitespace().next().unwrap_or_default().into(), began);
        done
    }
}

impl Timed {
    fn note(&self, kind: String, began: Instant) {
        let mut times = self.1.lock().unwrap();
        let entry = times.entry(kind).or_default();
        *entry = (entry.0 + 1, entry.1 + began.elapsed());
    }
}

#[test]
fn a_sandbox_is_up_soon() {
    if !root() {
        return;
    }
    let lan = Lan::new("time", &["a"]);
    let mut a = Host::new(&lan, "a", World::seen_by("a"));
    a.world.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    a.pass(Depth::Changes);
    let timed = Arc::new(Timed(a.within(|_| LinuxKernel::new()), Default::default()));
    a.engine.as_mut().unwrap().use_kernel(timed.clone());
    let mut took = Vec::new();
    for n in 0..20u64 {
        let task = a.world.task("web", n, "a", 11 + n as u32, EndpointState::Starting);
        let sandbox = a.world.local.sandboxes[&WorkloadId::Task(task)].clone();
        let began = Instant::now();
        let request = SandboxRequest { workload: sandbox.workload, networks: sandbox.networks };
        a.engine.as_mut().unwrap().admit(request).unwrap();
        a.pass(Depth::Changes);
        took.push(began.elapsed());
    }
    took.sort();
    for (kind, (times, sum)) in timed.1.lock().unwrap().iter() {
        println!("{kind:<16} {:>3} per task {:>9.2?} each", times / 20, *sum / *times);
    }
    println!("network of a task: median {:?}, longest {:?}", took[10], took[19]);
}
