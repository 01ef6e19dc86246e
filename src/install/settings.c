#include "install/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"

static const char BEGIN[] = "# godwit begin: put here by godwit-install and taken away by it";
/* The file's last line had no end. */
static const char BEGIN_JOINED[] =
        "\n# godwit begin (after a line without end): put here by godwit-install and taken away by it";
static const char END[] = "# godwit end";

/* ---- lines ---- */

struct line {
	const char *at; /* without blanks in front */
	size_t len;
	const char *next;
};

static struct line line_at(const char *p)
{
	struct line l = {.at = p};
	size_t n = strcspn(p, "\n");
	l.next = p[n] ? p + n + 1 : p + n;
	while (n && (*l.at == ' ' || *l.at == '\t'))
		l.at++, n--;
	while (n && isspace((unsigned char)l.at[n - 1]))
		n--;
	l.len = n;
	return l;
}

static bool ends_with(const struct line *l, const char *s)
{
	size_t n = strlen(s);
	return l->len >= n && !memcmp(l->at + l->len - n, s, n);
}

/* "key = value" */
static bool key_is(const struct line *l, const char *key)
{
	size_t n = strlen(key);
	if (l->len <= n || memcmp(l->at, key, n) != 0)
		return false;
	while (n < l->len && isblank((unsigned char)l->at[n]))
		n++;
	return n < l->len && l->at[n] == '=';
}

static void value_of(const struct line *l, char *out, size_t size)
{
	const char *v = memchr(l->at, '=', l->len);
	const char *end = l->at + l->len;
	*out = 0;
	if (!v)
		return;
	v++;
	while (v < end && isblank((unsigned char)*v))
		v++;
	if (v + 1 < end && (*v == '"' || *v == '\'') && end[-1] == *v)
		v++, end--;
	(void)snprintf(out, size, "%.*s", (int)(end - v), v);
}

/* The first line behind the table's head, NULL when there is no such table. */
static const char *table(const char *dump, const char *tail)
{
	for (const char *p = dump; *p;) {
		struct line l = line_at(p);
		p = l.next;
		if (l.len && l.at[0] == '[' && ends_with(&l, tail))
			return p;
	}
	return NULL;
}

static void named_default(const char *dump, char *out, size_t size)
{
	*out = 0;
	for (const char *p = dump; *p;) {
		struct line l = line_at(p);
		p = l.next;
		if (key_is(&l, "default_runtime_name"))
			value_of(&l, out, size);
	}
}

bool gw_settings_is_default(const char *dump)
{
	char name[100];
	named_default(dump, name, sizeof(name));
	return !strcmp(name, "godwit");
}

/* What godwit's is made like. */
static void default_runtime(const char *dump, char *out, size_t size)
{
	named_default(dump, out, size);
	if (!*out || !strcmp(out, "godwit"))
		(void)snprintf(out, size, "runc");
}

static const char *runtime_table(const char *dump, bool options)
{
	char name[100], tail[200];
	default_runtime(dump, name, sizeof(name));
	(void)snprintf(tail, sizeof(tail), ".runtimes.%s%s]", name, options ? ".options" : "");
	return table(dump, tail);
}

void gw_settings_value(const char *dump, const char *key, char *out, size_t size)
{
	bool options = !strncmp(key, "options/", 8);
	const char *p = options ? runtime_table(dump, true) : dump;
	*out = 0;
	while (p && *p) {
		struct line l = line_at(p);
		p = l.next;
		if (l.len && l.at[0] == '[' && (options || ends_with(&l, "]")))
			return;
		if (key_is(&l, options ? key + 8 : key)) {
			value_of(&l, out, size);
			return;
		}
	}
}

/* ---- the block ---- */

bool gw_settings_has(const char *text)
{
	return strstr(text, BEGIN) || strstr(text, BEGIN_JOINED);
}

char *gw_settings_without(const char *text)
{
	const char *joined = strstr(text, BEGIN_JOINED);
	const char *from = joined ?: strstr(text, BEGIN);
	const char *end = from ? strstr(from, END) : NULL;
	if (!end)
		return strdup(text);
	end += sizeof(END) - 1;
	end += *end == '\n';
	char *out = NULL;
	return asprintf(&out, "%.*s%s", (int)(from - text), text, end) < 0 ? NULL : out;
}

