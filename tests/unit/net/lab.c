#include "lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/scope.h"

const char *const lab_pod_ip[2] = {"10.88.0.5", "fd88::5"};
const char *const lab_host_ip[3][2] = {{"10.9.0.1", "fd09::1"}, {"10.9.0.2", "fd09::2"}, {"10.9.0.3", "fd09::3"}};

static int home = -1;

[[noreturn]] static void die(const char *what)
{
	perror(what);
	_exit(99);
}

static int outcome(pid_t pid)
{
	int st;
	pid_t got;
	do
		got = waitpid(pid, &st, 0);
	while (got < 0 && errno == EINTR);
	if (got != pid)
		die("waitpid");
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

int lab_run(int (*main_there)(void))
{
	if (geteuid() != 0) {
		fprintf(stderr, "this test makes network namespaces: it needs root\n");
		return 99;
	}
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID) < 0)
		die("unshare");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("make mounts private");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		/* Init of the pid namespace: with it ends whatever it started. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0 ||
		    mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
			die("set up /proc and /run");
		/* The tests are no init themselves: LeakSanitizer can't trace one. */
		pid = fork();
		if (pid < 0)
			die("fork");
		if (pid)
			_exit(outcome(pid));
		home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
		lab_sh("ip link set lo up");
		exit(main_there());
	}
	return outcome(pid);
}

static int run(const char *cmd)
{
	int st = system(cmd);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

void lab_sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	int rc = run(cmd);
	if (rc != 0) {
		fprintf(stderr, "lab: exit code %d of: %s\n", rc, cmd);
		_exit(99);
	}
}

int lab_sh_status(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return run(cmd);
}

const char *lab_sh_text(const char *fmt, ...)
{
	static char text[65536];
	char cmd[2048];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	FILE *p = popen(cmd, "r");
	if (!p)
		die(cmd);
	size_t n = fread(text, 1, sizeof(text) - 1, p);
	text[n] = 0;
	(void)pclose(p);
	return text;
}

static void host_up(char x, int n)
{
	lab_sh("ip -n hC link add f%c type veth peer name eth0 netns h%c && ip -n hC link set f%c master br0 up", x, x,
	       x);
	lab_sh("ip -n h%c addr add 10.9.0.%d/24 dev eth0 && ip -n h%c addr add fd09::%d/64 dev eth0 nodad && "
	       "ip -n h%c link set eth0 up && ip -n h%c route add default via 10.9.0.1",
	       x, n, x, n, x, x);
	lab_sh("ip netns exec h%c sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "
	       "net.ipv4.conf.all.rp_filter=1",
	       x);
}

void lab_up(void)
{
	lab_sh("for h in hC hA hB; do ip netns add $h && ip -n $h link set lo up || exit 1; done");
	lab_sh("ip -n hC link add br0 type bridge mcast_snooping 0 && ip -n hC addr add 10.9.0.1/24 dev br0 && "
	       "ip -n hC addr add fd09::1/64 dev br0 nodad && ip -n hC link set br0 up");
	host_up('A', 2);
	host_up('B', 3);
	for (const char *h = "CB"; *h; h++)
		lab_sh("ip -n h%c route add 10.88.0.5 via 10.9.0.2 && ip -n h%c -6 route add fd88::5 via fd09::2", *h,
		       *h);
	/* A bridge port learns and a link settles before the first test packet. */
	lab_sh("for i in 1 2 3 4 5 6 7 8 9; do ip netns exec hC ping -qc1 -W1 10.9.0.2 >/dev/null && "
	       "ip netns exec hC ping -qc1 -W1 10.9.0.3 >/dev/null && ip netns exec hC ping -qc1 -W1 fd09::2 "
	       ">/dev/null && "
	       "ip netns exec hC ping -qc1 -W1 fd09::3 >/dev/null && ip netns exec hA ping -qc1 -W1 fd09::3 >/dev/null "
	       "&& "
	       "ip netns exec hA ping -qc1 -W1 10.9.0.3 >/dev/null && exit 0; done; exit 1");
}

void lab_down(void)
{
	lab_enter(NULL);
	lab_sh("for f in /run/netns/*; do [ -e $f ] || continue; umount $f; rm -f $f; done");
}

