/*
 * What the filter answers, asked by the program itself with real system calls: `calls CHECK [ARGUMENT...]`.
 * Prints one line for each answer, `OK ...` or `BAD ...`; exit code 1 when one is BAD.
 *
 * Each call is made in a child of its own, for it may be killed. The arguments are such that the kernel
 * would refuse them harmlessly with another errno (EBADF, EFAULT, EINVAL) than the filter does: a call
 * that is let through is seen, and does nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define X32 0x40000000L
#define HIGH 0xdead00000000L
/* An address where nothing can be. */
#define NOWHERE 1L

static int bad;

__attribute__((format(printf, 2, 3))) static void say(int fine, const char *text, ...)
{
	va_list ap;

	va_start(ap, text);
	printf(fine ? "OK " : "BAD ");
	vprintf(text, ap);
	putchar('\n');
	va_end(ap);
	if (!fine)
		bad = 1;
}

/* Answers besides errnos. */
enum { DONE = 0, KILLED = 1000 };

static const char *name_of(int answer)
{
	static char text[64];

	if (answer == DONE)
		return "done";
	if (answer < KILLED)
		return strerrorname_np(answer) ? strerrorname_np(answer) : "an unknown errno";
	snprintf(text, sizeof(text), "SIG%s", sigabbrev_np(answer - KILLED));
	return text;
}

/* What a call answers: DONE, an errno, or KILLED plus the signal. Where `i386` is set, made by int 0x80. */
static int ask(int i386, long nr, const long *a)
{
	volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, answer;
	pid_t pid;

	if (shared == MAP_FAILED) {
		say(0, "mmap: %m");
		exit(1);
	}
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		say(0, "fork: %m");
		exit(1);
	}
	if (pid == 0) {
		long r;

		if (i386) {
			__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a[0]), "c"(a[1]), "d"(a[2]) : "memory");
			*shared = r < 0 && r > -4096 ? -r : DONE;
		} else {
			r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
			*shared = r == -1 ? errno : DONE;
		}
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	answer = WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : *shared;
	munmap((void *)shared, 4096);
	return answer;
}

static int answer(long nr, long a, long b, long c, long d, long e, long f)
{
	return ask(0, nr, (const long[]){ a, b, c, d, e, f });
}

static void expect(const char *what, int got, int want)
{
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "%s", name_of(want));
	say(got == want, "%s: %s, wanted %s", what, name_of(got), wanted);
}

/* C39 */
static void foreign(void)
{
	/* getpid, write, open, execve, socketcall, ptrace as i386 numbers them, then the last ones. */
	static const long i386[] = { 20, 4, 5, 11, 102, 26, 1, 0, 39, 403, 449, 470, 9999 };
	static const long zero[6] = { -1, NOWHERE, 0, 0, 0, 0 };
	char text[64];
	int killed = 0;

	for (size_t i = 0; i < COUNT(i386); i++) {
		snprintf(text, sizeof(text), "int 0x80 number %ld", i386[i]);
		expect(text, ask(1, i386[i], zero), KILLED + SIGSYS);
	}
	for (long nr = 0; nr < 600; nr++) {
		if (ask(0, nr | X32, zero) == KILLED + SIGSYS)
			killed++;
		else
			say(0, "x32 number %ld isn't killed", nr);
	}
	say(killed == 600, "%d x32 numbers are killed", killed);
	expect("0x7fffffff", answer(0x7fffffffL, 0, 0, 0, 0, 0, 0), KILLED + SIGSYS);
	/* The native getpid is there, so the children can show something else. */
	expect("getpid", answer(SYS_getpid, 0, 0, 0, 0, 0, 0), DONE);
}

