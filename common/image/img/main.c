/* SPDX-License-Identifier: BSD-2-Clause */
#include <getopt.h>
#include <string.h>

#include "common/image/img/img.h"
#include "common/mem.h"

#define READ_OPTIONS "[-f FORMAT] [--chain] [-U] [--output=json|human]"

const struct img_verb img_verbs[] = {
	{ "bench", "[-f FORMAT] -O FORMAT [-c] [-m THREADS] FILE OUT",
	  "Convert FILE to OUT three times and say how fast; OUT is removed.", 2, 2, "c", img_bench },
	{ "check", "[-f FORMAT] [-r leaks|all] [--dry-run] [-U] [--output=json|human] FILE",
	  "Check an image: 0 clean, 1 could not check, 2 corrupt, 3 only leaked space.", 1, 1,
	  NULL, img_check },
	{ "checksum", "[-f FORMAT] [-p] [-m THREADS] [--rate BYTES] [--chain] [-U]\n"
	  "         [--output=json|human] FILE",
	  "Print the digest of a disk's content, the same whatever image holds it.", 1, 1,
	  NULL, img_checksum },
	{ "commit", "[-f FORMAT] [-p] [-m THREADS] [--rate BYTES] [-U] FILE",
	  "Write what an overlay holds into its parent; the overlay stays as it is.", 1, 1,
	  NULL, img_commit },
	{ "compare", "[-f FORMAT] [-F FORMAT] [-s] [-p] [-q] [--chain] [-U] FILE1 FILE2",
	  "Compare two disks: 0 equal, 1 different, 2 could not compare.", 2, 2, NULL, img_compare },
	{ "convert", "[-f FORMAT] -O FORMAT [-o OPTION=VALUE,...] [-B BASE -F FORMAT]\n"
	  "         [-c | --small] [-p] [-m THREADS] [-W] [-t CACHE] [--rate BYTES] [--verify]\n"
	  "         [--marks FILE] [--chain] [-U] [--output=json|human] IN OUT",
	  "Copy a disk into a new image of another, or the same, format; with -B into an overlay\n"
	  "over BASE.", 2, 2, "cB:", img_convert },
	{ "create", "[-f FORMAT] [-o OPTION=VALUE,...] [-b PARENT -F FORMAT] FILE [SIZE]",
	  "Make an empty image, or an overlay over PARENT.", 1, 2, NULL, img_create },
	{ "info", "[-u] " READ_OPTIONS " FILE", "Say what an image is.", 1, 1, NULL, img_info },
	{ "map", READ_OPTIONS " FILE", "Say where each range of the disk lies.", 1, 1, NULL, img_map },
	{ "measure", "[-O FORMAT] [-o OPTION=VALUE,...] [-f FORMAT] [--chain] [-U] [--exact]\n"
	  "         [--output=json|human] --size SIZE | FILE",
	  "Say how large an image would be.", 0, 1, NULL, img_measure },
	{ "rebase", "[-f FORMAT] [-u] [-p] [-m THREADS] [--rate BYTES] -b PARENT -F FORMAT FILE",
	  "Give an overlay another parent (-b \"\": none), copying what differs; with -u only\n"
	  "the name is changed.", 1, 1, NULL, img_rebase },
	{ "repair", "[-f FORMAT] [-r leaks|all] [--dry-run] [--output=json|human] FILE",
	  "Check an image and mend what is safe to mend; the rest is left alone.", 1, 1,
	  NULL, img_repair },
	{ "resize", "[-f FORMAT] [--shrink] [--chain] FILE [+|-]SIZE",
	  "Change the size of a disk.", 2, 2, NULL, img_resize },
	{ "snapshot", "[-f FORMAT] [-l | -c NAME | -d NAME | -a NAME] FILE",
	  "List, create, delete or apply (go back to) snapshots inside an image.", 1, 1,
	  "c:d:a:l", img_snapshot },
	{ NULL, NULL, NULL, 0, 0, NULL, NULL },
};

enum {
	OPT_CHAIN = 256, OPT_DRY_RUN, OPT_EXACT, OPT_HELP, OPT_JSON, OPT_MARKS, OPT_OUTPUT, OPT_PLUGIN_DIR,
	OPT_RATE, OPT_SHRINK, OPT_SIZE, OPT_SMALL, OPT_VERIFY, OPT_VERSION,
};

static const struct option long_options[] = {
	{ "chain", no_argument, NULL, OPT_CHAIN },
	{ "dry-run", no_argument, NULL, OPT_DRY_RUN },
	{ "exact", no_argument, NULL, OPT_EXACT },
	{ "force-share", no_argument, NULL, 'U' },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "marks", required_argument, NULL, OPT_MARKS },
	{ "output", required_argument, NULL, OPT_OUTPUT },
	{ "plugin-dir", required_argument, NULL, OPT_PLUGIN_DIR },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "shrink", no_argument, NULL, OPT_SHRINK },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "small", no_argument, NULL, OPT_SMALL },
	{ "verify", no_argument, NULL, OPT_VERIFY },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void
