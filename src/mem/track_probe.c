#include "mem/track_probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/scope.h"
#include "mem/scan.h"
#include "mem/track_impl.h"
#include "mem/track_uffd.h"

enum { PM_SOFT_DIRTY_BIT = 55 };

/* The whole mechanism once, on a page of ours. */
static const char *uffd_missing(void)
{
	int rc = gw_scan_probe();
	if (rc < 0)
		return "the kernel has no PAGEMAP_SCAN (Linux 6.7 and later have it)";
	gw_auto(fd) int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return errno == ENOSYS ? "the kernel is built without userfaultfd (CONFIG_USERFAULTFD)"
		                       : "userfaultfd is refused (a seccomp filter or security module?)";
	if (gw_uffd_api(fd) < 0)
		return "userfaultfd has no asynchronous write-protect (Linux 6.7 and later; CONFIG_PTE_MARKER_UFFD_WP)";
	char *m = mmap(NULL, GW_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (m == MAP_FAILED)
		return "no memory to try it";
	gw_auto(fd) int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct page_region r;
	uint64_t a = (uintptr_t)m, at = a;
	bool ok = pagemap >= 0 && gw_uffd_register(fd, a, a + GW_PAGE_BYTES) == 0 &&
	          gw_scan(pagemap, GW_SCAN_PROTECT_ALL, &at, a + GW_PAGE_BYTES, &r, 1) == 1;
	at = a;
	ok = ok && gw_scan(pagemap, GW_SCAN_WRITTEN, &at, a + GW_PAGE_BYTES, &r, 1) == 0;
	*(volatile char *)m = 1;
	at = a;
	ok = ok && gw_scan(pagemap, GW_SCAN_WRITTEN, &at, a + GW_PAGE_BYTES, &r, 1) == 1;
	(void)munmap(m, GW_PAGE_BYTES);
	return ok ? NULL : "userfaultfd write-protect does not work for private memory here";
}

static bool soft_dirty(int pagemap, const char *page)
{
	uint64_t entry = 0;
	return pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)page >> GW_PAGE_SHIFT) * 8) == sizeof(entry) &&
	       entry >> PM_SOFT_DIRTY_BIT & 1;
}

static const char *softdirty_missing(void)
{
	static const char off[] = "the kernel is built without CONFIG_MEM_SOFT_DIRTY";
	char *m = mmap(NULL, GW_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return "no memory to try it";
	*(volatile char *)m = 1;
	gw_auto(fd) int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool set = pagemap >= 0 && soft_dirty(pagemap, m);
	bool cleared = set && gw_write_knob("/proc/self/clear_refs", "4") == 0 && !soft_dirty(pagemap, m);
	*(volatile char *)m = 2;
	bool again = cleared && soft_dirty(pagemap, m);
	(void)munmap(m, GW_PAGE_BYTES);
	return !set ? off : !again ? "soft-dirty bits do not work here" : NULL;
}

bool gw_track_backend_works(enum gw_track_backend b, char *out_why, size_t size)
{
	const char *missing = b == GW_TRACK_UFFD         ? uffd_missing()
	                      : b == GW_TRACK_SOFT_DIRTY ? softdirty_missing()
	                                                 : "no such backend";
	if (missing)
		(void)snprintf(out_why, size, "%s: %s", gw_track_backend_name(b), missing);
	return !missing;
}

enum gw_track_backend gw_track_supported(char *out_why, size_t size)
{
	static const enum gw_track_backend order[] = {GW_TRACK_UFFD, GW_TRACK_SOFT_DIRTY};
	enum gw_track_backend best = GW_TRACK_AUTO;
	char why[2][180] = {"", ""};
	for (size_t i = 0; i < gw_countof(order); i++)
		if (gw_track_backend_works(order[i], why[i], sizeof(why[i])) && best == GW_TRACK_AUTO)
			best = order[i];
	(void)snprintf(out_why, size, "%s%s%s", why[0], *why[0] && *why[1] ? "; " : "", why[1]);
	return best;
}

bool gw_track_direct_io(pid_t pid, const struct gw_maps *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].name_len >= 6 && !memcmp(gw_vma_name(m, &m->v[i]), "/[aio]", 6))
			return true;
	char path[64];
	gw_path(path, sizeof(path), "/proc/%d/fdinfo", pid);
	gw_auto(dir) DIR *d = opendir(path);
	const struct dirent *de;
	while (d && (de = readdir(d))) {
		char text[256];
		if (de->d_name[0] == '.')
			continue;
		gw_auto(fd) int fd = openat(dirfd(d), de->d_name, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = 0;
		const char *flags = strstr(text, "flags:");
		if (flags && strtoull(flags + 6, NULL, 8) & O_DIRECT)
			return true;
	}
	return false;
}

size_t gw_track_leaks(const struct gw_tracker *t, pid_t pid, gw_leak_fn *fn, void *ctx)
{
	char path[64], link[64];
	size_t found = 0;
	gw_path(path, sizeof(path), "/proc/%d/fd", pid);
	gw_auto(dir) DIR *d = opendir(path);
	const struct dirent *de;
	while (d && (de = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), de->d_name, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		if (strcmp(link, "anon_inode:[userfaultfd]") != 0)
			continue;
		int fd = (int)strtol(de->d_name, NULL, 10);
		for (size_t i = 0; i < t->n; i++)
			if (t->v[i]->uffd >= 0 && syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, t->v[i]->uffd, fd) == 0) {
				found++;
				if (fn)
					fn(ctx, fd);
				break;
			}
	}
	return found;
}

bool gw_track_leaked(const struct gw_tracker *t, const struct gw_proc *p)
{
	return gw_track_leaks(t, p->pid, NULL, NULL) > 0;
}
