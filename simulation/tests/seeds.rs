//! The simulation as `make test` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Output};

fn rn_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rn-sim")).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_hundred_seeds_keep_the_rules() {
    let output = rn_sim(&["--seeds", "100"]);
    println!("{}", text(&output));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kinds =
        ["kill -9", "power", "partition", "delay", "loss", "reorder", "disk full", "clock skew", "freeze"];
    for kind in kinds.into_iter().chain(["mild seeds", "terms of a former leader"]) {
        assert!(text(&output).contains(kind), "there was no {kind}");
    }
}

#[test]
fn a_seed_is_replayed_exactly() {
    for seed in ["3", "16"] {
        let told = [(), ()].map(|()| text(&rn_sim(&["--seed", seed])));
        assert!(told[0].contains("digest "));
        assert_eq!(told[0], told[1]);
    }
}

/// A simulation that cannot fail shows nothing: with disks that say to have synced and have not, it must.
#[test]
fn lying_disks_are_found_out() {
    let output = rn_sim(&["--seeds", "30", "--lying-disks"]);
    println!("{}", text(&output));
    assert!(!output.status.success());
    assert!(text(&output).contains("(invariant "));
}
