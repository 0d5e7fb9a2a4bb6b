/* What a machine can do with its file tree. `tree CHECK args` prints `OK ...` or `BAD ...`, exit 0 or 1.
 *
 * `tree try OP:ARG[,ARG2]:WANT ...` performs harmless calls in order; WANT is `ok` or errnos joined by `|`.
 * Nothing is ever written to a file of the kernel: they are opened and closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

static int bad;
#define BAD(...) (bad = 1, printf("BAD "), printf(__VA_ARGS__), printf("\n"))
#define OK(...) (printf("OK "), printf(__VA_ARGS__), printf("\n"))

static const struct {
    const char *name;
    int value;
} ERRNOS[] = {
    {"EPERM", EPERM}, {"ENOENT", ENOENT}, {"EBADF", EBADF}, {"EACCES", EACCES}, {"EBUSY", EBUSY},
    {"EEXIST", EEXIST}, {"EXDEV", EXDEV}, {"ENODEV", ENODEV}, {"ENOTDIR", ENOTDIR}, {"EISDIR", EISDIR},
    {"EINVAL", EINVAL}, {"ENOTTY", ENOTTY}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"ENOSYS", ENOSYS},
    {"ELOOP", ELOOP}, {"ECONNREFUSED", ECONNREFUSED}, {"ESTALE", ESTALE}, {"EIO", EIO}, {"ENXIO", ENXIO},
    {"EDQUOT", EDQUOT}, {"ENOTEMPTY", ENOTEMPTY}, {"ENETUNREACH", ENETUNREACH}, {"ESRCH", ESRCH},
    {"EAFNOSUPPORT", EAFNOSUPPORT}, {"EOPNOTSUPP", EOPNOTSUPP}, {"EPROTOTYPE", EPROTOTYPE}, {"ETXTBSY", ETXTBSY},
    {"EOVERFLOW", EOVERFLOW}, {"ENODATA", ENODATA},
};

static const char *name_of(int e) {
    static char other[16];
    if (e == 0)
        return "ok";
    for (size_t i = 0; i < sizeof ERRNOS / sizeof *ERRNOS; i++)
        if (ERRNOS[i].value == e)
            return ERRNOS[i].name;
    snprintf(other, sizeof other, "errno%d", e);
    return other;
}

static int wanted(const char *list, int e) {
    const char *name = name_of(e);
    size_t n = strlen(name);
    for (const char *p = list; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (!strncmp(p, name, n) && (p[n] == '|' || !p[n]))
            return 1;
    return 0;
}

/* A return value as an errno. */
static int end(long r) {
    return r < 0 ? errno : 0;
}

static int opened(const char *path, int flags, int mode) {
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, mode);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int content(const char *path, const char *want) {
    char b[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t n = read(fd, b, sizeof b - 1);
    int e = n < 0 ? errno : 0;
    close(fd);
    if (e)
        return e;
    b[n] = 0;
    if (n && b[n - 1] == '\n')
        b[n - 1] = 0;
    return strcmp(b, want) ? EIO : 0;
}

/* 0: nothing can be read there; EIO: something can; else why it can't be opened. */
static int empty(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode)) {
        DIR *d = opendir(path);
        if (!d)
            return errno;
        int n = 0;
        for (struct dirent *e; (e = readdir(d));)
            n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
        closedir(d);
        return n ? EIO : 0;
    }
    char b[16];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno;
    ssize_t n = read(fd, b, sizeof b);
    int e = n < 0 ? errno : n ? EIO : 0;
    close(fd);
    return e;
}

static int executed(const char *path) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return errno;
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return errno;
    if (!pid) {
        char *argv[] = {(char *)path, "true", NULL}, *env[] = {NULL};
        execve(path, argv, env);
        int e = errno;
        if (write(p[1], &e, sizeof e) < 0)
            _exit(3);
        _exit(2);
    }
    close(p[1]);
    int e = 0;
    if (read(p[0], &e, sizeof e) < 0)
        e = errno;
    close(p[0]);
    waitpid(pid, NULL, 0);
    return e;
}

static int local(const char *name, int abstract, int type) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    memcpy(a.sun_path + abstract, name, n < 100 ? n : 100);
    int s = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (s < 0)
        return errno;
    int e = end(connect(s, (void *)&a, offsetof(struct sockaddr_un, sun_path) + abstract + n + !abstract));
    close(s);
    return e;
}

