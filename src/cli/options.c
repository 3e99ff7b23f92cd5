/* SPDX-License-Identifier: BSD-2-Clause */
/* options.c - parsing by a table, and help from the same table. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/word.h"

#define WORD_MAX 48

int options_size(const char *text, uint64_t *bytes, struct error *err)
{
	static const char suffixes[] = "BKMGTP";
	unsigned long long n;
	unsigned shift = 20;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || end == text)
		return error_set(
			err, -EINVAL, "'%s' is not a size: a number of MiB, or with a suffix B K M G T P", text);
	if (*end) {
		const char *suffix = strchr(suffixes, toupper((unsigned char)*end));

		if (!suffix || end[1])
			return error_set(err, -EINVAL, "'%s' is not a size: '%s' is none of the suffixes B K M G T P",
				text, end);
		shift = (unsigned)(suffix - suffixes) * 10;
	}
	if (errno == ERANGE || n > UINT64_MAX >> shift)
		return error_set(err, -ERANGE, "'%s' is beyond the address space", text);
	*bytes = n << shift;
	return 0;
}

static int parse_count(const char *text, unsigned *count, struct error *err)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end)
		return error_set(err, -EINVAL, "'%s' is not a number", text);
	if (errno || n > INT32_MAX)
		return error_set(err, -ERANGE, "'%s' is too large", text);
	*count = (unsigned)n;
	return 0;
}

/* What --help calls the value is what it can be. */
static int parse_range(const char *range, const char *text, unsigned *count, struct error *err)
{
	unsigned least = 0, most = 0;
	int r = parse_count(text, count, err);

	if (r == 0 && (sscanf(range, "%u-%u", &least, &most) != 2 || *count < least || *count > most))
		r = error_set(err, -ERANGE, "'%s' is not in %s", text, range);
	return r;
}

static int append(struct option_values *values, const char *text, struct error *err)
{
	if (values->n == OPTION_VALUES)
		return error_set(err, -E2BIG, "%s%.100s%sone too many; the option can be given %u times",
			*text ? "'" : "", text, *text ? "' is " : "", OPTION_VALUES);
	values->text[values->n++] = text;
	return 0;
}

static int store(const struct option_spec *spec, const char *value, struct error *err)
{
	switch (spec->kind) {
	case OPTION_FLAG:
		*(bool *)spec->target = true;
		return 0;
	case OPTION_STRING:
		if (!*value)
			return error_set(err, -EINVAL, "needs a value: %s", spec->value);
		*(const char **)spec->target = value;
		return 0;
	case OPTION_TEXT:
	case OPTION_OPTIONAL:
		*(const char **)spec->target = value;
		return 0;
	case OPTION_REPEAT:
	case OPTION_REPEAT_OPTIONAL:
		return append(spec->target, value, err);
	case OPTION_COUNT:
		return parse_count(value, spec->target, err);
	case OPTION_RANGE:
		return parse_range(spec->value, value, spec->target, err);
	case OPTION_SIZE:
		return options_size(value, spec->target, err);
	default:
		return -EINVAL;
	}
}

#define NAMES 64

/* Appends the options' names, as far as there is room. */
static unsigned collect(const struct option_spec *specs, const char *names[NAMES], unsigned n)
{
	for (; specs->kind != OPTION_END && n < NAMES - 1; specs++) {
		if (specs->kind == OPTION_TABLE)
			n = collect(specs->target, names, n);
		else if (specs->kind != OPTION_GROUP)
			names[n++] = specs->name;
	}
	return n;
}

/* `dashes` and then `word`, as far as `len`, are no option. */
static int unknown(const struct option_spec *specs, const char *dashes, const char *word, size_t len, struct error *err)
{
	char name[WORD_MAX] = "";
	const char *names[NAMES], *nearest;

	names[collect(specs, names, 0)] = NULL;
	if (len < sizeof(name))
		memcpy(name, word, len);
	nearest = word_nearest(name, names);
	error_set(err, -EINVAL, "unknown option '%s%.*s'", dashes, (int)(len < 100 ? len : 100), word);
	if (nearest)
		error_hint(err, "did you mean '--%s'?", nearest);
	else
		error_hint(err, "--help lists the options");
	return -EINVAL;
}

