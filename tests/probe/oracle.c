// Asks the running kernel what a filter answers. Nothing is executed: the caller has rewritten every
// return of the filter to an errno, so each call comes back with the code of its action.
//
//   oracle PROGRAM VECTORS > ANSWERS
//
// PROGRAM: struct sock_filter, one after another. VECTORS: struct vector likewise. ANSWERS: one int64 for
// each vector, what the kernel left in the result register; UNANSWERED where the call never came back.
// On standard error: "fired N in M ns", where M has the fork and the filter's installation in it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __x86_64__
#error "only for x86-64"
#endif

#define UNANSWERED INT64_MIN

// How the call is made.
enum { NATIVE = 0, INT80 = 1 };

struct vector {
	uint64_t nr; // the whole register; the kernel looks at 32 bits
	uint64_t args[6];
	uint64_t way;
};

struct shared {
	uint64_t next; // vectors that were answered
	uint64_t done;
	int64_t answers[];
};

static int64_t native(const struct vector *v)
{
	register uint64_t r10 __asm__("r10") = v->args[3];
	register uint64_t r8 __asm__("r8") = v->args[4];
	register uint64_t r9 __asm__("r9") = v->args[5];
	int64_t result;
	__asm__ volatile("syscall"
			 : "=a"(result), "+r"(r10), "+r"(r8), "+r"(r9)
			 : "a"(v->nr), "D"(v->args[0]), "S"(v->args[1]), "d"(v->args[2])
			 : "rcx", "r11", "memory");
	return result;
}

static int64_t int80(const struct vector *v)
{
	int64_t result;
	// The sixth argument is ebp, which the compiler may use: saved below the red zone.
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpush %%rbp\n\tmov %7, %%rbp\n\tint $0x80\n\tpop %%rbp\n\tlea 128(%%rsp), %%rsp"
			 : "=a"(result)
			 : "a"(v->nr), "b"(v->args[0]), "c"(v->args[1]), "d"(v->args[2]), "S"(v->args[3]),
			   "D"(v->args[4]), "r"(v->args[5])
			 : "r8", "r9", "r10", "r11", "r12", "memory");
	return (int32_t)result;
}

// Runs in the child. Once the filter is in, no call works: the end is a flag and an illegal instruction.
static void fire(const struct sock_fprog *program, const struct vector *v, uint64_t from, uint64_t count, struct shared *s)
{
	const struct rlimit none = {0, 0};
	if (setrlimit(RLIMIT_CORE, &none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(10);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program))
		_exit(11);
	for (uint64_t i = from; i < count; i++) {
		s->answers[i] = v[i].way == INT80 ? int80(&v[i]) : native(&v[i]);
		__atomic_store_n(&s->next, i + 1, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&s->done, 1, __ATOMIC_SEQ_CST);
	for (;;)
		__asm__ volatile("ud2");
}

static void *map(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || st.st_size == 0) {
		perror(path);
		exit(2);
	}
	*size = (size_t)st.st_size;
	void *p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	close(fd);
	return p;
}

int main(int argc, char **argv)
{
	size_t program_size, vectors_size;
	struct timespec a, b;
	if (argc != 3)
		return 2;
	struct sock_filter *filter = map(argv[1], &program_size);
	const struct vector *vectors = map(argv[2], &vectors_size);
	struct sock_fprog program = {(unsigned short)(program_size / sizeof *filter), filter};
	uint64_t count = vectors_size / sizeof *vectors;
	size_t size = sizeof(struct shared) + count * sizeof(int64_t);
	struct shared *s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	for (uint64_t i = 0; i < count; i++)
		s->answers[i] = UNANSWERED;
	clock_gettime(CLOCK_MONOTONIC, &a);
	// A call that kills the child is left UNANSWERED, and another child goes on behind it.
	for (int deaths = 0; !s->done && s->next < count; deaths++) {
		int status;
		if (deaths > 1000) {
			fprintf(stderr, "the child died more than 1000 times\n");
			return 3;
		}
		pid_t child = fork();
		if (child < 0) {
			perror("fork");
			return 2;
		}
		if (child == 0)
			fire(&program, vectors, s->next, count, s);
		if (waitpid(child, &status, 0) != child) {
			perror("waitpid");
			return 2;
		}
		if (WIFEXITED(status)) {
			fprintf(stderr, "the child ended with %d: the kernel didn't take the filter\n", WEXITSTATUS(status));
			return 3;
		}
		if (!s->done) {
			fprintf(stderr, "vector %llu died of signal %d\n", (unsigned long long)s->next, WTERMSIG(status));
			s->next++;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	fprintf(stderr, "fired %llu in %lld ns\n", (unsigned long long)count,
		(b.tv_sec - a.tv_sec) * 1000000000LL + (b.tv_nsec - a.tv_nsec));
	const char *out = (const char *)s->answers;
	for (size_t left = count * sizeof(int64_t); left > 0;) {
		ssize_t n = write(1, out, left);
		if (n <= 0)
			return 2;
		out += n;
		left -= (size_t)n;
	}
	return 0;
}