static int tcp(const char *port, int bound) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (s < 0)
        return errno;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int e = end(bound ? bind(s, (void *)&a, sizeof a) : connect(s, (void *)&a, sizeof a));
    close(s);
    return e;
}

static int device_ioctl(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), n = 0;
    if (fd < 0)
        return errno;
    /* RNDGETENTCNT: a question that any opener of /dev/random may ask. */
    int e = end(ioctl(fd, 0x80045200, &n));
    close(fd);
    return e;
}

static int cleared(const char *path, unsigned long long what) {
    struct mount_attr a = {.attr_clr = what};
    return end(syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &a, sizeof a));
}

static int copied(const char *path, int recursive) {
    int fd = syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

/* Bytes of struct file_handle in hex; the mount is that of `place`. */
static int by_handle(const char *place, const char *hex) {
    union {
        struct file_handle h;
        unsigned char b[sizeof(struct file_handle) + 128];
    } u;
    memset(&u, 0, sizeof u);
    for (size_t i = 0; hex[2 * i] && hex[2 * i + 1] && i < sizeof u.b; i++) {
        unsigned v;
        sscanf(hex + 2 * i, "%2x", &v);
        u.b[i] = v;
    }
    int at = open(place, O_RDONLY | O_CLOEXEC);
    if (at < 0)
        return errno;
    int fd = open_by_handle_at(at, &u.h, O_RDONLY);
    int e = fd < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    close(at);
    return e;
}

static int escape(const char *dir) {
    /* The classic: a descriptor outside the new root, then up. */
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat top, now;
    if (fd < 0 || fstat(fd, &top) < 0)
        return errno;
    if (chroot(dir) < 0)
        return errno;
    if (fchdir(fd) < 0)
        return errno;
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            return errno;
    if (stat(".", &now) < 0)
        return errno;
    /* EBUSY: it ended where it began, the machine's own root. */
    return now.st_dev == top.st_dev && now.st_ino == top.st_ino ? EBUSY : 0;
}

static int op(const char *o, char *a, char *b) {
    if (!strcmp(o, "stat")) { struct stat st; return end(lstat(a, &st)); }
    if (!strcmp(o, "read")) return opened(a, O_RDONLY, 0);
    if (!strcmp(o, "is")) return content(a, b);
    if (!strcmp(o, "empty")) return empty(a);
    if (!strcmp(o, "write")) return opened(a, O_WRONLY, 0);
    if (!strcmp(o, "rdtrunc")) return opened(a, O_RDONLY | O_TRUNC, 0);
    if (!strcmp(o, "creat")) return opened(a, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (!strcmp(o, "put")) {
        int fd = open(a, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0) return errno;
        int e = end(write(fd, b, strlen(b)));
        close(fd);
        return e;
    }
    if (!strcmp(o, "trunc")) return end(truncate(a, 0));
    if (!strcmp(o, "mkdir")) return end(mkdir(a, 0755));
    if (!strcmp(o, "rmdir")) return end(rmdir(a));
    if (!strcmp(o, "unlink")) return end(unlink(a));
    if (!strcmp(o, "symlink")) return end(symlink("x", a));
    if (!strcmp(o, "fifo")) return end(mknod(a, S_IFIFO | 0600, 0));
    if (!strcmp(o, "sock")) return end(mknod(a, S_IFSOCK | 0600, 0));
    if (!strcmp(o, "mknodc")) return end(mknod(a, S_IFCHR | 0666, makedev(1, 3)));
    if (!strcmp(o, "mknodb")) return end(mknod(a, S_IFBLK | 0666, makedev(7, 0)));
    if (!strcmp(o, "chmod")) return end(chmod(a, 0755));
    if (!strcmp(o, "suid")) return end(chmod(a, 04755));
    if (!strcmp(o, "rename")) return end(rename(a, b));
    if (!strcmp(o, "link")) return end(link(a, b));
    if (!strcmp(o, "exec")) return executed(a);
    if (!strcmp(o, "ioctl")) return device_ioctl(a);
    if (!strcmp(o, "setxattr")) return end(setxattr(a, b, "y", 1, 0));
    if (!strcmp(o, "getxattr")) return end(getxattr(a, b, NULL, 0));
    if (!strcmp(o, "connect")) return local(a, 0, SOCK_STREAM);
    if (!strcmp(o, "abstract")) return local(a, 1, SOCK_STREAM);
    if (!strcmp(o, "bindtcp")) return tcp(a, 1);
    if (!strcmp(o, "conntcp")) return tcp(a, 0);
    if (!strcmp(o, "umount")) return end(umount2(a, 0));
    if (!strcmp(o, "detach")) return end(umount2(a, 2 /* MNT_DETACH */));
    if (!strcmp(o, "remount")) return end(mount(NULL, a, NULL, 32 | 4096, NULL)); /* MS_REMOUNT|MS_BIND, no flag kept */
    if (!strcmp(o, "move")) return end(mount(a, b, NULL, 8192, NULL));
    if (!strcmp(o, "bind")) return end(mount(a, b, NULL, 4096, NULL));
    if (!strcmp(o, "rbind")) return end(mount(a, b, NULL, 4096 | 16384, NULL));
    if (!strcmp(o, "newproc")) return end(mount("proc", a, "proc", 0, NULL));
    if (!strcmp(o, "newtmpfs")) return end(mount("t", a, "tmpfs", 0, NULL));
    if (!strcmp(o, "newfs")) return end(mount("n", a, b, 0, NULL));
    if (!strcmp(o, "clrro")) return cleared(a, MOUNT_ATTR_RDONLY);
    if (!strcmp(o, "clrsuid")) return cleared(a, MOUNT_ATTR_NOSUID);
    if (!strcmp(o, "clrdev")) return cleared(a, MOUNT_ATTR_NODEV);
    if (!strcmp(o, "clrexec")) return cleared(a, MOUNT_ATTR_NOEXEC);
    if (!strcmp(o, "copytree")) return copied(a, 0);
    if (!strcmp(o, "copytrees")) return copied(a, 1);
    if (!strcmp(o, "shared")) return end(mount(NULL, a, NULL, (1 << 20) | 16384, NULL));
    if (!strcmp(o, "handle")) return by_handle(a, b);
    if (!strcmp(o, "escape")) return escape(a);
    if (!strcmp(o, "unshare")) return end(unshare(strtol(a, NULL, 0)));
    if (!strcmp(o, "vmread")) {
        char x[8];
        static char y[8];
        unsigned long at = strtoul(b, NULL, 0);
        struct iovec me = {x, 8}, you = {at ? (void *)at : y, 8};
        return end(process_vm_readv(strcmp(a, "self") ? atoi(a) : getpid(), &me, 1, &you, 1, 0));
    }
    if (!strcmp(o, "setuid")) return end(syscall(SYS_setresuid, atoi(a), atoi(a), atoi(a)));
    if (!strcmp(o, "capset")) {
        unsigned header[2] = {0x20080522, 0}, data[6] = {0};
        return end(syscall(SYS_capset, header, data));
    }
    printf("BAD no operation `%s`\n", o);
    exit(2);
}

static int try_all(int n, char **args) {
    for (int i = 0; i < n; i++) {
        char *o = args[i], *a = strchr(o, ':'), *want = strrchr(o, ':');
        if (!a || a == want) {
            printf("BAD `%s` is no OP:ARG:WANT\n", o);
            return 2;
        }
        *a++ = 0;
        *want++ = 0;
        char *b = strchr(a, ',');
        if (b)
            *b++ = 0;
        int e = op(o, a, b ? b : "");
        printf("%s %s %s%s%s = %s\n", wanted(want, e) ? "OK" : "BAD", o, a, b ? " " : "", b ? b : "", name_of(e));
        bad |= !wanted(want, e);
    }
    return bad;
}

static int is_number(const char *s) {
    return *s && strspn(s, "0123456789") == strlen(s);
}

static int count;

/* Opens everything below for writing, writes nothing. */
static void walk(const char *path, const char *const *skip, const char *const *allow) {
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char p[PATH_MAX];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (!strcmp(path, "/proc") && is_number(e->d_name))
            continue;
        snprintf(p, sizeof p, "%s/%s", path, e->d_name);
        int skipped = 0;
        for (const char *const *s = skip; *s; s++)
            skipped |= !strcmp(p, *s);
        if (skipped || lstat(p, &st) < 0 || S_ISLNK(st.st_mode))
            continue;
        if (S_ISDIR(st.st_mode)) {
            walk(p, skip, allow);
            /* Nothing can be made there either. */
            char f[PATH_MAX + 8];
            snprintf(f, sizeof f, "%s/.x", p);
            if (!opened(f, O_CREAT | O_EXCL | O_WRONLY, 0600))
                BAD("a file can be made in %s", p);
            continue;
        }
        count++;
        int fd = open(p, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
            continue;
        close(fd);
        /* An entry that begins with a slash is a path, any other the end of one. */
        int fine = 0;
        for (const char *const *s = allow; *s; s++) {
            size_t k = strlen(*s), l = strlen(p);
            fine |= **s == '/' ? !strcmp(p, *s) : l > k && !strcmp(p + l - k, *s);
        }
        if (!fine)
            BAD("%s can be opened for writing", p);
    }
    closedir(d);
}

static int knobs(void) {
    static const char *const skip[] = {"/proc/self", "/proc/thread-self", NULL}, *const allow[] = {NULL};
    walk("/proc", skip, allow);
    walk("/sys", skip, allow);
    if (count < 500)
        BAD("only %d files were seen", count);
    if (!bad)
        OK("none of %d files opens for writing", count);
    return bad;
}

/* /proc/PID of every process but this one: nothing opens for writing. */
static int others(void) {
    static const char *const none[] = {NULL};
    /* procfs lets everybody open these and decides at the write, by ptrace's rules; nothing here writes. */
    static const char *const late[] = {"attr/current", "attr/exec", "attr/fscreate", "attr/keycreate",
                                       "attr/sockcreate", "timerslack_ns", NULL};
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!is_number(e->d_name) || atoi(e->d_name) == getpid())
            continue;
        char p[300];
        snprintf(p, sizeof p, "/proc/%s", e->d_name);
        walk(p, none, late);
    }
    if (!bad)
        OK("%d files of other processes", count);
    return bad;
}

