/* System V semaphores and message queues, and who the
 * process is: ids, groups, capabilities, limits, name, priority. */
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

struct message {
	long type;
	char text[32];
};
static int sem, msg;
static pid_t plain; /* a child that is nobody in particular */
static char plain_was[4096];

static void who_is(pid_t p, char *out, size_t size)
{
	char path[64];
	char line[256];
	size_t n = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)p);
	FILE *f = fopen(path, "re");
	out[0] = 0;
	while (f && fgets(line, sizeof line, f))
		for (const char *const *k = (const char *const[]){"Name:", "Uid:", "Gid:", "Groups:", "Cap",
		                                                  "NoNewPrivs:", "NSpid:", "Sig", "Threads:", NULL};
		     *k; k++)
			if (strncmp(line, *k, strlen(*k)) == 0)
				n += (size_t)snprintf(out + n, size - n, "%s", line);
	if (f)
		(void)fclose(f);
}

static const char *check(void)
{
	struct message m = {0};
	char now[4096];
	struct rlimit r;
	if (semctl(sem, 0, GETVAL) != 3 || semctl(sem, 1, GETVAL) != 9)
		return "a System V semaphore changed";
	if (msgrcv(msg, &m, sizeof m.text, 2, IPC_NOWAIT) < 0 || strcmp(m.text, "second") != 0 ||
	    msgsnd(msg, &m, sizeof m.text, IPC_NOWAIT) != 0)
		return "a System V message is lost";
	who_is(plain, now, sizeof now);
	if (strcmp(now, plain_was) != 0)
		return victim_bad("a child's identity changed:\n%s", now);
	if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur != 777 || r.rlim_max != 888)
		return "a resource limit changed";
	if (getpriority(PRIO_PROCESS, (id_t)plain) != 7)
		return "a priority changed";
	return NULL;
}

[[noreturn]]
static void nobody(int ready)
{
	const gid_t groups[] = {100, 200, 300};
	if (setgroups(3, groups) != 0 || setresgid(555, 555, 555) != 0 || setresuid(444, 444, 444) != 0 ||
	    prctl(PR_SET_NAME, "plain one") != 0 || setpriority(PRIO_PROCESS, 0, 7) != 0 ||
	    prctl(PR_SET_DUMPABLE, 1) != 0)
		_exit(1);
	(void)!write(ready, "k", 1);
	for (;;)
		pause();
}

int main(void)
{
	union semun {
		int val;
	} v = {.val = 3};
	struct message m = {.type = 1, .text = "first"};
	struct rlimit r = {.rlim_cur = 777, .rlim_max = 888};
	int ready[2];
	char k;
	sem = semget(IPC_PRIVATE, 2, 0600);
	msg = msgget(IPC_PRIVATE, 0600);
	VICTIM_MUST(sem >= 0 && msg >= 0 && semctl(sem, 0, SETVAL, v) == 0);
	v.val = 9;
	VICTIM_MUST(semctl(sem, 1, SETVAL, v) == 0 && msgsnd(msg, &m, sizeof m.text, 0) == 0);
	m = (struct message){.type = 2, .text = "second"};
	VICTIM_MUST(msgsnd(msg, &m, sizeof m.text, 0) == 0);
	VICTIM_MUST(setrlimit(RLIMIT_NOFILE, &r) == 0 && pipe(ready) == 0);
	plain = fork();
	VICTIM_MUST(plain >= 0);
	if (plain == 0)
		nobody(ready[1]);
	VICTIM_MUST(read(ready[0], &k, 1) == 1);
	(void)close(ready[0]);
	(void)close(ready[1]);
	who_is(plain, plain_was, sizeof plain_was);
	victim_serve(check, NULL);
}