void lab_pod(const char *host, const char *name)
{
	lab_sh("ip netns add %s && ip -n %s link set lo up && "
	       "ip -n %s link add v-%s type veth peer name eth0 netns %s && ip -n %s link set v-%s address "
	       "ee:ee:ee:ee:ee:ee mtu 1450 && "
	       "ip -n %s link set v-%s up",
	       name, name, host, name, name, host, name, host, name);
	lab_sh("ip -n %s link set eth0 address 02:00:00:00:00:05 mtu 1450 up && ip -n %s addr add 10.88.0.5/32 dev "
	       "eth0 && "
	       "ip -n %s addr add fd88::5/128 dev eth0 nodad && ip -n %s route add 169.254.1.1 dev eth0 && "
	       "ip -n %s route add default via 169.254.1.1 && ip -n %s -6 route add default via fe80::1 dev eth0 && "
	       "ip -n %s neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent && "
	       "ip -n %s neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent",
	       name, name, name, name, name, name, name, name);
	lab_sh("ip -n %s neigh add 10.88.0.5 lladdr 02:00:00:00:00:05 dev v-%s nud permanent && "
	       "ip -n %s neigh add fd88::5 lladdr 02:00:00:00:00:05 dev v-%s nud permanent && "
	       "ip -n %s route replace 10.88.0.5 dev v-%s && ip -n %s -6 route replace fd88::5 dev v-%s",
	       host, name, host, name, host, name, host, name);
	/* Addresses come up in a work queue of the kernel. */
	lab_sh("for i in 1 2 3 4 5 6 7 8 9; do ip netns exec %s ping -qc1 -W1 10.88.0.5 >/dev/null && "
	       "ip netns exec %s ping -qc1 -W1 fd88::5 >/dev/null && exit 0; done; exit 1",
	       host, host);
}

static int ns_fd(const char *ns)
{
	char path[300];
	(void)snprintf(path, sizeof(path), "%s%s", ns[0] == '/' ? "" : "/run/netns/", ns);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

void lab_enter(const char *host)
{
	gw_auto(fd) int fd = host ? ns_fd(host) : dup(home);
	if (setns(fd, CLONE_NEWNET) < 0)
		die("setns");
}

struct start {
	int ns;
	void *(*fn)(void *);
	void *arg;
};

static void *in_ns(void *arg)
{
	struct start s = *(struct start *)arg;
	free(arg);
	if (setns(s.ns, CLONE_NEWNET) < 0)
		die("setns");
	(void)close(s.ns);
	return s.fn(s.arg);
}

pthread_t lab_thread(const char *ns, void *(*fn)(void *), void *arg)
{
	pthread_t t;
	struct start *s = malloc(sizeof(*s));
	if (!s)
		die("malloc");
	*s = (struct start){.ns = ns_fd(ns), .fn = fn, .arg = arg};
	if (pthread_create(&t, NULL, in_ns, s) != 0)
		die("pthread_create");
	return t;
}

struct make_socket {
	int family, type, protocol, fd;
};

static void *make_socket(void *arg)
{
	struct make_socket *m = arg;
	m->fd = socket(m->family, m->type | SOCK_CLOEXEC, m->protocol);
	if (m->fd < 0)
		die("socket");
	return NULL;
}

int lab_socket(const char *ns, int family, int type, int protocol)
{
	struct make_socket m = {.family = family, .type = type, .protocol = protocol};
	(void)pthread_join(lab_thread(ns, make_socket, &m), NULL);
	return m.fd;
}

struct sockaddr *lab_address(int family, const char *ip, uint16_t port, socklen_t *out_len)
{
	static thread_local union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a;
	memset(&a, 0, sizeof(a));
	a.sa.sa_family = (sa_family_t)family;
	void *to = family == AF_INET ? (void *)&a.v4.sin_addr : (void *)&a.v6.sin6_addr;
	if (inet_pton(family, ip, to) != 1)
		die(ip);
	if (family == AF_INET)
		a.v4.sin_port = htons(port);
	else
		a.v6.sin6_port = htons(port);
	*out_len = family == AF_INET ? sizeof(a.v4) : sizeof(a.v6);
	return &a.sa;
}

int lab_listen(const char *ns, int family, uint16_t port, int type)
{
	int fd = lab_socket(ns, family, type, 0), on = 1, big = 64 << 20;
	socklen_t len;
	struct sockaddr *sa = lab_address(family, lab_pod_ip[family == AF_INET6], port, &len);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big)) < 0 || bind(fd, sa, len) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 8) < 0))
		die("listen in the pod");
	return fd;
}

bool says(const char *text, const char *what)
{
	return strstr(text, what) != NULL;
}

int lab_with_pod(void **state)
{
	(void)state;
	lab_up();
	lab_pod("hA", "pA");
	lab_enter("hA");
	return 0;
}

int lab_end(void **state)
{
	(void)state;
	lab_down();
	return 0;
}