static int pids(int n, char **want) {
    /* PID 1 is the machine's init; then this process. */
    DIR *d = opendir("/proc");
    int seen = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!is_number(e->d_name))
            continue;
        seen++;
        if (atoi(e->d_name) != 1 && atoi(e->d_name) != getpid())
            BAD("process %s is visible", e->d_name);
    }
    if (seen != 2 || getpid() == 1)
        BAD("%d processes, this is %d", seen, getpid());
    static const char *const secret[] = {"environ", "mem", "maps", "fd", "root", "cwd", "exe", "auxv", "syscall", "stack"};
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) {
        char p[64];
        snprintf(p, sizeof p, "/proc/1/%s", secret[i]);
        int dir = !strcmp(secret[i], "fd");
        char b[64];
        int e = i >= 4 && i <= 6 ? end(readlink(p, b, sizeof b)) : opened(p, O_RDONLY | (dir ? O_DIRECTORY : 0), 0);
        if (!e) {
            /* Some of them open; they must not tell. */
            int fd = open(p, O_RDONLY | O_CLOEXEC);
            ssize_t k = dir ? 1 : read(fd, b, sizeof b);
            close(fd);
            if (k > 0)
                BAD("%s can be read", p);
        }
    }
    if (!bad)
        OK("two processes");
    (void)n, (void)want;
    return bad;
}

