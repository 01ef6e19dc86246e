#include "base/fate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/gw_log.h"
#include "base/io.h"
#include "base/scope.h"

enum { WHY_MAX = 4096 };

static void mark_path(char *out, size_t size, const char *state_dir, const char *id)
{
	gw_path(out, size, "%s/kept/%s", state_dir, id);
}

static void fate_path(char *out, size_t size, const char *state_dir, const char *id)
{
	gw_path(out, size, "%s/kept/%s.fate", state_dir, id);
}

static void why_path(char *out, size_t size, const char *state_dir, const char *id)
{
	gw_path(out, size, "%s/kept/%s.why", state_dir, id);
}

int gw_fate_decide(const char *state_dir, const char *id, enum gw_fate f, struct gw_err *e)
{
	static const char *const words[] = {"committed", "ended"};
	char mark[PATH_MAX], path[PATH_MAX];
	mark_path(mark, sizeof(mark), state_dir, id);
	fate_path(path, sizeof(path), state_dir, id);
	gw_auto(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return gw_fail(e, GW_RETRY, EBUSY, "container %s cannot be %s: the other came first", id, words[f]);
	if (fd < 0)
		return gw_fail(e, GW_SYS, errno, "decide about container %s", id);
	if (access(mark, F_OK) == 0)
		return 0;
	int err = errno;
	(void)unlink(path);
	return gw_fail(e, GW_RETRY, err, "nobody stands for container %s", id);
}

void gw_fate_reopen(const char *state_dir, const char *id)
{
	char path[PATH_MAX];
	fate_path(path, sizeof(path), state_dir, id);
	(void)unlink(path);
}

bool gw_fate_stands(const char *state_dir, const char *id)
{
	char mark[PATH_MAX];
	mark_path(mark, sizeof(mark), state_dir, id);
	return access(mark, F_OK) == 0;
}

void gw_fate_over(const char *state_dir, const char *id)
{
	char mark[PATH_MAX];
	char why[PATH_MAX];
	mark_path(mark, sizeof(mark), state_dir, id);
	why_path(why, sizeof(why), state_dir, id);
	(void)unlink(mark);
	(void)unlink(why);
	gw_fate_reopen(state_dir, id);
}

void gw_fate_say_why(const char *state_dir, const char *id, const char *words)
{
	char why[PATH_MAX];
	struct gw_err e;
	why_path(why, sizeof(why), state_dir, id);
	if (gw_fate_stands(state_dir, id) && gw_write_file(why, words, strlen(words), &e) < 0)
		gw_warn("the container's end will not say why", kv_str("container", id), kv_str("reason", e.text));
}

char *gw_fate_why(const char *state_dir, const char *id)
{
	char why[PATH_MAX], *text = NULL;
	struct gw_err ignored;
	why_path(why, sizeof(why), state_dir, id);
	return gw_read_file(why, WHY_MAX, &text, NULL, &ignored) < 0 ? NULL : text;
}
