#include "hooks.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "move/held.h"
#include "target.h"

enum { PROCESS_MAX = 8 << 20, WORDS_MAX = 1 << 20, SEEN_US = 200000 };
static const char KIND[] = "post-start";

int hooks_expect(const char *id, yyjson_val *annotations, struct gw_err *e)
{
	char dir[PATH_MAX], path[PATH_MAX];
	const char *text = gw_json_str(annotations, "godwit.dev/post-start", "");
	if (!*text)
		return 0;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_json_parse(text, strlen(text), "annotation godwit.dev/post-start", &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *words = yyjson_obj_get(yyjson_doc_get_root(doc),
	                                   gw_json_str(annotations, "io.kubernetes.cri.container-name", ""));
	if (!words)
		return 0;
	(void)snprintf(dir, sizeof(dir), "%s/%s", state_dir(), KIND);
	rc = gw_mkdirs(dir, e);
	if (rc < 0)
		return rc;
	if (!state_path(path, sizeof(path), KIND, id))
		return gw_fail(e, GW_INPUT, EINVAL, "\"%s\" is no container's id", id);
	size_t len;
	gw_auto(mem) char *out = yyjson_val_write(words, 0, &len);
	return out ? gw_write_file(path, out, len, e) : gw_fail(e, GW_SYS, ENOMEM, "remember a hook");
}

void hooks_forget(const char *id)
{
	char path[PATH_MAX];
	if (state_path(path, sizeof(path), KIND, id))
		(void)unlink(path);
}

static yyjson_doc *read_json(const char *path, size_t max)
{
	gw_auto(mem) char *text = NULL;
	size_t len;
	struct gw_err ignored;
	yyjson_doc *doc = NULL;
	if (gw_read_file(path, max, &text, &len, &ignored) == 0)
		(void)gw_json_parse(text, len, path, &doc, &ignored);
	return doc;
}

/* A process that has run and ended, for whoever reads its pid: of our child, which goes to the
 * container runtime when we end (it is a subreaper) and so to whom waits for it. */
static bool leave_one(const char *pid_file)
{
	char text[32];
	struct gw_err ignored;
	pid_t pid = fork();
	if (pid == 0) {
		(void)setsid();
		for (int fd = 0; fd < 3; fd++)
			(void)close(fd);
		gw_sleep_us(SEEN_US); /* its pid is read first */
		_exit(0);
	}
	int n = snprintf(text, sizeof(text), "%d", pid);
	return pid > 0 && (!pid_file || gw_write_file(pid_file, text, (size_t)n, &ignored) == 0);
}

bool hooks_done(const struct cmdline *c)
{
	char path[PATH_MAX];
	if (!c->process || !state_path(path, sizeof(path), KIND, c->id) || access(path, F_OK) < 0)
		return false;
	gw_auto(jdoc) yyjson_doc *hook = read_json(path, WORDS_MAX), *process = read_json(c->process, PROCESS_MAX);
	yyjson_val *args = yyjson_obj_get(process ? yyjson_doc_get_root(process) : NULL, "args");
	if (!hook || !args || !yyjson_equals(yyjson_doc_get_root(hook), args))
		return false;
	hooks_forget(c->id);
	return leave_one(c->pid_file);
}

bool hooks_barred(const char *id)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	return state_path(path, sizeof(path), "held", id) && gw_read_file(path, PATH_MAX, &text, NULL, &ignored) == 0 &&
	       strstr(text, GW_HELD_NO_EXEC);
}
