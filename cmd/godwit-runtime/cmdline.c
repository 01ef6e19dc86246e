#include "cmdline.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/scope.h"

/* runc's options that take a value (main.go, create.go, delete.go, kill.go of runc 1.1 to 1.3). */
static const char *const WITH_VALUE[] = {"root", "log", "log-format", "rootless", "criu", "bundle", "b",
                                         "console-socket", "pidfd-socket", "pid-file", "preserve-fds",
                                         /* exec */
                                         "process", "p", "cwd", "env", "e", "user", "u", "additional-gids", "g",
                                         "process-label", "apparmor", "cap", "c", "cgroup"};

static bool takes_value(const char *name)
{
	for (size_t i = 0; i < gw_countof(WITH_VALUE); i++)
		if (!strcmp(WITH_VALUE[i], name))
			return true;
	return false;
}

static void keep(struct cmdline *c, const char *name, const char *value)
{
	if (!strcmp(name, "root"))
		c->root = value;
	else if (!strcmp(name, "log"))
		c->log = value;
	else if (!strcmp(name, "log-format"))
		c->log_format = value;
	else if (!strcmp(name, "bundle") || !strcmp(name, "b"))
		c->bundle = value;
	else if (!strcmp(name, "pid-file"))
		c->pid_file = value;
	else if (!strcmp(name, "process") || !strcmp(name, "p"))
		c->process = value;
}

void cmdline_parse(int argc, char **argv, struct cmdline *out)
{
	*out = (struct cmdline){
	        .argc = argc, .argv = argv, .at_command = argc, .root = "/run/runc", .bundle = ".", .id = ""};
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (a[0] != '-' || !a[1]) {
			if (!out->command) {
				out->command = a;
				out->at_command = i;
			} else if (!out->id[0]) {
				out->id = a;
			}
			continue;
		}
		char name[32];
		a += 1 + (a[1] == '-');
		(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(a, "="), a);
		const char *value = strchr(a, '=');
		if (value)
			keep(out, name, value + 1);
		else if (takes_value(name) && i + 1 < argc)
			keep(out, name, argv[++i]);
	}
}

static void log_json(int fd, const struct gw_err *e)
{
	char when[40];
	time_t now = time(NULL);
	struct tm tm;
	gw_auto(jmut) yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *o = yyjson_mut_obj(doc);
	yyjson_mut_doc_set_root(doc, o);
	(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	yyjson_mut_obj_add_str(doc, o, "level", "error");
	yyjson_mut_obj_add_str(doc, o, "msg", e->text);
	yyjson_mut_obj_add_str(doc, o, "time", when);
	size_t len;
	gw_auto(mem) char *text = gw_json_text(doc, &len);
	(void)gw_write_full(fd, text, len);
	(void)gw_write_full(fd, "\n", 1);
}

int cmdline_complain(const struct cmdline *c, const struct gw_err *e)
{
	(void)fprintf(stderr, "godwit-runtime: %s\n", e->text);
	gw_auto(fd) int fd = c->log ? open(c->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	if (fd >= 0 && c->log_format && !strcmp(c->log_format, "json"))
		log_json(fd, e);
	else if (fd >= 0)
		(void)dprintf(fd, "level=error msg=\"%s\"\n", e->text);
	return 1;
}