/* C40, C41: an int is what its low half says, a 64-bit value is both. */
static void halves(void)
{
	expect("socket(AF_UNIX)", answer(SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0, 0), DONE);
	expect("socket(AF_UNIX with garbage above)", answer(SYS_socket, AF_UNIX | HIGH, SOCK_STREAM, 0, 0, 0, 0), DONE);
	for (long family = 0; family < 64; family++) {
		char text[64];

		if (family == AF_UNIX)
			continue;
		snprintf(text, sizeof(text), "socket(%ld)", family);
		expect(text, answer(SYS_socket, family, SOCK_STREAM, 0, 0, 0, 0), EPERM);
		snprintf(text, sizeof(text), "socket(%ld with garbage above)", family);
		expect(text, answer(SYS_socket, family | HIGH, SOCK_STREAM, 0, 0, 0, 0), EPERM);
	}
	/* Bit 32 alone must not make AF_UNIX of another family, nor the reverse. */
	expect("socket(AF_ALG | 1<<32)", answer(SYS_socket, 38 | 1L << 32, SOCK_SEQPACKET, 0, 0, 0, 0), EPERM);
	/* The kernel ignores the upper half of clone(2)'s flags: a namespace is one with any garbage there. */
	expect("clone(CLONE_NEWUSER with garbage above)", answer(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | HIGH, 0, 0, 0, 0, 0), EPERM);
	/* The policy: deny lseek(offset == 0x1234) errno EXDEV. */
	expect("lseek(0x1234)", answer(SYS_lseek, -1, 0x1234, SEEK_SET, 0, 0, 0), EXDEV);
	expect("lseek(0x1234 | 1<<32)", answer(SYS_lseek, -1, 0x1234 | 1L << 32, SEEK_SET, 0, 0, 0), EBADF);
	expect("lseek(0x1234 | 1<<63)", answer(SYS_lseek, -1, 0x1234 | 1L << 63, SEEK_SET, 0, 0, 0), EBADF);
	expect("lseek(0x1235)", answer(SYS_lseek, -1, 0x1235, SEEK_SET, 0, 0, 0), EBADF);
	/* The policy: deny clone(clone_flags == 0x10011) errno EXDEV; CLONE_THREAD without CLONE_SIGHAND can't be. */
	expect("clone(0x10011)", answer(SYS_clone, 0x10011, 0, 0, 0, 0, 0), EXDEV);
	expect("clone(0x10011 | 1<<32)", answer(SYS_clone, 0x10011 | 1L << 32, 0, 0, 0, 0, 0), EXDEV);
	/* The policy: deny ioctl(cmd == 0x7777) errno EXDEV; the kernel reads 32 bits. */
	expect("ioctl(0x7777 with garbage above)", answer(SYS_ioctl, -1, 0x7777 | HIGH, 0, 0, 0, 0), EXDEV);
}

/* C43; `reviewed`: the policy's baseline is 6.18. */
static void unknown(int reviewed)
{
	static const long far[] = { -1, 0x3fffffff, 0x20000000, 1000, 10000, 65536 };
	char text[64];
	int count = 0;

	for (size_t i = 0; i < COUNT(far); i++) {
		snprintf(text, sizeof(text), "number %ld", far[i]);
		expect(text, answer(far[i], -1, NOWHERE, 0, 0, 0, 0), ENOSYS);
	}
	/* Nobody's numbers: the kernel would say ENOSYS as well, so what counts is that none is killed or EPERM. */
	for (long nr = 337; nr <= 423; nr++, count++)
		if (answer(nr, -1, NOWHERE, 0, 0, 0, 0) != ENOSYS)
			say(0, "number %ld isn't ENOSYS", nr);
	for (long nr = 470; nr <= 600; nr++, count++)
		if (answer(nr, -1, NOWHERE, 0, 0, 0, 0) != ENOSYS)
			say(0, "number %ld isn't ENOSYS", nr);
	say(count == 218, "%d numbers of nobody", count);
	/* Not granted: looked at and refused, or not there yet. open_tree_attr(2) is of 6.15. */
	expect("open_tree_attr", answer(467, -1, NOWHERE, 0x40000000, 0, 0, 0), reviewed ? EPERM : ENOSYS);
	/* Older than both. */
	expect("fsopen", answer(SYS_fsopen, NOWHERE, 0, 0, 0, 0, 0), EPERM);
}

/* C43: what came after 6.12 isn't there for a policy that was reviewed at 6.12. */
static void newer(void)
{
	static const struct { const char *name; long nr; } all[] = {
		{ "setxattrat", 463 },	   { "getxattrat", 464 },   { "listxattrat", 465 },  { "removexattrat", 466 },
		{ "open_tree_attr", 467 }, { "file_getattr", 468 }, { "file_setattr", 469 },
	};

	for (size_t i = 0; i < COUNT(all); i++)
		expect(all[i].name, answer(all[i].nr, -1, NOWHERE, 0xffff, 0, 0, 0), ENOSYS);
}

