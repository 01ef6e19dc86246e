/* trees: a directory and its copy are alike after every round, whatever was done to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "base/scope.h"
#include "files/apply.h"
#include "files/record.h"
#include "files/scan.h"
#include "test.h"

static char top[40], from[200], to[200];
static struct gw_apply *apply;
static struct gw_scan *scan;
static uint64_t sent;

static int on_records(void *ctx, const uint8_t *p, size_t n, struct gw_err *e)
{
	(void)ctx;
	sent += n;
	return gw_apply_frame(apply, p, n, e);
}

static int sh(const char *cmd)
{
	char line[4096];
	(void)snprintf(line, sizeof(line), "cd %s && { %s; }", from, cmd);
	int rc = system(line);
	return rc;
}
#define DO(cmd) assert_int_equal(sh(cmd), 0)

/* Names, types, owners, permissions, times, sizes, hard links, attributes, contents. */
static void alike(void)
{
	char line[2048];
	(void)snprintf(line, sizeof(line),
	               "view() { cd \"$1\" && find . -printf '%%P|%%y|%%U|%%G|%%m|%%T@|%%l|%%n|' \\( -type f -printf "
	               "'%%s' -o -true \\) -printf '\\n' | sort;"
	               "  find . -type f -print0 | sort -z | xargs -0r sha256sum; find . -links +1 -type f -printf "
	               "'%%i %%P\\n' | sort -k2 | awk '{ if (!($1 in n)) n[$1] = ++c; print n[$1], $2 }';"
	               "  getfattr -h -R -d -m- . 2>/dev/null; :; };"
	               "view %s >%s/a; view %s >%s/b; diff %s/a %s/b",
	               from, top, to, top, top, top);
	assert_int_equal(system(line), 0);
}

static struct gw_scan_stats round_(void)
{
	struct gw_scan_stats st;
	struct gw_err e = {.class = GW_OK};
	sent = 0;
	if (gw_scan_round(scan, &st, &e) < 0)
		fail_msg("%s", e.text);
	alike();
	return st;
}

static int begin(void **state)
{
	struct gw_err e;
	(void)state;
	(void)snprintf(top, sizeof(top), "/tmp/godwit-trees.XXXXXX");
	assert_non_null(mkdtemp(top));
	(void)snprintf(from, sizeof(from), "%s/from", top);
	(void)snprintf(to, sizeof(to), "%s/to", top);
	assert_int_equal(mkdir(from, 0755), 0);
	assert_int_equal(mkdir(to, 0755), 0);
	apply = gw_apply_new();
	assert_int_equal(gw_apply_root(apply, 0, to, GW_APPLY_PLAIN, &e), 0);
	struct gw_scan_tree t = {.root = from};
	assert_int_equal(gw_scan_new(&t, 1, on_records, NULL, &scan, &e), 0);
	return 0;
}

static int finish(void **state)
{
	struct gw_err e;
	(void)state;
	gw_scan_free(scan);
	gw_apply_free(apply);
	return gw_remove_tree(top, &e);
}

static void all_kinds(void **state)
{
	(void)state;
	DO("mkdir -p d/e; echo one >a; echo two >d/b; ln d/b d/e/c; ln -s ../a d/s; mkfifo p; chmod 4751 a; chmod 1777 "
	   "d/e;"
	   "truncate -s 3M sparse; printf x | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none; touch -d "
	   "2001-02-03 a d/e; : >empty;"
	   "printf '%0200d' 1 >\"$(printf 'n\\nl')\"");
	round_();
	struct stat st;
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/sparse", to);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 <= 64 * 1024);
}

static void owners_and_attributes(void **state)
{
	(void)state;
	DO("echo 1 >a; mkdir d");
	if (geteuid() == 0)
		DO("chown 1234:4321 a; chown 5:6 d");
	round_();
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/a", from);
	if (setxattr(path, "user.k", "v", 1, 0) < 0)
		skip();
	round_();
	assert_int_equal(setxattr(path, "user.k", "other", 5, 0), 0);
	assert_int_equal(setxattr(path, "user.l", "", 0, 0), 0);
	round_();
	assert_int_equal(removexattr(path, "user.k"), 0);
	round_();
}

