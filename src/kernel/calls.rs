//! The system calls of x86-64 and aarch64: what each argument is called, and how the kernel
//! reads it.
//!
//! A seccomp filter sees six 64-bit registers; the kernel looks at as many bits of each as the
//! C type in its `SYSCALL_DEFINE` has, and at fewer where it hands the value on as a narrower type: the descriptors of
//! readv(2) and mmap(2) are `unsigned long` and end as `unsigned int`. A rule that compares more bits than the kernel
//! reads can be walked around, so the width comes from here and never from the author of a policy.
//!
//! Sources: names and types as the kernel prints them (tracefs,
//! `events/syscalls/sys_enter_*/format`, Linux 6.18); for what is not built there or not traced,
//! the `SYSCALL_DEFINE` in the kernel's source and section 2 of the manual, with syscalls(2) for
//! the releases. The names are those of the `syscalls` crate. Tests hold the table to both.

use Type::{Int, Long, Mixed, Pointer, U16, Uint, Ulong};

/// How the kernel reads an argument register: the C type in its `SYSCALL_DEFINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// The low 16 bits: `umode_t`.
    U16,
    /// The low 32 bits, signed: `int`, `pid_t`, `clockid_t`, `key_t`, `rwf_t` and the like.
    Int,
    /// The low 32 bits, unsigned: `unsigned int`, `u32`, `uid_t`, `gid_t`, `qid_t`, enums.
    Uint,
    /// All 64 bits, signed: `long`, `off_t`, `loff_t`.
    Long,
    /// All 64 bits, unsigned: `unsigned long`, `size_t`, `u64`, `aio_context_t`.
    Ulong,
    /// All 64 bits, or the low 32 of them: another argument decides, as the option of prctl(2) does. A grant compares
    /// all of them and a denial the low ones, so that neither lets through what the other reading would.
    Mixed,
    /// An address; a filter can tell null from not null and nothing more.
    Pointer,
}

/// One argument of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The parameter's name in the kernel's source.
    pub name: &'static str,
    /// How the kernel reads the register.
    pub ty: Type,
}

/// One system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name in the system-call table, without `sys_` or `__NR_`.
    pub name: &'static str,
    /// The first Linux release that has it on either architecture, as `(5, 1)`;
    /// `(0, 0)` means before 5.1.
    pub since: (u16, u16),
    /// The arguments in register order; empty for a call that takes none, and for one that has a
    /// number but no implementation in any kernel from 5.5 on.
    pub args: &'static [Arg],
}

