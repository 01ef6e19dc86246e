/* check_hosts: what one host lacks, and what the destination lacks of what
 * the source has. Pure: facts in, reasons out. */
#include <stdio.h>
#include <string.h>

#include "base/scope.h"
#include "move/check_look.h"

enum { CRIU_MIN = 40100, RUNC_MIN = 10100, KERNEL_MIN = 513, WORD_MAX = 32 };

/* What an x86 program can see and use by itself, out of the words of
 * /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h). Words for the kernel
 * alone and for speed alone (erms, rep_good, ...) are not here: they differ by
 * firmware between hosts that are otherwise the same. */
static const char X86_WORDS[] =
        " fpu tsc cx8 cmov clflush mmx fxsr sse sse2 ht syscall mmxext rdtscp lm 3dnow 3dnowext pni pclmulqdq ssse3 "
        "fma cx16"
        " sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm abm sse4a misalignsse xop fma4 tbm fsgsbase "
        "bmi1 avx2"
        " bmi2 rtm mpx avx512f avx512dq rdseed adx avx512ifma clflushopt clwb avx512pf avx512er avx512cd sha_ni "
        "avx512bw"
        " avx512vl xsaveopt xsavec xgetbv1 xsaves avx_vnni avx512_bf16 clzero rdpru avx512vbmi pku ospke waitpkg "
        "avx512_vbmi2"
        " gfni vaes vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq la57 rdpid cldemote movdiri movdir64b enqcmd"
        " avx512_4vnniw avx512_4fmaps avx512_vp2intersect avx512_fp16 serialize tsxldtrk amx_bf16 amx_tile amx_int8 "
        "amx_fp16"
        " amx_complex avx_ifma avx_vnni_int8 avx_vnni_int16 avx_ne_convert cmpccxadd raoint prefetchi sha512 sm3 sm4"
        " avx10 apxf user_shstk mwaitx ";

static bool has_word(const char *list, const char *word, size_t n)
{
	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0))
			return true;
	return false;
}

static bool matters(const char *arch, const char *word, size_t n)
{
	/* On arm64 every word is a promise to programs (hwcap). */
	return strcmp(arch, "x86_64") != 0 || has_word(X86_WORDS, word, n);
}

static void missing_features(const struct gw_facts *here, const struct gw_facts *there, struct gw_reasons *out)
{
	char list[200] = "";
	size_t at = 0;
	unsigned n = 0;
	const char *theirs = there->cpu_flags ?: "";
	for (const char *p = here->cpu_flags ?: ""; *p;) {
		char word[WORD_MAX];
		size_t len = strcspn(p, " ");
		(void)snprintf(word, sizeof(word), "%.*s", (int)(len < WORD_MAX ? len : WORD_MAX - 1), p);
		p += len + (p[len] == ' ');
		if (len == 0 || len >= WORD_MAX || !matters(here->arch, word, len) || has_word(theirs, word, len))
			continue;
		if (at + len + 2 < sizeof(list))
			at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", n ? " " : "", word);
		n++;
	}
	if (n)
		gw_reasons_add(out, "CpuFeatures", "%u features of %s are missing on %s: %s", n, here->host,
		               there->host, list);
}

static void look_cpu(const struct gw_facts *here, const struct gw_facts *there, struct gw_reasons *out)
{
	if (strcmp(here->arch, there->arch) != 0)
		gw_reasons_add(out, "Architecture", "%s is %s, %s is %s", here->host, here->arch, there->host,
		               there->arch);
	else if (strcmp(here->cpu_vendor, there->cpu_vendor) != 0)
		gw_reasons_add(out, "CpuVendor", "%s has %s, %s has %s", here->host, here->cpu_vendor, there->host,
		               there->cpu_vendor);
	else
		missing_features(here, there, out);
}

/* "6.18.44-x" as 618; 0: not a version. */
static unsigned kernel_number(const char *release)
{
	unsigned major, minor;
	return sscanf(release, "%3u.%3u", &major, &minor) == 2 && minor < 100 ? major * 100 + minor : 0;
}

