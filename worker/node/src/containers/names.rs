//! Names for containers that were given none: a quality and a bird, as easy to say as to tell apart.

use rand::seq::IndexedRandom;

const QUALITIES: [&str; 32] = [
    "amber", "brisk", "calm", "candid", "civil", "clever", "cosy", "crisp", "deft", "eager", "fair", "fleet",
    "frank", "gentle", "glad", "hardy", "honest", "jolly", "keen", "kind", "lively", "lucid", "mellow",
    "merry", "nimble", "patient", "prompt", "quiet", "steady", "sunny", "tidy", "witty",
];
const BIRDS: [&str; 32] = [
    "avocet",
    "bunting",
    "chough",
    "crake",
    "curlew",
    "dipper",
    "dunlin",
    "egret",
    "fieldfare",
    "gannet",
    "godwit",
    "grebe",
    "heron",
    "hoopoe",
    "ibis",
    "jackdaw",
    "kestrel",
    "knot",
    "lapwing",
    "linnet",
    "merlin",
    "oriole",
    "osprey",
    "petrel",
    "pipit",
    "plover",
    "redstart",
    "siskin",
    "swift",
    "tern",
    "wagtail",
    "wren",
];

/// One that is not taken.
pub(super) fn free(taken: impl Fn(&str) -> bool) -> String {
    let mut rng = rand::rng();
    for attempt in 0u32.. {
        let (quality, bird) = (QUALITIES.choose(&mut rng), BIRDS.choose(&mut rng));
        let mut name = format!("{}_{}", quality.unwrap_or(&"plain"), bird.unwrap_or(&"bird"));
        if attempt > 3 {
            name.push_str(&attempt.to_string());
        }
        if !taken(&name) {
            return name;
        }
    }
    String::new()
}
