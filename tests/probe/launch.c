/*
 * What a machine's program finds at its start, said by the program itself: `launch CHECK [ARGUMENT...]`.
 * Prints one line for each fact, `OK ...` or `BAD ...`; exit code 1 when one is BAD.
 *
 * The checks whose names begin with `caller-` run on the host instead: they make an odd caller of
 * themselves and become the command that follows, which is the launcher under test.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
static int bad;

/* One line; `fine` decides between OK and BAD. */
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

/* The value of a line of /proc/self/status, or of a thread's. */
static const char *status(const char *path, const char *key)
{
	static char line[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f)) {
		size_t n = strlen(key);

		if (strncmp(line, key, n) || line[n] != ':')
			continue;
		fclose(f);
		line[strcspn(line, "\n")] = 0;
		return line + n + 1 + strspn(line + n + 1, " \t");
	}
	if (f)
		fclose(f);
	return "(no such line)";
}

static void same(const char *what, const char *got, const char *want)
{
	say(!strcmp(got, want), "%s is `%s`, wanted `%s`", what, got, want);
}

static void number(const char *what, long got, long want)
{
	say(got == want, "%s is %ld, wanted %ld", what, got, want);
}

static void fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int count = 0;

	if (!d) {
		say(0, "/proc/self/fd: %m");
		return;
	}
	while ((e = readdir(d))) {
		char to[512];
		int fd = atoi(e->d_name);
		ssize_t n;

		if (e->d_name[0] == '.' || fd == dirfd(d))
			continue;
		n = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);
		to[n < 0 ? 0 : n] = 0;
		say(fd >= 0 && fd <= 2, "fd %d is %s", fd, to);
		count++;
	}
	closedir(d);
	number("the count of descriptors", count, 3);
}

static void cwd(const char *want)
{
	char now[4096];
	struct stat by_dot, by_name;

	if (!getcwd(now, sizeof(now))) {
		say(0, "getcwd: %m");
		return;
	}
	/* getcwd(2) begins with "(unreachable)" when the folder isn't below the root. */
	same("the working directory", now, want);
	if (stat(".", &by_dot) || stat(want, &by_name))
		say(0, "stat: %m");
	else
		say(by_dot.st_dev == by_name.st_dev && by_dot.st_ino == by_name.st_ino, "`.` and `%s` are the same folder", want);
	/* The host has it, a private root doesn't. */
	say(open("../../../../../../../../root", O_PATH | O_CLOEXEC) < 0 && errno == ENOENT, "the host's folders aren't above it: %m");
}

static void exe(void)
{
	/* Ours: bound read-only. The init's: the launcher's own binary, which nobody inside may even look at. */
	int own = open("/proc/self/exe", O_RDWR | O_CLOEXEC);

	say(own < 0 && (errno == ETXTBSY || errno == EROFS || errno == EACCES), "/proc/self/exe for writing: %m");
	for (int pid = 1; pid < getpid(); pid++) {
		static const int modes[] = { O_RDWR, O_WRONLY, O_RDONLY, O_PATH };
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/exe", pid);
		for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
			int fd = open(path, modes[i] | O_CLOEXEC);

			say(fd < 0 && (errno == EACCES || errno == EPERM || errno == ENOENT), "%s with mode %#x: %s", path, modes[i],
			    fd < 0 ? strerror(errno) : "opened");
		}
	}
	say(getpid() > 1, "there is an init to look at");
}

static void ids(long uid, long gid)
{
	uid_t u[3];
	gid_t g[3];

	if (getresuid(u, u + 1, u + 2) || getresgid(g, g + 1, g + 2))
		say(0, "getresuid: %m");
	for (int i = 0; i < 3; i++) {
		number("a uid", u[i], uid);
		number("a gid", g[i], gid);
	}
}