/* C45 */
static void io_uring(void)
{
	/* EFAULT, EBADF and EBADF from the kernel. */
	expect("io_uring_setup", answer(SYS_io_uring_setup, 1, NOWHERE, 0, 0, 0, 0), EPERM);
	expect("io_uring_enter", answer(SYS_io_uring_enter, -1, 1, 0, 0, 0, 0), EPERM);
	expect("io_uring_register", answer(SYS_io_uring_register, -1, 0, NOWHERE, 1, 0, 0), EPERM);
}

/* C47 */
static void namespaces(void)
{
	static const struct { const char *name; long flag; int in_clone; } all[] = {
		{ "CLONE_NEWNS", CLONE_NEWNS, 1 },	 { "CLONE_NEWCGROUP", CLONE_NEWCGROUP, 1 },
		{ "CLONE_NEWUTS", CLONE_NEWUTS, 1 },	 { "CLONE_NEWIPC", CLONE_NEWIPC, 1 },
		{ "CLONE_NEWUSER", CLONE_NEWUSER, 1 },	 { "CLONE_NEWPID", CLONE_NEWPID, 1 },
		{ "CLONE_NEWNET", CLONE_NEWNET, 1 },	 { "CLONE_NEWTIME", 0x80, 0 },
	};
	char text[64];
	int fd;

	for (size_t i = 0; i < COUNT(all); i++) {
		/* Bit 0 is no flag of unshare(2): EINVAL from the kernel, before any look at capabilities. */
		snprintf(text, sizeof(text), "unshare(%s | 1)", all[i].name);
		expect(text, answer(SYS_unshare, all[i].flag | 1, 0, 0, 0, 0, 0), EPERM);
		snprintf(text, sizeof(text), "unshare(%s)", all[i].name);
		expect(text, answer(SYS_unshare, all[i].flag, 0, 0, 0, 0, 0), EPERM);
		/* CLONE_THREAD without CLONE_SIGHAND: EINVAL from the kernel. */
		snprintf(text, sizeof(text), "clone(%s | CLONE_THREAD)", all[i].name);
		if (all[i].in_clone)
			expect(text, answer(SYS_clone, all[i].flag | CLONE_THREAD, 0, 0, 0, 0, 0), EPERM);
		snprintf(text, sizeof(text), "setns(-1, %s)", all[i].name);
		expect(text, answer(SYS_setns, -1, all[i].flag, 0, 0, 0, 0), EPERM);
	}
	expect("setns(-1, 0)", answer(SYS_setns, -1, 0, 0, 0, 0, 0), EPERM);
	/* EINVAL from the kernel; libc goes on with clone(2) at ENOSYS only. */
	expect("clone3", answer(SYS_clone3, 0, 0, 0, 0, 0, 0), ENOSYS);
	/* An ordinary child is made: the condition isn't just a refusal of everything. */
	expect("getpid in a child that clone made", answer(SYS_getpid, 0, 0, 0, 0, 0, 0), DONE);
	fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
	say(fd < 0 && (errno == EROFS || errno == EACCES), "max_user_namespaces for writing: %m");
}