static void changes(void **state)
{
	(void)state;
	DO("mkdir d; echo 1 >a; echo 2 >d/b; seq 100000 >big");
	round_();
	assert_int_equal(round_().sent_bytes < 4096, 1);
	DO("echo more >>a; rm d/b; echo new >d/n; mkdir -p x/y/z; echo deep >x/y/z/f; ln -s a l");
	round_();
	DO("chmod 600 a; touch -d 1999-01-01 d/n; ln d/n hard; truncate -s 1000 big; rm l; mkdir l");
	round_();
	DO("rmdir l; echo file >l; rm -r x; echo was-a-dir >x");
	round_();
	DO("for a in 1 2 3; do mkdir -p t/$a/u/v; for b in 1 2 3 4; do echo $b >t/$a/u/v/$b; done; done");
	round_();
	DO("rm -r t/2; mv t/1 t/2; rm t/3/u/v/2; mkdir t/1; echo new >t/1/u");
	round_();
	DO("rm -r t; mkdir t; echo again >t/3");
	round_();
	DO("truncate -s 300000 big; printf Z | dd of=big bs=1 seek=200000 conv=notrunc status=none");
	round_();
	DO("dd if=/dev/zero of=big bs=65536 count=2 conv=notrunc status=none");
	round_();
}

static void renames_send_no_contents(void **state)
{
	(void)state;
	DO("mkdir -p d/e; head -c 3000000 /dev/urandom >d/e/big; cp d/e/big one");
	round_();
	DO("mv one two");
	assert_true(round_().sent_bytes < 4096);
	DO("mv d D");
	assert_true(round_().sent_bytes < 4096);
	DO("cp -p D/e/big tmp; sync tmp; mv tmp D/e/big");
	round_();
	DO("mv two a; mv D/e/big two; mv a D/e/big");
	round_();
	DO("mv D two.d; mkdir D; mv two.d/e/big D/; rm -r two.d");
	round_();
}

static void one_byte_in_a_big_file(void **state)
{
	(void)state;
	DO("head -c 20000000 /dev/urandom >big");
	round_();
	DO("printf x | dd of=big bs=1 seek=10000000 conv=notrunc status=none");
	assert_true(round_().sent_bytes < 70000);
}

/* Once a round, though it was changed within a tick of the last look and again since. */
static void a_round_reads_a_file_once(void **state)
{
	(void)state;
	DO("head -c 300000 /dev/urandom >big");
	round_();
	for (int i = 0; i < 3; i++) {
		DO("printf x | dd of=big bs=1 seek=10 conv=notrunc status=none");
		assert_int_equal(round_().read_bytes, 300000);
	}
}

static void written_by_mapping(void **state)
{
	char path[512];
	struct gw_scan_stats st;
	struct gw_err e;
	(void)state;
	DO("head -c 200000 /dev/zero >m");
	round_();
	(void)snprintf(path, sizeof(path), "%s/m", from);
	gw_auto(fd) int fd = open(path, O_RDWR);
	char *p = mmap(NULL, 200000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	gw_scan_mapped(scan, 0, "m");
	for (int i = 0; i < 3; i++) {
		p[150000] = (char)('a' + i);
		assert_int_equal(gw_scan_round(scan, &st, &e), 0);
		(void)snprintf(path, sizeof(path), "cmp %s/m %s/m", from, to);
		assert_int_equal(system(path), 0);
	}
	munmap(p, 200000);
}

/* A large file, in every way that its pages can change: each page may be known or not. */
enum { LARGE_PAGES = 1600, PAGE = 4096 };

static void write_page(int fd, uint8_t *map, uint64_t page, int how)
{
	static uint8_t block[PAGE] __attribute__((aligned(PAGE)));
	off_t at = (off_t)(page * PAGE);
	char path[64];
	memset(block, (int)random() | 1, sizeof(block));
	switch (how) {
	case 0: memcpy(map + at, block, 100); break;
	case 1: assert_int_equal(pwrite(fd, block, 3000, at + 700), 3000); break;
	case 2: {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		gw_auto(fd) int direct = open(path, O_WRONLY | O_DIRECT);
		assert_int_equal(pwrite(direct, block, PAGE, at), PAGE);
		break;
	}
	case 3: assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 3 * PAGE), 0); break;
	case 4: /* away, and back with zeros */
		assert_int_equal(ftruncate(fd, at + 100), 0);
		assert_int_equal(ftruncate(fd, LARGE_PAGES * PAGE), 0);
		break;
	case 5: assert_int_equal(fdatasync(fd), 0); break;
	case 6: assert_int_equal(posix_fadvise(fd, at, 100 * PAGE, POSIX_FADV_DONTNEED), 0); break;
	case 7: assert_int_equal(copy_file_range(fd, &(loff_t){0}, fd, &(loff_t){at}, PAGE, 0), PAGE); break;
	default: break;
	}
}