/* `want` as the kernel prints it: sorted, each followed by a blank, the last one cut. */
static void groups(const char *want, const char *mode)
{
	gid_t none[1] = { 0 };
	char groups[512], text[16] = "";
	int fd, n;

	snprintf(groups, sizeof(groups), "%s", status("/proc/self/status", "Groups"));
	n = strlen(groups);
	while (n && groups[n - 1] == ' ')
		groups[--n] = 0;
	same("Groups", groups, want);
	say(setgroups(1, none) < 0 && errno == EPERM, "setgroups: %m");
	fd = open("/proc/self/setgroups", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		say(0, "/proc/self/setgroups: %m");
	text[strcspn(text, "\n")] = 0;
	same("/proc/self/setgroups", text, mode);
	fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
	say(fd < 0 || write(fd, "allow", 5) < 0, "writing `allow` to it: %m");
}

/* Expected: CapInh, CapPrm, CapEff, CapBnd, CapAmb, each as 16 hex digits. */
static void caps(char **want)
{
	static const char *const names[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
	int last = 0;

	for (int i = 0; i < 5; i++)
		same(names[i], status("/proc/self/status", names[i]), want[i]);
	same("NoNewPrivs", status("/proc/self/status", "NoNewPrivs"), "1");
	/* NOROOT, NO_SETUID_FIXUP and KEEP_CAPS off and locked, NO_CAP_AMBIENT_RAISE on and locked. */
	number("securebits", prctl(PR_GET_SECUREBITS), 2 | 8 | 32 | 64 | 128);
	number("PR_GET_KEEPCAPS", prctl(PR_GET_KEEPCAPS), 0);
	/* Whatever the kernel knows beyond the launcher's table must be gone as well. */
	while (prctl(PR_CAPBSET_READ, last) >= 0) {
		int held = !!(strtoull(want[3], NULL, 16) >> last & 1);

		if (prctl(PR_CAPBSET_READ, last) != held)
			say(0, "capability %d of the bounding set is %d", last, !held);
		last++;
	}
	say(last > 40, "the kernel has %d capabilities", last);
	say(prctl(PR_SET_SECUREBITS, 0) < 0, "securebits are locked: %m");
	say(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0) < 0, "no ambient capability can be raised: %m");
}

/* The whole environment, one line each; a newline in a value is shown as `\n`. */
static void environment(void)
{
	for (char **e = environ; *e; e++) {
		printf("OK ");
		for (char *c = *e; *c; c++)
			*c == '\n' ? (void)printf("\\n") : (void)putchar(*c);
		putchar('\n');
	}
}

/* What a program started at boot would have. */
static void attributes(long cpus, const char *mask)
{
	struct rlimit core;
	cpu_set_t set;
	char score[16] = "";
	int fd;

	same("Umask", status("/proc/self/status", "Umask"), mask);
	same("SigIgn", status("/proc/self/status", "SigIgn"), "0000000000000000");
	same("SigBlk", status("/proc/self/status", "SigBlk"), "0000000000000000");
	same("SigPnd", status("/proc/self/status", "SigPnd"), "0000000000000000");
	errno = 0;
	number("nice", getpriority(PRIO_PROCESS, 0), 0);
	number("personality", personality(0xffffffff), 0);
	if (getrlimit(RLIMIT_CORE, &core))
		say(0, "getrlimit: %m");
	number("the soft limit for core", (long)core.rlim_cur, 0);
	number("the hard limit for core", (long)core.rlim_max, 0);
	if (sched_getaffinity(0, sizeof(set), &set))
		say(0, "sched_getaffinity: %m");
	number("the count of usable CPUs", CPU_COUNT(&set), cpus);
	number("dumpable", prctl(PR_GET_DUMPABLE), 1);
	fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, score, sizeof(score) - 1) < 0)
		say(0, "oom_score_adj: %m");
	score[strcspn(score, "\n")] = 0;
	same("oom_score_adj", score, "0");
}

static void timerslack(void)
{
	number("the timer slack", prctl(PR_GET_TIMERSLACK), 50000);
}

static void scheduler(void)
{
	number("the scheduling policy", sched_getscheduler(0), SCHED_OTHER);
}

static void ioprio(void)
{
	/* 0 is "from the nice value"; the kernel may show that as best effort, 4. */
	long now = syscall(SYS_ioprio_get, 1, 0);

	say(now == 0 || now == (2 << 13 | 4), "ioprio is %#lx", now);
}

