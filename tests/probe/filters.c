/* Prints the seccomp programs of a process, one instruction a line ("code jt jf k"), a blank line after
 * each, the oldest first (PTRACE_SECCOMP_GET_FILTER, ptrace(2); get_nth_filter in kernel/seccomp.c). */
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif

int main(int argc, char **argv)
{
	static struct sock_filter program[4096];
	pid_t pid = argc == 2 ? atoi(argv[1]) : 0;
	int status;

	if (pid <= 0) {
		fprintf(stderr, "usage: filters PID\n");
		return 2;
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) || waitpid(pid, &status, __WALL) != pid) {
		perror("can't stop the process");
		return 1;
	}
	for (unsigned long n = 0;; n++) {
		long count = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)n, program);
		if (count < 0) {
			if (errno == ENOENT)
				return 0;
			perror("PTRACE_SECCOMP_GET_FILTER");
			return 1;
		}
		for (long i = 0; i < count; i++)
			printf("%u %u %u %u\n", program[i].code, program[i].jt, program[i].jf, program[i].k);
		printf("\n");
	}
}
