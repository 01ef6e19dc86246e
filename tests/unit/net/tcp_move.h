#pragma once
#include <netinet/in.h>
#include <stdint.h>

/* tcp_move: one established TCP socket taken out of a process and made again
 * elsewhere with TCP_REPAIR (tcp(7) does not tell; net/ipv4/tcp.c of the
 * kernel does), as a checkpoint does it, so that a test can move a real
 * connection without one. */
enum { TCP_IMAGE_QUEUE_MAX = 65536 };

struct tcp_image {
	int family;
	struct sockaddr_storage local, peer;
	socklen_t local_len, peer_len;
	uint32_t recv_seq, send_seq; /* of each queue's first byte */
	uint32_t recv_len, send_len;
	uint32_t mss, timestamp, window_snd_wl1, window[4];
	uint8_t options, snd_scale, rcv_scale;
	char recv_data[TCP_IMAGE_QUEUE_MAX], send_data[TCP_IMAGE_QUEUE_MAX];
};

/* The socket stays as it is (repair mode is off again, silently). Ends the program when it can't. */
void tcp_image_take(int fd, struct tcp_image *out);
int tcp_image_make(const char *ns, const struct tcp_image *i);
