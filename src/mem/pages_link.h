#pragma once
#include <stdatomic.h>
#include <stdint.h>

/* pages_link: what godwitd and its page server say to each other.
 *
 * Descriptor 3 of the page server is a SOCK_SEQPACKET pair: requests with
 * descriptors, each answered but LINK_DISCARD. Descriptor 4 is one page of
 * shared memory: what the page server knows, readable at no cost, also after
 * its end. Both programs come from one build; LINK_MAGIC refuses another. */
enum { LINK_FD = 3, LINK_SHARED_FD = 4, LINK_MAGIC = 0x67775031, LINK_TEXT = 400 };

enum link_type {
	LINK_HELLO = 1, /* server: the socket is listening (err 0), or why not */
	LINK_SPACE,     /* client: a space; descriptors: memory, page map */
	LINK_GO,        /* client: that was all; descriptor: struct link_span[count] */
	LINK_ANSWER,    /* server: to LINK_SPACE when it failed, to LINK_GO always */
	LINK_DISCARD,   /* client: end, nothing of this is needed */
};

struct link_msg {
	uint32_t magic, type;
	uint32_t space;
	int32_t vpid;
	uint64_t count;
	int32_t err;
	char text[LINK_TEXT];
};

struct link_span {
	uint64_t addr;
	uint32_t space, npages;
};

enum link_outcome {
	OUT_RUNNING = 0,
	OUT_DONE,      /* every page is where it belongs */
	OUT_DISCARDED, /* told to end, or ended before anybody needed it */
	OUT_ABANDONED, /* CRIU ended before the restore was whole */
	OUT_FAILED,    /* pages are missing: see reason */
};

struct link_shared {
	atomic_uint outcome;
	atomic_uint connected, restored;
	atomic_uint holds; /* a userfaultfd has come: somebody's memory depends on us */
	atomic_int server, keeper;
	atomic_ullong faults, copied_bytes, left_bytes, fill_us, fault_us_max;
	char reason[LINK_TEXT];
};
