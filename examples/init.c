/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * init.c - an init that says it is ready, runs /test, and ends the guest with its status (`trapline run --exit-port`).
 * gcc -static -o init init.c; its ports are in docs/ends.md. A test that a signal kills is 128 and the signal.
 */
#include <sys/io.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int status = 0;

	if (ioperm(0xf4, 1, 1) || ioperm(0x3f0, 1, 1))
		return 1; /* the kernel panics */
	outb(123, 0x3f0);
	if (fork() == 0)
		_exit(execl("/test", "/test", (char *)NULL) ? 127 : 0);
	wait(&status);
	outb(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), 0xf4);
	for (;;)
		pause();
}
