/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * init.c - an init that says it is ready, runs /test, and ends the guest with its status (`trapline run --exit-port`).
 * gcc -static -o init init.c; its ports are in docs/ends.md. A test that a signal kills is 128 and the signal.
 */
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
#include <sys/io.h>

enum { EXIT = 0xf4, READY = 0x3f0 };

static int put(unsigned char value, unsigned long port)
{
	if (ioperm(port, 1, 1))
		return -1;
	outb(value, (unsigned short)port);
	return 0;
}
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { EXIT = 0x01031000, READY = 0x01032000 }; /* arm64's: registers in memory, each in a page of its own */

static int put(unsigned char value, unsigned long page)
{
	/* Nothing is mounted yet, so /dev/mem is not there. */
	int made = mknod("/mem", S_IFCHR | 0600, makedev(1, 1)), mem = open("/mem", O_RDWR | O_SYNC);
	volatile unsigned char *at = mmap(NULL, 1, PROT_WRITE, MAP_SHARED, mem, (off_t)page);

	if (made == 0)
		unlink("/mem");
	close(mem);
	if (at == MAP_FAILED)
		return -1;
	*at = value;
	munmap((void *)at, 1);
	return 0;
}
#endif

int main(void)
{
	int status = 0;

	if (put(123, READY))
		return 1; /* the kernel panics */
	if (fork() == 0)
		_exit(execl("/test", "/test", (char *)NULL) ? 127 : 0);
	wait(&status);
	put(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), EXIT);
	for (;;)
		pause();
}
