/* check_facts: what this host can do, and the same as JSON for the peer. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/io.h"
#include "base/proc.h"
#include "base/scope.h"
#include "ckpt/criu.h"
#include "ckpt/freezer.h"
#include "mem/track.h"
#include "move/check_look.h"
#include "net/hold.h"

enum { RUNC_TIMEOUT_MS = 10000, CPUINFO_MAX = 16 << 20, FLAGS_MAX = 16384, WORDS_MAX = 1024, VERSION_MAX = 999999 };

/* "runc version 1.1.15+ds1" */
static int runc_version(const char *runc)
{
	gw_auto(mem) char *text = NULL;
	struct gw_err why;
	const char *const argv[] = {runc && *runc ? runc : "runc", "--version", NULL};
	struct gw_spawn s = {.argv = argv, .stdio = {-1, -1, -1}};
	int a = 0, b = 0, c = 0;
	if (gw_proc_run(&s, RUNC_TIMEOUT_MS, &text, &why) < 0)
		return 0;
	if (sscanf(text, "runc version %2d.%2d.%2d", &a, &b, &c) < 2)
		return 0;
	return a * 10000 + b * 100 + c;
}

/* What CRIU's restore asks of it (criu/uffd.c). */
static bool has_userfaultfd(void)
{
	gw_auto(fd) int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = {.api = UFFD_API,
	                         .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
	                                     UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE};
	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
}