usage(FILE *to)
{
	fputs("Usage: smd-img VERB [OPTION]... FILE...\n"
	      "smd's image engine on plain files. Options are spelled as qemu-img's.\n\n", to);
	for (const struct img_verb *v = img_verbs; v->name; v++)
		fprintf(to, "  %-8s %s\n", v->name, v->doc);
	fputs("\n"
	      "  -f FORMAT        the image's format; without it, the one whose signature it has\n"
	      "                   (raw has none and is never guessed). vpc is vhd.\n"
	      "  -F FORMAT        the format of the second image, or of -b's\n"
	      "  -O FORMAT        the format to make\n"
	      "  -o OPTION=VALUE  a create option; more after commas (smd-format-NAME(7))\n"
	      "  -b PARENT        make an overlay over this image\n"
	      "  -B BASE          convert: into an overlay over this image, which shows what the\n"
	      "                   input's own parent shows; an input without one is compared\n"
	      "  -c               convert: compress what shrinks\n"
	      "  -l, -c, -d, -a   snapshot: list them; create, delete, apply the one named\n"
	      "  -u               rebase: change the name only; info: an image without its parent\n"
	      "  -r leaks|all     what to repair\n"
	      "  -t CACHE         unsafe (as qemu-img, the default: what is written need not be on\n"
	      "                   the disk yet) or writeback (it is)\n"
	      "  -m THREADS       how many threads copy\n"
	      "  -W               accepted for qemu-img's sake: order never matters here\n"
	      "  -p               show progress\n"
	      "  -q               say nothing\n"
	      "  -s               sizes must be equal too\n"
	      "  -U, --force-share  do not lock: somebody else may have the image open\n"
	      "  --chain          the image is ours: take its format at its word and follow its\n"
	      "                   parents, plain names in its own directory\n"
	      "  --dry-run        say what a repair would do\n"
	      "  --exact          measure: read all data, to find what is zeroes\n"
	      "  --json           the same as --output=json\n"
	      "  --marks FILE     convert: note there how far it is; run again, it goes on from there\n"
	      "  --output FORM    human or json\n"
	      "  --plugin-dir DIR find format modules here first (separated by colons)\n"
	      "  --rate BYTES     copy at most so much a second\n"
	      "  --shrink         a smaller size is meant: what is past it is lost\n"
	      "  --size SIZE      measure an empty disk of this size\n"
	      "  --small          convert: compress (-c) to less, which takes several times as long\n"
	      "  --verify         read the result back and compare\n"
	      "  --help           this text, or the verb's\n"
	      "  --version        the version\n"
	      "\n"
	      "Sizes take k, M, G and T. See smd-img(1).\n", to);
}

static const struct img_verb *
verb_find(const char *name)
{
	for (const struct img_verb *v = img_verbs; v->name; v++) {
		if (strcmp(v->name, name) == 0)
			return v;
	}
	return NULL;
}

/* "a=b,c=d" into o->create. */
static int
parse_create(struct img_options *o, char *text, struct smd_error *err)
{
	for (char *save = NULL, *item = strtok_r(text, ",", &save); item;
	     item = strtok_r(NULL, ",", &save)) {
		char *value = strchr(item, '=');

		if (!value)
			return smd_fail_INVALID_VALUE(err, "-o", item,
						      "\"%s\" is not OPTION=VALUE", item);
		if (o->n_create == sizeof o->create / sizeof *o->create)
			return smd_fail_INVALID_VALUE(err, "-o", item, "more than %zu options",
						      o->n_create);
		*value = '\0';
		o->create[o->n_create].name = item;
		o->create[o->n_create++].value = value + 1;
	}
	return 0;
}

static int
parse_number(const char *option, const char *text, unsigned max, unsigned *ret,
	     struct smd_error *err)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end || n == 0 || n > max)
		return smd_fail_INVALID_VALUE(err, option, text, "%s is \"%s\", not 1..%u", option,
					      text, max);
	*ret = (unsigned)n;
	return 0;
}

/* qemu-img's cache modes; what matters here is whether the end is flushed. */
static int
parse_cache(struct img_options *o, const char *text, struct smd_error *err)
{
	static const char *const durable[] = { "writeback", "writethrough", "none", "directsync" };

	o->durable = false;
	for (size_t i = 0; i < sizeof durable / sizeof *durable; i++)
		o->durable |= strcmp(text, durable[i]) == 0;
	if (!o->durable && strcmp(text, "unsafe") != 0)
		return smd_fail_INVALID_VALUE(err, "-t", text, "-t is \"%s\", no cache mode", text);
	return 0;
}