static void look_host(const struct gw_facts *f, struct gw_reasons *out)
{
	unsigned kernel = kernel_number(f->kernel);
	int cv = f->criu_version, rv = f->runc_version;
	if (kernel < KERNEL_MIN)
		gw_reasons_add(out, "KernelTooOld", "%s has kernel %s", f->host, f->kernel);
	if (!cv)
		gw_reasons_add(out, "CriuMissing", "%s has no CRIU that starts", f->host);
	else if (cv < CRIU_MIN)
		gw_reasons_add(out, "CriuTooOld", "%s has CRIU %d.%d.%d", f->host, cv / 10000, cv / 100 % 100,
		               cv % 100);
	else if (f->criu_why[0])
		gw_reasons_add(out, "CriuFails", "CRIU on %s: %s", f->host, f->criu_why);
	if (!rv)
		gw_reasons_add(out, "RuncMissing", "%s has no runc", f->host);
	else if (rv < RUNC_MIN)
		gw_reasons_add(out, "RuncTooOld", "%s has runc %d.%d.%d", f->host, rv / 10000, rv / 100 % 100,
		               rv % 100);
}

/* CRIU reads what an older one wrote, but not the other way: 4.1 restores a
 * vdso that 4.2 has dumped wrongly and fails in the freeze. */
static void look_criu(const struct gw_facts *here, const struct gw_facts *there, struct gw_reasons *out)
{
	if (there->criu_version >= CRIU_MIN && there->criu_version / 100 < here->criu_version / 100)
		gw_reasons_add(out, "CriuOlder", "%s has CRIU %d.%d, %s has %d.%d", here->host,
		               here->criu_version / 10000, here->criu_version / 100 % 100, there->host,
		               there->criu_version / 10000, there->criu_version / 100 % 100);
}

void gw_look_room(uint64_t need, uint64_t available, struct gw_reasons *out)
{
	if (need + need / 10 > available)
		gw_reasons_add(out, "NoRoom", "the container has %lu MiB, the destination has %lu MiB available",
		               need >> 20, available >> 20);
}

static bool mounts_cgroups(const struct gw_container *c)
{
	for (size_t i = 0; i < c->nmounts; i++)
		if (!strcmp(c->mounts[i].type, "cgroup"))
			return true;
	return false;
}

void gw_look_hosts(const struct gw_container *c, uint64_t memory, const struct gw_facts *here,
                   const struct gw_facts *there, struct gw_reasons *out)
{
	if (here) {
		look_host(here, out);
		if (!here->track_uffd && !here->track_soft_dirty)
			gw_reasons_add(out, "NoTracking", "%s has kernel %s", here->host, here->kernel);
		if (!here->can_hold)
			gw_reasons_add(out, "CannotHold", "%s: %s", here->host, here->hold_why);
	}
	if (there) {
		look_host(there, out);
		if (!there->userfaultfd)
			gw_reasons_add(out, "NoUserfaultfd", "%s has kernel %s without it", there->host, there->kernel);
		if (there->criu_version && !there->criu_why[0] && !there->criu_lazy_pages)
			gw_reasons_add(out, "CriuNoLazyPages", "CRIU on %s has no lazy pages", there->host);
		gw_look_room(memory, there->mem_available_bytes, out);
	}
	if (!here || !there)
		return;
	look_cpu(here, there, out);
	look_criu(here, there, out);
	if (here->selinux && !there->selinux)
		gw_reasons_add(out, "LsmProfile",
		               "SELinux is on on %s and off on %s: its labels could not be given back", here->host,
		               there->host);
	if (here->cgroup_v2 != there->cgroup_v2 && mounts_cgroups(c))
		gw_reasons_add(out, "CgroupVersion", "%s has cgroup v%d, %s has v%d", here->host,
		               here->cgroup_v2 ? 2 : 1, there->host, there->cgroup_v2 ? 2 : 1);
}
