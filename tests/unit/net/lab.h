#pragma once
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/pod.h"

/* lab: three hosts and pods out of network namespaces, for one test program.
 *
 *        C (third host)  10.9.0.1, fd09::1 on br0
 *        ├── A (source)       10.9.0.2, fd09::2 on eth0
 *        └── B (destination)  10.9.0.3, fd09::3 on eth0
 *   pod  10.88.0.5, fd88::5, MAC 02:00:00:00:00:05, gateways 169.254.1.1, fe80::1
 *
 * The program runs in mount, network and pid namespaces of its own, so that
 * nothing it makes is seen outside or lives longer, whatever happens to it. */

/* Run main_there in such namespaces; returns its exit code. */
int lab_run(int (*main_there)(void));

/* A shell command that must succeed. */
[[gnu::format(printf, 1, 2)]]
void lab_sh(const char *fmt, ...);
[[gnu::format(printf, 1, 2)]]
int lab_sh_status(const char *fmt, ...);
/* Its first 64 KiB of output, in a static buffer. */
[[gnu::format(printf, 1, 2)]]
const char *lab_sh_text(const char *fmt, ...);
bool says(const char *text, const char *what); /* is it in there? */

void lab_up(void);   /* hosts hC, hA, hB; the pod's address leads to A everywhere */
void lab_down(void); /* all namespaces that lab made */
/* A pod as a CNI plugin makes it, in netns `name` behind `host`, with a route
 * on the host. The host's end is called v-NAME. */
void lab_pod(const char *host, const char *name);
void lab_enter(const char *host); /* the calling thread changes over; NULL: back home */
/* For cmocka: hosts and pod pA behind hA, with us on hA; and their end. */
int lab_with_pod(void **state);
int lab_end(void **state);

/* fn(arg) in a thread inside a namespace. */
pthread_t lab_thread(const char *ns, void *(*fn)(void *), void *arg);
/* A socket made inside a namespace, usable from anywhere. */
int lab_socket(const char *ns, int family, int type, int protocol);

extern const char *const lab_pod_ip[2];     /* [0] IPv4, [1] IPv6 */
extern const char *const lab_host_ip[3][2]; /* C, A, B */
enum { LAB_C, LAB_A, LAB_B };
#define LAB_VIA_B "10.9.0.3,fd09::3"
#define LAB_VIA_A "10.9.0.2,fd09::2"

/* family: AF_INET or AF_INET6. The address's length through out_len. */
struct sockaddr *lab_address(int family, const char *ip, uint16_t port, socklen_t *out_len);
int lab_listen(const char *ns, int family, uint16_t port, int type);