static void list(const char *dir, int n, char **want, int *found) {
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char p[PATH_MAX];
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(p, sizeof p, "%s/%s", dir, e->d_name);
        int known = 0;
        for (int i = 0; i < n; i++)
            known |= !strcmp(p + 5, want[i]);
        *found += known;
        if (!known)
            BAD("%s is there", p);
        if (!lstat(p, &st) && S_ISDIR(st.st_mode))
            list(p, n, want, found);
    }
    if (d)
        closedir(d);
}

/* The names below /dev, no more and no fewer, and the six nodes are the real ones. */
static int devices(int n, char **want) {
    static const struct {
        const char *path;
        int major, minor;
    } real[] = {{"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7},
                {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
    int found = 0;
    list("/dev", n, want, &found);
    if (found != n)
        BAD("%d of %d names below /dev", found, n);
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        struct stat st;
        if (lstat(real[i].path, &st) < 0 || !S_ISCHR(st.st_mode) || (int)major(st.st_rdev) != real[i].major ||
            (int)minor(st.st_rdev) != real[i].minor)
            BAD("%s is not the real one", real[i].path);
    }
    char b[4] = "x";
    int fd = open("/dev/zero", O_RDONLY);
    if (read(fd, b, 1) != 1 || b[0])
        BAD("/dev/zero doesn't work");
    if (!bad)
        OK("%d names", n);
    return bad;
}

/* Mounts of these types at these places only; `want` is PLACE=TYPE. */
static int mounts(int n, char **want) {
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[4096];
    int lines = 0;
    while (f && fgets(line, sizeof line, f)) {
        char place[1024], type[64];
        char *dash = strstr(line, " - ");
        if (sscanf(line, "%*d %*d %*s %*s %1023s", place) != 1 || !dash || sscanf(dash, " - %63s", type) != 1) {
            BAD("can't read %s", line);
            continue;
        }
        lines++;
        char both[1100];
        snprintf(both, sizeof both, "%s=%s", place, type);
        int known = 0;
        for (int i = 0; i < n; i++)
            known |= !strcmp(both, want[i]) || (strchr(want[i], '*') && !strncmp(both, want[i], strchr(want[i], '*') - want[i]));
        if (!known)
            BAD("mount %s", both);
        if (strstr(line, "shared:") || strstr(line, "master:"))
            BAD("%s passes mounts on", place);
    }
    struct stat a, b, c;
    if (stat("/", &a) || stat("/..", &b) || stat("/proc/self/root", &c) || a.st_ino != b.st_ino || a.st_dev != b.st_dev ||
        a.st_ino != c.st_ino || a.st_dev != c.st_dev)
        BAD("/.. isn't /");
    char cwd[PATH_MAX];
    if (syscall(SYS_getcwd, cwd, sizeof cwd) < 0 || cwd[0] != '/')
        BAD("the working directory is outside");
    if (!bad)
        OK("%d mounts", lines);
    return bad;
}

static int fill(const char *dir, long long bytes, long long files) {
    char p[PATH_MAX];
    static char block[1 << 16];
    snprintf(p, sizeof p, "%s/fill", dir);
    int fd = open(p, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        BAD("can't make %s: %s", p, name_of(errno));
        return 1;
    }
    long long total = 0;
    ssize_t n;
    while ((n = write(fd, block, sizeof block)) > 0 && total <= 2 * bytes)
        total += n;
    int e = n < 0 ? errno : 0;
    close(fd);
    unlink(p);
    if (e != ENOSPC || total > bytes || total < bytes / 2)
        BAD("%lld bytes of %lld, then %s", total, bytes, name_of(e));
    long long made = 0;
    for (e = 0; !e && made <= 2 * files; made++) {
        snprintf(p, sizeof p, "%s/f%lld", dir, made);
        e = opened(p, O_CREAT | O_EXCL | O_WRONLY, 0600);
    }
    if (e != ENOSPC)
        BAD("%lld files of at most %lld, then %s", made, files, name_of(e));
    for (long long i = 0; i < made; i++) {
        snprintf(p, sizeof p, "%s/f%lld", dir, i);
        unlink(p);
    }
    if (!bad)
        OK("%lld bytes, %lld files", total, made - 1);
    return bad;
}

/* Makes one of each kind and says who owns it inside. */
static int owners(const char *dir) {
    char p[5][PATH_MAX];
    static const char *const names[] = {"file", "dir", "link", "fifo", "sock"};
    for (int i = 0; i < 5; i++)
        snprintf(p[i], sizeof p[i], "%s/%s", dir, names[i]);
    int r[5] = {opened(p[0], O_CREAT | O_EXCL | O_WRONLY, 0644), end(mkdir(p[1], 0755)), end(symlink("/", p[2])),
                end(mknod(p[3], S_IFIFO | 0600, 0)), end(mknod(p[4], S_IFSOCK | 0600, 0))};
    for (int i = 0; i < 5; i++) {
        struct stat st;
        if (r[i] || lstat(p[i], &st))
            BAD("%s can't be made: %s", p[i], name_of(r[i]));
        else if (st.st_uid != geteuid() || st.st_gid != getegid())
            BAD("%s belongs to %d:%d inside", p[i], st.st_uid, st.st_gid);
    }
    if (!bad)
        OK("five kinds as %d:%d", geteuid(), getegid());
    return bad;
}

static int ids(int uid, int gid) {
    uid_t r, e, s;
    gid_t rg, eg, sg;
    getresuid(&r, &e, &s);
    getresgid(&rg, &eg, &sg);
    if ((int)r != uid || (int)e != uid || (int)s != uid || (int)rg != gid || (int)eg != gid || (int)sg != gid)
        BAD("uid %d %d %d gid %d %d %d", r, e, s, rg, eg, sg);
    else
        OK("uid %d gid %d", uid, gid);
    return bad;
}

/* A line of /proc/self/status. */
static int status(int n, char **want) {
    char line[512];
    for (int i = 0; i < n; i++) {
        char *eq = strchr(want[i], '=');
        size_t k = eq - want[i];
        FILE *f = fopen("/proc/self/status", "r");
        int seen = 0;
        while (f && fgets(line, sizeof line, f)) {
            if (strncmp(line, want[i], k) || line[k] != ':')
                continue;
            char *v = line + k + 1;
            v += strspn(v, " \t");
            v[strcspn(v, "\n")] = 0;
            seen = 1;
            if (strcmp(v, eq + 1))
                BAD("%.*s is %s", (int)k, want[i], v);
        }
        if (!seen)
            BAD("no %s", want[i]);
        if (f)
            fclose(f);
    }
    if (!bad)
        OK("%d lines", n);
    return bad;
}

static int cgroup(void) {
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[4096];
    while (f && fgets(line, sizeof line, f))
        if (strstr(line, " - cgroup"))
            BAD("%s", line);
    f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *path = strrchr(line, ':');
        if (!path || strcmp(path, ":/\n"))
            BAD("its place is visible: %s", line);
    }
    static const char *const files[] = {"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/release_agent",
                                        "/sys/fs/cgroup/notify_on_release", "/sys/fs/cgroup/cgroup.subtree_control"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!opened(files[i], O_WRONLY, 0))
            BAD("%s opens", files[i]);
    int e = end(mkdir("/sys/fs/cgroup/x", 0755));
    if (!e)
        BAD("a cgroup can be made");
    if (!bad)
        OK("no cgroup file system");
    return bad;
}

/* Prints what stands at a path, for the test to compare. */
static int show(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0) {
        BAD("%s: %s", path, name_of(errno));
        return 1;
    }
    OK("%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    return 0;
}

int main(int argc, char **argv) {
    const char *check = argc > 1 ? argv[1] : "";
    char **rest = argv + 2;
    int n = argc - 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(check, "true")) return 0;
    if (!strcmp(check, "alive")) { OK("alive"); return 0; }
    if (!strcmp(check, "try")) return try_all(n, rest);
    if (!strcmp(check, "knobs")) return knobs();
    if (!strcmp(check, "others")) return others();
    if (!strcmp(check, "pids")) return pids(n, rest);
    if (!strcmp(check, "devices")) return devices(n, rest);
    if (!strcmp(check, "mounts")) return mounts(n, rest);
    if (!strcmp(check, "fill") && n == 3) return fill(rest[0], atoll(rest[1]), atoll(rest[2]));
    if (!strcmp(check, "owners") && n == 1) return owners(rest[0]);
    if (!strcmp(check, "ids") && n == 2) return ids(atoi(rest[0]), atoi(rest[1]));
    if (!strcmp(check, "status")) return status(n, rest);
    if (!strcmp(check, "cgroup")) return cgroup();
    if (!strcmp(check, "show") && n == 1) return show(rest[0]);
    if (!strcmp(check, "handleof") && n == 1) {
        union {
            struct file_handle h;
            unsigned char b[sizeof(struct file_handle) + 128];
        } u = {.h = {.handle_bytes = 128}};
        int id;
        if (name_to_handle_at(AT_FDCWD, rest[0], &u.h, &id, 0) < 0) { BAD("%s", name_of(errno)); return 1; }
        printf("OK ");
        for (size_t i = 0; i < sizeof(struct file_handle) + u.h.handle_bytes; i++) printf("%02x", u.b[i]);
        printf("\n");
        return 0;
    }
    if (!strcmp(check, "cat") && n == 1) {
        char b[4096];
        int fd = open(rest[0], O_RDONLY | O_CLOEXEC);
        ssize_t k = fd < 0 ? -1 : read(fd, b, sizeof b);
        if (k < 0) { BAD("%s: %s", rest[0], name_of(errno)); return 1; }
        printf("OK %.*s\n", (int)k, b);
        return 0;
    }
    printf("BAD no check `%s`\n", check);
    return 2;
}