static void pages_of_a_large_file(void **state)
{
	char path[512];
	uint64_t least = UINT64_MAX;
	(void)state;
	srandom(11);
	DO("head -c 6553600 /dev/urandom >big");
	(void)snprintf(path, sizeof(path), "%s/big", from);
	gw_auto(fd) int fd = open(path, O_RDWR);
	uint8_t *map = mmap(NULL, LARGE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	round_();
	gw_scan_mapped(scan, 0, "big");
	for (int i = 0; i < 80; i++) {
		/* Those that drop much of it now and then only. */
		for (int n = (int)(random() % 30); n >= 0; n--)
			write_page(fd, map, 1 + (uint64_t)(random() % (LARGE_PAGES - 4)),
			           random() % 40 == 0 ? (int)(random() % 8) : (int)(random() % 3));
		if (i % 20 == 19) {
			DO("printf grown >>big; truncate -s 6553600 big");
			assert_int_equal(pwrite(fd, "grown", 5, LARGE_PAGES * PAGE), 5);
		}
		if (i == 79)
			gw_scan_last(scan);
		struct gw_scan_stats st = round_();
		if (st.read_bytes < least)
			least = st.read_bytes;
	}
	munmap(map, LARGE_PAGES * PAGE);
	/* Where the kernel tells: a few pages instead of all. */
	char fs[32] = "";
	(void)snprintf(path, sizeof(path), "stat -f -c %%T %s >%s/fs", from, top);
	assert_int_equal(system(path), 0);
	(void)snprintf(path, sizeof(path), "%s/fs", top);
	gw_auto(file) FILE *f = fopen(path, "r");
	if (!f || !fgets(fs, sizeof(fs), f) || strncmp(fs, "ext2/ext3", 9) != 0 || geteuid() != 0)
		skip();
	print_message("# least read in a round: %lu bytes\n", (unsigned long)least);
	assert_true(least < 2000000);
}

/* Many steps at random, several between two rounds. */
static void at_random(void **state)
{
	(void)state;
	srandom(7);
	DO("mkdir a b c");
	for (int i = 0; i < 60; i++) {
		for (int n = (int)(random() % 12); n >= 0; n--) {
			char cmd[512];
			long x = random() % 6, y = random() % 6, d = random() % 3;
			static const char *const steps[] = {
			        "echo %ld%ld%ld >>a/%ld 2>/dev/null",
			        "rm -rf b/%ld c/%ld a/%ld a/x%ld",
			        "mv -T a/%ld c/%ld 2>/dev/null || : %ld%ld",
			        "ln a/%ld b/%ld 2>/dev/null || : %ld%ld",
			        "mkdir -p b/x%ld/y%ld; echo %ld >b/x%ld/f 2>/dev/null",
			        "mv -T b/x%ld c/x%ld 2>/dev/null || : %ld%ld",
			        "rm -rf c/x%ld; echo was-dir%ld%ld >c/x%ld",
			        "cp -p a/%ld b/t 2>/dev/null && mv -T b/t b/%ld 2>/dev/null; : %ld%ld",
			        "mv -T c/x%ld b/x%ld 2>/dev/null || : %ld%ld",
			        "ln -sfn %ld a/s%ld; : %ld%ld"};
			long k = random() % (long)(sizeof(steps) / sizeof(steps[0]));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(cmd, sizeof(cmd), steps[k], x, y, d, x);
#pragma GCC diagnostic pop
			(void)sh(cmd);
		}
		round_();
	}
}

/* Received somewhere, put in place later, then changed there. */
static void placed(void **state)
{
	struct gw_err e = {.class = GW_OK};
	char place[150];
	(void)state;
	DO("mkdir d; echo 1 >d/a; ln d/a b; chmod 750 .");
	round_();
	(void)snprintf(place, sizeof(place), "%s/place", top);
	assert_int_equal(mkdir(place, 0700), 0);
	assert_int_equal(gw_apply_place(apply, 0, place, &e), 0);
	(void)snprintf(to, sizeof(to), "%s", place);
	alike();
	DO("echo 2 >d/a; rm b; mkdir f; echo 3 >f/g");
	round_();
	/* Again, over something that is there: by copy. */
	(void)snprintf(place, sizeof(place), "%s/second", top);
	assert_int_equal(mkdir(place, 0700), 0);
	(void)snprintf(place, sizeof(place), "%s/second/d", top);
	assert_int_equal(mkdir(place, 0700), 0);
	(void)snprintf(place, sizeof(place), "%s/second", top);
	assert_int_equal(gw_apply_place(apply, 0, place, &e), 0);
	(void)snprintf(to, sizeof(to), "%s", place);
	alike();
}

/* A layer as an overlay's upper directory holds it, shown as the overlay would. */
static void layer(void **state)
{
	struct gw_err e = {.class = GW_OK};
	struct gw_scan_stats st;
	char path[512];
	(void)state;
	gw_scan_free(scan);
	scan = NULL;
	struct gw_scan_tree t = {.root = from, .is_layer = true};
	assert_int_equal(gw_scan_new(&t, 1, on_records, NULL, &scan, &e), 0);
	DO("mkdir o keep; echo 1 >o/in");
	(void)snprintf(path, sizeof(path), "%s/gone", from);
	if (mknod(path, S_IFCHR, 0) < 0)
		skip();
	(void)snprintf(path, sizeof(path), "%s/o", from);
	if (setxattr(path, "trusted.overlay.opaque", "y", 1, 0) < 0)
		skip();
	(void)snprintf(path, sizeof(path), "cd %s; mkdir o; echo low >o/low; echo low >gone; echo low >stays", to);
	assert_int_equal(system(path), 0);
	if (gw_scan_round(scan, &st, &e) < 0)
		fail_msg("%s", e.text);
	(void)snprintf(path, sizeof(path), "cd %s && test -e o/in -a ! -e o/low -a ! -e gone -a -e stays -a -d keep",
	               to);
	assert_int_equal(system(path), 0);
}

/* A layer that waits, then lies where an overlay takes it; what hides others comes last. */
static void layer_placed(void **state)
{
	struct gw_err e = {.class = GW_OK};
	struct gw_scan_stats st;
	struct stat m;
	char path[512], v[4];
	(void)state;
	gw_scan_free(scan);
	scan = NULL;
	assert_int_equal(gw_apply_root(apply, 0, to, GW_APPLY_LAYER, &e), 0);
	struct gw_scan_tree t = {.root = from, .is_layer = true};
	assert_int_equal(gw_scan_new(&t, 1, on_records, NULL, &scan, &e), 0);
	DO("mkdir o; echo 1 >o/in");
	(void)snprintf(path, sizeof(path), "%s/gone", from);
	if (mknod(path, S_IFCHR, 0) < 0)
		skip();
	(void)snprintf(path, sizeof(path), "%s/o", from);
	if (setxattr(path, "trusted.overlay.opaque", "y", 1, 0) < 0)
		skip();
	if (gw_scan_round(scan, &st, &e) < 0)
		fail_msg("%s", e.text);
	(void)snprintf(path, sizeof(path), "%s/upper", top);
	assert_int_equal(mkdir(path, 0700), 0);
	if (gw_apply_place(apply, 0, path, &e) < 0)
		fail_msg("%s", e.text);
	(void)snprintf(path, sizeof(path), "%s/upper/gone", top);
	assert_int_equal(lstat(path, &m), 0);
	assert_true(S_ISCHR(m.st_mode) && m.st_rdev == 0);
	(void)snprintf(path, sizeof(path), "%s/upper/o", top);
	assert_int_equal(getxattr(path, "trusted.overlay.opaque", v, sizeof(v)), 1);
}

static void a_link_in_the_way_is_not_followed(void **state)
{
	struct gw_err e = {.class = GW_OK};
	struct gw_rec r = {.op = GW_REC_MAKE, .mode = S_IFREG | 0600, .path = "d/evil"};
	static uint8_t buf[4096];
	char cmd[1024];
	(void)state;
	(void)snprintf(cmd, sizeof(cmd), "mkdir %s/out && ln -s %s/out %s/d", top, top, to);
	assert_int_equal(system(cmd), 0);
	assert_true(gw_apply_frame(apply, buf, gw_rec_pack(&r, buf), &e) < 0);
	(void)snprintf(cmd, sizeof(cmd), "test ! -e %s/out/evil", top);
	assert_int_equal(system(cmd), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, finish)
int main(void)
{
	const struct CMUnitTest tests[] = {
	        T(all_kinds),
	        T(owners_and_attributes),
	        T(changes),
	        T(renames_send_no_contents),
	        T(one_byte_in_a_big_file),
	        T(a_round_reads_a_file_once),
	        T(written_by_mapping),
	        T(pages_of_a_large_file),
	        T(at_random),
	        T(placed),
	        T(layer),
	        T(layer_placed),
	        T(a_link_in_the_way_is_not_followed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
