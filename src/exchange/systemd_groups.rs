//! Which system calls systemd 252 means: its groups for `SystemCallFilter=`, and the list that systemd-nspawn
//! lets through. Facts only, for reading its files; the groups of the language are others.
//!
//! Sources: `systemd-analyze syscall-filter` of Debian 12's systemd 252, and the filters of a process under its
//! systemd-nspawn, read with PTRACE_SECCOMP_GET_FILTER and turned into diagrams (tests/exchange.rs does it again
//! where that version is installed). Names that neither x86-64 nor aarch64 has are left out.

/// A group's name, and what is in it: calls, and other groups.
const GROUPS: &[(&str, &str)] = &[
    (
        "@default",
        "arch_prctl brk clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
         clock_nanosleep_time64 execve exit exit_group futex futex_time64 futex_waitv get_robust_list \
         get_thread_area getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getrandom \
         getresgid getresuid getrlimit getsid gettid gettimeofday getuid membarrier mmap mprotect munmap \
         nanosleep pause prlimit64 restart_syscall rseq rt_sigreturn sched_getaffinity sched_yield \
         set_robust_list set_thread_area set_tid_address time uretprobe",
    ),
    (
        "@aio",
        "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit \
         io_uring_enter io_uring_register io_uring_setup",
    ),
    (
        "@basic-io",
        "close close_range dup dup2 dup3 lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read \
         readv write writev",
    ),
    ("@chown", "chown fchown fchownat lchown"),
    ("@clock", "adjtimex clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday"),
    ("@cpu-emulation", "modify_ldt"),
    ("@debug", "lookup_dcookie perf_event_open pidfd_getfd ptrace"),
    (
        "@file-system",
        "access chdir chmod close creat faccessat faccessat2 fallocate fchdir fchmod fchmodat fchmodat2 \
         fcntl fgetxattr flistxattr fremovexattr fsetxattr fstat fstatfs ftruncate futimesat getcwd \
         getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
         lgetxattr link linkat listxattr llistxattr lremovexattr lsetxattr lstat mkdir mkdirat mknod \
         mknodat newfstatat open openat openat2 readlink readlinkat removexattr rename renameat renameat2 \
         rmdir setxattr stat statfs statx symlink symlinkat truncate unlink unlinkat utime utimensat \
         utimensat_time64 utimes",
    ),
    (
        "@io-event",
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
         epoll_wait_old eventfd eventfd2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select",
    ),
    (
        "@ipc",
        "memfd_create mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
         mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 process_madvise \
         process_vm_readv process_vm_writev semctl semget semop semtimedop semtimedop_time64 shmat shmctl \
         shmdt shmget",
    ),
    ("@keyring", "add_key keyctl request_key"),
    ("@memlock", "mlock mlock2 mlockall munlock munlockall"),
    ("@module", "delete_module finit_module init_module"),
    (
        "@mount",
        "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root \
         umount2",
    ),
    (
        "@network-io",
        "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg \
         recvmmsg_time64 recvmsg sendmmsg sendmsg sendto setsockopt shutdown socket socketpair",
    ),
    (
        "@obsolete",
        "_sysctl afs_syscall create_module get_kernel_syms getpmsg putpmsg query_module security sysfs \
         tuxcall uselib ustat vserver",
    ),
    ("@pkey", "pkey_alloc pkey_free pkey_mprotect"),
    (
        "@privileged",
        "@chown @clock @module @raw-io @reboot @swap _sysctl acct bpf capset chroot fanotify_init \
         fanotify_mark nfsservctl open_by_handle_at pivot_root quotactl quotactl_fd setdomainname \
         setfsuid setgroups sethostname setresuid setreuid setuid vhangup",
    ),
    (
        "@process",
        "capget clone clone3 execveat fork getrusage kill pidfd_open pidfd_send_signal prctl \
         rt_sigqueueinfo rt_tgsigqueueinfo setns tgkill times tkill unshare vfork wait4 waitid",
    ),
    ("@raw-io", "ioperm iopl"),
    ("@reboot", "kexec_file_load kexec_load reboot"),
    (
        "@resources",
        "ioprio_set mbind migrate_pages move_pages sched_setaffinity sched_setattr sched_setparam \
         sched_setscheduler set_mempolicy set_mempolicy_home_node setpriority setrlimit",
    ),
    ("@setuid", "setgid setgroups setregid setresgid setresuid setreuid setuid"),
    (
        "@signal",
        "rt_sigaction rt_sigpending rt_sigprocmask rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
         sigaltstack signalfd signalfd4",
    ),
    ("@swap", "swapoff swapon"),
    ("@sync", "fdatasync fsync msync sync sync_file_range syncfs"),
    (
        "@system-service",
        "@aio @basic-io @chown @default @file-system @io-event @ipc @keyring @memlock @network-io \
         @process @resources @setuid @signal @sync @timer capget capset copy_file_range fadvise64 flock \
         get_mempolicy getcpu getpriority ioctl ioprio_get kcmp madvise mremap name_to_handle_at \
         personality readahead remap_file_pages sched_get_priority_max sched_get_priority_min \
         sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
         sched_rr_get_interval_time64 sched_yield sendfile setfsgid setfsuid setpgid setsid splice \
         sysinfo tee umask uname userfaultfd vmsplice",
    ),
    (
        "@timer",
        "alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime \
         timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
         timerfd_settime timerfd_settime64 times",
    ),
];