/* C48 */
static void dangerous(void)
{
	/* After each: what the kernel would say. Where that is EPERM for want of a capability the machine under
	 * test has the capability in its own user namespace. */
	static const struct { const char *name; long nr; long a[6]; int want; } all[] = {
		{ "bpf", SYS_bpf, { 0, 0, 1 << 20 }, EPERM },				  /* E2BIG */
		{ "perf_event_open", SYS_perf_event_open, { NOWHERE, 0, -1, -1 }, EPERM }, /* EFAULT */
		{ "userfaultfd", SYS_userfaultfd, { 1 | 0x40000000 }, EPERM },		  /* EINVAL */
		{ "kexec_load", SYS_kexec_load, { 0, 999, 0, -1 }, KILLED + SIGSYS },
		{ "kexec_file_load", SYS_kexec_file_load, { -1, -1, 0, 0, -1 }, KILLED + SIGSYS },
		{ "init_module", SYS_init_module, { NOWHERE, 0, NOWHERE }, KILLED + SIGSYS },
		{ "finit_module", SYS_finit_module, { -1, NOWHERE, -1 }, KILLED + SIGSYS },
		{ "delete_module", SYS_delete_module, { NOWHERE, -1 }, KILLED + SIGSYS },
		{ "iopl", SYS_iopl, { 99 }, KILLED + SIGSYS },
		{ "ioperm", SYS_ioperm, { -1, 1, 1 }, KILLED + SIGSYS },
		{ "swapon", SYS_swapon, { NOWHERE, -1 }, KILLED + SIGSYS },
		{ "swapoff", SYS_swapoff, { NOWHERE }, KILLED + SIGSYS },
		{ "reboot", SYS_reboot, { 0, 0, 0 }, KILLED + SIGSYS },
		{ "acct", SYS_acct, { NOWHERE }, KILLED + SIGSYS },
		{ "quotactl", SYS_quotactl, { -1, NOWHERE, 0, 0 }, KILLED + SIGSYS },
		{ "quotactl_fd", SYS_quotactl_fd, { -1, -1, 0, 0 }, KILLED + SIGSYS },
		{ "modify_ldt", SYS_modify_ldt, { 99, 0, 0 }, KILLED + SIGSYS },
		{ "lookup_dcookie", SYS_lookup_dcookie, { 0, NOWHERE, 0 }, KILLED + SIGSYS },
		{ "nfsservctl", SYS_nfsservctl, { 0, NOWHERE, 0 }, KILLED + SIGSYS },
		{ "_sysctl", SYS__sysctl, { NOWHERE }, KILLED + SIGSYS },
		{ "uselib", SYS_uselib, { NOWHERE }, KILLED + SIGSYS },
		{ "ustat", SYS_ustat, { -1, NOWHERE }, KILLED + SIGSYS },
		{ "sysfs", SYS_sysfs, { 99 }, KILLED + SIGSYS },
		{ "settimeofday", SYS_settimeofday, { NOWHERE, 0 }, EPERM },		  /* EFAULT */
		{ "clock_settime", SYS_clock_settime, { 0, NOWHERE }, EPERM },		  /* EFAULT */
		{ "adjtimex", SYS_adjtimex, { NOWHERE }, EPERM },			  /* EFAULT */
		{ "clock_adjtime", SYS_clock_adjtime, { 0, NOWHERE }, EPERM },		  /* EFAULT */
		{ "fanotify_init", SYS_fanotify_init, { 0x200 | 0x10000000, 0 }, EPERM },  /* EINVAL */
		{ "fanotify_mark", SYS_fanotify_mark, { -1, -1, 0, -1, 0 }, EPERM },	  /* EINVAL */
		{ "add_key", SYS_add_key, { NOWHERE, NOWHERE, 0, 0, 0 }, EPERM },	  /* EFAULT */
		{ "request_key", SYS_request_key, { NOWHERE, NOWHERE, 0, 0 }, EPERM },	  /* EFAULT */
		{ "keyctl", SYS_keyctl, { 9999 }, EPERM },				  /* EOPNOTSUPP */
		{ "ptrace", SYS_ptrace, { 16, -1, 0, 0 }, EPERM },			  /* ESRCH */
		{ "process_vm_readv", SYS_process_vm_readv, { -1, 0, 0, 0, 0, 1 }, EPERM }, /* EINVAL */
		{ "process_vm_writev", SYS_process_vm_writev, { -1, 0, 0, 0, 0, 1 }, EPERM }, /* EINVAL */
		{ "process_madvise", SYS_process_madvise, { -1, 0, 0, 0, 1 }, EPERM },	  /* EINVAL */
		{ "pidfd_getfd", SYS_pidfd_getfd, { -1, -1, 0 }, EPERM },		  /* EBADF */
		{ "kcmp", SYS_kcmp, { -1, -1, 0, 0, 0 }, EPERM },			  /* ESRCH */
		{ "mount", SYS_mount, { 0, NOWHERE, NOWHERE, 0, 0 }, EPERM },		  /* EFAULT */
		{ "umount2", SYS_umount2, { NOWHERE, 0x40000000 }, EPERM },		  /* EINVAL */
		{ "pivot_root", SYS_pivot_root, { NOWHERE, NOWHERE }, EPERM },		  /* EFAULT */
		{ "chroot", SYS_chroot, { NOWHERE }, EPERM },				  /* EFAULT */
		{ "fsopen", SYS_fsopen, { NOWHERE, 0 }, EPERM },			  /* EFAULT */
		{ "fsconfig", SYS_fsconfig, { -1, 99, 0, 0, 0 }, EPERM },		  /* EINVAL */
		{ "fsmount", SYS_fsmount, { -1, 0, 0 }, EPERM },			  /* EBADF */
		{ "fspick", SYS_fspick, { -1, NOWHERE, 0x40000000 }, EPERM },		  /* EINVAL */
		{ "move_mount", SYS_move_mount, { -1, NOWHERE, -1, NOWHERE, 0x40000000 }, EPERM }, /* EINVAL */
		{ "open_tree", SYS_open_tree, { -1, NOWHERE, 0x40000000 }, EPERM },	  /* EINVAL */
		{ "mount_setattr", SYS_mount_setattr, { -1, NOWHERE, 0x40000000, 0, 0 }, EPERM }, /* EINVAL */
		{ "open_tree_attr", 467, { -1, NOWHERE, 0x40000000, 0, 0 }, EPERM },	  /* EINVAL */
		{ "name_to_handle_at", SYS_name_to_handle_at, { -1, NOWHERE, 0, 0, 0x40000000 }, EPERM }, /* EINVAL */
		{ "open_by_handle_at", SYS_open_by_handle_at, { -1, NOWHERE, 0 }, EPERM }, /* EBADF */
		{ "seccomp", SYS_seccomp, { 99, 0, 0 }, EPERM },			  /* EINVAL */
		{ "landlock_create_ruleset", SYS_landlock_create_ruleset, { 0, 0, 1 }, EPERM }, /* the ABI */
		{ "setuid", SYS_setuid, { -1 }, EPERM },				  /* EINVAL */
		{ "setgid", SYS_setgid, { -1 }, EPERM },				  /* EINVAL */
		{ "setgroups", SYS_setgroups, { -1, NOWHERE }, EPERM },			  /* EINVAL */
		{ "capset", SYS_capset, { NOWHERE, NOWHERE }, EPERM },			  /* EFAULT */
		{ "chown", SYS_chown, { NOWHERE, 0, 0 }, EPERM },			  /* EFAULT */
		{ "sethostname", SYS_sethostname, { NOWHERE, -1 }, EPERM },		  /* EINVAL */
		{ "setdomainname", SYS_setdomainname, { NOWHERE, -1 }, EPERM },		  /* EINVAL */
		{ "mknod(S_IFCHR)", SYS_mknod, { NOWHERE, 0020600, 0x103 }, EPERM },	  /* EFAULT */
		{ "mknodat(S_IFBLK)", SYS_mknodat, { -1, NOWHERE, 0060600, 0x103 }, EPERM }, /* EFAULT */
		{ "personality(ADDR_NO_RANDOMIZE)", SYS_personality, { 0x0040000 }, EPERM }, /* done */
		{ "mmap(W+X)", SYS_mmap, { 0, 4096, 7, 0x22, -1, 0 }, EPERM },		  /* done */
		{ "mprotect(W+X)", SYS_mprotect, { NOWHERE, 4096, 6, 0, 0, 0 }, EPERM },  /* EINVAL */
		{ "openat2", SYS_openat2, { -1, NOWHERE, NOWHERE, 0 }, ENOSYS },	  /* EINVAL */
	};

	for (size_t i = 0; i < COUNT(all); i++)
		expect(all[i].name, ask(0, all[i].nr, all[i].a), all[i].want);
	/* What the profile grants isn't refused with them. */
	expect("mbind", answer(SYS_mbind, NOWHERE, 1, 0, 0, 0, 0), EINVAL);
}

