//! Our own tables on a real kernel: laid down from what was read back, as by `nft` the first time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use kernel::{
    Kernel, LinuxKernel, Ns, Step,
    netns::{self, Scratch},
};
use network::plan::rulesets;

#[test]
fn a_sandbox_table_laid_down_a_second_time_is_the_same() {
    if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
        return;
    }
    let list = |ns: &Ns, family: &str, table: &str| {
        let list = || Command::new("nft").args(["-n", "-n", "list", "table", family, table]).output();
        let output = netns::in_ns(ns, list).unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let lay_twice = || {
        let (dir, kernel) = (tempfile::tempdir().unwrap(), LinuxKernel::new());
        let spaces = ["a", "b", "c"].map(|name| dir.path().join(name));
        let ruleset = rulesets::sandbox();
        let laid = spaces.each_ref().map(|path| {
            kernel.execute(&Step::CreateNetns { path: path.clone() }).unwrap();
            let ns = Ns::Path(path.clone());
            kernel.execute(&Step::ApplyRuleset { ns: ns.clone(), ruleset: ruleset.clone() }).unwrap();
            list(&ns, &ruleset.family.to_string(), &ruleset.table)
        });
        for path in spaces {
            kernel.execute(&Step::DeleteNetns { path }).unwrap();
        }
        laid
    };
    let [first, second, third] = Scratch::new().unwrap().run(lay_twice).unwrap();
    assert!(first.contains("chain"), "{first}");
    assert_eq!((&second, &third), (&first, &first));
}
