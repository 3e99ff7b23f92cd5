/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_main.h - a fuzzer as a program of its own, where libFuzzer does not bring main(): the
 * inputs that it is given, or random ones.
 */
#ifndef TRAPLINE_TESTS_FUZZ_MAIN_H
#define TRAPLINE_TESTS_FUZZ_MAIN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static inline void fuzz_file(FILE *in)
{
	static uint8_t bytes[1 << 20];
	size_t n = fread(bytes, 1, sizeof(bytes), in);

	LLVMFuzzerTestOneInput(bytes, n);
}

/* The same ones in each run, by *state, which begins as FUZZ_SEED. */
#define FUZZ_SEED 88172645463325252

static inline uint64_t fuzz_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/*
 * Each word is a file, or -N: so many random inputs by run_random(); without any,
 * standard input is one. The exit status.
 */
static inline int fuzz_main(int argc, char **argv, void (*run_random)(unsigned long inputs))
{
	LLVMFuzzerInitialize(&argc, &argv);
	if (argc == 1)
		fuzz_file(stdin);
	for (int i = 1; i < argc; i++) {
		FILE *in;

		if (*argv[i] == '-') {
			run_random(strtoul(argv[i] + 1, NULL, 10));
			continue;
		}
		in = fopen(argv[i], "rb");
		if (!in) {
			perror(argv[i]);
			return 1;
		}
		fuzz_file(in);
		fclose(in);
	}
	return 0;
}

#endif
