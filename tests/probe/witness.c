// Two parts of tests/faults.rs.
//
// The payload of a machine: `witness wait COOKIE MS` copies what the kernel says of it into /out, waits,
// and leaves; `witness quiet` only leaves.
//
// The hand that disturbs a launch, outside of the machine:
//   witness trace LOG -- COMMAND ...                      lists every system call of every process
//   witness inject LOG ROLE NUMBER NTH ACTION -- COMMAND  one fault; LOG is made when it happened
// ROLE counts the processes in the order of their making, from 0, the command itself. ACTION is an errno
// that the call returns without being made, or 0: SIGKILL instead of the call. strace(1) can do both, but
// counts calls in every process at once, so that the supervisor hides the children's first ones.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/ptrace.h>

static void fail(const char *what) {
    fprintf(stderr, "witness: %s: %s\n", what, strerror(errno));
    exit(99);
}

static char text[1 << 18];

static size_t take(const char *name) {
    int f = open(name, O_RDONLY | O_CLOEXEC);
    if (f < 0) fail(name);
    size_t all = 0;
    ssize_t n;
    while ((n = read(f, text + all, sizeof text - all)) > 0) all += (size_t)n;
    if (n < 0) fail(name);
    close(f);
    return all;
}

static void give(const char *name, size_t length) {
    int f = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (f < 0) fail(name);
    if (write(f, text, length) != (ssize_t)length) fail(name);
    close(f);
}

static int payload(const char *wait) {
    // First of all: it ran. The status comes last, so that a report that is there is whole.
    give("/out/started", 0);
    give("/out/limits", take("/proc/self/limits"));
    give("/out/uid_map", take("/proc/self/uid_map"));
    give("/out/mountinfo", take("/proc/self/mountinfo"));
    ssize_t n = readlink("/proc/self/cwd", text, sizeof text - 1);
    if (n < 0) fail("cwd");
    text[n] = 0;
    if (symlink(text, "/out/cwd")) fail("/out/cwd");
    give("/out/status.part", take("/proc/self/status"));
    if (rename("/out/status.part", "/out/status")) fail("rename");
    long ms = atol(wait);
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
    give("/out/finished", 0);
    return 0;
}

struct process {
    pid_t pid;
    // The command itself counts from its own exec on, the others up to the payload's.
    int counts, is_payload, pending;
    long seen;
};

static struct process all[256];
static int many;

static struct process *known(pid_t pid) {
    for (int i = 0; i < many; i++)
        if (all[i].pid == pid) return &all[i];
    if (many == 256) fail("too many processes");
    all[many].pid = pid;
    all[many].counts = many != 0;
    return &all[many++];
}

static void skip_call(pid_t pid) {
#if defined __x86_64__
    if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1L)) fail("skip");
#elif defined __aarch64__
    int none = -1;
    struct iovec v = {&none, sizeof none};
    if (ptrace(PTRACE_SETREGSET, pid, 0x404 /* NT_ARM_SYSTEM_CALL */, &v)) fail("skip");
#else
#error "not ported"
#endif
}

static void set_result(pid_t pid, long value) {
#if defined __x86_64__
    if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), value)) fail("result");
#elif defined __aarch64__
    struct user_regs_struct r;
    struct iovec v = {&r, sizeof r};
    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v)) fail("result");
    r.regs[0] = (unsigned long)value;
    if (ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &v)) fail("result");
#endif
}

static int disturb(int argc, char **argv) {
    int tracing = !strcmp(argv[1], "trace");
    int first = tracing ? 4 : 8;
    if (argc <= first || strcmp(argv[first - 1], "--")) return 2;
    int role = tracing ? -1 : atoi(argv[3]);
    long number = tracing ? 0 : atol(argv[4]), nth = tracing ? 0 : atol(argv[5]);
    int action = tracing ? 0 : atoi(argv[6]);
    int log = open(argv[2], O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
    if (log < 0) fail(argv[2]);

    int gate[2];
    if (pipe2(gate, O_CLOEXEC)) fail("pipe");
    pid_t command = fork();
    if (command < 0) fail("fork");
    if (command == 0) {
        char c;
        if (read(gate[0], &c, 1) != 1) _exit(99);
        execv(argv[first], argv + first);
        _exit(99);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;
    // The children of a supervisor that is to be hit run untouched.
    if (role != 0) options |= PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    // Seized, not attached: whoever is left when we end goes on as if we had never been there.
    if (ptrace(PTRACE_SEIZE, command, 0, options)) fail("seize");
    if (ptrace(PTRACE_INTERRUPT, command, 0, 0)) fail("interrupt");
    if (write(gate[1], "g", 1) != 1) fail("gate");
    known(command);

    int done = 0;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) fail("wait");
        if (!WIFSTOPPED(status)) {
            struct process *p = known(pid);
            if (tracing && p->is_payload) dprintf(log, "end\n");
            p->pid = 0;
            if (pid != command) continue;
            if (WIFEXITED(status)) return WEXITSTATUS(status);
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            signal(WTERMSIG(status), SIG_DFL);
            raise(WTERMSIG(status));
            return 98;
        }
        struct process *p = known(pid);
        int signal = WSTOPSIG(status), event = status >> 16, deliver = 0;
        if (event == PTRACE_EVENT_EXEC) {
            // The supervisor runs programs of the host too (nft): theirs aren't the launch's calls.
            char link[64], exe[64] = "";
            snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
            ssize_t n = readlink(link, exe, sizeof exe - 1);
            p->is_payload = p != all && p->counts && n == 6 && !memcmp(exe, "/probe", 6);
            p->counts = p == all;
        } else if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
            unsigned long made;
            if (!ptrace(PTRACE_GETEVENTMSG, pid, 0, &made)) known((pid_t)made);
        } else if (signal == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info i;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, &i) > 0) {
                if (i.op == PTRACE_SYSCALL_INFO_ENTRY && p->counts) {
                    if (tracing) dprintf(log, "%d %ld\n", (int)(p - all), (long)i.entry.nr);
                    if (!done && p - all == role && (long)i.entry.nr == number && ++p->seen == nth) {
                        dprintf(log, "hit\n");
                        done = 1;
                        if (action) {
                            skip_call(pid);
                            p->pending = 1;
                        } else {
                            kill(pid, SIGKILL);
                        }
                    }
                } else if (i.op == PTRACE_SYSCALL_INFO_EXIT && p->pending) {
                    p->pending = 0;
                    set_result(pid, -(long)action);
                }
            }
        } else if (event == 0) {
            deliver = signal;
        }
        // A process that was killed meanwhile is told of by the next wait.
        ptrace(done && !p->pending ? PTRACE_CONT : PTRACE_SYSCALL, pid, 0, (long)deliver);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "quiet")) return 0;
    if (argc == 4 && !strcmp(argv[1], "wait")) return payload(argv[3]);
    if (argc > 4) return disturb(argc, argv);
    return 2;
}
