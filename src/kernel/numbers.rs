//! Numbers of system calls per architecture (the `syscalls` crate, Linux 6.18).

use serde::Serialize;

/// An architecture whose calls the table knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// x86-64, 64-bit calls only.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// The one that this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Arch = Arch::X86_64;
    /// The one that this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Arch = Arch::Aarch64;

    /// The word that seccomp shows as the architecture (linux/audit.h).
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xC000_003E,
            Arch::Aarch64 => 0xC000_00B7,
        }
    }

    /// Its usual name.
    pub fn word(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86-64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The number of a call; `None` when the architecture doesn't have it.
    pub fn number(self, name: &str) -> Option<u32> {
        let id = match self {
            Arch::X86_64 => syscalls::x86_64::Sysno::from_name(name)?,
            Arch::Aarch64 => syscalls::aarch64::Sysno::from_name(name)?,
        };
        Some(id)
    }

    /// The name of a number.
    pub fn name(self, number: u32) -> Option<&'static str> {
        let n = usize::try_from(number).ok()?;
        match self {
            Arch::X86_64 => syscalls::x86_64::Sysno::new(n).map(|s| s.name()),
            Arch::Aarch64 => syscalls::aarch64::Sysno::new(n).map(|s| s.name()),
        }
    }

    /// The largest number in the table.
    pub fn last(self) -> u32 {
        let last = match self {
            Arch::X86_64 => syscalls::x86_64::Sysno::last().id(),
            Arch::Aarch64 => syscalls::aarch64::Sysno::last().id(),
        };
        u32::try_from(last).unwrap_or(0)
    }
}

trait FromName {
    fn from_name(name: &str) -> Option<u32>;
}

impl FromName for syscalls::x86_64::Sysno {
    fn from_name(name: &str) -> Option<u32> {
        name.parse::<Self>().ok().and_then(|s| u32::try_from(s.id()).ok())
    }
}

impl FromName for syscalls::aarch64::Sysno {
    fn from_name(name: &str) -> Option<u32> {
        name.parse::<Self>().ok().and_then(|s| u32::try_from(s.id()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_with_the_kernel_headers() {
        assert_eq!(Arch::X86_64.number("openat"), Some(257));
        assert_eq!(Arch::Aarch64.number("openat"), Some(56));
        assert_eq!(Arch::Aarch64.number("open"), None);
        assert_eq!(Arch::X86_64.number("file_setattr"), Some(469));
        assert_eq!(Arch::X86_64.name(469), Some("file_setattr"));
        assert_eq!(Arch::X86_64.name(400), None);
        for n in 0..=Arch::X86_64.last() {
            if let Some(name) = Arch::X86_64.name(n) {
                assert_eq!(Arch::X86_64.number(name), Some(n));
            }
        }
    }
}