/// Writes `name(arg: Type, ...) since (major, minor);` lines as a sorted static table.
macro_rules! calls {
    ($(
        $(#[$attr:meta])*
        $name:ident($($arg:ident: $ty:ident),*) $(since ($major:literal, $minor:literal))?;
    )*) => {
        /// Every call that x86-64 or aarch64 has a number for, sorted by name.
        ///
        /// Where the two differ (`clone`, `fadvise64`), the entry is that of the architecture
        /// this program is built for.
        pub static CALLS: &[Call] = &[$(
            $(#[$attr])*
            Call {
                name: stringify!($name),
                since: calls!(@since $($major, $minor)?),
                args: &[$(Arg { name: stringify!($arg), ty: $ty }),*],
            },
        )*];
    };
    (@since) => { (0, 0) };
    (@since $major:literal, $minor:literal) => { ($major, $minor) };
}

calls! {
    _sysctl();
    accept(fd: Int, upeer_sockaddr: Pointer, upeer_addrlen: Pointer);
    accept4(fd: Int, upeer_sockaddr: Pointer, upeer_addrlen: Pointer, flags: Int);
    access(filename: Pointer, mode: Int);
    acct(name: Pointer);
    add_key(_type: Pointer, _description: Pointer, _payload: Pointer, plen: Ulong, ringid: Int);
    adjtimex(txc_p: Pointer);
    afs_syscall();
    alarm(seconds: Uint);
    arch_prctl(option: Int, arg2: Ulong);
    bind(fd: Int, umyaddr: Pointer, addrlen: Int);
    bpf(cmd: Int, uattr: Pointer, size: Uint);
    brk(brk: Ulong);
    cachestat(fd: Uint, cstat_range: Pointer, cstat: Pointer, flags: Uint) since (6, 5);
    capget(header: Pointer, dataptr: Pointer);
    capset(header: Pointer, data: Pointer);
    chdir(filename: Pointer);
    chmod(filename: Pointer, mode: U16);
    chown(filename: Pointer, user: Uint, group: Uint);
    chroot(filename: Pointer);
    clock_adjtime(which_clock: Int, utx: Pointer);
    clock_adjtime64() since (5, 1);
    clock_getres(which_clock: Int, tp: Pointer);
    clock_getres_time64() since (5, 1);
    clock_gettime(which_clock: Int, tp: Pointer);
    clock_gettime64() since (5, 1);
    clock_nanosleep(which_clock: Int, flags: Int, rqtp: Pointer, rmtp: Pointer);
    clock_nanosleep_time64() since (5, 1);
    clock_settime(which_clock: Int, tp: Pointer);
    clock_settime64() since (5, 1);
    #[cfg(not(target_arch = "aarch64"))]
    clone(
        clone_flags: Uint, newsp: Ulong, parent_tidptr: Pointer, child_tidptr: Pointer,
        tls: Ulong
    );
    #[cfg(target_arch = "aarch64")]
    clone(
        clone_flags: Uint, newsp: Ulong, parent_tidptr: Pointer, tls: Ulong,
        child_tidptr: Pointer
    );
    clone3(uargs: Pointer, size: Ulong) since (5, 3);
    close(fd: Uint);
    close_range(fd: Uint, max_fd: Uint, flags: Uint) since (5, 9);
    connect(fd: Int, uservaddr: Pointer, addrlen: Int);
    copy_file_range(
        fd_in: Int, off_in: Pointer, fd_out: Int, off_out: Pointer, len: Ulong, flags: Uint
    );
    creat(pathname: Pointer, mode: U16);
    create_module();
    delete_module(name_user: Pointer, flags: Uint);
    dup(fildes: Uint);
    dup2(oldfd: Uint, newfd: Uint);
    dup3(oldfd: Uint, newfd: Uint, flags: Int);
    epoll_create(size: Int);
    epoll_create1(flags: Int);
    epoll_ctl(epfd: Int, op: Int, fd: Int, event: Pointer);
    epoll_ctl_old();
    epoll_pwait(
        epfd: Int, events: Pointer, maxevents: Int, timeout: Int, sigmask: Pointer,
        sigsetsize: Ulong
    );
    epoll_pwait2(
        epfd: Int, events: Pointer, maxevents: Int, timeout: Pointer, sigmask: Pointer,
        sigsetsize: Ulong
    ) since (5, 11);
    epoll_wait(epfd: Int, events: Pointer, maxevents: Int, timeout: Int);
    epoll_wait_old();
    eventfd(count: Uint);
    eventfd2(count: Uint, flags: Int);
    execve(filename: Pointer, argv: Pointer, envp: Pointer);
    execveat(fd: Int, filename: Pointer, argv: Pointer, envp: Pointer, flags: Int);
    exit(error_code: Int);
    exit_group(error_code: Int);
    faccessat(dfd: Int, filename: Pointer, mode: Int);
    faccessat2(dfd: Int, filename: Pointer, mode: Int, flags: Int) since (5, 8);
    #[cfg(not(target_arch = "aarch64"))]
    fadvise64(fd: Int, offset: Long, len: Ulong, advice: Int);
    #[cfg(target_arch = "aarch64")]
    fadvise64(fd: Int, offset: Long, len: Long, advice: Int);
    fallocate(fd: Int, mode: Int, offset: Long, len: Long);
    fanotify_init(flags: Uint, event_f_flags: Uint);
    fanotify_mark(fanotify_fd: Int, flags: Uint, mask: Ulong, dfd: Int, pathname: Pointer);
    fchdir(fd: Uint);
    fchmod(fd: Uint, mode: U16);
    fchmodat(dfd: Int, filename: Pointer, mode: U16);
    fchmodat2(dfd: Int, filename: Pointer, mode: U16, flags: Uint) since (6, 6);
    fchown(fd: Uint, user: Uint, group: Uint);
    fchownat(dfd: Int, filename: Pointer, user: Uint, group: Uint, flag: Int);
    fcntl(fd: Uint, cmd: Uint, arg: Mixed);
    fdatasync(fd: Uint);
    fgetxattr(fd: Int, name: Pointer, value: Pointer, size: Ulong);
    file_getattr(
        dfd: Int, filename: Pointer, ufattr: Pointer, usize: Ulong, at_flags: Uint
    ) since (6, 17);
    file_setattr(
        dfd: Int, filename: Pointer, ufattr: Pointer, usize: Ulong, at_flags: Uint
    ) since (6, 17);
    finit_module(fd: Int, uargs: Pointer, flags: Int);
    flistxattr(fd: Int, list: Pointer, size: Ulong);
    flock(fd: Uint, cmd: Uint);
    fork();
    fremovexattr(fd: Int, name: Pointer);
    fsconfig(fd: Int, cmd: Uint, _key: Pointer, _value: Pointer, aux: Int) since (5, 2);
    fsetxattr(fd: Int, name: Pointer, value: Pointer, size: Ulong, flags: Int);
    fsmount(fs_fd: Int, flags: Uint, attr_flags: Uint) since (5, 2);
    fsopen(_fs_name: Pointer, flags: Uint) since (5, 2);
    fspick(dfd: Int, path: Pointer, flags: Uint) since (5, 2);
    fstat(fd: Uint, statbuf: Pointer);
    fstatat(dfd: Int, filename: Pointer, statbuf: Pointer, flag: Int);
    fstatfs(fd: Uint, buf: Pointer);
    fsync(fd: Uint);
    ftruncate(fd: Uint, length: Long);
    futex(uaddr: Pointer, op: Int, val: Uint, utime: Pointer, uaddr2: Pointer, val3: Uint);
    futex_requeue(waiters: Pointer, flags: Uint, nr_wake: Int, nr_requeue: Int) since (6, 7);
    futex_time64() since (5, 1);
    futex_wait(
        uaddr: Pointer, val: Ulong, mask: Ulong, flags: Uint, timeout: Pointer, clockid: Int
    ) since (6, 7);
    futex_waitv(
        waiters: Pointer, nr_futexes: Uint, flags: Uint, timeout: Pointer, clockid: Int
    ) since (5, 16);
    futex_wake(uaddr: Pointer, mask: Ulong, nr: Int, flags: Uint) since (6, 7);
    futimesat(dfd: Int, filename: Pointer, utimes: Pointer);
    get_kernel_syms();
    get_mempolicy(policy: Pointer, nmask: Pointer, maxnode: Ulong, addr: Ulong, flags: Ulong);
    get_robust_list(pid: Int, head_ptr: Pointer, len_ptr: Pointer);
    get_thread_area();
    getcpu(cpup: Pointer, nodep: Pointer, unused: Pointer);
    getcwd(buf: Pointer, size: Ulong);
    getdents(fd: Uint, dirent: Pointer, count: Uint);
    getdents64(fd: Uint, dirent: Pointer, count: Uint);
    getegid();
    geteuid();
    getgid();
    getgroups(gidsetsize: Int, grouplist: Pointer);
    getitimer(which: Int, value: Pointer);
    getpeername(fd: Int, usockaddr: Pointer, usockaddr_len: Pointer);
    getpgid(pid: Int);
    getpgrp();
    getpid();
    getpmsg();
    getppid();
    getpriority(which: Int, who: Int);
    getrandom(ubuf: Pointer, len: Ulong, flags: Uint);
    getresgid(rgidp: Pointer, egidp: Pointer, sgidp: Pointer);
    getresuid(ruidp: Pointer, euidp: Pointer, suidp: Pointer);
    getrlimit(resource: Uint, rlim: Pointer);
    getrusage(who: Int, ru: Pointer);
    getsid(pid: Int);
    getsockname(fd: Int, usockaddr: Pointer, usockaddr_len: Pointer);
    getsockopt(fd: Int, level: Int, optname: Int, optval: Pointer, optlen: Pointer);
    gettid();
    gettimeofday(tv: Pointer, tz: Pointer);
    getuid();
    getxattr(pathname: Pointer, name: Pointer, value: Pointer, size: Ulong);
    getxattrat(
        dfd: Int, pathname: Pointer, at_flags: Uint, name: Pointer, uargs: Pointer, usize: Ulong
    ) since (6, 13);
    init_module(umod: Pointer, len: Ulong, uargs: Pointer);
    inotify_add_watch(fd: Int, pathname: Pointer, mask: Uint);
    inotify_init();
    inotify_init1(flags: Int);
    inotify_rm_watch(fd: Int, wd: Int);
    io_cancel(ctx_id: Ulong, iocb: Pointer, result: Pointer);
    io_destroy(ctx: Ulong);
    io_getevents(ctx_id: Ulong, min_nr: Long, nr: Long, events: Pointer, timeout: Pointer);
    io_pgetevents(
        ctx_id: Ulong, min_nr: Long, nr: Long, events: Pointer, timeout: Pointer, usig: Pointer
    );
    io_pgetevents_time64() since (5, 1);
    io_setup(nr_events: Uint, ctxp: Pointer);
    io_submit(ctx_id: Ulong, nr: Long, iocbpp: Pointer);
    io_uring_enter(
        fd: Uint, to_submit: Uint, min_complete: Uint, flags: Uint, argp: Pointer, argsz: Ulong
    ) since (5, 1);
    io_uring_register(fd: Uint, opcode: Uint, arg: Pointer, nr_args: Uint) since (5, 1);
    io_uring_setup(entries: Uint, params: Pointer) since (5, 1);
    ioctl(fd: Uint, cmd: Uint, arg: Mixed);
    ioperm(from: Ulong, num: Ulong, turn_on: Int);
    iopl(level: Uint);
    ioprio_get(which: Int, who: Int);
    ioprio_set(which: Int, who: Int, ioprio: Int);
    kcmp(pid1: Int, pid2: Int, type: Int, idx1: Mixed, idx2: Mixed);
    kexec_file_load(
        kernel_fd: Int, initrd_fd: Int, cmdline_len: Ulong, cmdline_ptr: Pointer, flags: Ulong
    );
    kexec_load(entry: Ulong, nr_segments: Ulong, segments: Pointer, flags: Ulong);
    keyctl(option: Int, arg2: Mixed, arg3: Mixed, arg4: Mixed, arg5: Mixed);
    kill(pid: Int, sig: Int);
    landlock_add_rule(
        ruleset_fd: Int, rule_type: Uint, rule_attr: Pointer, flags: Uint
    ) since (5, 13);
    landlock_create_ruleset(attr: Pointer, size: Ulong, flags: Uint) since (5, 13);
    landlock_restrict_self(ruleset_fd: Int, flags: Uint) since (5, 13);
    lchown(filename: Pointer, user: Uint, group: Uint);
    lgetxattr(pathname: Pointer, name: Pointer, value: Pointer, size: Ulong);
    link(oldname: Pointer, newname: Pointer);
    linkat(olddfd: Int, oldname: Pointer, newdfd: Int, newname: Pointer, flags: Int);
    listen(fd: Int, backlog: Int);
    listmount(req: Pointer, mnt_ids: Pointer, nr_mnt_ids: Ulong, flags: Uint) since (6, 8);
    listxattr(pathname: Pointer, list: Pointer, size: Ulong);
    listxattrat(
        dfd: Int, pathname: Pointer, at_flags: Uint, list: Pointer, size: Ulong
    ) since (6, 13);
    llistxattr(pathname: Pointer, list: Pointer, size: Ulong);
    lookup_dcookie(cookie64: Ulong, buf: Pointer, len: Ulong);
    lremovexattr(pathname: Pointer, name: Pointer);
    lseek(fd: Uint, offset: Long, whence: Uint);
    lsetxattr(pathname: Pointer, name: Pointer, value: Pointer, size: Ulong, flags: Int);
    lsm_get_self_attr(attr: Uint, ctx: Pointer, size: Pointer, flags: Uint) since (6, 8);
    lsm_list_modules(ids: Pointer, size: Pointer, flags: Uint) since (6, 8);
    lsm_set_self_attr(attr: Uint, ctx: Pointer, size: Uint, flags: Uint) since (6, 8);
    lstat(filename: Pointer, statbuf: Pointer);
    madvise(start: Ulong, len_in: Ulong, behavior: Int);
    map_shadow_stack(addr: Ulong, size: Ulong, flags: Uint) since (6, 6);
    mbind(start: Ulong, len: Ulong, mode: Int, nmask: Pointer, maxnode: Ulong, flags: Uint);
    membarrier(cmd: Int, flags: Uint, cpu_id: Int);
    memfd_create(uname: Pointer, flags: Uint);
    memfd_secret(flags: Uint) since (5, 14);
    migrate_pages(pid: Int, maxnode: Ulong, old_nodes: Pointer, new_nodes: Pointer);
    mincore(start: Ulong, len: Ulong, vec: Pointer);
    mkdir(pathname: Pointer, mode: U16);
    mkdirat(dfd: Int, pathname: Pointer, mode: U16);
    mknod(filename: Pointer, mode: U16, dev: Uint);
    mknodat(dfd: Int, filename: Pointer, mode: U16, dev: Uint);
    mlock(start: Ulong, len: Ulong);
    mlock2(start: Ulong, len: Ulong, flags: Int);
    mlockall(flags: Int);
    mmap(addr: Ulong, len: Ulong, prot: Ulong, flags: Ulong, fd: Int, off: Ulong);
    modify_ldt(func: Int, ptr: Pointer, bytecount: Ulong);
    mount(dev_name: Pointer, dir_name: Pointer, type: Pointer, flags: Ulong, data: Pointer);
    mount_setattr(dfd: Int, path: Pointer, flags: Uint, uattr: Pointer, usize: Ulong) since (5, 12);
    move_mount(
        from_dfd: Int, from_pathname: Pointer, to_dfd: Int, to_pathname: Pointer, flags: Uint
    ) since (5, 2);
    move_pages(
        pid: Int, nr_pages: Ulong, pages: Pointer, nodes: Pointer, status: Pointer, flags: Int
    );
    mprotect(start: Ulong, len: Ulong, prot: Ulong);
    mq_getsetattr(mqdes: Int, u_mqstat: Pointer, u_omqstat: Pointer);
    mq_notify(mqdes: Int, u_notification: Pointer);
    mq_open(u_name: Pointer, oflag: Int, mode: U16, u_attr: Pointer);
    mq_timedreceive(
        mqdes: Int, u_msg_ptr: Pointer, msg_len: Ulong, u_msg_prio: Pointer,
        u_abs_timeout: Pointer
    );
    mq_timedreceive_time64() since (5, 1);
    mq_timedsend(
        mqdes: Int, u_msg_ptr: Pointer, msg_len: Ulong, msg_prio: Uint, u_abs_timeout: Pointer
    );
    mq_timedsend_time64() since (5, 1);
    mq_unlink(u_name: Pointer);
    mremap(addr: Ulong, old_len: Ulong, new_len: Ulong, flags: Ulong, new_addr: Ulong);
    mseal(start: Ulong, len: Ulong, flags: Ulong) since (6, 10);
    msgctl(msqid: Int, cmd: Int, buf: Pointer);
    msgget(key: Int, msgflg: Int);
    msgrcv(msqid: Int, msgp: Pointer, msgsz: Ulong, msgtyp: Long, msgflg: Int);
    msgsnd(msqid: Int, msgp: Pointer, msgsz: Ulong, msgflg: Int);
    msync(start: Ulong, len: Ulong, flags: Int);
    munlock(start: Ulong, len: Ulong);
    munlockall();
    munmap(addr: Ulong, len: Ulong);
    name_to_handle_at(dfd: Int, name: Pointer, handle: Pointer, mnt_id: Pointer, flag: Int);
    nanosleep(rqtp: Pointer, rmtp: Pointer);
    newfstatat(dfd: Int, filename: Pointer, statbuf: Pointer, flag: Int);
    nfsservctl();
    open(filename: Pointer, flags: Int, mode: U16);
    open_by_handle_at(mountdirfd: Int, handle: Pointer, flags: Int);
    open_tree(dfd: Int, filename: Pointer, flags: Uint) since (5, 2);
    open_tree_attr(
        dfd: Int, filename: Pointer, flags: Uint, uattr: Pointer, usize: Ulong
    ) since (6, 15);
    openat(dfd: Int, filename: Pointer, flags: Int, mode: U16);
    openat2(dfd: Int, filename: Pointer, how: Pointer, usize: Ulong) since (5, 6);
    pause();
    perf_event_open(attr_uptr: Pointer, pid: Int, cpu: Int, group_fd: Int, flags: Ulong);
    personality(personality: Uint);
    pidfd_getfd(pidfd: Int, fd: Int, flags: Uint) since (5, 6);
    pidfd_open(pid: Int, flags: Uint) since (5, 3);
    pidfd_send_signal(pidfd: Int, sig: Int, info: Pointer, flags: Uint) since (5, 1);
    pipe(fildes: Pointer);
    pipe2(fildes: Pointer, flags: Int);
    pivot_root(new_root: Pointer, put_old: Pointer);
    pkey_alloc(flags: Ulong, init_val: Ulong);
    pkey_free(pkey: Int);
    pkey_mprotect(start: Ulong, len: Ulong, prot: Ulong, pkey: Int);
    poll(ufds: Pointer, nfds: Uint, timeout_msecs: Int);
    ppoll(ufds: Pointer, nfds: Uint, tsp: Pointer, sigmask: Pointer, sigsetsize: Ulong);
    ppoll_time64() since (5, 1);
    prctl(option: Int, arg2: Mixed, arg3: Mixed, arg4: Mixed, arg5: Mixed);
    pread64(fd: Uint, buf: Pointer, count: Ulong, pos: Long);
    preadv(fd: Uint, vec: Pointer, vlen: Uint, pos_l: Ulong, pos_h: Ulong);
    preadv2(fd: Uint, vec: Pointer, vlen: Uint, pos_l: Ulong, pos_h: Ulong, flags: Int);
    prlimit64(pid: Int, resource: Uint, new_rlim: Pointer, old_rlim: Pointer);
    process_madvise(
        pidfd: Int, vec: Pointer, vlen: Uint, behavior: Int, flags: Uint
    ) since (5, 10);
    process_mrelease(pidfd: Int, flags: Uint) since (5, 15);
    process_vm_readv(
        pid: Int, lvec: Pointer, liovcnt: Uint, rvec: Pointer, riovcnt: Ulong, flags: Ulong
    );
    process_vm_writev(
        pid: Int, lvec: Pointer, liovcnt: Uint, rvec: Pointer, riovcnt: Ulong, flags: Ulong
    );
    pselect6(n: Int, inp: Pointer, outp: Pointer, exp: Pointer, tsp: Pointer, sig: Pointer);
    pselect6_time64() since (5, 1);
    ptrace(request: Long, pid: Int, addr: Mixed, data: Mixed);
    putpmsg();
    pwrite64(fd: Uint, buf: Pointer, count: Ulong, pos: Long);
    pwritev(fd: Uint, vec: Pointer, vlen: Uint, pos_l: Ulong, pos_h: Ulong);
    pwritev2(fd: Uint, vec: Pointer, vlen: Uint, pos_l: Ulong, pos_h: Ulong, flags: Int);
    query_module();
    quotactl(cmd: Uint, special: Pointer, id: Uint, addr: Pointer);
    quotactl_fd(fd: Uint, cmd: Uint, id: Uint, addr: Pointer) since (5, 14);
    read(fd: Uint, buf: Pointer, count: Ulong);
    readahead(fd: Int, offset: Long, count: Ulong);
    readlink(path: Pointer, buf: Pointer, bufsiz: Int);
    readlinkat(dfd: Int, pathname: Pointer, buf: Pointer, bufsiz: Int);
    readv(fd: Uint, vec: Pointer, vlen: Uint);
    reboot(magic1: Int, magic2: Int, cmd: Uint, arg: Pointer);
    recvfrom(fd: Int, ubuf: Pointer, size: Ulong, flags: Uint, addr: Pointer, addr_len: Pointer);
    recvmmsg(fd: Int, mmsg: Pointer, vlen: Uint, flags: Uint, timeout: Pointer);
    recvmmsg_time64() since (5, 1);
    recvmsg(fd: Int, msg: Pointer, flags: Uint);
    remap_file_pages(start: Ulong, size: Ulong, prot: Ulong, pgoff: Ulong, flags: Ulong);
    removexattr(pathname: Pointer, name: Pointer);
    removexattrat(dfd: Int, pathname: Pointer, at_flags: Uint, name: Pointer) since (6, 13);
    rename(oldname: Pointer, newname: Pointer);
    renameat(olddfd: Int, oldname: Pointer, newdfd: Int, newname: Pointer);
    renameat2(olddfd: Int, oldname: Pointer, newdfd: Int, newname: Pointer, flags: Uint);
    request_key(_type: Pointer, _description: Pointer, _callout_info: Pointer, destringid: Int);
    restart_syscall();
    rmdir(pathname: Pointer);
    rseq(rseq: Pointer, rseq_len: Uint, flags: Int, sig: Uint);
    rt_sigaction(sig: Int, act: Pointer, oact: Pointer, sigsetsize: Ulong);
    rt_sigpending(uset: Pointer, sigsetsize: Ulong);
    rt_sigprocmask(how: Int, nset: Pointer, oset: Pointer, sigsetsize: Ulong);
    rt_sigqueueinfo(pid: Int, sig: Int, uinfo: Pointer);
    rt_sigreturn();
    rt_sigsuspend(unewset: Pointer, sigsetsize: Ulong);
    rt_sigtimedwait(uthese: Pointer, uinfo: Pointer, uts: Pointer, sigsetsize: Ulong);
    rt_sigtimedwait_time64() since (5, 1);
    rt_tgsigqueueinfo(tgid: Int, pid: Int, sig: Int, uinfo: Pointer);
    sched_get_priority_max(policy: Int);
    sched_get_priority_min(policy: Int);
    sched_getaffinity(pid: Int, len: Uint, user_mask_ptr: Pointer);
    sched_getattr(pid: Int, uattr: Pointer, usize: Uint, flags: Uint);
    sched_getparam(pid: Int, param: Pointer);
    sched_getscheduler(pid: Int);
    sched_rr_get_interval(pid: Int, interval: Pointer);
    sched_rr_get_interval_time64() since (5, 1);
    sched_setaffinity(pid: Int, len: Uint, user_mask_ptr: Pointer);
    sched_setattr(pid: Int, uattr: Pointer, flags: Uint);
    sched_setparam(pid: Int, param: Pointer);
    sched_setscheduler(pid: Int, policy: Int, param: Pointer);
    sched_yield();
    seccomp(op: Uint, flags: Uint, uargs: Pointer);
    security();
    select(n: Int, inp: Pointer, outp: Pointer, exp: Pointer, tvp: Pointer);
    semctl(semid: Int, semnum: Int, cmd: Int, arg: Mixed);
    semget(key: Int, nsems: Int, semflg: Int);
    semop(semid: Int, tsops: Pointer, nsops: Uint);
    semtimedop(semid: Int, tsops: Pointer, nsops: Uint, timeout: Pointer);
    semtimedop_time64() since (5, 1);
    sendfile(out_fd: Int, in_fd: Int, offset: Pointer, count: Ulong);
    sendmmsg(fd: Int, mmsg: Pointer, vlen: Uint, flags: Uint);
    sendmsg(fd: Int, msg: Pointer, flags: Uint);
    sendto(fd: Int, buff: Pointer, len: Ulong, flags: Uint, addr: Pointer, addr_len: Int);
    set_mempolicy(mode: Int, nmask: Pointer, maxnode: Ulong);
    set_mempolicy_home_node(start: Ulong, len: Ulong, home_node: Ulong, flags: Ulong) since (5, 17);
    set_robust_list(head: Pointer, len: Ulong);
    set_thread_area();
    set_tid_address(tidptr: Pointer);
    setdomainname(name: Pointer, len: Int);
    setfsgid(gid: Uint);
    setfsuid(uid: Uint);
    setgid(gid: Uint);
    setgroups(gidsetsize: Int, grouplist: Pointer);
    sethostname(name: Pointer, len: Int);
    setitimer(which: Int, value: Pointer, ovalue: Pointer);
    setns(fd: Int, flags: Int);
    setpgid(pid: Int, pgid: Int);
    setpriority(which: Int, who: Int, niceval: Int);
    setregid(rgid: Uint, egid: Uint);
    setresgid(rgid: Uint, egid: Uint, sgid: Uint);
    setresuid(ruid: Uint, euid: Uint, suid: Uint);
    setreuid(ruid: Uint, euid: Uint);
    setrlimit(resource: Uint, rlim: Pointer);
    setsid();
    setsockopt(fd: Int, level: Int, optname: Int, optval: Pointer, optlen: Int);
    settimeofday(tv: Pointer, tz: Pointer);
    setuid(uid: Uint);
    setxattr(pathname: Pointer, name: Pointer, value: Pointer, size: Ulong, flags: Int);
    setxattrat(
        dfd: Int, pathname: Pointer, at_flags: Uint, name: Pointer, uargs: Pointer, usize: Ulong
    ) since (6, 13);
    shmat(shmid: Int, shmaddr: Pointer, shmflg: Int);
    shmctl(shmid: Int, cmd: Int, buf: Pointer);
    shmdt(shmaddr: Pointer);
    shmget(key: Int, size: Ulong, shmflg: Int);
    shutdown(fd: Int, how: Int);
    sigaltstack(uss: Pointer, uoss: Pointer);
    signalfd(ufd: Int, user_mask: Pointer, sizemask: Ulong);
    signalfd4(ufd: Int, user_mask: Pointer, sizemask: Ulong, flags: Int);
    socket(family: Int, type: Int, protocol: Int);
    socketpair(family: Int, type: Int, protocol: Int, usockvec: Pointer);
    splice(fd_in: Int, off_in: Pointer, fd_out: Int, off_out: Pointer, len: Ulong, flags: Uint);
    stat(filename: Pointer, statbuf: Pointer);
    statfs(pathname: Pointer, buf: Pointer);
    statmount(req: Pointer, buf: Pointer, bufsize: Ulong, flags: Uint) since (6, 8);
    statx(dfd: Int, filename: Pointer, flags: Uint, mask: Uint, buffer: Pointer);
    swapoff(specialfile: Pointer);
    swapon(specialfile: Pointer, swap_flags: Int);
    symlink(oldname: Pointer, newname: Pointer);
    symlinkat(oldname: Pointer, newdfd: Int, newname: Pointer);
    sync();
    sync_file_range(fd: Int, offset: Long, nbytes: Long, flags: Uint);
    syncfs(fd: Int);
    sysfs(option: Int, arg1: Mixed, arg2: Ulong);
    sysinfo(info: Pointer);
    syslog(type: Int, buf: Pointer, len: Int);
    tee(fdin: Int, fdout: Int, len: Ulong, flags: Uint);
    tgkill(tgid: Int, pid: Int, sig: Int);
    time(tloc: Pointer);
    timer_create(which_clock: Int, timer_event_spec: Pointer, created_timer_id: Pointer);
    timer_delete(timer_id: Int);
    timer_getoverrun(timer_id: Int);
    timer_gettime(timer_id: Int, setting: Pointer);
    timer_gettime64() since (5, 1);
    timer_settime(timer_id: Int, flags: Int, new_setting: Pointer, old_setting: Pointer);
    timer_settime64() since (5, 1);
    timerfd_create(clockid: Int, flags: Int);
    timerfd_gettime(ufd: Int, otmr: Pointer);
    timerfd_gettime64() since (5, 1);
    timerfd_settime(ufd: Int, flags: Int, utmr: Pointer, otmr: Pointer);
    timerfd_settime64() since (5, 1);
    times(tbuf: Pointer);
    tkill(pid: Int, sig: Int);
    truncate(path: Pointer, length: Long);
    tuxcall();
    umask(mask: Int);
    umount2(name: Pointer, flags: Int);
    uname(name: Pointer);
    unlink(pathname: Pointer);
    unlinkat(dfd: Int, pathname: Pointer, flag: Int);
    unshare(unshare_flags: Ulong);
    uprobe() since (6, 18);
    uretprobe() since (6, 11);
    uselib(library: Pointer);
    userfaultfd(flags: Int);
    ustat(dev: Uint, ubuf: Pointer);
    utime(filename: Pointer, times: Pointer);
    utimensat(dfd: Int, filename: Pointer, utimes: Pointer, flags: Int);
    utimensat_time64() since (5, 1);
    utimes(filename: Pointer, utimes: Pointer);
    vfork();
    vhangup();
    vmsplice(fd: Int, uiov: Pointer, nr_segs: Uint, flags: Uint);
    vserver();
    wait4(upid: Int, stat_addr: Pointer, options: Int, ru: Pointer);
    waitid(which: Int, upid: Int, infop: Pointer, options: Int, ru: Pointer);
    write(fd: Uint, buf: Pointer, count: Ulong);
    writev(fd: Uint, vec: Pointer, vlen: Uint);
}

/// The call of that name, if either architecture has one.
pub fn find(name: &str) -> Option<&'static Call> {
    let place = CALLS.binary_search_by(|call| call.name.cmp(name)).ok()?;
    CALLS.get(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    const EVENTS: &str = "/sys/kernel/tracing/events/syscalls";

    /// Calls whose `SYSCALL_DEFINE`, and so whose event, has another name than their number.
    const ALIASES: &[(&str, &str)] = &[
        ("fadvise64", "fadvise64_64"),
        ("fstat", "newfstat"),
        ("fstatat", "newfstatat"),
        ("lstat", "newlstat"),
        ("personality", "arm64_personality"),
        ("sendfile", "sendfile64"),
        ("stat", "newstat"),
        ("umount2", "umount"),
        ("uname", "newuname"),
    ];

    #[test]
    fn the_table_is_sorted_and_has_no_name_twice() {
        for pair in CALLS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for call in CALLS {
            assert_eq!(find(call.name), Some(call));
            assert!(call.args.len() <= 6, "{} has too many arguments", call.name);
            let names: BTreeSet<_> = call.args.iter().map(|arg| arg.name).collect();
            assert_eq!(names.len(), call.args.len(), "{} has an argument twice", call.name);
        }
        assert_eq!(find("no_such_call"), None);
    }

    #[test]
    fn the_table_holds_exactly_the_calls_of_both_architectures() {
        use syscalls::{aarch64, x86_64};
        // `iter` stops one before the last.
        let x86_64 = x86_64::Sysno::iter().chain([x86_64::Sysno::last()]).map(|call| call.name());
        let aarch64 = aarch64::Sysno::iter().chain([aarch64::Sysno::last()]).map(|call| call.name());
        let numbered: BTreeSet<&str> = x86_64.chain(aarch64).collect();
        let described: BTreeSet<&str> = CALLS.iter().map(|call| call.name).collect();
        let missing: Vec<_> = numbered.difference(&described).collect();
        let extra: Vec<_> = described.difference(&numbered).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    }

    #[test]
    fn a_call_numbered_since_the_tables_were_joined_names_its_release() {
        use syscalls::{aarch64, x86_64};
        for call in CALLS {
            let x86_64 = call.name.parse::<x86_64::Sysno>().ok().map(|number| number.id());
            let aarch64 = call.name.parse::<aarch64::Sysno>().ok().map(|number| number.id());
            let newest = x86_64.max(aarch64).expect("the call has a number");
            if newest >= 403 {
                assert!(call.since >= (5, 1), "{} has no release", call.name);
            }
        }
    }

    #[test]
    fn names_and_types_are_those_of_the_running_kernel() {
        // Not mounted everywhere: then for this thread alone.
        if !Path::new(EVENTS).is_dir() && nix::unistd::geteuid().is_root() {
            use nix::mount::{MsFlags, mount};
            let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, private, none).unwrap();
            mount(Some("tracefs"), "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), none).unwrap();
        }
        if !Path::new(EVENTS).is_dir() {
            let required = std::env::var("STOCKADE_REQUIRE").is_ok_and(|value| value == "all");
            assert!(!required, "tracefs is required and not mounted");
            println!("skip: tracefs not mounted");
            return;
        }
        let mut compared = 0;
        let mut faults = Vec::new();
        for call in CALLS {
            let Some(traced) = traced_args(call.name) else {
                continue;
            };
            compared += 1;
            let ours: Vec<_> = call.args.iter().map(|arg| (arg.name.to_string(), Some(arg.ty))).collect();
            let narrowed: &[&str] = NARROWED.iter().find(|(n, _)| *n == call.name).map_or(&[], |(_, list)| list);
            let mut pairs = ours.iter().zip(&traced);
            let alike = pairs.all(|((name, ours), (declared, theirs))| {
                let wide = [Some(Long), Some(Ulong)].contains(theirs);
                let fewer = wide && [Some(Int), Some(Uint), Some(Mixed)].contains(ours);
                name == declared && if narrowed.contains(&name.as_str()) { fewer } else { ours == theirs }
            });
            if ours.len() != traced.len() || !alike {
                faults.push(format!("{}: table {ours:?}, kernel {traced:?}", call.name));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(compared > 250, "only {compared} calls have a format in tracefs");
        println!("{compared} of {} calls compared with tracefs", CALLS.len());
    }

    /// The arguments the running kernel traces for a call; `None` in place of a type unknown here.
    fn traced_args(call: &str) -> Option<Vec<(String, Option<Type>)>> {
        let aliases = ALIASES.iter().filter(|alias| alias.0 == call).map(|alias| alias.1);
        let text = [call]
            .into_iter()
            .chain(aliases)
            .find_map(|event| fs::read_to_string(format!("{EVENTS}/sys_enter_{event}/format")).ok())?;
        // The fields common to all events, and the number, come before the arguments; the number
        // is the last of them.
        let fields = text.lines().filter_map(|line| line.trim().strip_prefix("field:"));
        let args = fields.skip_while(|field| !field.starts_with("int __syscall_nr;")).skip(1);
        Some(
            args.map(|field| {
                let declaration = field.split(';').next().unwrap();
                let (c_type, name) = declaration.rsplit_once(' ').unwrap();
                (name.to_string(), read_type(c_type))
            })
            .collect(),
        )
    }

    /// Declared as `long` or `unsigned long`, and narrowed inside: kernel/fork.c (`lower_32_bits`), fs/read_write.c
    /// (`fdget_pos`, `import_iovec`), mm/util.c and mm/mmap.c (`fget`), mm/mempolicy.c (`int lmode`), fs/fcntl.c (each
    /// command takes an int, or an address), security/keys/keyctl.c (`key_serial_t`, or an address), kernel/ptrace.c
    /// (`find_get_task_by_vpid`, `ptrace_regset`), arch/x86/kernel/process_64.c (`do_arch_prctl_64`), fs/filesystems.c, kernel/sys.c, kernel/kcmp.c, ipc/sem.c; of ioctl(2) each driver decides.
    const NARROWED: &[(&str, &[&str])] = &[
        ("clone", &["clone_flags"]),
        ("fcntl", &["arg"]),
        ("ioctl", &["arg"]),
        ("kcmp", &["idx1", "idx2"]),
        ("keyctl", &["arg2", "arg3", "arg4", "arg5"]),
        ("mbind", &["mode"]),
        ("mmap", &["fd"]),
        ("prctl", &["arg2", "arg3", "arg4", "arg5"]),
        ("preadv", &["fd", "vlen"]),
        ("preadv2", &["fd", "vlen"]),
        ("process_madvise", &["vlen"]),
        ("process_vm_readv", &["liovcnt"]),
        ("process_vm_writev", &["liovcnt"]),
        ("ptrace", &["pid", "addr", "data"]),
        ("pwritev", &["fd", "vlen"]),
        ("pwritev2", &["fd", "vlen"]),
        ("readv", &["fd", "vlen"]),
        ("semctl", &["arg"]),
        ("sysfs", &["arg1"]),
        ("vmsplice", &["nr_segs"]),
        ("writev", &["fd", "vlen"]),
    ];

    fn read_type(c_type: &str) -> Option<Type> {
        let bare = c_type.strip_prefix("const ").unwrap_or(c_type);
        match bare {
            _ if bare.contains('*') => Some(Pointer),
            "cap_user_header_t" | "cap_user_data_t" => Some(Pointer),
            "umode_t" => Some(U16),
            "int" | "__s32" | "pid_t" | "clockid_t" | "timer_t" | "key_t" | "key_serial_t" | "mqd_t" | "rwf_t" => {
                Some(Int)
            }
            "unsigned" | "unsigned int" | "u32" | "__u32" | "uid_t" | "gid_t" | "qid_t" => Some(Uint),
            _ if bare.starts_with("enum ") => Some(Uint),
            "long" | "off_t" | "loff_t" => Some(Long),
            "unsigned long" | "size_t" | "u64" | "__u64" | "aio_context_t" => Some(Ulong),
            _ => None,
        }
    }
}
