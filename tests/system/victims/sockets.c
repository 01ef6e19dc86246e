/* Unix sockets of every kind with data in them, and TCP and UDP inside the
 * container: a pair over localhost that talks all the time. */
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "victim.h"

static int stream[2], dgram[2], seq[2], named_listen, named_client, named_server, waiting_client, abstract_listen;
static int tcp_listen, tcp_client, tcp_server, udp_a, udp_b;
static uint64_t round_trips;
static const char *trouble;

static int bind_unix(const char *path, bool abstract)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	(void)strcpy(a.sun_path + abstract, path);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path));
	VICTIM_MUST(s >= 0 && bind(s, (struct sockaddr *)&a, len) == 0 && listen(s, 8) == 0);
	return s;
}

static int connect_unix(const char *path, bool abstract)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	(void)strcpy(a.sun_path + abstract, path);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path));
	if (s >= 0 && connect(s, (struct sockaddr *)&a, len) == 0)
		return s;
	if (s >= 0)
		(void)close(s);
	return -1;
}

static bool talks(int a, int b)
{
	char buf[32] = "";
	return send(a, "hello", 5, 0) == 5 && recv(b, buf, sizeof buf, 0) == 5 && memcmp(buf, "hello", 5) == 0 &&
	       send(b, "howdy", 5, 0) == 5 && recv(a, buf, sizeof buf, 0) == 5 && memcmp(buf, "howdy", 5) == 0;
}

static bool waits(int s, const char *text) /* the text is in the socket's queue; put it back for the next time */
{
	char buf[64] = "";
	return recv(s, buf, sizeof buf, MSG_DONTWAIT | MSG_PEEK) == (ssize_t)strlen(text) &&
	       memcmp(buf, text, strlen(text)) == 0;
}

static void tick(void)
{
	uint64_t v = 0;
	if (send(tcp_client, &round_trips, 8, 0) != 8 || recv(tcp_server, &v, 8, MSG_WAITALL) != 8 || v != round_trips)
		trouble = "TCP over localhost lost something on its way";
	if (send(tcp_server, &v, 8, 0) != 8 || recv(tcp_client, &v, 8, MSG_WAITALL) != 8 || v != round_trips)
		trouble = "TCP over localhost lost something on its way back";
	round_trips++;
}

static const char *check(void)
{
	tick();
	if (trouble)
		return trouble;
	if (!waits(stream[1], "in a stream") || !waits(dgram[1], "one") || !waits(seq[1], "packet"))
		return "what waited in a unix socket is gone";
	if (!talks(named_client, named_server))
		return "a connection to a named unix socket is broken";
	char d[16] = "";
	if (send(udp_a, "datagram", 8, 0) != 8 || recv(udp_b, d, sizeof d, 0) != 8 || memcmp(d, "datagram", 8) != 0)
		return "UDP over localhost does not arrive";
	int c = connect_unix("/tmp/sock", false);
	int s = accept4(named_listen, NULL, NULL, 0);
	bool fine = c >= 0 && s >= 0;
	/* The connection that nobody had accepted yet is the first in the queue. */
	if (waiting_client >= 0) {
		fine = fine && talks(waiting_client, s);
		(void)close(s);
		(void)close(waiting_client);
		waiting_client = -1;
		s = accept4(named_listen, NULL, NULL, 0);
	}
	fine = fine && s >= 0 && talks(c, s);
	(void)close(c);
	(void)close(s);
	if (!fine)
		return "a named unix socket takes no new connection";
	c = connect_unix("victim", true);
	s = accept4(abstract_listen, NULL, NULL, 0);
	fine = c >= 0 && s >= 0 && talks(c, s);
	(void)close(c);
	(void)close(s);
	return fine ? NULL : "an abstract unix socket takes no new connection";
}

static void set_up_inet(void)
{
	struct sockaddr_in a = {
	        .sin_family = AF_INET, .sin_port = htons(7300), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	tcp_listen = socket(AF_INET, SOCK_STREAM, 0);
	tcp_client = socket(AF_INET, SOCK_STREAM, 0);
	VICTIM_MUST(bind(tcp_listen, (struct sockaddr *)&a, sizeof a) == 0 && listen(tcp_listen, 4) == 0);
	VICTIM_MUST(connect(tcp_client, (struct sockaddr *)&a, sizeof a) == 0);
	tcp_server = accept(tcp_listen, NULL, NULL);
	VICTIM_MUST(tcp_server >= 0);
	udp_a = socket(AF_INET, SOCK_DGRAM, 0);
	udp_b = socket(AF_INET, SOCK_DGRAM, 0);
	VICTIM_MUST(bind(udp_b, (struct sockaddr *)&a, sizeof a) == 0 &&
	            connect(udp_a, (struct sockaddr *)&a, sizeof a) == 0);
}

int main(void)
{
	VICTIM_MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 &&
	            socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq) == 0);
	VICTIM_MUST(send(stream[0], "in a ", 5, 0) == 5 && send(stream[0], "stream", 6, 0) == 6 &&
	            send(dgram[0], "one", 3, 0) == 3 && send(dgram[0], "two", 3, 0) == 3 &&
	            send(seq[0], "packet", 6, 0) == 6);
	named_listen = bind_unix("/tmp/sock", false);
	abstract_listen = bind_unix("victim", true);
	named_client = connect_unix("/tmp/sock", false);
	named_server = accept(named_listen, NULL, NULL);
	waiting_client = -1;
	VICTIM_MUST(named_client >= 0 && named_server >= 0);
	set_up_inet();
	victim_serve(check, tick);
}
