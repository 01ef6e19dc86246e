#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* flow: a client that checks every answer, and one that counts every packet.
 * Each runs in a thread of its own until it is told to end. */

/* Numbers over UDP, one datagram each, as fast as pace_us allows. */
struct udp_flow {
	int family;
	const char *ns;
	const char *ip; /* NULL: the pod's */
	uint16_t port;
	unsigned pace_us;
	uint32_t size;  /* bytes a datagram */
	uint32_t count; /* how many; 0: until flow_end */
	atomic_bool end;
	atomic_uint sent;
	atomic_uint refused; /* by the sender's own kernel: not lost in between */
	pthread_t thread;
};
void udp_flow_start(struct udp_flow *f);
void udp_flow_end(struct udp_flow *f); /* waits for it */
/* Read what has come, within wait_ms of silence; appends to seen[] at *n. */
void udp_collect(int fd, uint32_t *seen, uint32_t max, uint32_t *n, int wait_ms);

/* A number there, the number after it back, over one TCP connection. */
struct tcp_flow {
	int family;
	const char *ns;
	const char *ip;
	uint16_t port;
	atomic_bool end;
	atomic_uint rounds;
	uint64_t longest_us;
	uint32_t retransmits;
	int error; /* errno, 0: the connection lived and every answer was right */
	pthread_t thread;
};
void tcp_flow_start(struct tcp_flow *f);
void tcp_flow_end(struct tcp_flow *f);
/* The server's side: answer for ms milliseconds. -1: the connection ended. */
int tcp_serve(int fd, int ms);
/* Answer until the client has counted that many rounds; -1: it does not get there. */
int tcp_serve_until(int fd, const struct tcp_flow *f, unsigned rounds);
/* Wait until that many datagrams were sent. */
void udp_flow_wait(const struct udp_flow *f, unsigned sent);