/* C49, inside: `open` when the policy grants the calls. */
static void keyring(const char *description, int open_calls)
{
	static const long rings[] = { KEY_SPEC_SESSION_KEYRING, KEY_SPEC_USER_SESSION_KEYRING, KEY_SPEC_USER_KEYRING,
				      KEY_SPEC_PROCESS_KEYRING,	KEY_SPEC_THREAD_KEYRING };
	char text[4096];
	int fd;
	ssize_t n;

	for (size_t i = 0; i < COUNT(rings); i++) {
		long key = syscall(SYS_keyctl, KEYCTL_SEARCH, rings[i], "user", description, 0);

		say(key < 0 && (open_calls || errno == EPERM), "searching keyring %ld: %s", rings[i], key < 0 ? strerror(errno) : "found");
		if (key >= 0) {
			n = syscall(SYS_keyctl, KEYCTL_READ, key, text, sizeof(text));
			say(n < 0, "reading the key: %s", n < 0 ? strerror(errno) : "read");
		}
	}
	n = syscall(SYS_request_key, "user", description, NULL, 0);
	say(n < 0, "request_key: %s", n < 0 ? strerror(errno) : "found");
	fd = open("/proc/keys", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	say(n <= 0, "/proc/keys has %zd bytes", n);
}

/* C49, outside: a session keyring with a key in it, then the command. */
static void caller_key(const char *description, char **command)
{
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 ||
	    syscall(SYS_add_key, "user", description, "secret", 6, KEY_SPEC_SESSION_KEYRING) < 0) {
		perror("keyring");
		_exit(99);
	}
	execv(command[0], command);
	_exit(99);
}