/// The calls that systemd-nspawn lets through when its file says nothing about calls. socket(2) is one as well,
/// but for AF_NETLINK with NETLINK_AUDIT; so is every call of the i386 and x32 ABIs under such a name.
const NSPAWN: &str = "accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown chroot clock_getres \
    clock_gettime clock_nanosleep clone clone3 close close_range connect copy_file_range creat dup dup2 \
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 \
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock \
    fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat fstatfs fsync ftruncate futex \
    futex_waitv futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 \
    getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority \
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
    getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
    io_getevents io_pgetevents io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioctl \
    ioprio_get ioprio_set kcmp kill lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr \
    lseek lsetxattr lstat madvise mbind membarrier memfd_create migrate_pages mincore mkdir mkdirat mknod \
    mknodat mmap mount mount_setattr move_mount move_pages mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync munmap \
    name_to_handle_at nanosleep newfstatat open open_tree openat openat2 pause personality pidfd_open \
    pidfd_send_signal pipe pipe2 pivot_root poll ppoll prctl pread64 preadv preadv2 prlimit64 \
    process_madvise process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read \
    readahead readlink readlinkat readv reboot recvfrom recvmmsg recvmsg remap_file_pages removexattr \
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
    seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_mempolicy \
    set_mempolicy_home_node set_robust_list set_thread_area set_tid_address setdomainname setfsgid \
    setfsuid setgid setgroups sethostname setitimer setns setpgid setpriority setregid setresgid \
    setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown \
    sigaltstack signalfd signalfd4 socketpair splice stat statfs statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun \
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask \
    umount2 uname unlink unlinkat unshare userfaultfd utime utimensat utimes vfork vhangup vmsplice wait4 \
    waitid write writev";

/// The calls that systemd-nspawn lets through whatever their arguments.
pub fn nspawn() -> impl Iterator<Item = &'static str> {
    NSPAWN.split_whitespace()
}

/// The calls of a group, groups inside it included.
pub fn expand(group: &str) -> Option<Vec<&'static str>> {
    let (_, members) = GROUPS.iter().find(|(n, _)| *n == group)?;
    let mut out = Vec::new();
    for m in members.split_whitespace() {
        match m.starts_with('@') {
            true => out.extend(expand(m)?),
            false => out.push(m),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_name_is_a_call() {
        let all = super::GROUPS.iter().flat_map(|(g, _)| super::expand(g).unwrap()).chain(super::nspawn());
        for name in all {
            assert!(crate::kernel::calls::find(name).is_some(), "{name}");
        }
    }
}