/* The terminal is the machine's own. `device`: the host's devpts, which it must not be. */
static void terminal(unsigned long device)
{
	struct stat console, pts, fd;
	char to[256];
	ssize_t n;

	if (stat("/dev/console", &console) || stat("/dev/pts", &pts)) {
		say(0, "stat: %m");
		return;
	}
	for (int i = 0; i <= 2; i++) {
		if (fstat(i, &fd)) {
			say(0, "fstat %d: %m", i);
			continue;
		}
		say(isatty(i), "fd %d is a terminal", i);
		say(S_ISCHR(fd.st_mode) && major(fd.st_rdev) >= 136 && major(fd.st_rdev) <= 143, "fd %d has major %u", i, major(fd.st_rdev));
		say(fd.st_dev == pts.st_dev && fd.st_dev == console.st_dev && fd.st_rdev == console.st_rdev,
		    "fd %d is /dev/console, of our devpts", i);
		say(fd.st_dev != device, "fd %d isn't of the host's devpts (%lu, theirs %lu)", i, (unsigned long)fd.st_dev, device);
	}
	number("its mode", fd.st_mode & 07777, 0620);
	number("its group", fd.st_gid, 5);
	n = readlink("/proc/self/fd/0", to, sizeof(to) - 1);
	to[n < 0 ? 0 : n] = 0;
	same("fd 0", to, "/dev/console");
	number("the session", getsid(0), getpid());
	number("the foreground process group", tcgetpgrp(0), getpgrp());
	say(open("/dev/tty", O_RDWR | O_CLOEXEC) >= 0, "/dev/tty opens");
}

/* No terminal at all. */
static void no_terminal(void)
{
	for (int i = 0; i <= 2; i++)
		say(!isatty(i), "fd %d is no terminal", i);
	number("the session", getsid(0), getpid());
	say(open("/dev/tty", O_RDWR | O_CLOEXEC) < 0 && errno == ENXIO, "/dev/tty: %m");
}

/* Calls that type into a terminal or take it over, in both the ways in which the kernel reads the number. */
static void injection(void)
{
	static const struct { const char *name; unsigned long number; } all[] = {
		{ "TIOCSTI", TIOCSTI }, { "TIOCLINUX", TIOCLINUX }, { "TIOCSETD", TIOCSETD }, { "TIOCCONS", TIOCCONS },
	};
	char c = 'x';

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		for (int high = 0; high < 2; high++) {
			unsigned long n = all[i].number | (high ? 1UL << 32 : 0);
			/* Descriptor -1: EBADF would be the kernel's answer, EPERM is the filter's. */
			long r = syscall(SYS_ioctl, -1L, n, &c);

			say(r < 0 && errno == EPERM, "ioctl(-1, %s%s): %m", all[i].name, high ? " | 1<<32" : "");
			r = syscall(SYS_ioctl, 0L, n, &c);
			say(r < 0 && errno == EPERM, "ioctl(0, %s%s): %s", all[i].name, high ? " | 1<<32" : "", r < 0 ? strerror(errno) : "done");
		}
	}
	/* The same way is open for what isn't refused, or the check above would prove nothing. */
	say(syscall(SYS_ioctl, -1L, (unsigned long)TCGETS, &c) < 0 && errno == EBADF, "ioctl(-1, TCGETS): %m");
}

static void *wait_there(void *barrier)
{
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return NULL;
}

/* Every thread has the filter and no_new_privs. */
static void threads(void)
{
	pthread_barrier_t barrier;
	pthread_t t[4];
	DIR *d;
	struct dirent *e;
	int count = 0;

	pthread_barrier_init(&barrier, NULL, 5);
	for (int i = 0; i < 4; i++)
		if (pthread_create(t + i, NULL, wait_there, &barrier))
			say(0, "pthread_create");
	pthread_barrier_wait(&barrier);
	d = opendir("/proc/self/task");
	while (d && (e = readdir(d))) {
		char path[512];

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		same("Seccomp", status(path, "Seccomp"), "2");
		same("Seccomp_filters", status(path, "Seccomp_filters"), "1");
		same("NoNewPrivs", status(path, "NoNewPrivs"), "1");
		count++;
	}
	number("the count of threads", count, 5);
	pthread_barrier_wait(&barrier);
}

/* Waits for its end, after it said that it is there. */
static void hold(void)
{
	say(1, "ready");
	fflush(stdout);
	for (;;)
		pause();
}

/* Leaves a mark in the folder given. */
static void mark(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	say(fd >= 0, "mark %s: %m", path);
}

static void become(char **command)
{
	execv(command[0], command);
	perror(command[0]);
	_exit(99);
}

static void must(int fine, const char *what)
{
	if (fine)
		return;
	perror(what);
	_exit(99);
}

/* A caller that lets 40 descriptors of every kind pass through exec. */
static void caller_fds(char **command)
{
	for (int i = 0; i < 8; i++) {
		int pair[2];
		int m = memfd_create("leak", 0);

		must(m >= 0, "memfd_create");
		must(open("/", O_RDONLY | O_DIRECTORY) >= 0, "open /");
		must(open("/etc/passwd", O_PATH) >= 0, "open O_PATH");
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
		must(syscall(SYS_pidfd_open, getppid(), 0) >= 0, "pidfd_open");
	}
	/* pidfd_open(2) always sets it. */
	for (int fd = 3; fd < 60; fd++)
		fcntl(fd, F_SETFD, 0);
	become(command);
}

