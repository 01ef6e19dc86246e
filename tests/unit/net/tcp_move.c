#include "tcp_move.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lab.h"

#define MUST(call)                                                                                                     \
	do {                                                                                                           \
		if ((call) < 0) {                                                                                      \
			perror(#call);                                                                                 \
			_exit(99);                                                                                     \
		}                                                                                                      \
	} while (0)

enum { REPAIR_OFF_SILENTLY = -1 };

/* Kinds of TCP options (RFC 9293, 7323, 2018): netinet/tcp.h has them, but not beside linux/tcp.h. */
enum { TCPOPT_MAXSEG = 2, TCPOPT_WINDOW = 3, TCPOPT_SACK_PERMITTED = 4, TCPOPT_TIMESTAMP = 8 };

static void set(int fd, int option, int value)
{
	MUST(setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value)));
}

static uint32_t get(int fd, int option)
{
	uint32_t v = 0;
	socklen_t len = sizeof(v);
	MUST(getsockopt(fd, IPPROTO_TCP, option, &v, &len));
	return v;
}

static uint32_t take_queue(int fd, int queue, unsigned long ask_len, char *data, uint32_t *out_seq)
{
	int len = 0;
	MUST(ioctl(fd, ask_len, &len));
	set(fd, TCP_REPAIR_QUEUE, queue);
	*out_seq = get(fd, TCP_QUEUE_SEQ) - (uint32_t)len;
	if (len > TCP_IMAGE_QUEUE_MAX || (len && recv(fd, data, (size_t)len, MSG_PEEK) != len)) {
		fprintf(stderr, "queue of %d bytes not read\n", len);
		_exit(99);
	}
	return (uint32_t)len;
}

void tcp_image_take(int fd, struct tcp_image *out)
{
	struct tcp_info info;
	struct tcp_repair_window w;
	socklen_t len = sizeof(info);
	*out = (struct tcp_image){.local_len = sizeof(out->local), .peer_len = sizeof(out->peer)};
	set(fd, TCP_REPAIR, 1);
	MUST(getsockname(fd, (struct sockaddr *)&out->local, &out->local_len));
	MUST(getpeername(fd, (struct sockaddr *)&out->peer, &out->peer_len));
	out->family = out->local.ss_family;
	MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	out->options = info.tcpi_options;
	out->snd_scale = info.tcpi_snd_wscale;
	out->rcv_scale = info.tcpi_rcv_wscale;
	out->mss = get(fd, TCP_MAXSEG);
	out->timestamp = get(fd, TCP_TIMESTAMP);
	len = sizeof(w);
	MUST(getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &len));
	out->window_snd_wl1 = w.snd_wl1;
	memcpy(out->window, (uint32_t[]){w.snd_wnd, w.max_window, w.rcv_wnd, w.rcv_wup}, sizeof(out->window));
	out->recv_len = take_queue(fd, TCP_RECV_QUEUE, SIOCINQ, out->recv_data, &out->recv_seq);
	out->send_len = take_queue(fd, TCP_SEND_QUEUE, SIOCOUTQ, out->send_data, &out->send_seq);
	set(fd, TCP_REPAIR, REPAIR_OFF_SILENTLY);
}

static void put_queue(int fd, int queue, const char *data, uint32_t len)
{
	set(fd, TCP_REPAIR_QUEUE, queue);
	if (len && send(fd, data, len, 0) != (ssize_t)len) {
		perror("fill a queue");
		_exit(99);
	}
}

int tcp_image_make(const char *ns, const struct tcp_image *i)
{
	int fd = lab_socket(ns, i->family, SOCK_STREAM, 0), on = 1;
	set(fd, TCP_REPAIR, 1);
	MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	MUST(bind(fd, (const struct sockaddr *)&i->local, i->local_len));
	set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
	set(fd, TCP_QUEUE_SEQ, (int)i->recv_seq);
	set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	set(fd, TCP_QUEUE_SEQ, (int)i->send_seq);
	MUST(connect(fd, (const struct sockaddr *)&i->peer, i->peer_len));
	struct tcp_repair_opt o[4] = {{.opt_code = TCPOPT_MAXSEG, .opt_val = i->mss}};
	socklen_t n = 1;
	if (i->options & TCPI_OPT_WSCALE)
		o[n++] = (struct tcp_repair_opt){.opt_code = TCPOPT_WINDOW,
		                                 .opt_val = i->snd_scale | (uint32_t)i->rcv_scale << 16};
	if (i->options & TCPI_OPT_SACK)
		o[n++] = (struct tcp_repair_opt){.opt_code = TCPOPT_SACK_PERMITTED};
	if (i->options & TCPI_OPT_TIMESTAMPS)
		o[n++] = (struct tcp_repair_opt){.opt_code = TCPOPT_TIMESTAMP};
	MUST(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, o, n * (socklen_t)sizeof(o[0])));
	set(fd, TCP_TIMESTAMP, (int)i->timestamp);
	put_queue(fd, TCP_RECV_QUEUE, i->recv_data, i->recv_len);
	put_queue(fd, TCP_SEND_QUEUE, i->send_data, i->send_len);
	struct tcp_repair_window w = {.snd_wl1 = i->window_snd_wl1,
	                              .snd_wnd = i->window[0],
	                              .max_window = i->window[1],
	                              .rcv_wnd = i->window[2],
	                              .rcv_wup = i->window[3]};
	MUST(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)));
	set(fd, TCP_REPAIR, 0);
	return fd;
}
