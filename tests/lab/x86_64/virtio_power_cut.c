/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio_power_cut.c - numbered records of 4 KiB, in a file and on a disk.
 *
 *   check FILE DISK   tells how many are whole in each, from the first on: "@whole N N"
 *   write FILE DISK   the same, and goes on from there for ever: one record to both, flushed, then "@kept N"
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE 4096
#define MOST 3000 /* as many as there is room for */

struct record {
	uint64_t words[SIZE / 8];
};

static void fill(struct record *r, uint64_t number)
{
	uint64_t x = number * 0x9e3779b97f4a7c15ULL + 1;

	for (unsigned i = 0; i < SIZE / 8; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		r->words[i] = x;
	}
}

static uint64_t whole(int fd, struct record *r)
{
	struct record wanted;
	uint64_t n = 0;

	for (; pread(fd, r, SIZE, (off_t)n * SIZE) == SIZE; n++) {
		fill(&wanted, n);
		if (memcmp(r, &wanted, SIZE) != 0)
			break;
	}
	return n;
}

int main(int argc, char **argv)
{
	struct record *r = aligned_alloc(SIZE, SIZE);
	uint64_t in_file, on_disk;
	int file, disk;

	if (argc != 4 || !r)
		return 2;
	file = open(argv[2], O_RDWR | O_CREAT, 0600);
	disk = open(argv[3], O_RDWR | O_DIRECT | O_DSYNC);
	if (file < 0 || disk < 0) {
		perror("open");
		return 1;
	}
	in_file = whole(file, r);
	on_disk = whole(disk, r);
	printf("\n@whole %llu %llu\n", (unsigned long long)in_file, (unsigned long long)on_disk);
	fflush(stdout);
	for (uint64_t n = in_file < on_disk ? in_file : on_disk; strcmp(argv[1], "write") == 0; n++) {
		fill(r, n);
		if (n == MOST || pwrite(file, r, SIZE, (off_t)n * SIZE) != SIZE ||
			(n % 2 ? fsync(file) : fdatasync(file)) || pwrite(disk, r, SIZE, (off_t)n * SIZE) != SIZE) {
			perror("write");
			return 1;
		}
		printf("\n@kept %llu\n", (unsigned long long)n + 1);
		fflush(stdout);
	}
	return 0;
}
