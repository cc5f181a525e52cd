//! Names of images: what is taken is said again as it was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use worker::runtime::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let again: Reference = reference.to_string().parse().unwrap();
        assert_eq!(again.to_string(), reference.to_string());
        assert!(!reference.name().is_empty() && !reference.repository().is_empty());
        let _ = (reference.registry(), reference.tagged(), reference.digest());
    }
});
