#include "hooks.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/scope.h"
#include "move/held.h"
#include "target.h"

enum { PROCESS_MAX = 8 << 20, WORDS_MAX = 1 << 20, SEEN_US = 200000 };

int hooks_expect(const char *id, yyjson_val *annotations, struct gw_err *e)
{
	const char *text = gw_json_str(annotations, "godwit.dev/post-start", "");
	if (!*text)
		return 0;
	gw_auto(jdoc) yyjson_doc *doc = NULL;
	int rc = gw_json_parse(text, strlen(text), "annotation godwit.dev/post-start", &doc, e);
	if (rc < 0)
		return rc;
	yyjson_val *words = yyjson_obj_get(yyjson_doc_get_root(doc),
	                                   gw_json_str(annotations, "io.kubernetes.cri.container-name", ""));
	gw_auto(mem) char *out = words ? yyjson_val_write(words, 0, NULL) : NULL;
	return out ? mark(HOOKS_MARK, id, out, e) : 0;
}

/* A process that has run and ended, for whoever reads its pid: our child, which goes to the
 * container runtime when we end (it is a subreaper) and so to whom waits for it. */
static int leave_one(const char *pid_file, struct gw_err *e)
{
	pid_t pid = fork();
	if (pid < 0)
		return gw_fail(e, GW_SYS, errno, "answer for a postStart hook");
	if (pid == 0) {
		(void)setsid();
		for (int fd = 0; fd < 3; fd++)
			(void)close(fd);
		gw_sleep_us(SEEN_US); /* its pid is read first */
		_exit(0);
	}
	return pid_file ? write_pid(pid_file, pid, e) : 0;
}

static bool is_hook(const struct cmdline *c)
{
	char path[PATH_MAX];
	struct gw_err ignored;
	gw_auto(jdoc) yyjson_doc *hook = NULL, *process = NULL;
	if (!c->process || !marked(HOOKS_MARK, c->id) || !state_path(path, sizeof(path), HOOKS_MARK, c->id) ||
	    gw_json_file(path, WORDS_MAX, &hook, &ignored) < 0 ||
	    gw_json_file(c->process, PROCESS_MAX, &process, &ignored) < 0)
		return false;
	yyjson_val *args = yyjson_obj_get(yyjson_doc_get_root(process), "args");
	return args && yyjson_equals(yyjson_doc_get_root(hook), args);
}

static bool is_barred(const char *id)
{
	char path[PATH_MAX];
	gw_auto(mem) char *text = NULL;
	struct gw_err ignored;
	return state_path(path, sizeof(path), "held", id) && gw_read_file(path, PATH_MAX, &text, NULL, &ignored) == 0 &&
	       strstr(text, GW_HELD_NO_EXEC);
}

int hooks_exec(const struct cmdline *c, struct gw_err *e)
{
	if (is_barred(c->id))
		return gw_fail(e, GW_RETRY, EBUSY, "container %s is on its way to another node", c->id);
	if (!is_hook(c))
		return 0;
	unmark(HOOKS_MARK, c->id);
	int rc = leave_one(c->pid_file, e);
	return rc < 0 ? rc : 1;
}
