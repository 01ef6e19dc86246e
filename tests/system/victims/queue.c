/* A datagram that has arrived on a UDP socket and has not been read yet. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "victim.h"

static int from, to;

static const char *check(void)
{
	char buf[16] = "";
	if (recv(to, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT) != 8 || memcmp(buf, "datagram", 8) != 0)
		return "a datagram that waited on a UDP socket is gone";
	return NULL;
}

int main(void)
{
	struct sockaddr_in a = {
	        .sin_family = AF_INET, .sin_port = htons(7301), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	to = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	VICTIM_MUST(bind(to, (struct sockaddr *)&a, sizeof a) == 0 &&
	            connect(from, (struct sockaddr *)&a, sizeof a) == 0);
	VICTIM_MUST(send(from, "datagram", 8, 0) == 8);
	victim_serve(check, NULL);
}
