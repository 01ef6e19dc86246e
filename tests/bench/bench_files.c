/* bench_files: what the files of a container cost, without a cluster: scan and apply in one process.
 *
 *   bench_files DIR [--files N] [--mib N] [--writes N] [--mapped]
 *
 * Makes N small files in DIR, 500 a directory, and one of so many MiB beside them.
 * Then the first round, one of nothing, one of a single small file that changed, and
 * five with `writes` blocks of 4 KiB written at random into the large file before
 * each, the fifth as in the freeze; with --mapped by a mapping. Where a round's time goes: the scan, and below
 * it what the other host would do. DIR/to is the copy; it is compared at the end. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "files/apply.h"
#include "files/scan.h"

enum { PER_DIR = 500, BLOCK = 4096, PIECE = 1 << 20, ROUNDS = 5 };

static struct {
	size_t files, mib, writes;
	bool mapped;
} opt = {.files = 1000, .writes = 100};
static struct gw_apply *apply;
static uint64_t apply_us;

[[noreturn]] static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int on_records(void *ctx, const uint8_t *p, size_t n, struct gw_err *e)
{
	uint64_t t0 = gw_now_us();
	(void)ctx;
	int rc = gw_apply_frame(apply, p, n, e);
	apply_us += gw_now_us() - t0;
	return rc;
}

static void write_at(const char *path, uint64_t offset, const void *data, size_t len, int flags)
{
	gw_auto(fd) int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
	if (fd < 0 || pwrite(fd, data, len, (off_t)offset) != (ssize_t)len)
		die(path);
}

static void make_files(const char *from)
{
	char path[512], text[32];
	for (size_t i = 0; i < opt.files; i++) {
		(void)snprintf(path, sizeof(path), "%s/%zu", from, i / PER_DIR);
		if (i % PER_DIR == 0 && mkdir(path, 0755) < 0)
			die(path);
		(void)snprintf(path, sizeof(path), "%s/%zu/%zu", from, i / PER_DIR, i);
		int n = snprintf(text, sizeof(text), "%zu\n", i);
		write_at(path, 0, text, (size_t)n, O_CREAT);
	}
}

static void make_large(const char *path)
{
	static uint64_t piece[PIECE / 8];
	uint64_t x = 88172645463325252u;
	for (size_t i = 0; i < opt.mib; i++) {
		for (size_t k = 0; k < PIECE / 8; k++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			piece[k] = x;
		}
		write_at(path, (uint64_t)i * PIECE, piece, PIECE, O_CREAT);
	}
}

static void change_large(const char *path)
{
	gw_auto(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t block[BLOCK];
	uint8_t *map = opt.mapped ? mmap(NULL, opt.mib << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;
	if (fd < 0 || map == MAP_FAILED)
		die(path);
	for (size_t i = 0; i < opt.writes; i++) {
		uint64_t at = (uint64_t)random() % (opt.mib << 8) * BLOCK;
		memset(block, (int)random(), sizeof(block));
		if (map)
			memcpy(map + at, block, BLOCK);
		else if (pwrite(fd, block, BLOCK, (off_t)at) != BLOCK)
			die(path);
	}
	if (map)
		munmap(map, opt.mib << 20);
}

static void round_(struct gw_scan *scan, const char *what)
{
	struct gw_scan_stats st;
	struct gw_err e;
	apply_us = 0;
	uint64_t t0 = gw_now_us();
	if (gw_scan_round(scan, &st, &e) < 0) {
		(void)fprintf(stderr, "%s: %s\n", what, e.text);
		exit(1);
	}
	uint64_t all = gw_now_us() - t0;
	printf("%-22s %10.1f ms scan %10.1f ms apply %8lu names looked at %10lu bytes sent %11lu read\n", what,
	       (double)(all - apply_us) / 1000, (double)apply_us / 1000, (unsigned long)st.changed,
	       (unsigned long)st.sent_bytes, (unsigned long)st.read_bytes);
}

static void run(const char *dir)
{
	char from[400], to[400], large[420], small[420], cmd[1024];
	struct gw_err e = {.class = GW_OK};
	struct gw_scan *scan;
	(void)snprintf(from, sizeof(from), "%s/from", dir);
	(void)snprintf(to, sizeof(to), "%s/to", dir);
	(void)snprintf(large, sizeof(large), "%s/from/large", dir);
	(void)snprintf(small, sizeof(small), "%s/from/small", dir);
	if (gw_mkdirs(from, &e) < 0 || gw_mkdirs(to, &e) < 0)
		die(dir);
	make_files(from);
	make_large(large);
	write_at(small, 0, "0", 1, O_CREAT);
	gw_sleep_us(100000);
	apply = gw_apply_new();
	struct gw_scan_tree t = {.root = from};
	if (gw_apply_root(apply, 0, to, GW_APPLY_PLAIN, &e) < 0 || gw_scan_new(&t, 1, on_records, NULL, &scan, &e) < 0)
		die("begin");
	round_(scan, "first");
	round_(scan, "nothing changed");
	write_at(small, 0, "1", 1, 0);
	round_(scan, "one small file");
	for (int i = 0; opt.mib && i < ROUNDS; i++) {
		change_large(large);
		if (opt.mapped)
			gw_scan_mapped(scan, 0, "large");
		if (i == ROUNDS - 1)
			gw_scan_last(scan);
		round_(scan, i == ROUNDS - 1 ? "the last round" : "large file written");
	}
	gw_scan_free(scan);
	gw_apply_free(apply);
	(void)snprintf(cmd, sizeof(cmd), "diff -r %s %s", from, to);
	if (system(cmd) != 0)
		exit(1);
	(void)gw_remove_tree(from, &e);
	(void)gw_remove_tree(to, &e);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"files", required_argument, NULL, 'f'},
	                                      {"mib", required_argument, NULL, 'm'},
	                                      {"writes", required_argument, NULL, 'w'},
	                                      {"mapped", no_argument, NULL, 'p'},
	                                      {0}};
	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (c) {
		case 'f': opt.files = strtoul(optarg, NULL, 10); break;
		case 'm': opt.mib = strtoul(optarg, NULL, 10); break;
		case 'w': opt.writes = strtoul(optarg, NULL, 10); break;
		case 'p': opt.mapped = true; break;
		default: return 2;
		}
	}
	if (optind + 1 != argc) {
		(void)fputs("bench_files DIR [--files N] [--mib N] [--writes N] [--mapped]\n", stderr);
		return 2;
	}
	run(argv[optind]);
	return 0;
}