/* One option; 0, -1, or 2 for one that is not ours. */
static int
parse_option(struct img_options *o, int c, char *arg, const char **plugins,
	     struct smd_error *err)
{
	switch (c) {
	case 'f': o->format = arg; return 0;
	case 'F': o->second_format = arg; return 0;
	case 'O': o->out_format = arg; return 0;
	case 'o': return parse_create(o, arg, err);
	case 'b':
	case 'B': o->backing = arg; return 0;
	case 'r': o->repair = arg; return 0;
	case 't': return parse_cache(o, arg, err);
	case 'm': return parse_number("-m", arg, 64, &o->n_threads, err);
	case 'W': return 0;
	case 'p': o->progress = true; return 0;
	case 'q': o->quiet = true; return 0;
	case 's': o->strict = true; return 0;
	case 'U': o->share = true; return 0;
	case 'u': o->unsafe = true; return 0;
	case 'c':
		if (!arg) {
			o->compress = true;
			return 0;
		}
		/* fall through */
	case 'l':
	case 'd':
	case 'a':
		o->snapshot[0] = c == 'l' ? "l" : c == 'c' ? "c" : c == 'd' ? "d" : "a";
		o->snapshot[1] = arg;
		return 0;
	case OPT_CHAIN: o->chain = true; return 0;
	case OPT_EXACT: o->exact = true; return 0;
	case OPT_DRY_RUN: o->dry_run = true; return 0;
	case OPT_MARKS: o->marks = arg; return 0;
	case OPT_PLUGIN_DIR: *plugins = arg; return 0;
	case OPT_RATE: return smd_size_parse(arg, &o->rate, err);
	case OPT_SHRINK: o->shrink = true; return 0;
	case OPT_SIZE: o->size = arg; return 0;
	case OPT_SMALL: o->small = true; return 0;
	case OPT_VERIFY: o->verify = true; return 0;
	case OPT_JSON: o->json = true; return 0;
	case OPT_OUTPUT:
		o->json = strcmp(arg, "json") == 0;
		if (!o->json && strcmp(arg, "human") != 0)
			return smd_fail_INVALID_VALUE(err, "--output", arg,
						      "--output is \"%s\", not json or human", arg);
		return 0;
	default:
		return 2;
	}
}

static int
run_verb(const struct img_verb *verb, struct img_options *o, const char *plugins,
	 struct smd_error *err)
{
	const char *standard = getenv("SMD_PLUGIN_PATH");

	if (o->n_args < verb->min_args || o->n_args > verb->max_args) {
		fprintf(stderr, "Usage: smd-img %s %s\n", verb->name, verb->usage);
		return 1;
	}
	/* A module that is tried comes first, beside those that are there. */
	if (plugins && smd_formats_load(plugins, err) != 0)
		return -1;
	if (smd_formats_load(standard ? standard : SMD_FORMATDIR, err) != 0) {
		if (!plugins)
			return -1;
		smd_error_clear(err);
	}
	return verb->run(o, err);
}

int
main(int argc, char **argv)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct img_verb *verb = argc > 1 ? verb_find(argv[1]) : NULL;
	struct img_options o = { 0 };
	const char *plugins = NULL;
	char letters[64];
	int c, rc = 0;

	if (!verb) {
		bool asked = argc > 1 && strcmp(argv[1], "--help") == 0;

		if (argc > 1 && strcmp(argv[1], "--version") == 0) {
			puts("smd-img " SMD_VERSION);
			return 0;
		}
		if (argc > 1 && !asked)
			fprintf(stderr, "smd-img: there is no verb %s\n", argv[1]);
		usage(asked ? stdout : stderr);
		return asked ? 0 : 1;
	}
	argv[1] = argv[0];
	snprintf(letters, sizeof letters, "f:F:O:o:b:r:t:m:uWpqsU%s",
		 verb->options ? verb->options : "");
	while (rc == 0 && (c = getopt_long(argc - 1, argv + 1, letters, long_options,
					   NULL)) != -1) {
		if (c == OPT_HELP) {
			printf("Usage: smd-img %s %s\n%s\n", verb->name, verb->usage, verb->doc);
			return 0;
		}
		rc = parse_option(&o, c, optarg, &plugins, &err);
		if (rc == 2)
			return 1;
	}
	o.args = argv + 1 + optind;
	o.n_args = (size_t)(argc - 1 - optind);
	if (rc == 0)
		rc = run_verb(verb, &o, plugins, &err);
	if (rc < 0) {
		img_print_error(&o, &err);
		rc = verb->run == img_compare ? 2 : 1;
	}
	return rc;
}