static int version_of(const char *text)
{
	char v[16];
	gw_settings_value(text, "version", v, sizeof(v));
	return *v ? atoi(v) : 1;
}

/* A setting that says something: not "", false, 0, [] */
static bool says_something(const char *value)
{
	return *value && strcmp(value, "false") != 0 && strcmp(value, "0") != 0 && strcmp(value, "[]") != 0;
}

/* The settings of a table of the default runtime, but for some. */
static void copy_table(FILE *f, const char *p, const char *indent, const char *const *but)
{
	while (p && *p) {
		char value[1024];
		struct line l = line_at(p);
		p = l.next;
		if (l.len && l.at[0] == '[')
			return;
		bool skip = !memchr(l.at, '=', l.len);
		for (size_t i = 0; but[i] && !skip; i++)
			skip = key_is(&l, but[i]);
		value_of(&l, value, sizeof(value));
		if (!skip && says_something(value))
			(void)fprintf(f, "%s%.*s\n", indent, (int)l.len, l.at);
	}
}

static void write_block(FILE *f, int version, const char *dump, const char *runtime)
{
	static const char *const names[] = {"", "plugins.cri", "plugins.\"io.containerd.grpc.v1.cri\"",
	                                    "plugins.'io.containerd.cri.v1.runtime'"};
	static const char *const own[] = {"runtime_type",
	                                  "runtime_engine",
	                                  "runtime_path",
	                                  "runtime_root",
	                                  "container_annotations",
	                                  "pod_annotations",
	                                  NULL};
	static const char *const own_options[] = {"BinaryName", "TypeUrl", "ConfigPath", NULL};
	(void)fprintf(f, "[%s.containerd.runtimes.godwit]\n", names[version]);
	(void)fputs("  runtime_type = \"io.containerd.runc.v2\"\n"
	            "  pod_annotations = [\"godwit.dev/*\", \"*.godwit.dev/*\"]\n"
	            "  container_annotations = [\"godwit.dev/*\", \"*.godwit.dev/*\"]\n",
	            f);
	copy_table(f, runtime_table(dump, false), "  ", own);
	(void)fprintf(f, "  [%s.containerd.runtimes.godwit.options]\n    BinaryName = \"%s\"\n", names[version],
	              runtime);
	copy_table(f, runtime_table(dump, true), "    ", own_options);
	(void)fprintf(f, "%s\n", END);
}

int gw_settings_with(const char *text, const char *dump, const char *runtime, char **out, struct gw_err *e)
{
	gw_auto(mem) char *base = gw_settings_without(text);
	char *made = NULL;
	size_t size, n = base ? strlen(base) : 0;
	FILE *f = base ? open_memstream(&made, &size) : NULL;
	if (!f)
		return gw_fail(e, GW_SYS, ENOMEM, "containerd's settings");
	bool none = n == 0;
	int version = none ? 2 : version_of(base);
	bool taken = table(base, ".runtimes.godwit]") != NULL;
	if (version < 1 || version > 3 || taken) {
		(void)fclose(f);
		free(made);
		return taken ? gw_fail(e, GW_INPUT, EEXIST,
		                       "there is a runtime handler \"godwit\" in containerd's settings already, which "
		                       "is not "
		                       "ours: take it out")
		             : gw_fail(e, GW_INPUT, EINVAL, "containerd's settings are of version %d: 1 to 3 are known",
		                       version);
	}
	(void)fputs(base, f);
	(void)fprintf(f, "%s\n", !none && base[n - 1] != '\n' ? BEGIN_JOINED : BEGIN);
	if (none)
		(void)fputs("version = 2\n", f);
	write_block(f, version, dump, runtime);
	if (fclose(f) != 0) {
		free(made);
		return gw_fail(e, GW_SYS, ENOMEM, "containerd's settings");
	}
	*out = made;
	return 0;
}

bool gw_settings_taken(const char *dump, const char *runtime)
{
	const char *p = table(dump, ".runtimes.godwit.options]");
	while (p && *p) {
		char value[1024];
		struct line l = line_at(p);
		p = l.next;
		if (l.len && l.at[0] == '[')
			return false;
		if (!key_is(&l, "BinaryName"))
			continue;
		value_of(&l, value, sizeof(value));
		return !strcmp(value, runtime);
	}
	return false;
}