static int filters(void)
{
	char line[256];
	int n = -1;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Seccomp_filters: %d", &n);
	if (f)
		fclose(f);
	return n;
}

/* C50 */
static void second_filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };
	int before = filters();

	say(before == 1, "%d filter", before);
	say(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "a second filter: %m");
	say(filters() == 2, "%d filters", filters());
	expect("unshare", answer(SYS_unshare, CLONE_NEWUSER | 1, 0, 0, 0, 0, 0), EPERM);
	expect("io_uring_setup", answer(SYS_io_uring_setup, 1, NOWHERE, 0, 0, 0, 0), EPERM);
	expect("reboot", answer(SYS_reboot, 0, 0, 0, 0, 0, 0), KILLED + SIGSYS);
	expect("clone3", answer(SYS_clone3, 0, 0, 0, 0, 0, 0), ENOSYS);
	/* There is no way back. */
	say(prctl(PR_SET_SECCOMP, SECCOMP_MODE_DISABLED, NULL) < 0, "disabling: %m");
	say(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0, "no_new_privs off: %m");
}

/* C52: the kernel lets its own trampolines past every filter; outside of one they do nothing. */
static void trampolines(void)
{
	expect("335, uretprobe", answer(335, 0, 0, 0, 0, 0, 0), KILLED + SIGILL);
	/* uprobe(2) came with Linux 6.18. */
	expect("336, uprobe", answer(336, 0, 0, 0, 0, 0, 0), ENXIO);
}

/* C54: what the process's own status says, for a comparison from outside. */
static void speculation(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "Speculation", 11))
			printf("OK %s", line);
	if (f)
		fclose(f);
}

/* C55: a static program that does the least. */
static void hello(void)
{
	puts("hello");
}

static void hold(void)
{
	puts("OK ready");
	fflush(stdout);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	const char *check = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(check, "foreign"))
		foreign();
	else if (!strcmp(check, "halves"))
		halves();
	else if (!strcmp(check, "unknown") && argc == 3)
		unknown(!strcmp(argv[2], "6.18"));
	else if (!strcmp(check, "newer"))
		newer();
	else if (!strcmp(check, "io_uring"))
		io_uring();
	else if (!strcmp(check, "namespaces"))
		namespaces();
	else if (!strcmp(check, "dangerous"))
		dangerous();
	else if (!strcmp(check, "keyring") && argc == 4)
		keyring(argv[2], !strcmp(argv[3], "open"));
	else if (!strcmp(check, "caller-key") && argc > 3)
		caller_key(argv[2], argv + 3);
	else if (!strcmp(check, "second-filter"))
		second_filter();
	else if (!strcmp(check, "trampolines"))
		trampolines();
	else if (!strcmp(check, "speculation"))
		speculation();
	else if (!strcmp(check, "hello"))
		hello();
	else if (!strcmp(check, "hold"))
		hold();
	else
		say(0, "unknown check `%s`", check);
	return bad;
}
