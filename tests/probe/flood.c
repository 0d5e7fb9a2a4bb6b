/* An init that writes without end; on the request to power off it exits with 7, or not at all. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void leave(int signal)
{
	(void)signal;
	_exit(7);
}

int main(void)
{
	char mode[16] = "";
	FILE *file = fopen("/etc/mode", "r");

	if (file && fgets(mode, sizeof mode, file))
		signal(SIGRTMIN + 4, mode[0] == 'o' ? leave : SIG_IGN);
	for (;;)
		if (write(1, "0123456789abcdef0123456789abcdef\n", 33) < 0)
			usleep(1000);
}