/* A caller whose own attributes are all unusual. */
static void caller_attributes(char **command)
{
	struct rlimit core;
	sigset_t all;
	cpu_set_t one;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	umask(0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGRTMIN + 3, SIG_IGN);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	must(setpriority(PRIO_PROCESS, 0, -5) == 0, "setpriority");
	must(personality(ADDR_NO_RANDOMIZE) >= 0, "personality");
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	must(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
	/* Lowering it needs CAP_SYS_RESOURCE, which root of a container or small VM may lack: then raise it. */
	must(fd >= 0 && (write(fd, "-500", 4) > 0 || write(fd, "500", 3) > 0), "oom_score_adj");
	must(getrlimit(RLIMIT_CORE, &core) == 0, "getrlimit");
	core.rlim_cur = RLIM_INFINITY;
	core.rlim_max = RLIM_INFINITY;
	if (setrlimit(RLIMIT_CORE, &core)) {
		getrlimit(RLIMIT_CORE, &core);
		core.rlim_cur = core.rlim_max;
		must(setrlimit(RLIMIT_CORE, &core) == 0, "setrlimit");
	}
	become(command);
}

static void caller_timerslack(char **command)
{
	must(prctl(PR_SET_TIMERSLACK, 777777) == 0, "PR_SET_TIMERSLACK");
	become(command);
}

static void caller_scheduler(char **command)
{
	struct sched_param none = { 0 };

	must(sched_setscheduler(0, SCHED_BATCH, &none) == 0, "sched_setscheduler");
	become(command);
}

static void caller_ioprio(char **command)
{
	/* Idle class. */
	must(syscall(SYS_ioprio_set, 1, 0, 3 << 13) == 0, "ioprio_set");
	become(command);
}

#ifdef PRELOADED
/* As a library that the launcher's own binary loads inside the machine: /proc/self/exe is the launcher. */
__attribute__((constructor)) static void preloaded(void)
{
	exe();
	fflush(stdout);
	_exit(bad);
}
#endif

int main(int argc, char **argv)
{
	const char *check = argc > 1 ? argv[1] : "";
	const char *first = argc > 2 ? argv[2] : "";

	/* A line is whole even when the process is killed. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(check, "fds"))
		fds();
	else if (!strcmp(check, "cwd") && argc == 3)
		cwd(first);
	else if (!strcmp(check, "exe"))
		exe();
	else if (!strcmp(check, "ids") && argc == 4)
		ids(atol(argv[2]), atol(argv[3]));
	else if (!strcmp(check, "groups") && argc == 4)
		groups(argv[2], argv[3]);
	else if (!strcmp(check, "caps") && argc == 7)
		caps(argv + 2);
	else if (!strcmp(check, "environment"))
		environment();
	else if (!strcmp(check, "attributes") && argc == 4)
		attributes(atol(argv[2]), argv[3]);
	else if (!strcmp(check, "timerslack"))
		timerslack();
	else if (!strcmp(check, "scheduler"))
		scheduler();
	else if (!strcmp(check, "ioprio"))
		ioprio();
	else if (!strcmp(check, "terminal") && argc == 3)
		terminal(strtoul(first, NULL, 10));
	else if (!strcmp(check, "no-terminal"))
		no_terminal();
	else if (!strcmp(check, "injection"))
		injection();
	else if (!strcmp(check, "threads"))
		threads();
	else if (!strcmp(check, "hold"))
		hold();
	else if (!strcmp(check, "mark") && argc == 3)
		mark(first);
	else if (!strcmp(check, "caller-fds") && argc > 2)
		caller_fds(argv + 2);
	else if (!strcmp(check, "caller-attributes") && argc > 2)
		caller_attributes(argv + 2);
	else if (!strcmp(check, "caller-timerslack") && argc > 2)
		caller_timerslack(argv + 2);
	else if (!strcmp(check, "caller-scheduler") && argc > 2)
		caller_scheduler(argv + 2);
	else if (!strcmp(check, "caller-ioprio") && argc > 2)
		caller_ioprio(argv + 2);
	else
		say(0, "unknown check `%s`", check);
	return bad;
}
