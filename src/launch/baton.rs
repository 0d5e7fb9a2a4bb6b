//! The one message that passes between the processes of a launch.

use crate::sys::message::{self, Received};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Go on with this step; or: everything before this step is done.
    Pass,
    /// This step failed.
    Failed,
    /// The program's process is there.
    Hello,
    /// The program ended; the value is its wait status.
    Ended,
    /// Send the program this signal.
    Signal,
}

/// 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Baton {
    pub(super) kind: Kind,
    pub(super) detail: Detail,
    pub(super) step: u16,
    pub(super) errno: i32,
    pub(super) value: i32,
}

/// What exactly failed inside a step, where the errno alone would mislead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// The step's own call.
    Call,
    /// Another file lies at the host's path than the one that was reviewed.
    SourceChanged,
    /// The host's path can't be opened.
    Source,
    /// The place inside can't be opened without passing through a symbolic link.
    Target,
    /// A file on a folder or a folder on a file.
    TargetKind,
    /// The mount's ids can't be translated on this file system.
    Idmap,
    /// The attributes can't be set.
    Attributes,
    /// The parent died meanwhile.
    Orphan,
}

const KINDS: [Kind; 5] = [Kind::Pass, Kind::Failed, Kind::Hello, Kind::Ended, Kind::Signal];
const DETAILS: [Detail; 8] = [
    Detail::Call,
    Detail::SourceChanged,
    Detail::Source,
    Detail::Target,
    Detail::TargetKind,
    Detail::Idmap,
    Detail::Attributes,
    Detail::Orphan,
];

impl Baton {
    pub(super) fn new(kind: Kind, step: usize, value: i32) -> Self {
        Self { kind, detail: Detail::Call, step: u16::try_from(step).unwrap_or(u16::MAX), errno: 0, value }
    }

    pub(super) fn failed(step: usize, detail: Detail, errno: Errno) -> Self {
        Self { detail, errno: errno as i32, ..Self::new(Kind::Failed, step, 0) }
    }

    fn bytes(self) -> [u8; 16] {
        let [s0, s1] = self.step.to_le_bytes();
        let [e0, e1, e2, e3] = self.errno.to_le_bytes();
        let [v0, v1, v2, v3] = self.value.to_le_bytes();
        [self.kind as u8, self.detail as u8, s0, s1, e0, e1, e2, e3, v0, v1, v2, v3, 0, 0, 0, 0]
    }

    fn parse(b: [u8; 16]) -> Option<Self> {
        let [kind, detail, s0, s1, e0, e1, e2, e3, v0, v1, v2, v3, ..] = b;
        Some(Self {
            kind: *KINDS.get(usize::from(kind))?,
            detail: *DETAILS.get(usize::from(detail))?,
            step: u16::from_le_bytes([s0, s1]),
            errno: i32::from_le_bytes([e0, e1, e2, e3]),
            value: i32::from_le_bytes([v0, v1, v2, v3]),
        })
    }

    pub(super) fn send(self, socket: i32, pass: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        message::send(socket, &self.bytes(), pass)
    }
}

impl Baton {
    /// Sends by write(2), without protection from SIGPIPE.
    pub(super) fn write(self, socket: i32) -> Result<(), Errno> {
        crate::sys::process::write(socket, &self.bytes()).map(drop)
    }
}

/// The next message; `None` at the other side's end.
pub(super) fn receive(socket: i32) -> Result<Option<(Baton, Received)>, Errno> {
    let mut bytes = [0u8; 16];
    let r = message::receive(socket, &mut bytes)?;
    if r.length == 0 {
        return Ok(None);
    }
    if r.length != bytes.len() {
        return Err(Errno::EBADMSG);
    }
    Ok(Some((Baton::parse(bytes).ok_or(Errno::EBADMSG)?, r)))
}

/// What went wrong, in words, and what to do.
pub(super) fn explain(detail: Detail, errno: Errno) -> (String, Option<String>) {
    let cause = errno.desc();
    let (text, help) = match detail {
        Detail::Call => (cause.to_owned(), None),
        Detail::SourceChanged => (
            "another file lies at the host's path than when the plan was made".to_owned(),
            Some("look who changed it, then run again"),
        ),
        Detail::Source => (format!("the host's path can't be opened: {cause}"), None),
        Detail::Target if errno == Errno::ELOOP => {
            ("the place inside leads through a symbolic link".to_owned(), Some("write the path without the link"))
        }
        Detail::Target if errno == Errno::ENOENT => (
            "the place inside doesn't exist".to_owned(),
            Some("make it in the root, or use a root that is `ephemeral`"),
        ),
        Detail::Target => (format!("the place inside can't be opened: {cause}"), None),
        Detail::TargetKind => {
            ("the place inside is of another kind: a file where a folder is needed, or the reverse".to_owned(), None)
        }
        Detail::Idmap => (
            format!("the ids of this mount can't be translated: {cause}"),
            Some("the file system below doesn't support id-mapped mounts"),
        ),
        Detail::Attributes => (format!("the mount's restrictions can't be set: {cause}"), None),
        Detail::Orphan => ("the supervisor is gone".to_owned(), None),
    };
    (text, help.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_wire() {
        for kind in KINDS {
            for detail in DETAILS {
                let b = Baton { kind, detail, step: 517, errno: 28, value: -3 };
                assert_eq!(Baton::parse(b.bytes()), Some(b));
            }
        }
        assert_eq!(Baton::parse([9; 16]), None);
    }
}
