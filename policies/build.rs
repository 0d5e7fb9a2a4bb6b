//! Parses the built-in library once, when the program is built: each file of policies/lib becomes a packed
//! tree that the program carries beside the text. A fault in the library stops the build.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    clippy::panic,
    reason = "the program's own modules, of which only the parser is needed; a build ends at the first fault"
)]

use std::path::Path;

#[path = "../src/source.rs"]
mod source;
#[path = "../src/syntax/mod.rs"]
mod syntax;

/// What the parser reports to: here the first fault is the last.
mod diagnostic {
    use crate::source::Span;

    pub(crate) struct Diagnostic(String);

    impl Diagnostic {
        pub(crate) fn error(code: &str, span: Span, message: &str) -> Self {
            Self(format!("{code} at byte {}: {message}", span.start))
        }

        pub(crate) fn help(self, _: &str) -> Self {
            self
        }
    }

    #[derive(Default)]
    pub(crate) struct Diagnostics;

    impl Diagnostics {
        pub(crate) fn push(&mut self, d: Diagnostic) {
            panic!("policies/lib: {}", d.0);
        }
    }
}

fn main() {
    println!("cargo::rerun-if-changed=policies/lib");
    println!("cargo::rerun-if-changed=policies/build.rs");
    println!("cargo::rerun-if-changed=grammar/stockade.pest");
    println!("cargo::rerun-if-changed=src/syntax");
    println!("cargo::rerun-if-changed=src/source.rs");
    let out = std::env::var("OUT_DIR").unwrap_or_else(|e| panic!("OUT_DIR: {e}"));
    let files = std::fs::read_dir("policies/lib").unwrap_or_else(|e| panic!("policies/lib: {e}"));
    let paths = files.map(|f| f.unwrap_or_else(|e| panic!("policies/lib: {e}")).path());
    for path in paths.filter(|p| p.extension().is_some_and(|e| e == "stockade")) {
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let text = source::check_text(&bytes).unwrap_or_else(|f| panic!("{}: {}", path.display(), f.kind)).to_owned();
        let name = path.display().to_string();
        let mut sources = source::Sources::default();
        let file = sources.add(source::SourceFile { name, text, root: None, packed: None });
        let tree = file.map(|id| syntax::parse(&sources, id, &mut diagnostic::Diagnostics));
        let packed = tree.map(|t| syntax::packed::pack(&t)).unwrap_or_default();
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // The very text that was parsed: the file may change before the program is compiled.
        for (kind, content) in [("tree", packed.as_slice()), ("stockade", bytes.as_slice())] {
            let to = Path::new(&out).join(&stem).with_extension(kind);
            std::fs::write(&to, content).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
        }
    }
}