static int by_word(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *sorted_words(const char *line)
{
	gw_auto(mem) char *copy = strndup(line, strcspn(line, "\n"));
	char *words[WORDS_MAX], *save = NULL;
	size_t n = 0, at = 0;
	char *out = copy ? malloc(strlen(copy) + 1) : NULL;
	for (char *w = copy ? strtok_r(copy, " \t", &save) : NULL; w && n < WORDS_MAX; w = strtok_r(NULL, " \t", &save))
		words[n++] = w;
	qsort(words, n, sizeof(words[0]), by_word);
	for (size_t i = 0; out && i < n; i++) {
		size_t len = strlen(words[i]);
		if (at)
			out[at++] = ' ';
		memcpy(out + at, words[i], len);
		at += len;
	}
	if (out)
		out[at] = 0;
	return out;
}

/* x86: vendor_id, flags. arm64: CPU implementer, Features. The first CPU's. */
static int read_cpu(struct gw_facts *f, struct gw_err *e)
{
	gw_auto(mem) char *text = NULL;
	int rc = gw_read_file("/proc/cpuinfo", CPUINFO_MAX, &text, NULL, e);
	if (rc < 0)
		return rc;
	const char *vendor = gw_look_field(text, "vendor_id") ?: gw_look_field(text, "CPU implementer");
	const char *flags = gw_look_field(text, "flags") ?: gw_look_field(text, "Features");
	if (!vendor || !flags)
		return gw_fail(e, GW_SYS, ENOENT, "find the processor's features in /proc/cpuinfo");
	vendor += strspn(vendor, ": \t");
	(void)snprintf(f->cpu_vendor, sizeof(f->cpu_vendor), "%.*s", (int)strcspn(vendor, "\n"), vendor);
	f->cpu_flags = sorted_words(flags + strspn(flags, ": \t"));
	return f->cpu_flags ? 0 : gw_fail(e, GW_SYS, ENOMEM, "read /proc/cpuinfo");
}

static void read_tracking(struct gw_facts *f)
{
	char why[200];
	enum gw_track_backend b = gw_track_supported(why, sizeof(why));
	f->track_uffd = b == GW_TRACK_UFFD;
	f->track_soft_dirty = b == GW_TRACK_SOFT_DIRTY;
}

static void read_hold(struct gw_facts *f)
{
	struct gw_err why;
	f->can_hold = gw_hold_supported(&why) == 0;
	if (!f->can_hold)
		(void)snprintf(f->hold_why, sizeof(f->hold_why), "%.199s", why.text);
}

int gw_facts_collect(const char *host, const char *criu, const char *runc, struct gw_facts *out, struct gw_err *e)
{
	struct gw_facts f = {0};
	struct utsname u;
	struct gw_err why;
	if (uname(&u) < 0)
		return gw_fail(e, GW_SYS, errno, "uname");
	(void)snprintf(f.host, sizeof(f.host), "%s", host);
	(void)snprintf(f.kernel, sizeof(f.kernel), "%s", u.release);
	(void)snprintf(f.arch, sizeof(f.arch), "%.15s", u.machine);
	if (gw_criu_version(&(struct gw_criu_opts){.program = criu && *criu ? criu : NULL}, &f.criu_version,
	                    &f.criu_lazy_pages, f.criu_why, &why) < 0)
		f.criu_version = 0;
	f.runc_version = runc_version(runc);
	f.userfaultfd = has_userfaultfd();
	f.cgroup_v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
	f.selinux = access("/sys/fs/selinux/enforce", F_OK) == 0;
	read_tracking(&f);
	read_hold(&f);
	gw_auto(mem) char *text = gw_look_text("/proc/meminfo");
	const char *v = text ? gw_look_field(text, "MemAvailable:") : NULL;
	if (!v)
		return gw_fail(e, GW_SYS, ENOENT, "read MemAvailable");
	f.mem_available_bytes = strtoull(v, NULL, 10) << 10;
	int rc = read_cpu(&f, e);
	if (rc == 0)
		*out = f;
	return rc;
}

void gw_facts_done(struct gw_facts *f)
{
	free(f->cpu_flags);
	f->cpu_flags = NULL;
}

void gw_facts_to_json(const struct gw_facts *f, yyjson_mut_doc *doc, yyjson_mut_val *obj)
{
	yyjson_mut_obj_add_strcpy(doc, obj, "host", f->host);
	yyjson_mut_obj_add_strcpy(doc, obj, "kernel", f->kernel);
	yyjson_mut_obj_add_strcpy(doc, obj, "arch", f->arch);
	yyjson_mut_obj_add_int(doc, obj, "criu_version", f->criu_version);
	yyjson_mut_obj_add_int(doc, obj, "runc_version", f->runc_version);
	yyjson_mut_obj_add_bool(doc, obj, "criu_lazy_pages", f->criu_lazy_pages);
	yyjson_mut_obj_add_strcpy(doc, obj, "criu_why", f->criu_why);
	yyjson_mut_obj_add_bool(doc, obj, "userfaultfd", f->userfaultfd);
	yyjson_mut_obj_add_bool(doc, obj, "track_uffd", f->track_uffd);
	yyjson_mut_obj_add_bool(doc, obj, "track_soft_dirty", f->track_soft_dirty);
	yyjson_mut_obj_add_bool(doc, obj, "can_hold", f->can_hold);
	yyjson_mut_obj_add_strcpy(doc, obj, "hold_why", f->hold_why);
	yyjson_mut_obj_add_bool(doc, obj, "cgroup_v2", f->cgroup_v2);
	yyjson_mut_obj_add_bool(doc, obj, "selinux", f->selinux);
	yyjson_mut_obj_add_uint(doc, obj, "mem_available_bytes", f->mem_available_bytes);
	yyjson_mut_obj_add_strcpy(doc, obj, "cpu_vendor", f->cpu_vendor);
	yyjson_mut_obj_add_strcpy(doc, obj, "cpu_flags", f->cpu_flags ?: "");
}

/* A word of a peer that fits, of printable ASCII: it goes to terminals and logs. */
static int take_word(yyjson_val *obj, const char *key, char *out, size_t size, struct gw_err *e)
{
	const char *s = gw_json_str(obj, key, NULL);
	size_t n = s ? strlen(s) : 0;
	for (size_t i = 0; i < n; i++)
		if (s[i] < 0x20 || s[i] > 0x7e)
			n = size;
	if (!s || n >= size)
		return gw_fail(e, GW_PEER, EPROTO, "facts: \"%s\" is missing, too long or not plain text", key);
	memcpy(out, s, n + 1);
	return 0;
}

static int take_version(yyjson_val *obj, const char *key, int *out, struct gw_err *e)
{
	int64_t v = gw_json_i64(obj, key, -1);
	if (v < 0 || v > VERSION_MAX)
		return gw_fail(e, GW_PEER, EPROTO, "facts: \"%s\" is no version", key);
	*out = (int)v;
	return 0;
}

int gw_facts_from_json(yyjson_val *obj, struct gw_facts *out, struct gw_err *e)
{
	struct gw_facts f = {0};
	char flags[FLAGS_MAX];
	int rc = take_word(obj, "host", f.host, sizeof(f.host), e);
	if (rc == 0)
		rc = take_word(obj, "kernel", f.kernel, sizeof(f.kernel), e);
	if (rc == 0)
		rc = take_word(obj, "arch", f.arch, sizeof(f.arch), e);
	if (rc == 0)
		rc = take_word(obj, "hold_why", f.hold_why, sizeof(f.hold_why), e);
	if (rc == 0)
		rc = take_word(obj, "criu_why", f.criu_why, sizeof(f.criu_why), e);
	if (rc == 0)
		rc = take_word(obj, "cpu_vendor", f.cpu_vendor, sizeof(f.cpu_vendor), e);
	if (rc == 0)
		rc = take_word(obj, "cpu_flags", flags, sizeof(flags), e);
	if (rc == 0)
		rc = take_version(obj, "criu_version", &f.criu_version, e);
	if (rc == 0)
		rc = take_version(obj, "runc_version", &f.runc_version, e);
	if (rc < 0)
		return rc;
	f.criu_lazy_pages = gw_json_bool(obj, "criu_lazy_pages", false);
	f.userfaultfd = gw_json_bool(obj, "userfaultfd", false);
	f.track_uffd = gw_json_bool(obj, "track_uffd", false);
	f.track_soft_dirty = gw_json_bool(obj, "track_soft_dirty", false);
	f.can_hold = gw_json_bool(obj, "can_hold", false);
	f.cgroup_v2 = gw_json_bool(obj, "cgroup_v2", false);
	f.selinux = gw_json_bool(obj, "selinux", false);
	f.mem_available_bytes = gw_json_u64(obj, "mem_available_bytes", 0);
	f.cpu_flags = strdup(flags);
	if (!f.cpu_flags)
		return gw_fail(e, GW_SYS, ENOMEM, "read a peer's facts");
	*out = f;
	return 0;
}
