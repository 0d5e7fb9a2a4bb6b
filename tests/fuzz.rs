//! The fuzz targets' properties as plain tests: over the committed corpora and over seeded noise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]
#![allow(unreachable_pub, reason = "the file is shared with the fuzz targets")]

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

/// splitmix64
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb).to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_property_holds_for_its_corpus_and_for_noise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, property) in properties::ALL {
        let mut files: Vec<_> =
            std::fs::read_dir(root.join("corpus").join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for f in &files {
            property(&std::fs::read(f).unwrap());
        }
        let most: u64 = std::env::var("STOCKADE_FUZZ").map_or(60, |n| n.parse().unwrap());
        let rounds: u64 = if *name == "locks" { most.div_ceil(6) } else { most };
        let tried = (0..rounds).filter(|seed| property(&noise(*seed, 64 + usize::try_from(seed % 60).unwrap() * 8)));
        let tried = u64::try_from(tried.count()).unwrap();
        // Noise isn't text: those two live from their corpus.
        assert!(
            tried * 4 >= rounds || matches!(*name, "parse" | "format"),
            "{name}: only {tried} of {rounds} were tried"
        );
        let target = root.join("fuzz_targets").join(format!("{name}.rs"));
        assert!(std::fs::read_to_string(target).unwrap().contains(&format!("properties::{name}(")), "{name}");
        println!("{name}: {} of the corpus, {tried} of {rounds} of noise", files.len());
    }
}