static const struct option_spec *find(const struct option_spec *specs, const char *name, size_t len, char letter)
{
	const struct option_spec *all = specs;

	for (; specs->kind != OPTION_END; specs++) {
		if (specs->kind == OPTION_TABLE) {
			const struct option_spec *found = find(specs->target, name, len, letter);

			if (found)
				return found;
		}
		if (specs->kind == OPTION_GROUP || specs->kind == OPTION_TABLE)
			continue;
		if (name ? strlen(specs->name) == len && memcmp(specs->name, name, len) == 0 : specs->letter == letter)
			return specs->kind == OPTION_ALIAS ? find(all, specs->value, strlen(specs->value), 0) : specs;
	}
	return NULL;
}

static bool value_is_optional(const struct option_spec *spec)
{
	return spec->kind == OPTION_OPTIONAL || spec->kind == OPTION_REPEAT_OPTIONAL;
}

/* One argument that begins with '-', and where it takes one, its value. *i moves past what was used. */
static int parse_one(const struct option_spec *specs, int argc, char **argv, int *i, struct error *err)
{
	const char *arg = argv[*i], *value = NULL;
	bool is_long = arg[1] == '-';
	size_t len = is_long ? strcspn(arg + 2, "=") : 1, all = arg[1] == '=' ? 1 : strcspn(arg + 1, "=");
	const struct option_spec *spec = find(specs, is_long ? arg + 2 : NULL, len, arg[1]);

	if (!spec && is_long)
		return unknown(specs, "--", arg + 2, len, err);
	/* "-kernel" is what other programs call it, and no file "ernel". */
	if (!spec || (!is_long && all > 1 && find(specs, arg + 1, all, 0)))
		return unknown(specs, "-", arg + 1, all, err);
	if (is_long && arg[2 + len] == '=')
		value = arg + 3 + len;
	else if (!is_long && arg[2])
		value = arg + 2;
	if (spec->kind == OPTION_FLAG) {
		if (value)
			return error_set(err, -EINVAL, "option '%s' takes no value", arg);
	} else if (!value && value_is_optional(spec)) {
		value = "";
	} else if (!value) {
		if (*i + 1 >= argc)
			return error_set(err, -EINVAL, "option '%s' needs a value: %s", arg, spec->value);
		value = argv[++*i];
	}
	(*i)++;
	if (store(spec, value, err))
		return spec->letter ? error_prefix(err, -EINVAL, "-%c", spec->letter)
				    : error_prefix(err, -EINVAL, "--%s", spec->name);
	return 0;
}

/* Whether a word that follows `arg` may have been meant as its value: the option's name, or NULL. */
static const char *takes_none(const struct option_spec *specs, const char *arg)
{
	const struct option_spec *spec;

	if (strncmp(arg, "--", 2) != 0)
		return NULL;
	spec = find(specs, arg + 2, strlen(arg + 2), 0);
	return spec && value_is_optional(spec) ? spec->name : NULL;
}

int options_parse(const struct option_spec *specs, int argc, char **argv, struct option_words *words, struct error *err)
{
	const char *option = NULL;
	bool only_words = false;
	int i = 0, r;

	*words = (struct option_words){ 0 };
	while (i < argc) {
		if (only_words || argv[i][0] != '-' || !argv[i][1]) {
			if (option) {
				words->option = option;
				words->astray = argv[i];
			}
			option = NULL;
			argv[words->n++] = argv[i++];
		} else if (strcmp(argv[i], "--") == 0) {
			only_words = true;
			option = NULL;
			i++;
		} else {
			option = takes_none(specs, argv[i]);
			r = parse_one(specs, argc, argv, &i, err);
			if (r)
				return r;
		}
	}
	return 0;
}

void options_astray(const struct option_words *words, struct error *err)
{
	if (words->astray)
		error_hint(err, "did you mean '--%s=%.100s'?", words->option, words->astray);
}

void options_help(const struct option_spec *specs, FILE *out)
{
	for (; specs->kind != OPTION_END; specs++) {
		const char *between = value_is_optional(specs) ? "[=" : specs->value ? " " : "";
		char left[WORD_MAX * 2];
		int n;

		if (specs->kind == OPTION_ALIAS)
			continue;
		if (specs->kind == OPTION_GROUP) {
			fprintf(out, "\n%s\n", specs->name);
			continue;
		}
		if (specs->kind == OPTION_TABLE) {
			options_help(specs->target, out);
			continue;
		}
		n = snprintf(left, sizeof(left), "  %c%c%s --%s%s%s%s", specs->letter ? '-' : ' ',
			specs->letter ? specs->letter : ' ', specs->letter ? "," : " ", specs->name, between,
			specs->value ? specs->value : "", value_is_optional(specs) ? "]" : "");
		fprintf(out, "%-28s%s%s\n", left, n > 27 ? "\n                            " : "", specs->help);
	}
}
